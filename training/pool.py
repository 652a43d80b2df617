"""The pool of Algorithm 1: D_l, the texts labeled so far, and D_u, those that still wait."""

from collections.abc import Iterable, Sequence

import numpy as np

from service.model.errors import InputError
from training.data import Example

INITIAL_SET_STREAM = 1  # keeps these draws apart from every other generator that is seeded with a small number


class Pool:
    """Which examples are labeled and which are not; the order of the examples never changes and breaks ties."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self._examples = {example.id: example for example in examples}
        self._labeled: dict[str, Example] = {}
        if len(self._examples) < len(examples):
            raise ValueError("the examples of a pool need different ids")

    def __len__(self) -> int:
        """All examples, labeled or not."""
        return len(self._examples)

    @property
    def labeled_ids(self) -> list[str]:
        """Ids of D_l in the order of labeling."""
        return list(self._labeled)

    @property
    def labeled(self) -> list[Example]:
        """D_l in the order of labeling."""
        return list(self._labeled.values())

    @property
    def unlabeled(self) -> list[Example]:
        """D_u in the pool's order."""
        return [example for example in self._examples.values() if example.id not in self._labeled]

    def label(self, ids: Iterable[str]) -> None:
        """Move examples from D_u to D_l, in this order: all of them, or none.

        Raises InputError for an id that is not in the pool, is labeled already, or stands there twice.
        """
        new: dict[str, Example] = {}
        for id_ in ids:
            if id_ not in self._examples:
                raise InputError(
                    f"the id {id_!r} is not in the pool of {len(self)} examples; use the data that the run began with"
                )
            if id_ in self._labeled or id_ in new:
                raise InputError(f"the id {id_!r} is labeled already; each example of the pool can be labeled once")
            new[id_] = self._examples[id_]
        self._labeled |= new


def initial_set(examples: Sequence[Example], size: int, seed: int) -> list[str]:
    """Ids of the first texts to label, drawn uniformly at random.

    seed: the initial set's own number, at least 0. Nothing else decides: every strategy and every training seed that
    shares it starts from the same texts, and a smaller set is the beginning of a larger one.
    Raises InputError where the pool holds fewer than ``size`` examples.
    """
    if size > len(examples):
        raise InputError(f"cannot draw {size} texts to begin with from a pool of {len(examples)}; lower --query-size")
    rng = np.random.default_rng([INITIAL_SET_STREAM, seed])
    return [examples[index].id for index in rng.permutation(len(examples))[:size]]


def check_budget(pool_size: int, query_size: int, budget: int) -> None:
    """Raise InputError unless 1 <= query size <= budget <= pool size, all of them numbers of texts."""
    if query_size < 1:
        raise InputError(f"the query size is {query_size}; expected at least 1 text a round")
    if query_size > pool_size:
        raise InputError(f"the query size of {query_size} is larger than the pool of {pool_size}; lower --query-size")
    if budget < query_size:
        raise InputError(
            f"the budget of {budget} is smaller than the query size of {query_size}; raise --budget or lower "
            "--query-size"
        )
    if budget > pool_size:
        raise InputError(f"the budget of {budget} is larger than the pool of {pool_size}; lower --budget or add data")
