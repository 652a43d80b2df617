"""Learning curves as pictures and as lines of text."""

import textwrap
from collections.abc import Iterator, Sequence
from itertools import cycle, pairwise
from typing import Any, NamedTuple

import numpy as np

from training.comparison import mean_interval
from training.reporting.drawing import (
    TEXT_COLOUR,
    Look,
    caption,
    looks,
    new_figure,
    plain_axes,
    png,
    title,
    told_apart,
    wrapped,
)
from training.reporting.tables import values_at
from training.runs import Curve, Run, learning_curves

# Characters for the curves of a terminal, repeated if there are many, and one for where several of them meet.
MARKS = "xo+#%@&$"
SEVERAL = "*"

METRIC_NAMES = {"macro_f1": "macro-F1", "accuracy": "accuracy"}
BAND = "line: mean over the runs; band: 95% bootstrap interval of it (of two or three runs: lowest to highest)"
NAME_WIDTH = 34  # characters of a name beside a line, before it goes on in the next line
MANY = 6  # curves; of more, the bands are fainter
LINE_HEIGHT, AROUND_AXES = 0.19, 1.25  # inches: of a line of names, and of what stands above and below the axes
COLUMNS = 4  # of small pictures in a row


class Level(NamedTuple):
    """A horizontal line: what it is, where, and matplotlib's line style."""

    name: str
    value: float
    line: Any = (0, (3, 1.5))

    @property
    def title(self) -> str:
        return f"{self.name}: {self.value:.3f}"


def learning_curve_png(curves: Sequence[Curve], metric: str = "macro_f1", levels: Sequence[Level] = ()) -> bytes:
    """A PNG of the curves: mean over the runs of a setting, with its 95% bootstrap interval as a band.

    levels: horizontal lines for what is no curve, such as training on everything.
    """
    from matplotlib.ticker import FixedLocator, MaxNLocator

    lines = sum(name.count("\n") + 1 for name in _names(curves, levels))
    figure = new_figure(max(4.6, AROUND_AXES + LINE_HEIGHT * (lines + 1)))
    axes = figure.add_subplot()
    for curve, look in zip(curves, looks(curves), strict=True):
        _draw(axes, curve, look, metric, alpha=0.15 if len(curves) <= MANY else 0.07)
    for level in levels:
        axes.axhline(level.value, color=TEXT_COLOUR, lw=1.2, ls=level.line, zorder=2)
    several = any(len(curve.runs) > 1 for curve in curves)
    axes.set_xlabel("labeled texts")
    if several:
        caption(figure, BAND)
    title(axes, headline(curves, metric))
    points = sorted({n for curve in curves for n in curve.n_labeled})
    axes.xaxis.set_major_locator(FixedLocator(points) if len(points) <= 12 else MaxNLocator(integer=True))
    plain_axes(axes)
    axes.margins(x=0.03, y=0.12)
    _name_lines(axes, figure, curves, metric, levels)
    return png(figure)


