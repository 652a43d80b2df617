"""Runs that belong together: every combination of strategies, initial sets, seeds and weights, each a run directory.

What is finished stays, what was stopped goes on, what is missing is run (jobs.py). Strategies that train alike share
the models of their first rounds, all share the teacher's cache and the upper bound.
"""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from service.model.errors import InputError
from service.model.scoring import LAMBDA
from training.prefilter import Prefilter
from training.run_request import RunOptions
from training.runs import CONFIG_FILE
from training.strategies import STRATEGIES, query_strategy
from training.values import names, numbers, weights

SHARED = ".first-rounds"


@dataclass(frozen=True)
class Grid:
    """The values that runs are combined of, at least one of each; (None,) of a weight for its default.

    train_on_explanations: see RunOptions.
    """

    strategies: tuple[str, ...]
    initial_sets: tuple[int, ...] = (0,)
    seeds: tuple[int, ...] = (0,)
    lambdas: tuple[float | None, ...] = (None,)
    lambda1s: tuple[float | None, ...] = (None,)
    lambda2s: tuple[float | None, ...] = (None,)
    train_on_explanations: bool | None = None

    @classmethod
    def of(cls, options: dict[str, Any], trainer: dict[str, Any]) -> Grid:
        """Take what may stand for several values, as the command line has it, out of a command's options and out of
        those for training. Raises InputError, naming the option, for what is no such list."""
        taken: dict[str, Any] = {"train_on_explanations": options.get("train_on_explanations")}
        for place, option, read, axis in (
            (options, "strategy", names, "strategies"),
            (options, "initial_set", numbers, "initial_sets"),
            (options, "seed", numbers, "seeds"),
            (options, "lambda_", weights, "lambdas"),
            (trainer, "lambda1", weights, "lambda1s"),
            (trainer, "lambda2", weights, "lambda2s"),
        ):
            if option in place:
                try:
                    taken[axis] = read(place.pop(option))
                except InputError as error:
                    raise InputError(f"--{option.strip('_').replace('_', '-')}: {error}") from None
        return cls(**taken)

    @property
    def is_single(self) -> bool:
        """Whether one run is all there is."""
        axes = (self.strategies, self.initial_sets, self.seeds, self.lambdas, self.lambda1s, self.lambda2s)
        return all(len(values) == 1 for values in axes)

    def cells(self) -> list[Cell]:
        """Every run, in the order in which to start them.

        A weight that a strategy has no use for makes no further run of it. Raises InputError for an unknown strategy,
        for a value that stands there twice, and for weights that no strategy uses.
        """
        self._check()
        cells: dict[Cell, None] = {}
        axes = (self.initial_sets, self.seeds, self.strategies, self.lambdas, self.lambda1s, self.lambda2s)
        for initial, seed, strategy, lambda_, lambda1, lambda2 in product(*axes):
            explains, ranks, weighs = self._uses(strategy)
            cell = Cell(
                strategy,
                initial,
                seed,
                lambda_ if weighs else None,
                lambda1 if explains else None,
                lambda2 if ranks else None,
            )
            cells[cell] = None
        return self._firsts_first(list(cells))

    def _check(self) -> None:
        names = {"--strategy": self.strategies, "--initial-set": self.initial_sets, "--seed": self.seeds}
        names |= {"--lambda": self.lambdas, "--lambda1": self.lambda1s, "--lambda2": self.lambda2s}
        for name, values in names.items():
            if repeated := [value for value in values if values.count(value) > 1]:
                raise InputError(f"{name}: {repeated[0]} stands there twice; name each value once")
        uses = [self._uses(strategy) for strategy in self.strategies]
        for place, (name, values) in enumerate((("--lambda1", self.lambda1s), ("--lambda2", self.lambda2s))):
            if len(values) > 1 and not any(use[place] for use in uses):
                raise InputError(f"{name}: none of {', '.join(self.strategies)} trains with it; leave it out")
        if self.lambdas != (None,) and not any(use[2] for use in uses):
            raise InputError(
                f"--lambda weighs the terms of Eq. 8, which {', '.join(self.strategies)} does not use; leave it out"
            )

    def _uses(self, strategy: str) -> tuple[bool, bool, bool]:
        """Whether a strategy's model trains with lambda1, with lambda2, and whether its choice depends on lambda."""
        found = query_strategy(strategy)
        explains = found.uses_explanations if self.train_on_explanations is None else self.train_on_explanations
        weighs = "lambda_" in inspect.signature(STRATEGIES[strategy]).parameters
        return explains, explains and found.ranks, weighs

    def _firsts_first(self, cells: Sequence[Cell]) -> list[Cell]:
        """One draw after the other, so that an experiment that is stopped has pairs to compare; of each, cells that
        train a first round before those that would only wait for it."""

        def training(cell: Cell) -> tuple[object, ...]:
            return (self._uses(cell.strategy)[:2], cell.initial_set, cell.seed, cell.lambda1, cell.lambda2)

        firsts = set({training(cell): cell for cell in reversed(cells)}.values())
        draws = list(dict.fromkeys((cell.initial_set, cell.seed) for cell in cells))
        return sorted(cells, key=lambda cell: (draws.index((cell.initial_set, cell.seed)), cell not in firsts))


