"""Learning curves as a picture and as lines of text."""

import io
from collections.abc import Iterator, Sequence
from itertools import cycle, pairwise
from typing import Any

import numpy as np

from training.runs import Curve, Run, learning_curves

# Okabe and Ito's colours, which colour-blind readers can tell apart; the baseline is grey whenever it is there.
COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
BASELINE, BASELINE_COLOUR = "random", "#8A8A8A"
TEXT_COLOUR = "#333333"
# Characters for the curves of a terminal, repeated if there are many, and one for where several of them meet.
MARKS = "xo+#%@&$"
SEVERAL = "*"

METRIC_NAMES = {"macro_f1": "macro-F1", "accuracy": "accuracy"}


def learning_curve_png(curves: Sequence[Curve], metric: str = "macro_f1") -> bytes:
    """A PNG of the curves: mean over the runs of a setting, with a band from the lowest to the highest run."""
    # Imported here, because it takes a second; a Figure of its own, because pyplot's are global.
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.ticker import FixedLocator, MaxNLocator

    figure = Figure(figsize=(8, 4.6), dpi=160, layout=ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.12))
    axes = figure.add_subplot()
    for curve, colour in zip(curves, curve_colours(curves), strict=True):
        values = curve.values(metric)
        if len(values) > 1:
            axes.fill_between(curve.n_labeled, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.15, lw=0)
        axes.plot(curve.n_labeled, values.mean(axis=0), color=colour, marker="o", ms=5, lw=2, zorder=3)
    several = any(len(curve.runs) > 1 for curve in curves)
    axes.set_xlabel("labeled texts" + ("\nline: mean over the runs; band: lowest to highest run" if several else ""))
    axes.set_title(headline(curves, metric), loc="left", fontsize=12, pad=12, color=TEXT_COLOUR, parse_math=False)
    points = sorted({n for curve in curves for n in curve.n_labeled})
    axes.xaxis.set_major_locator(FixedLocator(points) if len(points) <= 12 else MaxNLocator(integer=True))
    axes.xaxis.label.set_color(TEXT_COLOUR)
    axes.tick_params(length=0, colors=TEXT_COLOUR)
    axes.grid(axis="y", color="#E4E4E4", lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color("#BBBBBB")
    axes.margins(x=0.03, y=0.12)
    _name_lines(axes, curves, metric)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", facecolor="white")
    return picture.getvalue()


def _name_lines(axes: Any, curves: Sequence[Curve], metric: str) -> None:
    """Each curve's title to the right of its last point, in its colour: no legend to look up."""
    low, high = axes.get_ylim()
    ends = [(curve.n_labeled[-1], float(curve.values(metric)[:, -1].mean())) for curve in curves]
    heights = spread_apart([(value - low) / (high - low) for _, value in ends], gap=0.065)
    for curve, colour, end, height in zip(curves, curve_colours(curves), ends, heights, strict=True):
        axes.annotate(
            curve.title,
            end,
            xytext=(1.02, height),
            textcoords="axes fraction",
            va="center",
            color=colour,
            fontweight="bold",
            parse_math=False,
            arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.8, "ls": ":"},
        )
    axes.set_ylim(low, high)


def spread_apart(heights: Sequence[float], gap: float) -> list[float]:
    """The heights, in their old order, moved as little as it takes for neighbours to be ``gap`` apart."""
    order = np.argsort(heights, kind="stable")
    lifted = np.asarray(heights, dtype=np.float64)[order] - gap * np.arange(len(heights))
    # What is left is to make ``lifted`` non-decreasing: the least-squares answer averages the stretches that fall.
    blocks: list[list[float]] = []
    for height in lifted:
        blocks.append([float(height)])
        while len(blocks) > 1 and np.mean(blocks[-2]) > np.mean(blocks[-1]):
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    spread = np.array([np.mean(block) for block in blocks for _ in block]) + gap * np.arange(len(heights))
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
    sizes = sorted(
        {entry["n_test"] for curve in curves for run in curve.runs for entry in run.rounds if "n_test" in entry}
    )
    measured = f" on {' or '.join(map(str, sizes))} test texts" if sizes else ""
    return f"{curves[0].runs[0].task_name}: {METRIC_NAMES[metric]}{measured}"


def curve_colours(curves: Sequence[Curve]) -> list[str]:
    """A colour for each curve."""
    palette = cycle(COLOURS)
    return [BASELINE_COLOUR if curve.label == BASELINE else next(palette) for curve in curves]
