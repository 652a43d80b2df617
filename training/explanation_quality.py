"""How good explanations are, in numbers that need no human: one pure function for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class RankingAccuracy:
    """Share of (reasonable, unreasonable) pairs of explanations that a model puts in the right order.

    value: 0 to 1, chance is 0.5. standard_error: over texts, whose pairs share one reasonable explanation and are not
    independent; None for a single text. texts, pairs: how many there were.
    """

    value: float
    standard_error: float | None
    texts: int
    pairs: int


def ranking_accuracy(scores: ArrayLike) -> RankingAccuracy:
    """How often the reasonable explanation's score (Eq. 6) is above an unreasonable one's; ties count half.

    scores: (n, k), one row per text, the reasonable explanation in column 0, as the ranking loss (Eq. 5) has them; so
    each text makes k - 1 pairs. Raises ValueError for another shape or a score that is not finite.
    """
    table = np.asarray(scores, dtype=np.float64)
    if table.ndim != 2 or table.shape[0] < 1 or table.shape[1] < 2:
        raise ValueError(f"expected the scores of at least two explanations for each text, found shape {table.shape}")
    if not np.isfinite(table).all():
        raise ValueError("expected scores that are finite numbers")
    reasonable, unreasonable = table[:, :1], table[:, 1:]
    right = (reasonable > unreasonable) + 0.5 * (reasonable == unreasonable)  # (n, k - 1)
    by_text = right.mean(axis=1)  # every text has as many pairs: the mean over texts is the mean over pairs
    error = float(by_text.std(ddof=1) / np.sqrt(len(by_text))) if len(by_text) > 1 else None
    return RankingAccuracy(float(by_text.mean()), error, len(by_text), right.size)


def consistency(predicted: Sequence[str], judged: Sequence[str]) -> float:
    """Share of generated explanations whose judge, who sees nothing else, names the predicted label, 0 to 1.

    predicted, judged: a label id for each explanation. Raises ValueError for different lengths or none at all.
    """
    if not predicted or len(predicted) != len(judged):
        raise ValueError(f"expected as many judged labels as predicted ones, found {len(judged)}, {len(predicted)}")
    return sum(p == j for p, j in zip(predicted, judged, strict=True)) / len(predicted)


def distinct(explanations: Sequence[str]) -> float:
    """Number of different explanations over their number, 1/n (always the same words) to 1.

    Raises ValueError for none at all.
    """
    if not explanations:
        raise ValueError("expected at least one explanation, found none")
    return len(set(explanations)) / len(explanations)
