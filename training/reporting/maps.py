"""Selection maps: where in the space of h_0 a strategy asks for labels (the paper's Figures 6 and 10)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from training.reporting.drawing import (
    COLOURS,
    METHOD,
    TEXT_COLOUR,
    new_figure,
    png,
    quiet_about_glyphs,
    title,
    told_apart,
    wrapped,
)
from training.reporting.page import Key, Note, Part, Picture, Section
from training.reporting.pool_map import LABELED, REST, SELECTED, PoolMap, in_two_dimensions, map_file, read_map
from training.reporting.study import Study, representatives
from training.runs import Run

FILE = "selection_maps.png"
MOST_MAPS = 6
COLUMNS = 3
# State -> name, mark, size, opacity, edge; drawn in this order, so that what was asked for lies on top.
STATES = {
    REST: ("rest of the pool", "o", 10, 0.45, "none"),
    LABELED: ("labeled", "s", 17, 0.9, "#222222"),
    SELECTED: ("selected next", "*", 85, 1.0, "#000000"),
}
MORE_COLOURS = (*COLOURS, "#000000", "#B8A800")
NAME_WIDTH, LINE_WIDTH = 70, 42  # characters of a strategy's name, and of a line above a map


@dataclass(frozen=True)
class _Drawn:
    """A map that is ready to be drawn. points: (k, 2)."""

    name: str
    pool_map: PoolMap
    points: Any


def maps_section(study: Study, *, progress: bool = True) -> Section | None:
    """First, middle and last map of one run of each strategy, six at most; None where no run saved any."""
    wanted, warnings = _readable(study)
    chosen = wanted[:MOST_MAPS] if len(wanted) <= MOST_MAPS else _fewer(wanted)
    if not chosen:
        return Section("Selection maps", warnings) if warnings else None
    drawn = [
        _Drawn(name, pool_map, in_two_dimensions(pool_map))
        for _, name, pool_map in tqdm(chosen, desc="selection maps", disable=None if progress else True)
    ]
    note = Note(
        "t-SNE of h_0, the state that the classifier reads: texts that are near each other stay so, distances between "
        "groups and the directions mean nothing. Colour: gold label; mark: labeled so far, selected next, or rest, of "
        "which at most about a thousand are drawn. The first run of a strategy that saved maps; first, middle and last "
        "of its rounds with texts selected, as far as six maps go."
    )
    classes = sorted({int(label) for one in drawn for label in one.pool_map.label})
    colours, names = class_colours(len(classes)), class_names(classes, label_ids(study))
    picture = Picture(
        FILE, _picture(drawn, classes, colours, names), "Maps of the pool with labeled and selected texts marked"
    )
    key = Key("Colour of each gold label", list(zip(colours, names, strict=True)))
    return Section("Selection maps", [picture, key, note, *warnings])


def class_colours(n: int) -> list[str]:
    """A colour for each of n classes, all different: fixed ones as far as they go, else a whole scale of them."""
    if n <= len(MORE_COLOURS):
        return list(MORE_COLOURS[:n])
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return [to_hex(colour) for colour in colormaps["turbo"](np.linspace(0, 1, n))]


def class_names(classes: Sequence[int], labels: Sequence[str]) -> list[str]:
    """The task's labels by their places in it, and a number for what it does not name."""
    return [labels[label] if 0 <= label < len(labels) else f"label {label}" for label in classes]


def label_ids(study: Study) -> list[str]:
    """The task's labels in their order, as the first run that says them has them; empty where none does."""
    tasks = [run.config["task"].get("labels") for run in study.runs]
    return next(([str(label) for label in labels] for labels in tasks if isinstance(labels, dict | list)), [])


