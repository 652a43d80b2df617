"""Explainable active learning: ask for what the model is unsure of and cannot explain naturally (Eq. 8)."""

from functools import partial

import numpy as np

from service.model import scoring
from training.strategies.interface import Indices, PoolScores, QueryStrategy, highest


def xal_sampling(lambda_: float = scoring.LAMBDA) -> QueryStrategy:
    """The highest acquisition score first, both sums of Eq. 8 over the unlabeled pool.

    lambda_: weight of the explanation score against the entropy, >= 0; at 0 the choice is entropy's.
    """
    return QueryStrategy(
        name="xal",
        reference="Luo et al. 2023, arXiv 2310.05502, Eq. 8",
        uses_explanations=True,
        needs=frozenset({"probabilities", "explanation_scores"}),
        choose=partial(_choose_by_acquisition_score, lambda_=lambda_),
    )


def _choose_by_acquisition_score(
    scores: PoolScores,
    size: int,
    rng: np.random.Generator,  # noqa: ARG001
    lambda_: float,
) -> Indices:
    assert scores.explanation_scores is not None  # ``select`` has checked what xal needs
    normaliser = scoring.pool_normaliser(scores.explanation_scores, scores.entropy)
    return highest(scoring.acquisition_score(scores.explanation_scores, scores.entropy, normaliser, lambda_), size)
