"""Is one query strategy better than another? Paired differences, their intervals, and a verdict that needs both.

Runs are paired by their initial set and seed, so that what chance gave to both falls out of the difference.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

CONFIDENCE = 0.95
LEVEL = 1 - CONFIDENCE
RESAMPLES = 9999
# Signs of n pairs can fall in 2^n ways, so the smallest two-sided p is 2 / 2^n: 0.0625 of five pairs, 0.03125 of six.
FEWEST_PAIRS = 6
MOST_SIGNS = 2**16  # all ways of up to 16 pairs are counted out; of more, this many are drawn

BETTER, WORSE = "better", "worse"
NO_DIFFERENCE = "no difference shown"
TOO_FEW = "too few pairs to show one"


@dataclass(frozen=True)
class Difference:
    """What the paired differences of two strategies say.

    n: pairs. mean: of the differences, first minus second, in the unit of what was measured. interval: of that mean,
    see mean_interval; None of a single pair. p: see sign_flip_p. verdict: on the first.
    """

    n: int
    mean: float
    interval: tuple[float, float] | None
    p: float
    verdict: str


def paired_difference(first: ArrayLike, second: ArrayLike, *, higher_is_better: bool = True) -> Difference:
    """Compare two strategies by what each measured in the same pairs, (n,) and (n,).

    The first is better or worse only where the interval of the mean difference leaves out 0 and the sign-flip test
    gives p < 0.05; that takes at least six pairs. Raises ValueError for no pairs or numbers that do not pair up.
    """
    one, other = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if one.shape != other.shape or one.ndim != 1 or not one.size:
        raise ValueError(f"expected as many values of both, at least one; found {one.shape}, {other.shape}")
    differences = one - other
    mean, p = float(differences.mean()), sign_flip_p(differences)
    if len(differences) == 1:
        return Difference(1, mean, None, p, TOO_FEW)
    low, high = (float(end) for end in mean_interval(differences))
    verdict = TOO_FEW if len(differences) < FEWEST_PAIRS else NO_DIFFERENCE
    if len(differences) >= FEWEST_PAIRS and p < LEVEL and not low <= 0 <= high:
        verdict = BETTER if (mean > 0) == higher_is_better else WORSE
    return Difference(len(differences), mean, (low, high), p, verdict)


def mean_interval(values: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The ends of the 95% bootstrap interval (percentiles, seeded) of a mean over runs: (runs, ...) -> (...), (...).

    Of two or three runs it reaches from the lowest to the highest: more than one resample in 40 holds nothing else.
    Raises ValueError for less than two runs, whose spread nobody knows.
    """
    array = np.asarray(values, dtype=np.float64)
    if len(array) < 2:
        raise ValueError(f"expected values of at least two runs; found {len(array)}")
    found = stats.bootstrap(
        (array,),
        np.mean,
        axis=0,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    return found.confidence_interval.low, found.confidence_interval.high


def sign_flip_p(differences: ArrayLike) -> float:
    """Two-sided p of the paired sign-flip test, (n,) -> 0 to 1: were both strategies alike, each difference could as
    well have had the other sign; how often is the mean then as far from 0 as it is? Exact up to 16 pairs."""
    array = np.asarray(differences, dtype=np.float64)
    if len(array) == 1:  # scipy asks for two; the two signs of one difference are equally far from 0
        return 1.0
    tested = stats.permutation_test(
        (array,),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=MOST_SIGNS,
        rng=np.random.default_rng(0),
    )
    return float(min(1.0, tested.pvalue))


def labels_to_target(n_labeled: Sequence[int], values: Sequence[float], target: float) -> float | None:
    """The first number of labels at which a run reaches the target; None where it never does.

    n_labeled, values: a run's numbers of labels, increasing, and its metric at each. Between the last round below the
    target and the first one that reaches it, the metric is taken to rise in a straight line; a run that begins at or
    above it has the labels of its first round, for nothing is known of fewer.
    """
    if values and values[0] >= target:
        return float(n_labeled[0])
    for (n, value), (next_n, next_value) in pairwise(zip(n_labeled, values, strict=True)):
        if next_value >= target:
            return n + (target - value) / (next_value - value) * (next_n - n)
    return None
