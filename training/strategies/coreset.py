"""Core-set selection: ask for texts that leave none of the pool far from what is labeled."""

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import pairwise_distances_argmin

from training.strategies.clustering import squared_distances
from training.strategies.interface import Floats, Indices, PoolScores, QueryStrategy


def coreset_sampling() -> QueryStrategy:
    """k-center greedy: again and again the text u that is farthest from its nearest centre, max_u min_c |h_u - h_c|.

    h is h_0; the centres are the labeled texts and those chosen so far. Where nothing is labeled yet, the first choice
    is the text nearest to the mean of the pool.
    """
    return QueryStrategy(
        name="coreset",
        reference="Sener and Savarese 2018, arXiv 1708.00489, Algorithm 1",
        uses_explanations=False,
        needs=frozenset({"embeddings", "labeled"}),
        choose=_choose_farthest,
    )


def farthest_first(embeddings: NDArray, to_centres: Floats, size: int) -> Indices:
    """``size`` different texts, each the farthest from all centres and from those before it; ties: the pool's order.

    embeddings: (n, H). to_centres: squared distance of each to its nearest centre, (n,), negative for a text that is
    not to be chosen. size: at most the number of those that are. -> (size,).
    """
    nearest, chosen = to_centres.copy(), np.empty(size, dtype=np.int64)
    for place in range(size):
        index = int(nearest.argmax())
        chosen[place] = index
        np.minimum(nearest, squared_distances(embeddings, embeddings[index]), out=nearest)
        nearest[index] = -1.0  # below its duplicates, which are at 0
    return chosen


def _choose_farthest(scores: PoolScores, size: int, rng: np.random.Generator) -> Indices:  # noqa: ARG001
    embeddings, labeled = scores.embeddings, scores.labeled
    assert embeddings is not None
    assert labeled is not None
    if len(labeled.embeddings):
        # The distances that come with these are rounded, so that a copy of a labeled text is not at 0.
        nearest = pairwise_distances_argmin(embeddings, labeled.embeddings, metric="sqeuclidean")
        return farthest_first(embeddings, squared_distances(embeddings, labeled.embeddings, nearest), size)
    to_mean = squared_distances(embeddings, embeddings.mean(axis=0))
    first = int(to_mean.argmin())
    to_first = squared_distances(embeddings, embeddings[first])
    to_first[first] = -1.0
    return np.concatenate([[first], farthest_first(embeddings, to_first, size - 1)])
