"""Bayesian disagreement: ask for the texts whose labels would tell most about the weights."""

import numpy as np

from service.model import scoring
from training.strategies.interface import Floats, PoolScores, QueryStrategy

LEAST = 1e-14  # a lower gain is the rounding of passes that agree


def bald_sampling() -> QueryStrategy:
    """BALD: the highest mutual information of label and weights first, H[mean_t p_t] - mean_t H[p_t].

    p_t is P(y|x) of pass t with dropout, which stands for a draw from the posterior of the weights. In nats, at least
    0: high where each pass is sure and the passes disagree, 0 where all say the same, however unsure they are.
    """
    return QueryStrategy(
        name="bald",
        reference="Houlsby et al. 2011, arXiv 1112.5745; Gal, Islam and Ghahramani 2017",
        uses_explanations=False,
        needs=frozenset({"dropout_probabilities"}),
        score=_mutual_information,
    )


def _mutual_information(scores: PoolScores) -> Floats:
    passes = scores.dropout_probabilities  # (n, T, C)
    assert passes is not None
    total = scoring.entropy(passes.mean(axis=1, dtype=np.float64))
    gains: Floats = total - scoring.entropy(passes).mean(axis=1)
    gains[gains < LEAST] = 0.0
    return gains
