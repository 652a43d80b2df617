"""Class balance for any strategy that ranks the pool: rare classes are asked for as often as frequent ones."""

from collections import deque
from dataclasses import replace

import numpy as np

from service.model import scoring
from training.strategies.interface import Indices, PoolScores, QueryStrategy
from training.strategies.random import random_sampling
from training.strategies.uncertainty import entropy_sampling
from training.strategies.xal import xal_sampling


def random_balanced_sampling() -> QueryStrategy:
    """``random``, balanced over the predicted classes; see ``balanced``."""
    return balanced(random_sampling())


def entropy_balanced_sampling() -> QueryStrategy:
    """``entropy``, balanced over the predicted classes; see ``balanced``."""
    return balanced(entropy_sampling())


def xal_balanced_sampling(lambda_: float = scoring.LAMBDA) -> QueryStrategy:
    """``xal``, balanced over the predicted classes; see ``balanced``. lambda_: as for ``xal``."""
    return balanced(xal_sampling(lambda_))


def balanced(base: QueryStrategy) -> QueryStrategy:
    """As ``base``, but the classes of labeled texts and query come as near to equal counts as the pool allows.

    A text of the pool counts for the class that the model predicts, a labeled one for its gold label. Again and again
    the class with the lowest count of those that the pool still has gives its next text, in the order of ``base``;
    where counts are equal, the class whose next text ``base`` puts first.

    base: a strategy that ranks: its choice of ``size`` texts is the beginning of its choice of more.
    """

    def choose(scores: PoolScores, size: int, rng: np.random.Generator) -> Indices:
        assert scores.probabilities is not None
        assert scores.labeled is not None
        counts = np.bincount(scores.labeled.labels, minlength=scores.probabilities.shape[1])
        order = base.select(scores, scores.n, rng)
        return _evenly(order, scores.probabilities.argmax(axis=1), counts.tolist(), size)

    return replace(
        base,
        name=f"{base.name}-balanced",
        reference=f"{base.reference}; balanced by predicted class after Bengar et al. 2022, arXiv 2110.04543",
        needs=base.needs | {"probabilities", "labeled"},
        choose=choose,
    )


def _evenly(order: Indices, predicted: Indices, counts: list[int], size: int) -> Indices:
    """order: the pool as the base ranks it, (n,). predicted: class of each text, (n,). counts: labeled by class, C."""
    places = [deque(np.flatnonzero(predicted[order] == label).tolist()) for label in range(len(counts))]
    chosen = []
    for _ in range(size):
        left = [label for label, queue in enumerate(places) if queue]
        rarest = min(left, key=lambda label: (counts[label], places[label][0]))
        chosen.append(places[rarest].popleft())
        counts[rarest] += 1
    return order[chosen]
