"""k-means for strategies that want a varied query, and what is taken of each cluster."""

import warnings
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from service.model import scoring
from training.strategies.interface import Floats, Indices

WHOLE = 10_000  # points; of more, k-means sees a batch at a time
BATCH = 4096
ITERATIONS = 100
BLOCK = 2**20  # numbers that a step over all points works on at a time


def k_means(points: NDArray, k: int, rng: np.random.Generator) -> tuple[Indices, NDArray]:
    """The cluster of each point, (n,), below k, and the clusters' centres, (k, D). points: (n, D). k: 1 to n.

    Lloyd's algorithm from one k-means++ start; of over 10,000 points on random batches of them. Where points coincide,
    clusters may stay empty. rng: the only source of chance.
    """
    seed = int(rng.integers(2**31))
    if k >= len(points):
        return np.arange(len(points)), points
    if len(points) <= WHOLE:
        model = KMeans(k, n_init=1, max_iter=ITERATIONS, random_state=seed)
    else:
        model = MiniBatchKMeans(k, n_init=1, batch_size=BATCH, max_iter=ITERATIONS, random_state=seed)
    with warnings.catch_warnings(), threadpool_limits(limits=1):
        # Several threads add up in the order in which they come to an end, and another sum may be another cluster.
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different points than clusters: no fault
        model.fit(points)
    return model.labels_.astype(np.int64), model.cluster_centers_


def best_of_each(clusters: Indices, scores: Floats) -> Indices:
    """The highest score of each cluster that is not empty, highest first; ties keep their order. (n,), (n,) -> (k,)."""
    order = scoring.order(scores)
    _, firsts = np.unique(clusters[order], return_index=True)
    chosen: Indices = order[np.sort(firsts)]
    return chosen


def filled_up(chosen: Indices, order: Indices, size: int) -> Indices:
    """``chosen``, at most ``size`` of them, then the first of ``order`` that are not among them. -> (size,)."""
    others = order[~np.isin(order, chosen)]
    return np.concatenate([chosen, others])[:size]


def squared_distances(points: NDArray, centres: NDArray, clusters: Indices | None = None) -> Floats:
    """Of each point to the one centre, (D,), or to that of its cluster, (k, D). points: (n, D). -> (n,).

    From the differences, so that it is exactly 0 for points that coincide; in memory of one block of points.
    """
    found = np.empty(len(points))
    for block in blocks(*points.shape):
        difference = points[block] - (centres if clusters is None else centres[clusters[block]])
        found[block] = np.einsum("id,id->i", difference, difference)
    return found


def blocks(rows: int, width: int) -> Iterator[slice]:
    """Slices of all rows, in order, each of about a million numbers where a row has ``width``."""
    step = max(1, BLOCK // max(1, width))
    return (slice(first, first + step) for first in range(0, rows, step))


def unit_length(vectors: NDArray) -> NDArray:
    """Each row divided by its length; a row without one stays as it is. (n, D) -> (n, D), a copy."""
    lengths = np.sqrt(np.einsum("id,id->i", vectors, vectors))
    scaled: NDArray = vectors / np.where(lengths > 0, lengths, 1)[:, None]
    return scaled
