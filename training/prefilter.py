"""Two-stage acquisition: entropy for all texts, explanations for those of highest entropy, and what this loses.

An entropy costs one pass of the encoder, an explanation a beam search, so most of the time of Eq. 8 goes to texts that
are never chosen. What would have been chosen among the others is not assumed but measured, on a random sample of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.model import scoring
from service.model.errors import InputError
from training.strategies.interface import Floats, Indices, QueryStrategy

STREAM = 3  # keeps the samples apart from every other generator seeded with a small number


class Prefilter(BaseModel):
    """How many texts are explained.

    ratio: R >= 1, the candidates are the R x L texts of highest entropy, L being the query size. sample: how many of
    the other texts are explained beside them, at random, to measure what is lost; at least 1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    ratio: float = Field(ge=1, allow_inf_nan=False)
    sample: int = Field(default=100, ge=1)

    @classmethod
    def of(cls, ratio: float | None, sample: int | None) -> Prefilter | None:
        """As ``--prefilter`` and ``--prefilter-sample`` say; None where neither was given. Raises InputError."""
        if ratio is None:
            if sample is not None:
                raise InputError("--prefilter-sample is for a prefilter; give --prefilter R too")
            return None
        try:
            return cls(ratio=ratio) if sample is None else cls(ratio=ratio, sample=sample)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            option = {"ratio": "--prefilter", "sample": "--prefilter-sample"}[str(problem["loc"][0])]
            raise InputError(f"{option}: {problem['msg'].lower()}, found {problem['input']}") from None

    def check(self, strategy: QueryStrategy) -> None:
        """Raise InputError for a strategy that reads no explanation scores: there is nothing to spare. And for one that
        has no score of its own to rank by: what it would lose cannot be said."""
        if "explanation_scores" not in strategy.needs:
            raise InputError(
                f"--prefilter spares explanations, and the strategy {strategy.name} reads none; leave it out"
            )
        if strategy.score is None:
            raise InputError(
                f"what --prefilter loses is seen from the score that texts are ranked by, and the strategy "
                f"{strategy.name} gives none; give it a score, or leave --prefilter out"
            )

    def draw(self, n: int, query_size: int, rng: np.random.Generator) -> Draw:
        """Who of n texts is explained. rng: the only source of chance. In memory of the sample's size, not the pool's,
        unless the sample is a good part of it."""
        # The ratio as it is written: 1.1 times 50 is more than 55 in floating point.
        candidates = min(n, math.ceil(Fraction(str(self.ratio)) * query_size))
        others = n - candidates
        sampled: Indices = rng.choice(others, min(self.sample, others), replace=False, shuffle=False)
        return Draw(n, candidates, candidates + np.sort(sampled))


@dataclass(frozen=True, eq=False)
class Draw:
    """Who is explained, by places in the order of entropy: 0 for the highest, n - 1 for the lowest.

    candidates: the first so many. sampled: places of those that were drawn from the others, (n_sampled,), increasing.
    """

    n: int
    candidates: int
    sampled: Indices

    @property
    def explained(self) -> int:
        return self.candidates + len(self.sampled)

    @property
    def weight(self) -> float:
        """How many of the others a sampled text stands for, at least 1: M/n of the estimates."""
        return (self.n - self.candidates) / len(self.sampled) if len(self.sampled) else 1.0


@dataclass(frozen=True)
class Kept:
    """What a prefilter did to one query.

    explained, of: texts with an explanation, of how many in all. candidates, sampled: what the explained ones are.
    size: texts in the query. kept_share: see the function; None where no text has a score.
    """

    explained: int
    of: int
    candidates: int
    sampled: int
    size: int
    kept_share: float | None

    def __str__(self) -> str:
        explained = f"explained {self.explained:,} of {self.of:,} texts"
        if self.kept_share is None:
            return explained
        others = self.of - self.candidates
        if self.sampled == others:
            return f"{explained}; keeps {self.kept_share:.0%} of the top {self.size:,}"
        how = f"estimated from {self.sampled:,} of {others:,} others"
        return f"{explained}; keeps about {self.kept_share:.0%} of the top {self.size:,}, {how}"

    @classmethod
    def measured(cls, draw: Draw, scores: Floats, is_candidate: NDArray[np.bool_], size: int) -> Kept:
        """scores, is_candidate: of the explained texts in the pool's order. size: the query's."""
        share = kept_share(scores, is_candidate, draw.weight, size) if len(scores) else None
        return cls(draw.explained, draw.n, draw.candidates, len(draw.sampled), size, share)


def kept_share(scores: Floats, is_candidate: NDArray[np.bool_], weight: float, size: int) -> float:
    """The share of the top ``size`` of all texts that are candidates, estimated from candidates and a sample.

    Of M texts that are no candidates n were sampled, so each of these stands for weight = M/n. Let t be the score with
    #(candidates, s >= t) + M/n #(sampled, s >= t) = size; then #(candidates, s >= t) / size is the share that is kept,
    0 to 1. Where a text reaches across t, the part of it above t counts. With n = M this is no estimate but the share
    itself.

    scores: what the explained texts are ranked by, in the pool's order, (k,): ties are broken by it, as everywhere.
    is_candidate: (k,), false for sampled texts. size: at least 1; where the pool holds less, all of it is the top.
    Raises ValueError for no texts or a size below 1.
    """
    if len(scores) == 0 or size < 1:
        raise ValueError(f"expected at least one score and a size of at least 1; found {len(scores)} and {size}")
    places = scoring.order(scores)
    stands_for = np.where(is_candidate, 1.0, weight)[places]
    above = np.concatenate([[0.0], np.cumsum(stands_for)[:-1]])  # texts with a higher score
    inside = np.clip(size - above, 0.0, stands_for)
    return float(inside[is_candidate[places]].sum() / inside.sum())