def _readable(study: Study) -> tuple[list[tuple[int, str, PoolMap]], list[Part]]:
    """(place among its run's, name, map) of one run for each curve, and a warning for each unreadable file."""
    found: list[tuple[int, str, PoolMap]] = []
    warnings: list[Part] = []
    curves = sorted(representatives(study.curves), key=lambda curve: curve.runs[0].strategy != METHOD)
    names = told_apart([curve.label for curve in curves], NAME_WIDTH)
    for curve, name in zip(curves, names, strict=True):
        for run in curve.runs:
            maps: list[tuple[str, PoolMap]] = []
            for number, labels in _rounds(run):
                path = map_file(run.directory, number)
                try:
                    maps.append((f"{name}, {labels} labels", read_map(path)))
                except (ValueError, OSError) as error:
                    warnings.append(Note(f"{path}: no map to draw: {error}.", warning=True))
            maps = [pair for pair in maps if (pair[1].state == SELECTED).any()] or maps[-1:]
            if maps:
                places = sorted({0, len(maps) // 2, len(maps) - 1})
                found += [(order, *maps[place]) for order, place in enumerate(places)]
                break
    return found, warnings


def _rounds(run: Run) -> list[tuple[int, int]]:
    """(round, labels) of the rounds with a map."""
    numbered = [(_number(entry.get("round"), place), int(entry["n_labeled"])) for place, entry in enumerate(run.rounds)]
    return [pair for pair in numbered if map_file(run.directory, pair[0]).is_file()]


def _number(stated: Any, place: int) -> int:
    return stated if isinstance(stated, int) else place


def _fewer(wanted: Sequence[tuple[int, str, PoolMap]]) -> list[tuple[int, str, PoolMap]]:
    """Six of the maps: the last round of every strategy before the first of any."""
    runs: list[list[tuple[int, str, PoolMap]]] = []
    for entry in wanted:
        if entry[0] == 0:
            runs.append([])
        runs[-1].append(entry)
    kept = {id(run[-1]) for run in runs[:MOST_MAPS]}
    for entry in (run[0] for run in runs):
        if len(kept) < MOST_MAPS:
            kept.add(id(entry))
    return [entry for entry in wanted if id(entry) in kept]


def _picture(drawn: Sequence[_Drawn], classes: Sequence[int], colours: Sequence[str], names: Sequence[str]) -> bytes:
    columns = min(COLUMNS, len(drawn))
    rows = -(-len(drawn) // columns)
    figure = new_figure(0.9 + 3.3 * rows, width=max(6.0, 3.3 * columns))
    grid = figure.subplots(rows, columns, squeeze=False).flat
    for axes in grid:
        axes.set_visible(False)
    for axes, one in zip(figure.axes, drawn, strict=False):
        axes.set_visible(True)
        _scatter(axes, one, dict(zip(classes, colours, strict=True)))
    _legend(figure, colours, told_apart(names, 24))
    return png(figure)


def _scatter(axes: Any, one: _Drawn, colours: Mapping[int, str]) -> None:
    for state, (_, mark, size, opacity, edge) in STATES.items():
        for label, colour in colours.items():
            here = (one.pool_map.state == state) & (one.pool_map.label == label)
            axes.scatter(
                *one.points[here].T,
                c=colour,
                marker=mark,
                s=size,
                alpha=opacity,
                edgecolors=edge,
                linewidths=0.5,
            )
    title(axes, wrapped(one.name, LINE_WIDTH), size=9)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_color("#CCCCCC")
    low, high = one.points.min(axis=0), one.points.max(axis=0)
    pad = 0.06 * np.maximum(high - low, 1e-3)
    axes.set_xlim(low[0] - pad[0], high[0] + pad[0])
    axes.set_ylim(low[1] - pad[1], high[1] + pad[1])


def _legend(figure: Any, colours: Sequence[str], classes: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    def sample(mark: str, colour: str, edge: str, size: float) -> Any:
        return Line2D([], [], ls="", marker=mark, mfc=colour, mec=edge, ms=size)

    marks = [sample(mark, "#BBBBBB", edge, size**0.5 + 1) for _, mark, size, _, edge in STATES.values()]
    marks += [sample("o", colour, "none", 7) for colour in colours]
    names = [*(state[0] for state in STATES.values()), *classes]
    names = [name if not name.startswith("_") else f" {name}" for name in names]  # matplotlib hides such names
    with quiet_about_glyphs():
        fitting_legend(figure, marks, names)


def fitting_legend(figure: Any, marks: Sequence[Any], names: Sequence[str]) -> Any:
    """The legend below the maps, in as few rows as the picture's width allows, these about equally full. Dollars in a
    name are no formula."""
    for rows in range(1, len(names) + 1):
        columns = -(-len(names) // rows)
        legend = figure.legend(marks, names, loc="outside lower center", ncols=columns, frameon=False, fontsize=9)
        for text in legend.get_texts():  # before anything is laid out
            text.set_parse_math(False)
            text.set_color(TEXT_COLOUR)
        figure.draw_without_rendering()
        if rows == len(names) or legend.get_window_extent().width <= figure.bbox.width:
            break
        legend.remove()
    return legend
