"""Uncertainty sampling: ask for the texts that the classifier is least sure of."""

import numpy as np

from training.strategies.interface import Indices, PoolScores, QueryStrategy, highest


def entropy_sampling() -> QueryStrategy:
    """Max-Entropy (ME): the highest entropy of P(y|x) first, from a classifier that never saw an explanation."""
    return QueryStrategy(
        name="entropy",
        reference="Lewis and Gale 1994; Settles 2009, section 3.1",
        uses_explanations=False,
        needs=frozenset({"probabilities"}),
        choose=_choose_by_entropy,
    )


def _choose_by_entropy(scores: PoolScores, size: int, rng: np.random.Generator) -> Indices:  # noqa: ARG001
    return highest(scores.entropy, size)
