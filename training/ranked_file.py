"""Explained rows -> Eq. 8 over all of them, their ranks, one file; in flat memory.

The rows stand on disk and are read more often than once: the sums of Eq. 8 take all texts, and a rank every score.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from service.model.scoring import Acquisition, Normaliser, PoolTerm, acquisition_score, streamed_normaliser
from training.on_disk import ranks_on_disk
from training.parts import json_line
from training.records import Row
from training.strategies.interface import Floats

CHUNK = 1024  # rows in memory at a time


@dataclass(frozen=True)
class ScoredRow:
    """A row of the results. sampled: whether its text was explained as one of a sample, which stands for others too."""

    row: Row
    sampled: bool = False

    @property
    def answered(self) -> bool:
        return "error" not in self.row

    @property
    def explained(self) -> bool:
        return "explanation_score" in self.row


Rows = Callable[[], Iterator[ScoredRow]]  # from the first one at every call


@dataclass(frozen=True)
class Equation8:
    """Eq. 8 as it is asked for: over which pool, with which lambda, its terms combined in which way."""

    normaliser: Normaliser
    lambda_: float
    acquisition: Acquisition

    def chunks(self, rows: Rows) -> Iterator[tuple[list[ScoredRow], Floats]]:
        """Some rows at a time, and the scores s_i of the explained ones among them, (n,).

        The same chunks at every call, so that a score is the same to its last digit too.
        """
        for chunk in _chunks(rows):
            pairs = [(one.row["explanation_score"], one.row["entropy"]) for one in chunk if one.explained]
            p, c = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
            yield chunk, acquisition_score(p, c, self.normaliser, self.lambda_, self.acquisition)


def normaliser_over(rows: Rows, weight: float = 1.0) -> Normaliser:
    """Z_c over the rows that were answered, Z_p over those that were explained.

    weight: how many texts of the pool each sampled one stands for; all others stand for themselves.
    """
    p, c = PoolTerm(), PoolTerm()
    for chunk in _chunks(rows):
        c.add([one.row["entropy"] for one in chunk if one.answered])
        for sampled in (False, True):
            scores = [one.row["explanation_score"] for one in chunk if one.explained and one.sampled == sampled]
            p.add(-np.array(scores, dtype=np.float64), weight if sampled else 1.0)
    return streamed_normaliser(p, c)


def write_ranked(rows: Rows, equation: Equation8, target: Path) -> int:
    """Write all rows as JSON lines, the explained ones with acquisition_score and rank; returns the number of errors.

    Rank 1 = ask for this one first; ties keep the rows' order. Takes 24 bytes a row in temporary files beside it.
    """
    ranks = ranks_on_disk((scores for _, scores in equation.chunks(rows)), target.parent)
    ranked, errors = 0, 0
    with target.open("wb") as stream:
        for chunk, scores in equation.chunks(rows):
            places = iter(zip(scores.tolist(), ranks[ranked : ranked + len(scores)].tolist(), strict=True))
            ranked += len(scores)
            for one in chunk:
                errors += not one.answered
                if one.explained:
                    score, rank = next(places)
                    one.row.update(acquisition_score=score, rank=rank)
                stream.write(json_line(one.row))
    return errors


def _chunks(rows: Rows) -> Iterator[list[ScoredRow]]:
    source = rows()
    while chunk := list(islice(source, CHUNK)):
        yield chunk
