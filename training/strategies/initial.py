"""A cold start: which texts to label before there is any model to ask."""

import numpy as np
from numpy.typing import NDArray

from training.strategies.clustering import best_of_each, k_means, squared_distances, unit_length
from training.strategies.coreset import farthest_first
from training.strategies.interface import Indices


def spread_out(embeddings: NDArray[np.float32], size: int, seed: int) -> Indices:
    """Texts from all over a pool: k-means into ``size`` clusters, and of each the text nearest to its centre.

    The clustering of Yuan, Lin and Boyd-Graber 2020 (ALPS, arXiv 2010.09535), of a pre-trained encoder's embeddings
    instead of surprisals.
    embeddings: h_0 of the encoder, (n, H); scaled to unit length here, but for those of length 0. size: 1 to n.
    Where texts coincide and clusters stay empty, their places go to the texts farthest from those chosen. Returns
    (size,) different indices in the pool's order; a seed repeats them. Raises ValueError for another size.
    """
    if not 1 <= size <= len(embeddings):
        raise ValueError(f"expected from 1 to {len(embeddings)} texts, as many as there are; found {size}")
    directions = unit_length(embeddings)
    clusters, centres = k_means(directions, size, np.random.default_rng(seed))
    to_centre = squared_distances(directions, centres, clusters)
    chosen = best_of_each(clusters, -to_centre)
    if missing := size - len(chosen):
        nearest = np.full(len(directions), np.inf)
        for index in chosen:
            np.minimum(nearest, squared_distances(directions, directions[index]), out=nearest)
        nearest[chosen] = -1.0
        chosen = np.concatenate([chosen, farthest_first(directions, nearest, missing)])
    return np.sort(chosen)