@dataclass(frozen=True)
class Cell:
    """One run of a grid."""

    strategy: str
    initial_set: int
    seed: int
    lambda_: float | None = None
    lambda1: float | None = None
    lambda2: float | None = None

    @property
    def name(self) -> str:
        """Its directory's name, e.g. ``xal-i0-s2`` or ``xal-i0-s2-lambda2_0.1``."""
        weights = {"lambda": self.lambda_, "lambda1": self.lambda1, "lambda2": self.lambda2}
        named = "".join(f"-{name}_{_written(value)}" for name, value in weights.items() if value is not None)
        return f"{self.strategy}-i{self.initial_set}-s{self.seed}{named}"

    def options(self, common: RunOptions, *, alone: bool = False) -> RunOptions:
        """What this run is told: in a directory of its own below the experiment's or, alone, in that itself."""
        weights = {"lambda1": self.lambda1, "lambda2": self.lambda2}
        if not alone and "explanation_scores" not in query_strategy(self.strategy).needs:
            common = replace(common, prefilter=None, prefilter_sample=None)  # it is for others of the experiment
        return replace(
            common,
            strategy=self.strategy,
            initial_set=self.initial_set,
            seed=self.seed,
            lambda_=LAMBDA if self.lambda_ is None else self.lambda_,
            trainer={**common.trainer, **{name: value for name, value in weights.items() if value is not None}},
            output=common.output if alone else common.output / self.name,
            shared=None if alone else common.output / SHARED,
        )


def check_prefilter(grid: Grid, common: RunOptions) -> None:
    """Raise InputError for a prefilter that makes no sense, or that no strategy of an experiment has a use for."""
    prefilter = Prefilter.of(common.prefilter, common.prefilter_sample)
    strategies = [query_strategy(name) for name in grid.strategies]
    if prefilter is not None and not any("explanation_scores" in strategy.needs for strategy in strategies):
        prefilter.check(strategies[0])


def check_directory(output: Path) -> None:
    """Raise InputError where the directory of an experiment is that of a single run, or holds something else."""
    if output.exists() and not output.is_dir():
        raise InputError(f"{output}: expected a directory for --output, found a file; give another --output")
    if (output / CONFIG_FILE).exists():
        raise InputError(f"{output} holds a single run; give an experiment of several runs another --output")
    if not output.exists():
        return
    strange = [
        path.name
        for path in output.iterdir()
        if not path.name.startswith(".") and not (path.is_dir() and _may_be_run(path))
    ]
    if strange:
        raise InputError(f"{output} holds other files ({strange[0]}); give an --output that is empty or not there yet")


def drop_shared_models(output: Path) -> None:
    """Let go of the first rounds' models once no run of the experiment is open."""
    shutil.rmtree(output / SHARED, ignore_errors=True)


def _written(value: float) -> str:
    """A weight as short as it can be while no other weight is written like it."""
    return f"{value:g}" if float(f"{value:g}") == value else repr(value)


def _may_be_run(directory: Path) -> bool:
    """Whether it is a run, or empty but for what a kill in its very first write has left."""
    return (directory / CONFIG_FILE).exists() or all(path.name.startswith(".") for path in directory.iterdir())
