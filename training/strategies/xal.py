"""Explainable active learning: ask for what the model is unsure of and cannot explain naturally (Eq. 8)."""

from service.model import scoring
from service.model.scoring import Acquisition
from training.strategies.interface import QueryStrategy


def xal_sampling(lambda_: float = scoring.LAMBDA) -> QueryStrategy:
    """The highest acquisition score first, both sums of Eq. 8 over the unlabeled pool.

    lambda_: weight of the explanation score against the entropy, >= 0; at 0 the choice is entropy's.
    """
    return acquisition_sampling("xal", "Luo et al. 2023, arXiv 2310.05502, Eq. 8", "paper", lambda_)


def standardised_xal_sampling(lambda_: float = scoring.LAMBDA) -> QueryStrategy:
    """As ``xal``, each term of Eq. 8 with zero mean and unit variance over the unlabeled pool before they are summed.

    Explanation scores that hardly differ then have the say that lambda_ gives them. lambda_: >= 0; at 0 the choice is
    entropy's.
    """
    return acquisition_sampling("xal-std", "Luo et al. 2023, Eq. 8 of standardised terms", "standardized", lambda_)


def acquisition_sampling(
    name: str, reference: str, acquisition: Acquisition, lambda_: float, ranks: bool = True
) -> QueryStrategy:
    """A strategy of this name that asks for the highest s of Eq. 8 first; see QueryStrategy for the rest."""
    return QueryStrategy(
        name=name,
        reference=reference,
        uses_explanations=True,
        needs=frozenset({"probabilities", "explanation_scores"}),
        acquisition=acquisition,
        ranks=ranks,
        score=lambda scores: scores.acquisition_scores(lambda_, acquisition),
        lambda_=lambda_,
    )
