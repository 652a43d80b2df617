"""All runs of a report, sorted: learning curves, what they are measured against, and what must be said of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from training.reporting.tables import mean, value_at, values_at
from training.runs import Curve, Run, concerns_explanations, learning_curves, settings, share_data

UPPER_BOUND = "upper-bound"  # trained on everything
LLM = "llm-"  # an LLM as the classifier, or a classifier trained on its labels
SHARE = 0.9  # of the upper bound, where no run states a target of its own

# The weights of Eq. 7 and 8, and what each is of.
WEIGHTS = {
    "trainer.lambda1": "lambda1, of the generation loss",
    "trainer.lambda2": "lambda2, of the ranking loss",
    "lambda": "lambda, of the explanation score",
}
# Weights that these strategies have no use for: one term of the loss or of Eq. 8 is what they leave out.
UNUSED = {"xal-no-rank": "trainer.lambda2", "xal-no-me": "lambda", "me-exp": "lambda"}


@dataclass(frozen=True)
class Target:
    """A macro-F1 to reach, where it comes from, and which share of an upper bound it is."""

    macro_f1: float
    source: str
    share: float


@dataclass(frozen=True)
class Study:
    """The runs of one task. curves: of query strategies. references: upper bounds and LLMs, which ask for no labels
    round by round. warnings: sentences that a reader must not miss."""

    runs: Sequence[Run]
    curves: Sequence[Curve]
    references: Sequence[Curve]
    warnings: Sequence[str]

    @classmethod
    def of(cls, runs: Sequence[Run], left_out: Sequence[str] = ()) -> "Study":
        """Sort the runs. left_out: warnings of what was not even read. Raises InputError as learning_curves does."""
        everything = learning_curves(runs)
        curves = [curve for curve in everything if not is_reference(curve.runs[0].strategy)]
        references = [curve for curve in everything if is_reference(curve.runs[0].strategy)]
        warnings = [*left_out, *filter(None, map(_shortened, curves))]
        if not share_data(runs):
            warnings.append("The runs do not share their data files: their curves cannot be compared.")
        return cls(runs, curves, references, warnings)

    @property
    def task_name(self) -> str:
        return self.runs[0].task_name

    @property
    def everything(self) -> list[Curve]:
        """Learning curves first, then the references."""
        return [*self.curves, *self.references]

    @property
    def upper_bounds(self) -> list[Curve]:
        return [curve for curve in self.references if curve.runs[0].strategy == UPPER_BOUND]

    @property
    def llms(self) -> list[Curve]:
        return [curve for curve in self.references if curve.runs[0].strategy.startswith(LLM)]

    @cached_property
    def target(self) -> Target | None:
        """What the runs were to reach (the lowest, should they differ: all that stopped at their own reached that one),
        else 90% of the upper bound; None where neither is known."""
        stated = [until for run in self.runs if value_at(until := _until(run), "target") is not None]
        if stated:
            lowest = min(stated, key=lambda until: until["target"])
            several = "the lowest of the targets" if len(set(values_at(stated, "target"))) > 1 else "the target"
            return Target(lowest["target"], f"{several} that the runs were given", value_at(lowest, "share") or SHARE)
        bounds = values_at([entry for curve in self.upper_bounds for entry in curve.last_entries], "macro_f1")
        bound = mean(bounds)
        return None if bound is None else Target(SHARE * bound, f"{SHARE:.0%} of the upper bound's {bound:.3f}", SHARE)


def is_reference(strategy: str) -> bool:
    """Whether a run of this strategy is a line to compare with and no learning curve."""
    return strategy == UPPER_BOUND or strategy.startswith(LLM)


def ranks_by_acquisition(strategy: str) -> bool:
    """Whether a strategy weighs the terms of Eq. 8 against each other, so that these have shares in its choice."""
    return UNUSED.get(strategy) != "lambda"


def alike(one: Curve, other: Curve) -> bool:
    """Whether the strategy is all in which two curves differ, so that it explains what is between them.

    Settings that concern explanations count only where both models train on them, and not those that one of the
    strategies has no use for. Settings hold the hashes of the data, so curves on other data are never alike.
    """
    configs = [curve.runs[0].config for curve in (one, other)]
    left_out = {"strategy", *(UNUSED[name] for config in configs if (name := str(config["strategy"])) in UNUSED)}
    from_labels_alone = any("teacher" in config and config["teacher"] is None for config in configs)
    first, second = (
        {
            key: value
            for key, value in settings(config).items()
            if key not in left_out and not (from_labels_alone and concerns_explanations(key))
        }
        for config in configs
    )
    return first == second


def representatives(curves: Sequence[Curve]) -> list[Curve]:
    """Of a strategy's curves that differ in nothing but the weights of Eq. 7 and 8, the one with the most runs, the
    first of several: what the weights do is another section, and more comparisons would show more by chance."""
    groups: dict[tuple[tuple[str, str], ...], list[Curve]] = {}
    for curve in curves:
        others = {key: value for key, value in settings(curve.runs[0].config).items() if key not in WEIGHTS}
        groups.setdefault(tuple(sorted(others.items())), []).append(curve)
    return [max(group, key=lambda curve: len(curve.runs)) for group in groups.values()]


def setting(config: Mapping[str, Any], key: str) -> Any:
    """A setting by its name, ``trainer.lambda1``; None where the run has none."""
    found: Any = config
    for name in key.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _until(run: Run) -> Mapping[str, Any]:
    until = run.config.get("until")
    return until if isinstance(until, Mapping) else {}


def _shortened(curve: Curve) -> str:
    """A curve ends where its shortest run does; that needs no word where runs stop at a target."""
    longest, last = max(run.n_labeled[-1] for run in curve.runs), curve.n_labeled[-1]
    if longest == last or any(_until(run) for run in curve.runs):
        return ""
    return f"{curve.label}: a run reached {longest} labels, but its curve ends at the {last} that all its runs share."
