"""Contrastive active learning: ask for texts that the model judges otherwise than the labeled texts around them."""

import numpy as np
from sklearn.neighbors import NearestNeighbors

from training.strategies.interface import Floats, PoolScores, QueryStrategy

NEIGHBOURS = 10  # the authors'
LEAST = float(np.finfo(np.float32).tiny)  # what a softmax in float32 rounds to 0 is about as small


def cal_sampling() -> QueryStrategy:
    """CAL: the highest (1/m) sum_l KL(P(y|x_l) || P(y|x)) first, over the m = 10 labeled texts x_l nearest to x in h_0.

    KL(p || q) = sum_y p_y log(p_y / q_y), in nats. m is fewer where fewer are labeled; where nothing is, there is
    nothing to contrast with, and the highest entropy comes first.
    """
    return QueryStrategy(
        name="cal",
        reference="Margatina et al. 2021, arXiv 2109.03764, Algorithm 1",
        uses_explanations=False,
        needs=frozenset({"probabilities", "embeddings", "labeled"}),
        score=_contrast,
    )


def _contrast(scores: PoolScores) -> Floats:
    assert scores.probabilities is not None
    assert scores.labeled is not None
    labeled = scores.labeled
    if not len(labeled.embeddings):
        return scores.entropy
    search = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(labeled.embeddings)), algorithm="brute")
    neighbours = search.fit(labeled.embeddings).kneighbors(scores.embeddings, return_distance=False)  # (n, m)
    log_own = np.log(np.maximum(scores.probabilities, LEAST))
    log_theirs = np.log(np.maximum(labeled.probabilities, LEAST))
    divergence = np.zeros(scores.n)
    for neighbour in neighbours.T:
        divergence += (labeled.probabilities[neighbour] * (log_theirs[neighbour] - log_own)).sum(axis=1)
    return divergence
