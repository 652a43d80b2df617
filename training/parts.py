"""JSON lines that grow in a hidden file: a process that is killed leaves them to the next one with the same task."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from service.model.errors import InputError, XalError
from training.records import Row


class Parts:
    """The rows that are finished so far; a context manager that closes the file and keeps it.

    The first line says what the rows are of, the others are rows. They are finished a block at a time: texts are
    explained in batches, and only where every block's batches are its own do rows not depend, to their last digit, on
    where an earlier process was killed. What stands behind the last whole block is dropped when the file is opened.

    about: whatever decides what the rows are, as JSON. block: rows in a block. total: rows in the end; the last block
    may be smaller. rows: how many are finished. differing: the keys of ``about`` for which an older file was emptied.
    Raises InputError where another process is working on the file.
    """

    def __init__(self, path: Path, about: Mapping[str, Any], block: int, total: int) -> None:
        self.path, self.block, self.total = path, block, total
        self.rows, self.differing = 0, list[str]()
        self._stream = _locked(path)
        try:
            self._recover(json.loads(json.dumps(about)))
        except BaseException:
            self._stream.close()
            raise

    def __enter__(self) -> Parts:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()

    @property
    def next_block(self) -> int:
        """How many rows the next block has; 0 when all are finished."""
        return min(self.block, self.total - self.rows)

    def write(self, row: Row) -> None:
        """Add a row to the block that is open."""
        self._stream.write(json_line(row))
        self.rows += 1

    def finish_block(self) -> None:
        """Make sure that the rows so far outlive this process, and this machine's next crash."""
        self._stream.flush()
        os.fsync(self._stream.fileno())

    def read(self) -> Iterator[Row]:
        """All rows, from the first one at every call. Raises XalError for a file that was damaged meanwhile."""
        with self.path.open("rb") as stream:
            for number, line in enumerate(stream):
                if number == 0:
                    continue
                try:
                    yield json.loads(line)
                except ValueError:
                    raise XalError(
                        f"{self.path}, line {number + 1}: damaged; remove the file and start again"
                    ) from None

    def _recover(self, about: dict[str, Any]) -> None:
        """Empty the file behind its last whole block, or altogether where its rows are of something else."""
        self._stream.seek(0)
        header = self._stream.readline()
        found = _parsed(header)
        if found == about:
            end = place = len(header)
            for lines, line in enumerate(self._stream, start=1):
                place += len(line)
                if line.endswith(b"\n") and (lines % self.block == 0 or lines == self.total):
                    self.rows, end = lines, place
            self._stream.truncate(end)
        else:
            if found is not None:
                self.differing = sorted(key for key in {*about, *found} if found.get(key) != about.get(key))
            self._stream.truncate(0)
            self._stream.write(json_line(about))
            self.finish_block()


def json_line(row: Mapping[str, Any]) -> bytes:
    """A row as one line of UTF-8."""
    return (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _parsed(header: bytes) -> dict[str, Any] | None:
    """What an older file says that it is of; None where it is new, or its first line was never finished."""
    try:
        found = json.loads(header)
    except ValueError:
        return None
    return found if isinstance(found, dict) and header.endswith(b"\n") else None


def _locked(path: Path) -> BinaryIO:
    """The file, open for this process alone; the lock goes with the process, however that ends."""
    stream = path.open("a+b")
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(stream.fileno()), path.stat()):
            return stream
    except OSError:  # locked, or finished and removed by another process a moment ago
        pass
    stream.close()
    raise InputError(f"{path}: another process is working on these results; wait for it or end it")
