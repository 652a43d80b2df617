"""What all pictures of a report share: size, colours, axes without clutter, and a PNG at the end."""

import io
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from typing import Any, NamedTuple

from training.runs import Curve

# Okabe and Ito's colours, which colour-blind readers can tell apart; the baseline is grey whenever it is there.
COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
METHOD = "xal"
BASELINE, BASELINE_COLOUR = "random", "#8A8A8A"
TEXT_COLOUR, FAINT = "#333333", "#E4E4E4"
WIDTH = 8.0  # inches; with DPI 1280 pixels
DPI = 160
ROW_WIDTH, LINE = 44, 0.17  # characters of a line of a row's name, inches of one

# Once the colours are used up, they come again with another line and another mark.
LINES, MARKS = ("-", (0, (5, 1.5)), (0, (1.2, 1.2))), "o^s"


class Look(NamedTuple):
    """How a curve is drawn wherever it appears."""

    colour: str
    line: Any
    mark: str


def looks(curves: Sequence[Curve]) -> list[Look]:
    """A look for each curve, all different for up to 18 of them; random sampling is grey, xal has the first colour."""
    palette = cycle(Look(colour, line, mark) for line, mark in zip(LINES, MARKS, strict=True) for colour in COLOURS)
    fixed = {BASELINE: Look(BASELINE_COLOUR, LINES[0], MARKS[0])}
    if methods := [curve.label for curve in curves if curve.runs[0].strategy == METHOD]:
        fixed[methods[0]] = next(palette)
    return [fixed.get(curve.label) or next(palette) for curve in curves]


def new_figure(height: float, width: float = WIDTH) -> Any:
    """A matplotlib figure of this many inches. One of its own, because pyplot's are global."""
    # Imported here, because it takes a second.
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    return Figure(figsize=(width, height), dpi=DPI, layout=ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.12))


def plain_axes(axes: Any, grid: str = "y") -> None:
    """Grey grid lines across one axis, no frame, no ticks."""
    axes.tick_params(length=0, colors=TEXT_COLOUR)
    axes.grid(axis=grid, color=FAINT, lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color("#BBBBBB")
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_color(TEXT_COLOUR)


def rows_figure(names: Sequence[str], around: float, row: float, width: float = WIDTH) -> Any:
    """A figure with a row for each name. around, row: inches above and below all rows, and of one with a short name."""
    lines = max(name.count("\n") for name in _row_names(names))
    return new_figure(around + (row + LINE * lines) * len(names), width)


def name_rows(axes: Any, names: Sequence[str]) -> None:
    """One name for each row 0, 1, ... of a picture, the first one on top; names are no formulas."""
    axes.set_yticks(range(len(names)), labels=_row_names(names), parse_math=False)
    axes.set_ylim(len(names) - 0.4, -0.6)


def _row_names(names: Sequence[str]) -> list[str]:
    return [wrapped(name, ROW_WIDTH) for name in told_apart(names, 2 * ROW_WIDTH)]


def title(axes: Any, text: str, size: float = 12) -> None:
    """To the left, above the axes; dollars in it are no formula."""
    axes.set_title(text, loc="left", fontsize=size, pad=10, color=TEXT_COLOUR, parse_math=False)


def caption(figure: Any, text: str) -> None:
    """Below all axes of a figure."""
    figure.supxlabel(text, fontsize=9, color=TEXT_COLOUR)


def told_apart(names: Sequence[str], most: int) -> list[str]:
    """All names of a picture, shortened to ``most`` characters, or to as many more as keep different ones apart."""
    for size in range(most, max(map(len, names), default=0)):
        short = [shortened(name, size) for name in names]
        if len(set(short)) == len(set(names)):
            return short
    return [name.replace("trainer.", "") for name in names]


def shortened(name: str, most: int) -> str:
    """A name that leaves room for the picture: without the groups of settings, without the middle of a long one."""
    name = name.replace("trainer.", "")
    half = (most - 3) // 2
    return name if len(name) <= most else f"{name[:half]}...{name[-half:]}"


def wrapped(name: str, width: int) -> str:
    """A name in lines of at most ``width`` characters; words with hyphens and numbers of runs are kept together."""
    return textwrap.fill(name.replace(" run", "\N{NO-BREAK SPACE}run"), width, break_on_hyphens=False)


def png(figure: Any) -> bytes:
    picture = io.BytesIO()
    with quiet_about_glyphs():
        figure.savefig(picture, format="png", facecolor="white")
    return picture.getvalue()


@contextmanager
def quiet_about_glyphs() -> Iterator[None]:
    """Without matplotlib's warning for every letter that its font lacks: the page has all names as text, too."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        yield
