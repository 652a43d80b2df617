"""Query strategies by name, one file per family.

A strategy is a function ``(scores, size, rng) -> indices`` in a QueryStrategy (see interface.py): it gets arrays that
describe the unlabeled pool, never a model, and returns the indices to label next, first = ask first. To add one, write
a function that returns a QueryStrategy, here or in a new file, and add it to STRATEGIES; the loop, the command line
and the reports take it from there. Its parameters need defaults, and become parameters of ``query_strategy``.
"""

import inspect
from collections.abc import Callable

from service.model.errors import InputError
from training.strategies.ablations import entropy_with_explanations, xal_without_entropy, xal_without_ranking
from training.strategies.badge import badge_sampling
from training.strategies.balanced import entropy_balanced_sampling, random_balanced_sampling, xal_balanced_sampling
from training.strategies.bayesian import bald_sampling
from training.strategies.bemps import corelog_sampling, coremse_sampling
from training.strategies.cal import cal_sampling
from training.strategies.coreset import coreset_sampling
from training.strategies.diverse import diverse_xal_sampling
from training.strategies.interface import LabeledScores, PoolScores, QueryStrategy
from training.strategies.random import random_sampling
from training.strategies.uncertainty import breaking_ties_sampling, entropy_sampling, least_confidence_sampling
from training.strategies.xal import standardised_xal_sampling, xal_sampling

__all__ = ["STRATEGIES", "LabeledScores", "PoolScores", "QueryStrategy", "query_strategy"]

STRATEGIES: dict[str, Callable[..., QueryStrategy]] = {
    "random": random_sampling,
    "random-balanced": random_balanced_sampling,
    "entropy": entropy_sampling,
    "entropy-balanced": entropy_balanced_sampling,
    "least-confidence": least_confidence_sampling,
    "breaking-ties": breaking_ties_sampling,
    "bald": bald_sampling,
    "coreset": coreset_sampling,
    "badge": badge_sampling,
    "bemps": coremse_sampling,
    "bemps-corelog": corelog_sampling,
    "cal": cal_sampling,
    "xal": xal_sampling,
    "xal-std": standardised_xal_sampling,
    "xal-diverse": diverse_xal_sampling,
    "xal-balanced": xal_balanced_sampling,
    "me-exp": entropy_with_explanations,
    "xal-no-rank": xal_without_ranking,
    "xal-no-me": xal_without_entropy,
}


def query_strategy(name: str, **parameters: float) -> QueryStrategy:
    """The strategy of this name, e.g. ``query_strategy("xal", lambda_=0.5)``.

    Raises InputError for a name or a parameter that does not exist, listing those that do.
    """
    if name not in STRATEGIES:
        raise InputError(f"unknown query strategy {name!r}; expected one of {', '.join(STRATEGIES)}")
    known = list(inspect.signature(STRATEGIES[name]).parameters)
    if unknown := [parameter for parameter in parameters if parameter not in known]:
        raise InputError(
            f"the query strategy {name} has no parameter {unknown[0]!r}; it has {', '.join(known) or 'none'}"
        )
    return STRATEGIES[name](**parameters)
