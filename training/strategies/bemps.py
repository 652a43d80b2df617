"""BEMPS: ask for texts whose label, whatever it is, is expected to change what the model says about other texts."""

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from training.strategies.clustering import best_of_each, blocks, filled_up, k_means, squared_distances, unit_length
from training.strategies.interface import Floats, Indices, PoolScores, QueryStrategy, highest

ESTIMATION = 300  # texts x', a random sample of the pool, on which the change is estimated
LEAST = 1e-15  # a lower gain is the rounding of passes that agree
CLUSTERED = 0.5  # share of the pool, those of highest score, that the query is taken from

# How much better, by a strictly proper score, the predictions after a label are expected to be than those before.
# (B, C, X, C) after each label of each text, (X, C) before -> (B, C, X)
Gain = Callable[[Floats, Floats], Floats]


def coremse_sampling() -> QueryStrategy:
    """BEMPS with the Brier score (CoreMSE): its gain is sum_y' (p(y'|L+(x,y),x') - p(y'|L,x'))².

    A text's score is the expectation of this over its own label y and over texts x', E_y|x E_x' gain. The members of
    the ensemble are passes with dropout t, equally likely before; after label y of x pass t has the weight
    p(t|L+(x,y)) = p_t(y|x) / sum_t' p_t'(y|x), and p(y'|L+(x,y),x') = sum_t p(t|L+(x,y)) p_t(y'|x').

    The query: the half of the pool with the highest scores, at least ``size`` texts, is clustered by k-means into
    ``size`` clusters of the vectors (E_y|x gain on x')_x', scaled to unit length, and of each cluster the text nearest
    to its centre is taken. Places of empty clusters go to the highest scores left. The highest score comes first.
    """
    return _sampling("bemps", "CoreMSE", _brier_gain)


def corelog_sampling() -> QueryStrategy:
    """BEMPS with the logarithmic score (CoreLog): its gain is KL(p(y'|L+(x,y),x') || p(y'|L,x')), in nats.

    All else is as in ``bemps``.
    """
    return _sampling("bemps-corelog", "CoreLog", _logarithmic_gain)


def _sampling(name: str, variant: str, gain: Gain) -> QueryStrategy:
    return QueryStrategy(
        name=name,
        reference=f"Tan, Du and Buntine 2021, arXiv 2110.14171, {variant} in batches",
        uses_explanations=False,
        needs=frozenset({"dropout_probabilities"}),
        choose=partial(_choose_by_expected_gain, gain=gain),
    )


def _choose_by_expected_gain(scores: PoolScores, size: int, rng: np.random.Generator, gain: Gain) -> Indices:
    passes = scores.dropout_probabilities
    assert passes is not None
    sample = np.sort(rng.choice(scores.n, min(ESTIMATION, scores.n), replace=False))
    changes = _expected_gains(passes, passes[sample], gain)
    by_score = changes.mean(axis=1, dtype=np.float64)
    top = highest(by_score, max(size, round(CLUSTERED * scores.n)))
    vectors = unit_length(changes[top])
    clusters, centres = k_means(vectors, size, rng)
    chosen = top[best_of_each(clusters, -squared_distances(vectors, centres, clusters))]
    chosen = filled_up(chosen, top, size)
    return chosen[highest(by_score[chosen], size)]


def _expected_gains(passes: Floats, others: Floats, gain: Gain) -> NDArray[np.float32]:
    """E_y|x gain of each text on each other, (n, X). passes: p_t(y|x), (n, T, C). others: p_t(y'|x'), (X, T, C)."""
    n, members, classes = passes.shape
    before = others.mean(axis=1)  # p(y'|L,x'), (X, C)
    table = others.transpose(1, 0, 2).reshape(members, -1)  # (T, X C)
    found = np.empty((n, len(others)), dtype=np.float32)
    for block in blocks(n, classes * table.shape[1]):
        own = passes[block].transpose(0, 2, 1)  # (B, C, T)
        sums = own.sum(axis=2)
        weights = own / np.where(sums > 0, sums, 1)[..., None]
        after = (weights.reshape(-1, members) @ table).reshape(*sums.shape, *before.shape)  # (B, C, X, C)
        # A label that no pass thinks possible has no weight here, whatever would come after it.
        found[block] = np.einsum("bc,bcx->bx", sums / members, gain(after, before))
    found[found < LEAST] = 0.0
    return found


def _brier_gain(after: Floats, before: Floats) -> Floats:
    change = after - before
    gain: Floats = np.einsum("bcxk,bcxk->bcx", change, change)
    return gain


def _logarithmic_gain(after: Floats, before: Floats) -> Floats:
    ratio = after / np.where(before > 0, before, 1)
    np.log(ratio, out=ratio, where=ratio > 0)  # 0 log 0 = 0: what is left there is multiplied by 0
    # Both add up to 1, so that their difference adds nothing but keeps rounding from growing.
    gain: Floats = np.einsum("bcxk,bcxk->bcx", after, ratio) + (before - after).sum(axis=-1)
    return gain
