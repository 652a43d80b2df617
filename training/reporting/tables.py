"""Tables of text: cells out of rounds and numbers, and a table as lines for a terminal."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

Entry = Mapping[str, Any]  # a round of metrics.json
Table = list[list[str]]  # the header first
Show = Callable[[Entry], str]  # a round -> a cell
Columns = dict[str, Show]


def table_of(rows: Sequence[Mapping[str, str]]) -> Table:
    """One row for each mapping of columns to cells, at least one; columns that no row fills are left out."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    return without_empty_columns([columns, *([row.get(column, "") for column in columns] for row in rows)])


def without_empty_columns(table: Table) -> Table:
    """A run without a teacher has no bill, one without a development set no choices: leave such columns out."""
    filled = [column for column in range(len(table[0])) if any(row[column] for row in table[1:])]
    return [[row[column] for column in filled] for row in table]


def text_table(table: Table) -> str:
    """A table as aligned lines of text: the first column to the left, all others to the right."""
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    lines = [
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def part(entry: Entry, name: str) -> Mapping[str, Any]:
    """The group of this name in a round; empty where there is none."""
    found = entry.get(name)
    return found if isinstance(found, Mapping) else {}


def value_at(entry: Entry, *path: str) -> float | None:
    """The number that stands at this path of a round, None where none does."""
    for name in path[:-1]:
        entry = part(entry, name)
    value = entry.get(path[-1])
    numeric = isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value)
    return float(value) if numeric else None  # type: ignore[arg-type]


def values_at(entries: Sequence[Entry], *path: str) -> list[float]:
    """The numbers at this path, of those rounds that have one."""
    return list(_known(value_at(entry, *path) for entry in entries))


def mean(values: Sequence[float]) -> float | None:
    """Their mean, None of nothing."""
    return sum(values) / len(values) if values else None


def number(value: float | None) -> str:
    """Three digits, or nothing where the run did not measure this."""
    return "" if value is None else f"{value:.3f}"


def signed(value: float | None) -> str:
    """A difference with its sign."""
    return "" if value is None else f"{value:+.3f}"


def amount(value: float, form: str) -> str:
    """What was spent, in this format; nothing where that would show as 0."""
    shown = format(value, form)
    return "" if shown == format(0, form) else shown


def nested(*path: str) -> Show:
    """Shows the number that stands at this path of a round, if it is there."""
    return lambda entry: number(value_at(entry, *path))


def counted(n: int, thing: str) -> str:
    """``1 run``, ``3 runs``."""
    return f"{n} {thing}{'' if n == 1 else 's'}"


def _known(values: Iterator[float | None]) -> Iterator[float]:
    return (value for value in values if value is not None)
