"""Strategies against each other, in pairs of runs with the same initial set and seed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from training.comparison import BETTER, WORSE, Difference, paired_difference
from training.evaluation import area_under_curve
from training.reporting.drawing import (
    BASELINE,
    COLOURS,
    METHOD,
    TEXT_COLOUR,
    caption,
    name_rows,
    plain_axes,
    png,
    rows_figure,
    title,
)
from training.reporting.page import Grid, Note, Part, Picture, Section
from training.reporting.reaching import needed_labels
from training.reporting.study import Study, alike, representatives
from training.reporting.tables import Table, signed, table_of, text_table
from training.runs import Curve, Run, settings

FILE = "comparisons.png"
AT_LABELS, AREA, TO_TARGET = "macro-F1", "area under the curve", "labels to target"
KINDS = (AT_LABELS, AREA, TO_TARGET)

Measure = Callable[[Run], float]
Pair = tuple[list[Run], list[Run]]  # of one initial set and seed; mostly one run each


@dataclass(frozen=True)
class Comparison:
    """A strategy against a baseline in one measure. missed: runs of the first and of the second without the target."""

    first: str
    second: str
    measure: str
    difference: Difference
    missed: tuple[int, int] = (0, 0)

    @property
    def name(self) -> str:
        return f"{self.first} against {self.second}"

    @property
    def kind(self) -> str:
        """Which of KINDS its measure is: macro-F1 at any number of labels is one."""
        return self.measure if self.measure in KINDS else AT_LABELS

    @property
    def order(self) -> tuple[int, int, str]:
        """Where its measure stands among all measures: macro-F1 by number of labels, the area, labels to target."""
        return KINDS.index(self.kind), len(self.measure), self.measure


def comparisons(study: Study) -> list[list[Comparison]]:
    """One list for each two strategies that can be compared: macro-F1 at the last shared number of labels, area under
    the curve, and labels to target, as far as there are such."""
    found = []
    for first, second in contests(study.curves):
        pairs = paired(first, second)
        runs = [run for pair in pairs for side in pair for run in side]
        shared = sorted(set.intersection(*(set(run.n_labeled) for run in runs))) if runs else []
        if shared:
            found.append(_compare(study, (first.label, second.label), pairs, shared))
    return found


def contests(curves: Sequence[Curve]) -> list[tuple[Curve, Curve]]:
    """Who is compared with whom: xal with every other strategy, every one with random, or else all with the first.

    Only curves that are alike but for the strategy, and of those that differ in their weights alone only one.
    """
    curves = representatives(curves)
    methods = [curve for curve in curves if curve.runs[0].strategy == METHOD]
    baselines = [curve for curve in curves if curve.runs[0].strategy == BASELINE]
    chosen = [(method, curve) for method in methods for curve in curves]
    chosen += [(curve, baseline) for baseline in baselines for curve in curves]
    if not methods and not baselines:
        chosen = [(curve, curves[0]) for curve in curves[1:]]
    found: list[tuple[Curve, Curve]] = []
    for first, second in chosen:
        different = first.runs[0].strategy != second.runs[0].strategy
        if different and (first, second) not in found and alike(first, second):
            found.append((first, second))
    return found


def paired(first: Curve, second: Curve) -> list[Pair]:
    """The runs of two curves that began with the same initial set and the same seed."""

    def key(run: Run) -> tuple[str, str]:
        return str(run.config.get("initial_set")), str(run.config.get("seed"))

    keys = sorted({key(run) for run in first.runs} & {key(run) for run in second.runs})
    return [([run for run in first.runs if key(run) == k], [run for run in second.runs if key(run) == k]) for k in keys]


def _compare(study: Study, names: tuple[str, str], pairs: list[Pair], shared: list[int]) -> list[Comparison]:
    def at(run: Run) -> list[float]:
        return [entry["macro_f1"] for entry in run.rounds if entry["n_labeled"] in shared]

    measures: dict[str, Measure] = {f"macro-F1 at {shared[-1]} labels": lambda run: at(run)[-1]}
    if len(shared) > 1:
        measures[AREA] = lambda run: area_under_curve(shared, at(run))
    found = [Comparison(*names, measure, _difference(pairs, of)) for measure, of in measures.items()]
    if study.target is not None:
        found.append(_to_target(names, pairs, study.target.macro_f1))
    return found


def _to_target(names: tuple[str, str], pairs: list[Pair], target: float) -> Comparison:
    """Labels to target, cut off where the first run without it ended: nobody knows what lies beyond."""
    ends = [
        [run.n_labeled[-1] for pair in pairs for run in pair[side] if needed_labels(run, target) is None]
        for side in (0, 1)
    ]
    end = float(min([*ends[0], *ends[1]], default=np.inf))

    def within(run: Run) -> float:
        needed = needed_labels(run, target)
        return end if needed is None else min(needed, end)

    difference = _difference(pairs, within, higher_is_better=False)
    return Comparison(*names, TO_TARGET, difference, (len(ends[0]), len(ends[1])))


def _difference(pairs: list[Pair], of: Measure, higher_is_better: bool = True) -> Difference:
    first, second = ([float(np.mean([of(run) for run in pair[side]])) for pair in pairs] for side in (0, 1))
    return paired_difference(first, second, higher_is_better=higher_is_better)


def comparisons_section(study: Study) -> Section | None:
    """A picture of all differences in macro-F1 and area, and a table for each measure."""
    found = comparisons(study)
    if not found:
        return None
    parts: list[Part] = [Note(method(study)), Picture(FILE, _picture(found), "The differences in the tables below")]
    for measure, compared in by_measure(found).items():
        parts.append(Grid(comparison_table(compared), measure[0].upper() + measure[1:]))
    return Section("Comparisons", parts)


def method(study: Study) -> str:
    """What the columns of a comparison mean and how much they can show."""
    text = (
        "Difference: the first strategy minus the second, mean over pairs of runs with the same initial set, seed, "
        "data and settings. Interval: 95%, bootstrap over the pairs, seeded. Better or worse is said only where the "
        "interval leaves out 0 and an exact sign-flip test of the pairs gives p < 0.05, which takes six pairs or more. "
        "Intervals and p are those of each comparison by itself, not corrected for the number of comparisons: of "
        "twenty without any difference, one may well show one. Pairs that share an initial set count as independent "
        "here, though they are not quite."
    )
    if study.target:
        text += (
            " Labels to target: fewer are better; where runs never reached it, all are cut off at the number of labels "
            "at which the first of these ended, which makes no pair's difference larger."
        )
    if len(representatives(study.curves)) < len(study.curves):
        text += " Of a strategy's curves that differ in weights alone, the one with the most runs is compared."
    adapted = {"adaptation" in settings(curve.runs[0].config) for curve in study.curves}
    if len(adapted) > 1:
        text += " Some runs began with an adapted backbone; those that learn from labels alone may have begun without."
    return text


def comparison_table(compared: Sequence[Comparison]) -> Table:
    """One row for each comparison: difference, interval, p, verdict."""
    return table_of([_row(comparison) for comparison in compared])


def _row(comparison: Comparison) -> dict[str, str]:
    found = comparison.difference
    show = _labels if comparison.measure == TO_TARGET else signed
    missed = comparison.missed
    return {
        "strategy": comparison.first,
        "against": comparison.second,
        "pairs": str(found.n),
        "not reached": f"{missed[0]} / {missed[1]}" if any(missed) else "",
        "difference": show(found.mean),
        "95% interval": f"{show(found.interval[0])} to {show(found.interval[1])}" if found.interval else "",
        "p": f"{found.p:.3f}" if found.n > 1 else "",
        "verdict": found.verdict,
    }


def _labels(value: float) -> str:
    return f"{value:+,.0f}"


def comparison_text(study: Study) -> str:
    """All comparisons as lines for a terminal, one measure after the other; empty where there are none."""
    return "\n\n".join(
        f"{measure}, difference in pairs of runs:\n{text_table(comparison_table(compared))}"
        for measure, compared in by_measure(comparisons(study)).items()
    )


def by_measure(found: Sequence[Sequence[Comparison]]) -> dict[str, list[Comparison]]:
    """The comparisons of each measure, in the measures' order."""
    measures = {comparison.measure: comparison.order for group in found for comparison in group}
    return {
        measure: [comparison for group in found for comparison in group if comparison.measure == measure]
        for measure in sorted(measures, key=lambda name: measures[name])
    }


