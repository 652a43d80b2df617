"""What each part of explainable active learning is good for: the method without it (the paper's Table 9)."""

from service.model import scoring
from training.strategies.interface import Floats, PoolScores, QueryStrategy
from training.strategies.xal import acquisition_sampling


def entropy_with_explanations() -> QueryStrategy:
    """ME-Exp: the model of ``xal``, trained on explanations, but the highest entropy of P(y|x) first."""
    return QueryStrategy(
        name="me-exp",
        reference="Luo et al. 2023, arXiv 2310.05502, Table 9, ME-Exp",
        uses_explanations=True,
        needs=frozenset({"probabilities"}),
        score=lambda scores: scores.entropy,
    )


def xal_without_ranking(lambda_: float = scoring.LAMBDA) -> QueryStrategy:
    """XAL without the ranking loss (Eq. 5): its model learns to write explanations, not to rank them.

    The highest acquisition score of Eq. 8 first. lambda_: as for ``xal``.
    """
    reference = "Luo et al. 2023, arXiv 2310.05502, Table 9, w/o Rank"
    return acquisition_sampling("xal-no-rank", reference, "paper", lambda_, ranks=False)


def xal_without_entropy() -> QueryStrategy:
    """XAL without the entropy: the highest -p first, p being the explanation score of Eq. 6 for the top-1 hypothesis.

    Without the other term exp(-p)/Z_p of Eq. 8 orders the texts as -p does.
    """
    return QueryStrategy(
        name="xal-no-me",
        reference="Luo et al. 2023, arXiv 2310.05502, Table 9, w/o ME",
        uses_explanations=True,
        needs=frozenset({"explanation_scores"}),
        score=_unnaturalness,
    )


def _unnaturalness(scores: PoolScores) -> Floats:
    assert scores.explanation_scores is not None
    return -scores.explanation_scores
