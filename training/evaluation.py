"""How good a classifier is on labeled texts, how well it knows that, and a learning curve as one number."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import f1_score

CALIBRATION_BINS = 15


def evaluate(gold: Sequence[str], predicted: Sequence[str], label_ids: Sequence[str]) -> dict[str, Any]:
    """``macro_f1``, ``accuracy`` and ``per_class_f1`` ({label id: F1}), all from 0 to 1.

    gold, predicted: one label id per text. label_ids: all labels of the task; a label that is never predicted has an
    F1 of 0 and counts in the mean as every other one, also where no gold text has it.
    Raises ValueError for no texts, different lengths, or a label that is not the task's.
    """
    if not gold or len(gold) != len(predicted):
        raise ValueError(
            f"expected as many predictions as gold labels, at least one; found {len(predicted)}, {len(gold)}"
        )
    if unknown := sorted({*gold, *predicted} - set(label_ids)):
        raise ValueError(f"expected the labels {', '.join(label_ids)}; found {', '.join(unknown)}")
    scores = f1_score(list(gold), list(predicted), labels=list(label_ids), average=None, zero_division=0)
    right = sum(g == p for g, p in zip(gold, predicted, strict=True))
    return {
        "macro_f1": float(np.mean(scores)),
        "accuracy": right / len(gold),
        "per_class_f1": dict(zip(label_ids, map(float, scores), strict=True)),
    }


def calibration_error(probabilities: ArrayLike, gold: ArrayLike, bins: int = CALIBRATION_BINS) -> float:
    """Expected calibration error (Guo et al. 2017): how far a classifier's confidence is from how often it is right.

    ECE = sum_b n_b/n |accuracy_b - confidence_b| over bins of equal width of the probability given to the predicted
    label, each open below and closed above. probabilities: P(y|x), (n, C). gold: indices of the gold labels, (n,).
    -> 0 (says what it knows) to 1. Raises ValueError for no texts or different lengths.
    """
    p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(gold)
    if p.ndim != 2 or len(p) < 1 or y.shape != p.shape[:1]:
        raise ValueError(f"expected probabilities (n, C) and n gold labels, at least one; found {p.shape}, {y.shape}")
    confidence, right = p.max(axis=1), p.argmax(axis=1) == y
    bin_of = np.searchsorted(np.arange(1, bins) / bins, confidence)  # the first whose upper edge is not below
    gaps = np.bincount(bin_of, weights=right - confidence, minlength=bins)  # n_b (accuracy_b - confidence_b)
    return float(np.abs(gaps).sum() / len(p))


def area_under_curve(n_labeled: Sequence[int], values: Sequence[float]) -> float:
    """Mean height of a learning curve: the area under the straight lines between its points, over its width in labels.

    n_labeled: increasing numbers of labels; values: a metric at each. In the metric's unit, so curves of different
    length can be read side by side; a curve of one point has that point's height.
    Raises ValueError for no points, different lengths, or labels that do not increase.
    """
    if not n_labeled or len(n_labeled) != len(values):
        raise ValueError(f"expected as many values as points, at least one; found {len(values)}, {len(n_labeled)}")
    if any(later <= earlier for earlier, later in pairwise(n_labeled)):
        raise ValueError(f"expected numbers of labels that increase; found {list(n_labeled)}")
    if len(n_labeled) == 1:
        return float(values[0])
    return float(np.trapezoid(values, n_labeled) / (n_labeled[-1] - n_labeled[0]))
