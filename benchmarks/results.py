"""The measured cells in a JSON-lines file, written so that a comparison can be killed at any time and go on."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from training.records import iter_rows, write_atomically


class Key(NamedTuple):
    """What makes a cell: its row, data set, number of labels and seed, and the digest of the row's settings."""

    row: str
    data: str
    labels: int
    seed: int
    digest: str


def key_of(cell: Mapping[str, Any]) -> Key:
    """The key of a cell as the file holds it."""
    return Key(*(cell[name] for name in Key._fields))


def read_cells(path: Path) -> list[dict[str, Any]]:
    """All measured cells in the order of their measurement; none where there is no file yet."""
    return [cell for _, cell in iter_rows(path)] if path.exists() else []


def append_cell(path: Path, cell: Mapping[str, Any]) -> None:
    """Add one cell in one step; several processes may do so at the same time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path.parent):
        cells = [*read_cells(path), cell]
        write_atomically(path, "".join(json.dumps(c, ensure_ascii=False, allow_nan=False) + "\n" for c in cells))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder alone; the lock leaves no file behind and goes with the process, however that ends."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
