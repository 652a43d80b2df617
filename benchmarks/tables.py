"""Measured cells -> the tables and samples of docs/backbones.md, between two marks in that page."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results import key_of
from benchmarks.rows import ROWS
from service.model.errors import InputError
from training.records import write_atomically

BEGIN = "<!-- generated: python -m benchmarks.backbones --table -->"
END = "<!-- end of what is generated -->"

Cell = Mapping[str, Any]
Value = Callable[[Cell], float | None]


def write_tables(cells: Sequence[Cell], page: Path) -> None:
    """Replace what stands between the page's two marks. Raises InputError where the page lacks one of them."""
    replace_generated(page, BEGIN, render(cells))


def replace_generated(page: Path, mark: str, text: str) -> None:
    """Put a text in place of what stands on a page between ``mark`` and END. Raises InputError where it lacks one."""
    try:
        whole = page.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{page}: cannot be read ({error.strerror})") from None
    before, begin, rest = whole.partition(mark)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise InputError(f"{page}: expected the lines {mark} and {END}; put them where the tables belong")
    write_atomically(page, f"{before}{mark}\n\n{text}\n{END}{after}")


def render(cells: Iterable[Cell]) -> str:
    """The tables of every data set and number of labels, then the samples; rows in the order of ``ROWS``.

    Of cells with the same row, data set, number of labels and seed, the one measured last counts; where seeds of a row
    were measured under different settings, those of the last measurement alone.
    """
    groups = _groups(cells)
    if not groups:
        return "Nothing has been measured yet.\n"
    parts = []
    for data, labels in sorted({(data, labels) for data, labels, _ in groups}, key=lambda place: (place[0], place[1])):
        rows = {row: groups[data, labels, row] for row in ROWS if (data, labels, row) in groups}
        judged = [cell["judge_accuracy"] for own in rows.values() for cell in own if cell.get("judge_accuracy")]
        judge = (
            "Of held-out recorded explanations the encoder judge names the label of "
            f"{judged[-1]['encoder']:.1%}, the word judge of {judged[-1]['words']:.1%}.\n\n"
            if judged
            else ""
        )
        parts.append(f"### {data}, {labels} labels\n\n{judge}{_table(QUALITY, rows)}\n{_table(COST, rows)}")
    return "\n".join([*parts, *_samples(groups)])


SHOWN = 10  # samples of a row: the first of dev, not picked

QUALITY: Mapping[str, tuple[Value, int]] = {
    "macro-F1": (lambda cell: cell["macro_f1"], 3),
    "accuracy": (lambda cell: cell["accuracy"], 3),
    "ranking": (lambda cell: _inner(cell, "ranking", "value"), 3),
    "± over texts": (lambda cell: _inner(cell, "ranking", "standard_error"), 3),
    "where right": (lambda cell: _inner(cell, "ranking_where_right", "value"), 3),
    "ranking, own label": (lambda cell: _inner(cell, "ranking_own_label", "value"), 3),
    "consistency": (lambda cell: _inner(cell, "consistency", "encoder"), 2),
    "by words": (lambda cell: _inner(cell, "consistency", "words"), 2),
    "distinct": (lambda cell: cell.get("distinct"), 2),
    "words": (lambda cell: cell.get("mean_words"), 1),
    "without end": (lambda cell: cell.get("without_end"), 2),
}
COST: Mapping[str, tuple[Value, int]] = {
    "std of p": (lambda cell: cell.get("explanation_score_std"), 3),
    "std of c": (lambda cell: cell.get("entropy_std"), 3),
    "share of p, `xal`": (lambda cell: _inner(cell, "explanation_share", "paper"), 2),
    "share of p, `xal-std`": (lambda cell: _inner(cell, "explanation_share", "standardized"), 2),
    "s to adapt": (lambda cell: _inner(cell, "adaptation", "seconds"), 0),
    "s to train": (lambda cell: cell["train_seconds"], 0),
    "s to score 100": (lambda cell: cell["score_seconds_per_100"], 1),
}


def _groups(cells: Iterable[Cell]) -> dict[tuple[str, int, str], list[Cell]]:
    """(data, labels, row) -> its cells by seed, all of the settings that were measured last."""
    latest: dict[tuple[str, int, str], dict[int, Cell]] = {}
    for cell in cells:
        key = key_of(cell)
        seeds = latest.setdefault((key.data, key.labels, key.row), {})
        if any(key_of(other).digest != key.digest for other in seeds.values()):
            seeds.clear()
        seeds[key.seed] = cell
    return {place: [seeds[seed] for seed in sorted(seeds)] for place, seeds in latest.items()}


def _table(columns: Mapping[str, tuple[Value, int]], rows: Mapping[str, Sequence[Cell]]) -> str:
    timed = columns is COST
    lines = []
    for row, cells in rows.items():
        line = [row, str(len(cells)), *(summary(list(map(value, cells)), digits) for value, digits in columns.values())]
        devices = sorted({f"{cell['device']}, {_threads(cell['threads'])}" for cell in cells})
        lines.append([*line, "; ".join(devices)] if timed else line)
    return markdown(["row", "seeds", *columns, *(["device"] if timed else [])], lines)


def summary(values: Sequence[float | None], digits: int) -> str:
    """Mean over seeds, with its standard error where there are several; '-' where a seed was not measured."""
    measured = [value for value in values if value is not None]
    if not measured or len(measured) < len(values):
        return "-"
    mean = f"{np.mean(measured):.{digits}f}"
    if len(measured) == 1:
        return mean
    return f"{mean} ± {np.std(measured, ddof=1) / math.sqrt(len(measured)):.{digits}f}"


def _samples(groups: Mapping[tuple[str, int, str], Sequence[Cell]]) -> list[str]:
    """For every data set whose texts may be shown: each row's first seed at the most labels it was trained on."""
    parts = []
    for data, row in product(sorted({data for data, _, _ in groups}), ROWS):
        numbers = [labels for name, labels, other in groups if (name, other) == (data, row)]
        cell = groups[data, max(numbers), row][0] if numbers else {}
        if shown := [sample for sample in cell.get("samples", ()) if "text" in sample][:SHOWN]:
            title = f"### {row}: the first dev texts of {data}, {cell['labels']} labels, seed {cell['seed']}"
            columns = ["text", "gold", "predicted", "judged", "explanation"]
            flat = [{**sample, "judged": sample["judged"]["encoder"]} for sample in shown]
            lines = [[_escaped(sample[column]) for column in columns] for sample in flat]
            parts.append(f"{title}\n\n{markdown(columns, lines)}")
    return parts


def markdown(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table in Markdown; what stands in its cells is not escaped."""
    return "".join(f"| {' | '.join(line)} |\n" for line in (head, ["---"] * len(head), *lines))


def _escaped(text: object) -> str:
    """A text that cannot break out of its cell or start markup of its own."""
    escaped = str(text).replace("\\", "\\\\")
    for mark in "|<*_`[":
        escaped = escaped.replace(mark, f"\\{mark}")
    return " ".join(escaped.split()) or "(nothing)"


def _inner(cell: Cell, name: str, key: str) -> float | None:
    found: float | None = (cell.get(name) or {}).get(key)
    return found


def _threads(count: int) -> str:
    return f"{count} thread{'' if count == 1 else 's'}"
