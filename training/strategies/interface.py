"""What every query strategy gets and gives back: arrays in, indices out."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from service.model import scoring
from service.model.errors import XalError

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

NEEDS = ("probabilities", "explanation_scores", "embeddings", "dropout_probabilities", "labeled")

DIMENSIONS = {"probabilities": 2, "explanation_scores": 1, "embeddings": 2, "dropout_probabilities": 3}


@dataclass(frozen=True, eq=False)
class LabeledScores:
    """What the model of this round says about the m texts that are labeled already, in the order of labeling.

    probabilities: P(y|x), (m, C). embeddings: h_0, (m, H). labels: the gold labels as indices below C, (m,).
    """

    probabilities: Floats
    embeddings: NDArray[np.float32]
    labels: Indices


@dataclass(frozen=True, eq=False)
class PoolScores:
    """What the model of this round says about the n unlabeled texts, all arrays in the pool's order.

    probabilities: P(y|x), (n, C), rows add up to 1. explanation_scores: p of Eq. 6 for the top-1 hypothesis, (n,), at
    most 0. embeddings: h_0, (n, H). dropout_probabilities: P(y|x) of T passes with dropout, (n, T, C). labeled: the
    same model on the labeled texts. What the strategy does not need may be None. normaliser: the sums of Eq. 8 over the
    whole unlabeled pool, where a prefilter left only n of its texts here; None where all are.
    Raises XalError for scores that are not finite, ValueError for arrays of another length.
    """

    n: int
    probabilities: Floats | None = None
    explanation_scores: Floats | None = None
    embeddings: NDArray[np.float32] | None = None
    dropout_probabilities: Floats | None = None
    labeled: LabeledScores | None = None
    normaliser: scoring.Normaliser | None = None

    def __post_init__(self) -> None:
        for name, dimensions in DIMENSIONS.items():
            values = getattr(self, name)
            if values is None:
                continue
            if values.ndim != dimensions or len(values) != self.n:
                raise ValueError(f"{name}: expected {dimensions} dimensions and {self.n} rows, found {values.shape}")
            # The extremes carry NaN and infinity on, and need no copy of the pool.
            if values.size and not (np.isfinite(values.min()) and np.isfinite(values.max())):
                bad = int(np.flatnonzero(~np.isfinite(values).reshape(self.n, -1).all(axis=1))[0])
                raise XalError(
                    f"the model's {name.replace('_', ' ')} are not finite, first for unlabeled text {bad}: its "
                    "training diverged; lower the learning rate"
                )

    @cached_property
    def entropy(self) -> Floats:
        """c of Eq. 8 in nats, (n,), from the probabilities."""
        if self.probabilities is None:
            raise ValueError("entropy needs the probabilities")
        return scoring.entropy(self.probabilities)

    @cached_property
    def pool_sums(self) -> scoring.Normaliser:
        """What the terms of Eq. 8 are like over the whole unlabeled pool."""
        if self.explanation_scores is None:
            raise ValueError("the sums of Eq. 8 need the explanation scores")
        return self.normaliser or scoring.pool_normaliser(self.explanation_scores, self.entropy)

    def acquisition_scores(self, lambda_: float, acquisition: scoring.Acquisition) -> Floats:
        """s of Eq. 8, (n,); see scoring.acquisition_score."""
        if self.explanation_scores is None:
            raise ValueError("acquisition scores need the explanation scores")
        return scoring.acquisition_score(self.explanation_scores, self.entropy, self.pool_sums, lambda_, acquisition)


@dataclass(frozen=True)
class QueryStrategy:
    """A rule that says which texts to label next.

    reference: where it was published. uses_explanations: whether its model trains on explanations too; ranks: whether
    it then learns to rank them (Eq. 5) as well. acquisition: how its model combines the terms of Eq. 8, when it is
    asked for acquisition scores after the export. needs: the arrays of PoolScores that it reads, of NEEDS; with none,
    the pool need not be scored.
    score: what it ranks the texts by, (n,), higher = ask first; None where no text has a score of its own. lambda_: the
    weight of Eq. 8 where that score is s of Eq. 8, None where it is another. choose: (scores, size, rng) -> indices,
    first = ask first, where these are not just the highest scores. To choose, call ``select``.
    Raises ValueError without a score and a choice, or for a need that does not exist.
    """

    name: str
    reference: str
    uses_explanations: bool
    needs: frozenset[str]
    choose: Callable[[PoolScores, int, np.random.Generator], Indices] | None = None
    acquisition: scoring.Acquisition = "paper"
    ranks: bool = True
    score: Callable[[PoolScores], Floats] | None = None
    lambda_: float | None = None

    def __post_init__(self) -> None:
        if unknown := self.needs - set(NEEDS):
            raise ValueError(f"the strategy {self.name} needs {sorted(unknown)}; there is only {', '.join(NEEDS)}")
        if self.choose is None and self.score is None:
            raise ValueError(f"the strategy {self.name} has neither a score to rank by nor a rule to choose by")

    def select(self, scores: PoolScores, size: int, rng: np.random.Generator) -> Indices:
        """(size,) different indices into the unlabeled pool, first = ask first.

        size: 1 to n. rng: the only source of chance, so that a seed repeats the choice.
        Raises ValueError for another size or an array that is missing.
        """
        if not 1 <= size <= scores.n:
            raise ValueError(f"expected a query size from 1 to {scores.n}, the unlabeled texts; found {size}")
        if missing := [name for name in NEEDS if name in self.needs and getattr(scores, name) is None]:
            raise ValueError(f"the strategy {self.name} needs {', '.join(missing)} of the pool")
        chosen = np.asarray(self._choose(scores, size, rng), dtype=np.int64)
        if chosen.shape != (size,) or len(np.unique(chosen)) < size or chosen.min() < 0 or chosen.max() >= scores.n:
            raise ValueError(
                f"the strategy {self.name} chose {chosen}; expected {size} different indices below {scores.n}"
            )
        return chosen

    def _choose(self, scores: PoolScores, size: int, rng: np.random.Generator) -> Indices:
        if self.choose is not None:
            return self.choose(scores, size, rng)
        assert self.score is not None  # one of the two is there
        return highest(self.score(scores), size)


def highest(scores: Floats, size: int) -> Indices:
    """Indices of the ``size`` highest scores, highest first; ties keep the pool's order. (n,) -> (size,)."""
    return scoring.order(scores)[:size]
