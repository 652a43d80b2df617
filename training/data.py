"""Rows -> examples of a task, every one of them checked."""

import math
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from service.model.errors import InputError
from service.model.task import Task
from training.on_disk import CHUNK, sorted_on_disk
from training.records import Row, iter_rows, place, unit

# Spellings of the column ``split`` that other people's data use for the same three things.
SPLITS = {"train": "train", "dev": "dev", "validation": "dev", "val": "dev", "test": "test"}


@dataclass(frozen=True)
class Example:
    """One text of the data.

    fields: the task's fields in its order. label: one of the task's label ids, None where there is none.
    split: train, dev or test, None where the data has no such column.
    """

    id: str
    fields: Mapping[str, str]
    label: str | None
    split: str | None


def read_examples(path: str | Path, task: Task, *, require_labels: bool) -> list[Example]:
    """All rows of a file as examples, every one of them sound.

    A file without the column ``id`` gets the index of each row, from 0. Numbers and booleans become text. Where labels
    are not required they may be missing, but a label that is there must be one of the task's.

    Raises InputError, naming file and row, for anything wrong with the file (see iter_rows), a missing column, an id
    that is missing or used twice, an empty field, a label or a split that is not known, a file without rows.
    """
    examples: list[Example] = []
    rows: dict[str, int] = {}
    for number, id_, row in _progress(_identified(path), f"reading {path}"):
        where = place(path, number)
        if id_ in rows:
            raise _repeated_id(path, id_, rows[id_], number)
        rows[id_] = number
        fields = _fields(row, task, where)
        for name, text in fields.items():
            _check_text(text, name, where)
        example = Example(id_, fields, _label(row, task, where, require_labels), _split(row, where))
        if examples and (example.split is None) != (examples[0].split is None):
            raise InputError(f"{where}: the column 'split' stands in some rows only; give every row a split, or none")
        examples.append(example)
    if not examples:
        raise _no_rows(path)
    return examples


def iter_examples(path: str | Path, task: Task) -> Iterator[Example]:
    """The rows of a file as examples without labels, read as they are taken, for scoring a pool of any size.

    A field may be empty here (null becomes the empty text): the predictor answers such a text with an error of its
    own. Raises InputError for anything wrong with the file (see iter_rows), a missing column, a missing id.
    """
    for number, id_, row in _identified(path):
        yield Example(id_, _fields(row, task, place(path, number)), None, None)


def check_pool(path: str | Path, task: Task) -> int:
    """Read a pool through once, before hours of scoring; returns its number of rows.

    Memory stays flat: 8 bytes a row, a hash of its id, lie in a temporary file. Raises InputError as iter_examples
    does, and for an id that is used twice and for a file without rows.
    """

    def rows() -> Iterator[tuple[int, str]]:
        for number, id_, row in _progress(_identified(path), f"checking {path}"):
            _fields(row, task, place(path, number))
            yield number, id_

    count, repeat = first_repeat(rows, hash)
    if repeat is not None:
        raise _repeated_id(path, *repeat)
    if count == 0:
        raise _no_rows(path)
    return count


def first_repeat(
    rows: Callable[[], Iterable[tuple[int, str]]], digest: Callable[[str], int]
) -> tuple[int, tuple[str, int, int] | None]:
    """Number of rows, and (id, first row, second row) of the first id that stands there twice, or None.

    rows: starts reading (row number, id) pairs, from the beginning at every call. digest: id -> signed 64-bit hash;
    equal hashes only raise a suspicion, which a second reading confirms or drops.
    """
    ordered = sorted_on_disk(_arrays(digest(id_) for _, id_ in rows()))
    suspects: set[int] = set()
    for first in range(0, len(ordered), CHUNK):
        piece = ordered[first : first + CHUNK + 1]
        suspects.update(piece[1:][piece[1:] == piece[:-1]].tolist())
    if suspects:
        seen: dict[str, int] = {}
        for number, id_ in rows():
            if digest(id_) not in suspects:
                continue
            if id_ in seen:
                return len(ordered), (id_, seen[id_], number)
            seen[id_] = number
    return len(ordered), None


def _arrays(numbers: Iterator[int]) -> Iterator[NDArray[np.int64]]:
    while piece := array("q", islice(numbers, CHUNK)):
        yield np.frombuffer(piece, dtype=np.int64)


def _identified(path: str | Path) -> Iterator[tuple[int, str, Row]]:
    """(number, id, row): the ids of the file, or the index of each row where its first row has none."""
    has_ids = None
    for index, (number, row) in enumerate(iter_rows(path)):
        where = place(path, number)
        id_ = _text(row.get("id"), "id", where)
        if has_ids is None:
            has_ids = bool(id_.strip())
        if has_ids != bool(id_.strip()):
            found = "found none here" if has_ids else "only later rows have one"
            raise InputError(f"{where}: expected an id in every row or in none; {found}; complete the column 'id'")
        _check_unicode(id_, "id", where)
        yield number, id_ if has_ids else str(index), row


def _fields(row: Row, task: Task, where: str) -> dict[str, str]:
    return {name: _text(_cell(row, name, where), name, where) for name in task.fields}


def _label(row: Row, task: Task, where: str, required: bool) -> str | None:
    if not required and task.label_field not in row:
        return None
    value = _cell(row, task.label_field, where)
    label = _text(value, task.label_field, where)
    if label == "":
        if required:
            raise InputError(f"{where}: the label ({task.label_field!r}) is empty; expected {', '.join(task.labels)}")
        return None
    if isinstance(value, bool) and label not in task.labels:
        label = label.capitalize()  # Python's and pandas' way of writing a boolean
    if label not in task.labels:
        raise InputError(
            f"{where}: the label {label!r} is not one of the task's: expected {', '.join(task.labels)}; "
            "mend the row or add the label to the task file"
        )
    return label


def _split(row: Row, where: str) -> str | None:
    if "split" not in row:
        return None
    name = _text(row["split"], "split", where)
    if name not in SPLITS:
        raise InputError(f"{where}: unknown split {name!r}; expected train, dev (or validation, val) or test")
    return SPLITS[name]


def _cell(row: Row, column: str, where: str) -> object:
    if column not in row:
        found = ", ".join(repr(name) for name in row) or "none"
        raise InputError(f"{where}: no column {column!r}; found {found}; rename a column or change the task file")
    return row[column]


def _text(value: object, column: str, where: str) -> str:
    """A cell as text: null and NaN are empty; 2.0 is 2, for tables turn a column of integers with gaps into floats."""
    if isinstance(value, str):
        return value
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else str(value)
    raise InputError(f"{where}: expected text in the column {column!r}; found a {type(value).__name__}")


def _check_text(text: str, column: str, where: str) -> None:
    if not text.strip():
        raise InputError(f"{where}: the field {column!r} is empty; fill it in or remove the row")
    _check_unicode(text, column, where)


def _check_unicode(text: str, column: str, where: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise InputError(
            f"{where}: {column!r} holds half of a surrogate pair (\\ud800-\\udfff); mend the row"
        ) from None


def _repeated_id(path: str | Path, id_: str, first: int, second: int) -> InputError:
    return InputError(f"{place(path, second)}: the id {id_!r} was used in {unit(path)} {first}; make the ids unique")


def _no_rows(path: str | Path) -> InputError:
    return InputError(f"{path}: expected at least one row of data; found none")


def _progress(rows: Iterable[tuple[int, str, Row]], title: str) -> Iterable[tuple[int, str, Row]]:
    """A progress bar for files that take more than two seconds, on a terminal only."""
    return tqdm(rows, desc=title, unit=" rows", delay=2, disable=None, leave=False)
