"""Uncertainty sampling: ask for the texts that the classifier is least sure of."""

import numpy as np

from training.strategies.interface import Floats, PoolScores, QueryStrategy


def entropy_sampling() -> QueryStrategy:
    """Max-Entropy (ME): the highest entropy of P(y|x) first, from a classifier that never saw an explanation."""
    return QueryStrategy(
        name="entropy",
        reference="Lewis and Gale 1994; Settles 2009, section 3.1",
        uses_explanations=False,
        needs=frozenset({"probabilities"}),
        score=lambda scores: scores.entropy,
    )


def least_confidence_sampling() -> QueryStrategy:
    """Least Confidence (LC): the highest 1 - max_y P(y|x) first."""
    return QueryStrategy(
        name="least-confidence",
        reference="Lewis and Gale 1994; Culotta and McCallum 2005",
        uses_explanations=False,
        needs=frozenset({"probabilities"}),
        score=_least_confidence,
    )


def breaking_ties_sampling() -> QueryStrategy:
    """Breaking Ties (BK): the smallest margin P(y1|x) - P(y2|x) between the two most probable labels first."""
    return QueryStrategy(
        name="breaking-ties",
        reference="Scheffer, Decomain and Wrobel 2001; Luo et al. 2005, JMLR 6",
        uses_explanations=False,
        needs=frozenset({"probabilities"}),
        score=_minus_margin,
    )


def _least_confidence(scores: PoolScores) -> Floats:
    assert scores.probabilities is not None
    # Not 1 - max: the subtraction rounds, and would make ties of what differs.
    return -scores.probabilities.max(axis=1)


def _minus_margin(scores: PoolScores) -> Floats:
    assert scores.probabilities is not None
    best_two = np.partition(scores.probabilities, -2, axis=1)[:, -2:]  # (n, 2), the higher one last
    return best_two[:, 0] - best_two[:, 1]
