"""Explainable active learning with a varied query: the acquisition score within clusters, and no near-duplicates."""

from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from service.model import scoring
from training.strategies.clustering import best_of_each, filled_up, k_means, unit_length
from training.strategies.interface import Indices, PoolScores, QueryStrategy, highest
from training.strategies.xal import acquisition_sampling

CANDIDATES = 4  # times the query size: how many of the highest acquisition scores are clustered
NEAR = 0.98  # cosine similarity of h_0 above which two texts are near-duplicates


def diverse_xal_sampling(lambda_: float = scoring.LAMBDA) -> QueryStrategy:
    """Of each of ``size`` clusters the text with the highest acquisition score of Eq. 8, without near-duplicates.

    The 4 x ``size`` highest scores, or the whole pool where it holds less, are clustered by h_0 with k-means. A text
    whose h_0 has a cosine similarity above 0.98 to that of a text already chosen is passed over; its place and those of
    empty clusters go to the next best of the whole pool by acquisition score. Only where the rest are all
    near-duplicates are they taken after all, the best first. A h_0 of length 0 is near to none. The query is in the
    order of its acquisition scores. lambda_: as for ``xal``.
    """
    reference = "Luo et al. 2023, Eq. 8, within the clusters of Zhdanov 2019, arXiv 1901.05954"
    ranking = acquisition_sampling("xal-diverse", reference, "paper", lambda_)
    return replace(ranking, needs=ranking.needs | {"embeddings"}, choose=partial(_choose_diverse, lambda_=lambda_))


def _choose_diverse(scores: PoolScores, size: int, rng: np.random.Generator, lambda_: float) -> Indices:
    assert scores.embeddings is not None
    acquisition_scores = scores.acquisition_scores(lambda_, "paper")
    order = highest(acquisition_scores, scores.n)
    candidates = order[: min(scores.n, CANDIDATES * size)]
    clusters, _ = k_means(scores.embeddings[candidates], size, rng)
    best = candidates[best_of_each(clusters, acquisition_scores[candidates])]
    chosen = _without_near_duplicates(filled_up(best, order, scores.n), scores.embeddings, size)
    chosen = filled_up(chosen, order, size)
    return chosen[highest(acquisition_scores[chosen], size)]


def _without_near_duplicates(order: Indices, embeddings: NDArray[np.float32], size: int) -> Indices:
    """The first of ``order``, at most ``size``, each near to none before it. embeddings: (n, H)."""
    directions = np.empty((size, embeddings.shape[1]), dtype=embeddings.dtype)  # of those chosen so far
    chosen: list[int] = []
    for index in order:
        if len(chosen) == size:
            break
        direction = unit_length(embeddings[index : index + 1])[0]
        if not (directions[: len(chosen)] @ direction > NEAR).any():
            directions[len(chosen)] = direction
            chosen.append(int(index))
    return np.array(chosen)
