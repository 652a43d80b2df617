"""Random sampling: the baseline that every strategy has to beat."""

import numpy as np

from training.strategies.interface import Indices, PoolScores, QueryStrategy


def random_sampling() -> QueryStrategy:
    """Uniformly at random, without looking at the texts."""
    return QueryStrategy(
        name="random",
        reference="uniform sampling without replacement",
        uses_explanations=False,
        needs=frozenset(),
        choose=_choose,
    )


def _choose(scores: PoolScores, size: int, rng: np.random.Generator) -> Indices:
    return rng.permutation(scores.n)[:size]
