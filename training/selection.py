"""What a selection looked like: which of the two terms of Eq. 8 made the choice, how much its texts are alike."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from service.model import scoring
from service.model.scoring import Acquisition
from training.strategies.interface import Floats, Indices, PoolScores, highest


@dataclass(frozen=True)
class Spread:
    """How far the values of one score lie apart over the unlabeled pool, in nats; std is the population's."""

    mean: float
    std: float
    min: float
    max: float


@dataclass(frozen=True)
class Diagnostics:
    """One round's selection, described.

    n, size: unlabeled texts, and how many of them were chosen.
    What follows describes all of them, or those that a prefilter had explained.
    explanation_score, entropy: spread of p (Eq. 6) and of c.
    correlation: Pearson's between p and c; None where one of them is constant.
    acquisition: how the strategy combines the terms of Eq. 8 (see scoring.acquisition_terms); None where it ranks by
        something else, and then all shares are None.
    explanation_share, entropy_share: part of this acquisition score's variance that each term of Eq. 8 carries, the
        term's covariance with the sum over the sum's variance; they add up to 1, and one of them is negative where
        that term works against the other. None where all scores are equal.
    explanation_share_in_paper: the explanation_share that the paper's acquisition would have had on these texts; None
        where the strategy's is the paper's, or all scores are equal.
    overlap_with_entropy: share of the chosen texts that entropy alone would have chosen too, 0 to 1.
    overlap_with_random: the same for a random choice from all n, on average: size / n.
    """

    n: int
    size: int
    explanation_score: Spread
    entropy: Spread
    correlation: float | None
    acquisition: Acquisition | None
    explanation_share: float | None
    entropy_share: float | None
    explanation_share_in_paper: float | None
    overlap_with_entropy: float
    overlap_with_random: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for metrics.json."""
        return asdict(self)


def diagnose(
    scores: PoolScores, chosen: Indices, lambda_: float | None = scoring.LAMBDA, acquisition: Acquisition = "paper"
) -> Diagnostics:
    """Describe the choice of ``chosen``, indices into the texts that the scores describe.

    lambda_, acquisition: those of the strategy that chose; lambda_ is None where it does not rank by Eq. 8. Raises
    ValueError where the scores lack the probabilities or the explanation scores.
    """
    if scores.explanation_scores is None:
        raise ValueError("the diagnostics of a selection need the explanation scores")
    p, c = scores.explanation_scores, scores.entropy
    normaliser = scores.pool_sums

    def shares(combined: Acquisition) -> tuple[float, float] | tuple[None, None]:
        if lambda_ is None:
            return None, None
        return variance_shares(*scoring.acquisition_terms(p, c, normaliser, lambda_, combined))

    explanation_share, entropy_share = shares(acquisition)
    return Diagnostics(
        n=normaliser.size,
        size=len(chosen),
        explanation_score=_spread(p),
        entropy=_spread(c),
        correlation=None if _constant(p) or _constant(c) else float(np.corrcoef(p, c)[0, 1]),
        acquisition=None if lambda_ is None else acquisition,
        explanation_share=explanation_share,
        entropy_share=entropy_share,
        explanation_share_in_paper=None if acquisition == "paper" else shares("paper")[0],
        overlap_with_entropy=overlap(chosen.tolist(), highest(c, len(chosen)).tolist()),
        overlap_with_random=len(chosen) / normaliser.size,
    )


def redundancy(embeddings: NDArray[np.float32], chosen: Indices, batches: int = 100) -> dict[str, float] | None:
    """How much the texts of a query repeat each other: the mean, over them, of the largest cosine similarity of h_0 to
    another of them, -1 to 1; ``random``: the same of random queries of that size, the mean of ``batches`` of them.

    embeddings: h_0 of the texts that could be chosen, (n, H). None for fewer than two chosen ones.
    """
    if len(chosen) < 2:
        return None
    unit = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), np.finfo(np.float32).tiny)

    def of(rows: Indices) -> float:
        similarity = unit[rows] @ unit[rows].T
        np.fill_diagonal(similarity, -np.inf)
        return float(similarity.max(axis=1).mean())

    rng = np.random.default_rng(0)  # a yardstick, the same for all strategies
    draws = [of(rng.choice(len(unit), len(chosen), replace=False)) for _ in range(batches)]
    return {"chosen": of(chosen), "random": float(np.mean(draws))}


def finds_errors(scores: PoolScores, gold: Indices) -> dict[str, float | None]:
    """Are the texts that a score asks for those that the model gets wrong? Simulation only: gold labels are needed.

    All of the n texts that the scores describe: the unlabeled ones, or the part of them that a prefilter had explained,
    which is those of highest entropy and a sample of the others, and no picture of the pool.
    ``wrong``: share of these whose predicted label is not the gold one. ``entropy``, ``explanation``: how often one
    that is predicted wrong has the higher entropy, or the lower explanation score, than one that is predicted right:
    the area under the ROC curve, 0.5 for chance, 1 for always; None without both kinds of texts, or without
    explanation scores. gold: indices of the gold labels, (n,). Raises ValueError without probabilities.
    """
    if scores.probabilities is None:
        raise ValueError("whether a prediction is wrong is seen from the probabilities")
    wrong = scores.probabilities.argmax(axis=1) != gold

    def area(values: Floats | None) -> float | None:
        return None if values is None or wrong.all() or not wrong.any() else float(roc_auc_score(wrong, values))

    unexplained = None if scores.explanation_scores is None else -scores.explanation_scores
    return {"wrong": float(wrong.mean()), "entropy": area(scores.entropy), "explanation": area(unexplained)}


def overlap(chosen: Iterable[Any], others: Iterable[Any]) -> float:
    """The share of ``chosen`` that stands in ``others`` too, 0 to 1. Raises ValueError where nothing was chosen."""
    chosen = set(chosen)
    if not chosen:
        raise ValueError("an empty choice overlaps with nothing")
    return len(chosen.intersection(others)) / len(chosen)


def variance_shares(first: Floats, second: Floats) -> tuple[float, float] | tuple[None, None]:
    """Covariance of each term with the sum of both, over the sum's variance: two shares that add up to 1.

    (n,), (n,) -> two numbers, or None twice where the sum is the same everywhere.
    """
    total = first + second
    if _constant(total):
        return None, None
    deviations = total - total.mean()
    variance = deviations @ deviations
    return float(first @ deviations / variance), float(second @ deviations / variance)


def _spread(values: Floats) -> Spread:
    return Spread(float(values.mean()), float(values.std()), float(values.min()), float(values.max()))


def _constant(values: Floats) -> bool:
    return bool(np.ptp(values) <= 1e-12 * np.abs(values).max())