def single_curves_png(curves: Sequence[Curve], metric: str = "macro_f1") -> bytes:
    """A PNG with a small picture for each curve: its mean and band, its runs as thin lines over their full length, and
    the means of all others in grey."""
    rows = -(-len(curves) // COLUMNS)
    figure = new_figure(0.5 + 1.75 * rows)
    grid = figure.subplots(rows, min(COLUMNS, len(curves)), sharex=True, sharey=True, squeeze=False).flat
    names = told_apart([curve.label for curve in curves], 3 * 28)
    for place, (axes, curve, name, look) in enumerate(zip(grid, curves, names, looks(curves), strict=False)):
        for other in curves:
            axes.plot(other.n_labeled, other.values(metric).mean(axis=0), color="#D0D0D0", lw=1, zorder=1)
        for run in curve.runs if len(curve.runs) > 1 else ():
            axes.plot(run.n_labeled, [entry[metric] for entry in run.rounds], color=look.colour, lw=0.6, alpha=0.6)
        _draw(axes, curve, look._replace(line="-", mark=""), metric, alpha=0.2)
        plain_axes(axes)
        axes.tick_params(labelsize=8, labelbottom=place + COLUMNS >= len(curves))
        title(axes, textwrap.fill(name, 28), size=8)
    for axes in list(figure.axes)[len(curves) :]:
        axes.set_visible(False)
    caption(figure, "labeled texts; thin lines: single runs; grey: the other strategies' means")
    return png(figure)


def _draw(axes: Any, curve: Curve, look: Look, metric: str, alpha: float) -> None:
    values = curve.values(metric)
    if len(values) > 1:
        axes.fill_between(curve.n_labeled, *mean_interval(values), color=look.colour, alpha=alpha, lw=0)
    axes.plot(
        curve.n_labeled,
        values.mean(axis=0),
        color=look.colour,
        ls=look.line,
        marker=look.mark or None,
        ms=5,
        lw=2,
        zorder=3,
    )


def _name_lines(axes: Any, figure: Any, curves: Sequence[Curve], metric: str, levels: Sequence[Level]) -> None:
    """Each curve's title to the right of its last point, in its colour: no legend to look up."""
    low, high = axes.get_ylim()
    left, right = axes.get_xlim()
    ends = [(curve.n_labeled[-1], float(curve.values(metric)[:, -1].mean())) for curve in curves]
    ends += [(right, level.value) for level in levels]
    names = _names(curves, levels)
    styles = [*looks(curves), *(Look(TEXT_COLOUR, level.line, "") for level in levels)]
    line = LINE_HEIGHT / (figure.get_figheight() - AROUND_AXES)
    sizes = [line * (name.count("\n") + 1.15) for name in names]
    heights = spread_apart([(value - low) / (high - low) for _, value in ends], sizes, low=-0.12, high=1.08)
    for name, (n, value), look, height in zip(names, ends, styles, heights, strict=True):
        # To the sample of the line, not to the text, which it would strike through.
        axes.annotate(
            "",
            (n, value),
            xytext=(1.04, height),
            textcoords="axes fraction",
            arrowprops={"arrowstyle": "-", "color": look.colour, "lw": 0.8, "ls": ":", "shrinkB": 4, "shrinkA": 0},
        )
        axes.plot(
            [1.04, 1.09],
            [height] * 2,
            transform=axes.transAxes,
            color=look.colour,
            ls=look.line,
            marker=look.mark or None,
            markevery=[1],
            ms=4,
            lw=1.6,
            clip_on=False,
        )
        axes.annotate(
            name,
            (1.11, height),
            xycoords="axes fraction",
            va="center",
            color=look.colour,
            fontsize=9,
            fontweight="bold",
            parse_math=False,
            annotation_clip=False,
        )
    axes.set_ylim(low, high)
    axes.set_xlim(left, right)


def _names(curves: Sequence[Curve], levels: Sequence[Level]) -> list[str]:
    titles = [*(curve.title for curve in curves), *(level.title for level in levels)]
    return [wrapped(name, NAME_WIDTH) for name in told_apart(titles, 3 * NAME_WIDTH)]


def spread_apart(
    heights: Sequence[float], sizes: Sequence[float], low: float = -np.inf, high: float = np.inf
) -> list[float]:
    """The heights, in their old order, moved as little as it takes for things of these sizes not to overlap.

    low, high: what they then stay between, as far as they fit.
    """
    order = np.argsort(heights, kind="stable")
    ranked = np.asarray(sizes, dtype=np.float64)[order]
    below = np.cumsum(ranked) - ranked / 2  # where each would be if they all stood on each other
    lifted = np.asarray(heights, dtype=np.float64)[order] - below
    # What is left is to make ``lifted`` non-decreasing: the least-squares answer averages the stretches that fall.
    blocks: list[list[float]] = []
    for height in lifted:
        blocks.append([float(height)])
        while len(blocks) > 1 and np.mean(blocks[-2]) > np.mean(blocks[-1]):
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    levelled = np.array([np.mean(block) for block in blocks for _ in block])
    spread = np.maximum(np.minimum(levelled, high - ranked.sum()), low) + below
    result = np.empty(len(heights))
    result[order] = spread
    return [float(height) for height in result]


def terminal_curve(runs: Sequence[Run], *, metric: str = "macro_f1", width: int = 60, height: int = 11) -> str:
    """The learning curves as lines of plain ASCII: the mean over the runs of each setting, a mark at every point.

    width, height: of the plot's inside, in characters. Raises InputError as learning_curves does.
    """
    curves = learning_curves(runs)
    points = [list(zip(curve.n_labeled, curve.values(metric).mean(axis=0), strict=True)) for curve in curves]
    plot = _TextPlot([point for line in points for point in line], width, height)
    for line in points:
        plot.draw_lines(line)
    for line, mark in zip(points, cycle(MARKS), strict=False):
        plot.draw_marks(line, mark)
    legend = [f"{'':9}{mark} {curve.title}" for curve, mark in zip(curves, cycle(MARKS), strict=False)]
    return "\n".join([headline(curves, metric), *plot.rows(), *legend])


class _TextPlot:
    """A grid of characters with a scale on both sides."""

    def __init__(self, points: Sequence[tuple[int, float]], width: int, height: int) -> None:
        self.labels = sorted({n for n, _ in points})
        self.low, self.high = min(value for _, value in points), max(value for _, value in points)
        if self.high - self.low < 0.01:  # a flat curve belongs in the middle, not on the axis
            self.low, self.high = self.low - 0.05, self.high + 0.05
        self.width, self.height = width, height
        self.grid = [[" "] * width for _ in range(height)]

    def column(self, n: float) -> int:
        first, last = self.labels[0], self.labels[-1]
        return round((n - first) / (last - first) * (self.width - 1)) if last > first else self.width // 2

    def row(self, value: float) -> int:
        return round((self.high - value) / (self.high - self.low) * (self.height - 1))

    def draw_lines(self, points: Sequence[tuple[int, float]]) -> None:
        for (n, value), (next_n, next_value) in pairwise(points):
            columns = range(self.column(n), self.column(next_n) + 1)
            for column, between in zip(columns, np.linspace(value, next_value, len(columns)), strict=True):
                self.grid[self.row(between)][column] = "."

    def draw_marks(self, points: Sequence[tuple[int, float]], mark: str) -> None:
        for n, value in points:
            row, column = self.row(value), self.column(n)
            self.grid[row][column] = mark if self.grid[row][column] in " ." else SEVERAL

    def rows(self) -> Iterator[str]:
        for row, characters in enumerate(self.grid):
            value = f"{self.high - row * (self.high - self.low) / (self.height - 1):.3f}" if row % 5 == 0 else ""
            yield f"{value:>6} | {''.join(characters)}".rstrip()
        yield f"{'':6} +-{'-' * self.width}"
        yield f"{'':9}{self._label_scale()}   labeled texts"

    def _label_scale(self) -> str:
        scale = [" "] * (self.width + len(str(self.labels[-1])))
        free_from = 0
        for n in self.labels:
            start = max(0, self.column(n) - len(str(n)) // 2)
            if start >= free_from:
                scale[start : start + len(str(n))] = str(n)
                free_from = start + len(str(n)) + 1
        return "".join(scale).rstrip()


def headline(curves: Sequence[Curve], metric: str) -> str:
    """What a curve shows: ``product-sentiment: macro-F1 on 600 test texts``."""
    entries = [entry for curve in curves for run in curve.runs for entry in run.rounds]
    sizes = sorted({int(size) for size in values_at(entries, "n_test")})
    measured = f" on {' or '.join(map(str, sizes))} test texts" if sizes else ""
    return f"{curves[0].runs[0].task_name}: {METRIC_NAMES[metric]}{measured}"
