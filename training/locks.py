"""One process at a time: locks on files, which the system lets go of however a process ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from service.model.errors import InputError


@contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Hold a run directory, which is there. Raises InputError at once where another process works on it."""
    with (directory / ".lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(f"{directory}: another process is working on this run; wait for it or end it") from None
        yield


@contextmanager
def in_turn(path: Path) -> Iterator[None]:
    """Wait until nobody else makes what is to stand at this path, whose folder is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f".{path.name}.lock")
    while True:
        with lock.open("w") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            if not _is_there(lock, stream):  # who held it has removed it: others may hold its successor
                continue
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)
            return


def _is_there(path: Path, stream: TextIO) -> bool:
    try:
        return os.path.samestat(os.fstat(stream.fileno()), path.stat())
    except FileNotFoundError:
        return False
