"""What the parts of the method do: the ablation (the paper's Table 9) and its weights (Figures 8 and 9)."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from training.comparison import mean_interval
from training.evaluation import area_under_curve
from training.reporting.drawing import TEXT_COLOUR, looks, new_figure, plain_axes, png, title, told_apart
from training.reporting.page import Grid, Note, Picture, Section
from training.reporting.study import WEIGHTS, Study, setting
from training.reporting.tables import Table, number, table_of
from training.runs import Curve, settings

FILE = "sensitivity.png"
# Strategy -> its name in the paper, in the order of Table 9.
ABLATION = {
    "entropy": "ME: labels alone, entropy",
    "me-exp": "ME-Exp: explanations, entropy",
    "xal-no-rank": "w/o Rank: no ranking loss",
    "xal-no-me": "w/o ME: explanation score alone",
    "xal": "XAL",
}


def ablation_section(study: Study) -> Section | None:
    """Macro-F1 by number of labels of the method and what is left of it; None with fewer than two of them."""
    curves = [curve for name in ABLATION for curve in study.curves if curve.runs[0].strategy == name]
    if len({curve.runs[0].strategy for curve in curves}) < 2:
        return None
    note = Note("Macro-F1 by number of labels, mean over the runs. Comparisons of each with xal stand above.")
    return Section("Ablation", [Grid(ablation_table(curves)), note])


def ablation_table(curves: Sequence[Curve]) -> Table:
    labels = sorted({n for curve in curves for n in curve.n_labeled})
    rows = []
    for curve in curves:
        means = dict(zip(curve.n_labeled, curve.values("macro_f1").mean(axis=0), strict=True))
        cells = {str(n): number(float(means[n])) if n in means else "" for n in labels}
        rows.append(
            {"strategy": curve.label, "": ABLATION[curve.runs[0].strategy], "runs": str(len(curve.runs)), **cells}
        )
    return table_of(rows)


def sensitivity_section(study: Study) -> Section | None:
    """Macro-F1 against each weight that the runs of a strategy differ in; None where they differ in none."""
    found = [(key, series) for key in WEIGHTS for series in varied(study.curves, key)]
    if not found:
        return None
    note = Note(
        "Runs that differ in one weight alone; macro-F1 at the last number of labels that they share, and mean height "
        "of their curves up to there; mean over the runs. Band: 95% bootstrap interval of it."
    )
    alternative = "Macro-F1 against the weights; the numbers are in the table below"
    return Section("Sensitivity", [Picture(FILE, _picture(found), alternative), note, Grid(_table(found))])


def varied(curves: Sequence[Curve], key: str) -> list[list[Curve]]:
    """The curves whose settings differ in nothing but this weight, by rising weight; at least two at a time."""
    groups: dict[tuple[tuple[str, str], ...], list[Curve]] = {}
    for curve in curves:
        if isinstance(setting(curve.runs[0].config, key), int | float) and key in settings(curve.runs[0].config):
            others = {k: v for k, v in settings(curve.runs[0].config).items() if k != key}
            groups.setdefault(tuple(sorted(others.items())), []).append(curve)
    series = [sorted(group, key=lambda curve: weight(curve, key)) for group in groups.values()]
    return [group for group in series if len(group) > 1 and _shared(group)]


def weight(curve: Curve, key: str) -> float:
    return float(setting(curve.runs[0].config, key))


def _shared(series: Sequence[Curve]) -> list[int]:
    return sorted(set.intersection(*(set(curve.n_labeled) for curve in series)))


def heights(curve: Curve, shared: Sequence[int]) -> tuple[list[float], list[float]]:
    """Macro-F1 at the last of the shared numbers of labels, and the mean over the curve up to there; one per run."""
    places = [place for place, n in enumerate(curve.n_labeled) if n in shared]
    values = curve.values("macro_f1")[:, places]
    return values[:, -1].tolist(), [area_under_curve(shared, run.tolist()) for run in values]


def _table(found: Sequence[tuple[str, Sequence[Curve]]]) -> Table:
    rows = []
    for key, series in found:
        shared = _shared(series)
        for curve in series:
            last, areas = heights(curve, shared)
            rows.append(
                {
                    "weight": key.rpartition(".")[2],
                    "value": f"{weight(curve, key):g}",
                    "curve": curve.label,
                    "runs": str(len(curve.runs)),
                    "labels": str(shared[-1]),
                    "macro-F1": number(float(np.mean(last))),
                    "mean over curve": number(float(np.mean(areas))),
                }
            )
    return table_of(rows)


def series_names(groups: Sequence[Sequence[Curve]], key: str) -> list[str]:
    """What each series of a weight is called: its strategy and, where that has several, what else they differ in."""
    own = [settings(series[0].runs[0].config) for series in groups]
    names = []
    for mine in own:
        siblings = [other for other in own if other["strategy"] == mine["strategy"]]
        others = sorted({name for sibling in siblings for name in sibling} - {key})
        differing = [name for name in others if len({sibling.get(name) for sibling in siblings}) > 1]
        names.append(", ".join([mine["strategy"], *(f"{name} {mine.get(name, 'unset')}" for name in differing)]))
    return told_apart(names, 40)


def _picture(found: Sequence[tuple[str, Sequence[Curve]]]) -> bytes:
    """A column for each weight; above the last point, below the mean over the curve."""
    keys = list(dict.fromkeys(key for key, _ in found))
    columns = [[series for name, series in found if name == key] for key in keys]
    figure = new_figure(5.2 + 0.16 * max(map(len, columns)), width=max(5.0, 3.4 * len(keys)))
    grid = figure.subplots(2, len(keys), squeeze=False, sharey="row")
    for column, (key, groups) in enumerate(zip(keys, columns, strict=True)):
        values = sorted({weight(curve, key) for series in groups for curve in series})
        for row in (0, 1):
            axes = grid[row][column]
            styles = zip(groups, looks([series[0] for series in groups]), series_names(groups, key), strict=True)
            for series, look, name in styles:
                _line(axes, series, [values.index(weight(curve, key)) for curve in series], row, look, name)
            axes.set_xticks(range(len(values)), labels=[f"{value:g}" for value in values])
            axes.margins(x=0.12, y=0.15)
            plain_axes(axes)
            axes.tick_params(labelsize=8)
        title(grid[0][column], WEIGHTS[key], size=9)
        grid[1][column].set_xlabel("weight", fontsize=9)
        _legend(grid[1][column])
    for row, name in enumerate(("macro-F1 at the end", "mean over the curve")):
        grid[row][0].set_ylabel(name, fontsize=9)
    return png(figure)


def _line(axes: Any, series: Sequence[Curve], places: Sequence[int], which: int, look: Any, name: str) -> None:
    values = [heights(curve, _shared(series))[which] for curve in series]
    means = [np.mean(v) for v in values]
    axes.plot(places, means, color=look.colour, ls=look.line, marker=look.mark, lw=1.8, ms=5, label=name)
    if all(len(v) > 1 for v in values):
        low, high = zip(*(mean_interval(v) for v in values), strict=True)
        axes.fill_between(places, low, high, color=look.colour, alpha=0.15, lw=0)


def _legend(axes: Any) -> None:
    """Below a column: its series differ from those of the next one, and their ends are too close for names."""
    legend = axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.3), frameon=False, fontsize=8)
    for text in legend.get_texts():
        text.set_parse_math(False)
        text.set_color(TEXT_COLOUR)