def _picture(found: Sequence[Sequence[Comparison]]) -> bytes:
    """A row for each two strategies: mean difference as a dot, filled where there is a verdict; its interval."""
    from matplotlib.ticker import MaxNLocator

    shown, names = columns(found), [group[0].name for group in found]
    figure = rows_figure(names, around=1.5, row=0.27, width=8 if len(shown) < 3 else 9.5)
    grid = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for axes, (name, rows) in zip(grid, shown.items(), strict=True):
        axes.axvline(0, color="#777777", lw=1, zorder=1)
        for row, comparison in rows.items():
            _dot(axes, row, comparison.difference)
        plain_axes(axes, grid="x")
        axes.tick_params(labelsize=8)
        axes.margins(x=0.08)
        axes.xaxis.set_major_locator(MaxNLocator(4))  # more numbers than that run into each other
        title(axes, name, size=9)
    name_rows(grid[0], names)
    caption(figure, "difference, mean and 95% interval; filled and coloured: better or worse")
    return png(figure)


def columns(found: Sequence[Sequence[Comparison]]) -> dict[str, dict[int, Comparison]]:
    """Title -> row -> comparison, one column for each kind of measure; two that share few labels do not have all."""
    shown = {}
    for kind in KINDS:
        rows = {row: one for row, group in enumerate(found) for one in group if one.kind == kind}
        measures = {one.measure for one in rows.values()}
        if rows:
            shown[measures.pop() if len(measures) == 1 else "macro-F1 at the shared end"] = rows
    return shown


def _dot(axes: Any, row: int, difference: Difference) -> None:
    colour = {BETTER: COLOURS[1], WORSE: COLOURS[0]}.get(difference.verdict, TEXT_COLOUR)
    if difference.interval:
        axes.plot(difference.interval, [row] * 2, color=colour, lw=1.6, zorder=2)
    filled = difference.verdict in (BETTER, WORSE)
    axes.plot([difference.mean], [row], "o", color=colour, mfc=colour if filled else "white", ms=5.5, zorder=3)
