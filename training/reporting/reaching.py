"""How many labels a strategy needs to reach the target (the paper's Table 8)."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from training.comparison import labels_to_target
from training.reporting.drawing import looks, name_rows, plain_axes, png, rows_figure, title
from training.reporting.page import Grid, Note, Picture, Section
from training.reporting.study import Study
from training.reporting.tables import Table, table_of
from training.runs import Curve, Run

FILE = "labels_to_target.png"
Needed = list[float | None]


def target_section(study: Study) -> Section | None:
    """Boxes of single runs, and a table of medians; None without a target."""
    if study.target is None or not study.curves:
        return None
    target = study.target.macro_f1
    needed: list[Needed] = [[needed_labels(run, target) for run in curve.runs] for curve in study.curves]
    text = (
        f"Target: macro-F1 {target:.3f}, {study.target.source}. A run needs the number of labels at which its curve "
        "first reaches the target, in a straight line between two rounds; one that begins above it, those of its first "
        "round. Runs that never reach it count as needing more than all others in medians and boxes."
    )
    picture = Picture(FILE, _picture(study.curves, needed, target), "Labels that each run needed; medians stand below")
    return Section("Labels to target", [Note(text), picture, Grid(target_table(study.curves, needed))])


def needed_labels(run: Run, target: float) -> float | None:
    """Labels that a run needed for this macro-F1, None where it never reached it."""
    return labels_to_target(run.n_labeled, [entry["macro_f1"] for entry in run.rounds], target)


def median(needed: Needed) -> float | None:
    """The median, where None stands for more than any number; None where that is in the middle."""
    ranked = sorted(needed, key=lambda n: np.inf if n is None else n)
    low, high = ranked[(len(ranked) - 1) // 2], ranked[len(ranked) // 2]
    return None if low is None or high is None else (low + high) / 2


def target_table(curves: Sequence[Curve], needed: Sequence[Needed]) -> Table:
    rows = []
    for curve, labels in zip(curves, needed, strict=True):
        reached, middle = [n for n in labels if n is not None], median(labels)
        missed = len(labels) - len(reached)
        rows.append(
            {
                "strategy": curve.label,
                "runs": str(len(labels)),
                "median labels": "not reached" if middle is None else f"{middle:,.0f}",
                "fewest": f"{min(reached):,.0f}" if reached else "",
                "most": f"{max(reached):,.0f}" if reached and not missed else "",
                "not reached in": f"{missed} of {len(labels)} runs" if missed else "",
            }
        )
    return table_of(rows)


def _picture(curves: Sequence[Curve], needed: Sequence[Needed], target: float) -> bytes:
    names = [curve.title for curve in curves]
    figure = rows_figure(names, around=1.3, row=0.4)
    axes = figure.add_subplot()
    last = max(run.n_labeled[-1] for curve in curves for run in curve.runs)
    first = min(run.n_labeled[0] for curve in curves for run in curve.runs)
    beyond = last + 0.12 * max(last - first, 1)  # where runs are drawn that never reached it
    censored = any(n is None for labels in needed for n in labels)
    for row, (labels, look) in enumerate(zip(needed, looks(curves), strict=True)):
        _row(axes, row, [beyond if n is None else n for n in labels], beyond, look.colour)
    title(axes, f"labels until macro-F1 reaches {target:.3f}")
    plain_axes(axes, grid="x")
    name_rows(axes, names)
    margin = 0.04 * (beyond - first)
    axes.set_xlim(first - margin, (beyond if censored else last) + margin)
    whole = whole_ticks(axes.get_xticks(), first, last)
    ticks, names = list[float](whole), [f"{tick:,}" for tick in whole]
    if censored:
        axes.axvline((last + beyond) / 2, color="#999999", lw=1, ls=":")
        ticks, names = [*ticks, beyond], [*names, "not\nreached"]
    axes.set_xticks(ticks, labels=names)
    axes.set_xlabel("labeled texts\ndots: single runs (open: not reached); box: quartiles; bar: median")
    return png(figure)


def whole_ticks(ticks: Iterable[float], first: int, last: int) -> list[int]:
    """Those from first to last as whole numbers, as labels are, each once; at least one."""
    whole = {round(tick) for tick in ticks}
    return sorted(tick for tick in whole if first <= tick <= last) or [first]


def _row(axes: Any, row: int, labels: Sequence[float], beyond: float, colour: str) -> None:
    if len(labels) > 1:
        low, high = np.quantile(labels, [0.25, 0.75], method="nearest")  # single runs': none is between two of them
        middle = median([None if value == beyond else value for value in labels])
        axes.barh(row, high - low, left=low, height=0.55, color=colour, alpha=0.18, lw=0)
        axes.plot(
            [beyond if middle is None else middle] * 2,
            [row - 0.28, row + 0.28],
            color=colour,
            lw=2.5,
            solid_capstyle="butt",
        )
    # Side by side where they would hide each other.
    offsets = np.linspace(-0.2, 0.2, len(labels)) if len(labels) > 1 else [0.0]
    for value, offset in zip(sorted(labels), offsets, strict=True):
        axes.plot(
            [value], [row + offset], "o", color=colour, mfc="white" if value == beyond else colour, ms=4.5, zorder=3
        )
