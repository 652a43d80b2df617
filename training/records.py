"""Files -> rows: JSONL, CSV and Parquet, one row at a time, so that a file of any size takes little memory."""

import csv
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from service.model.errors import InputError

Row = dict[str, Any]

PARQUET_BATCH_ROWS = 1024
PARQUET_BUFFER_BYTES = 1 << 20
LONGEST_CELL = 1 << 24  # characters of a CSV cell; without a limit an open quote would take the rest of the file


def iter_rows(path: str | Path) -> Iterator[tuple[int, Row]]:
    """The rows of a file in their order, each with its number for messages.

    The suffix says what the file is: .jsonl or .ndjson, .csv (commas, a header line), .parquet; text is UTF-8.
    The number counts from 1: the line where the row begins in JSONL and CSV, the row in Parquet. Blank lines are
    skipped. The file is opened when the first row is asked for and read as rows are taken.

    Raises InputError for a missing file or an unknown suffix at once; while reading, for text that is not UTF-8,
    broken JSON, a JSON row that is no object, a CSV row with too many or too few cells, a damaged Parquet file.
    """
    path = Path(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        found = f"suffix {path.suffix!r}" if path.suffix else "no suffix"
        raise InputError(f"{path}: expected a file ending in {', '.join(_READERS)}; found {found}")
    if not path.is_file():
        found = "a directory" if path.is_dir() else "no such file"
        raise InputError(f"{path}: expected a data file; found {found}")
    return reader(path)


def place(path: str | Path, number: int) -> str:
    """Where a row stands, as messages name it: ``pool.csv, line 3`` or ``pool.parquet, row 3``."""
    return f"{path}, {unit(path)} {number}"


def unit(path: str | Path) -> str:
    """What the numbers of a file's rows count: ``line`` or, in Parquet, ``row``."""
    return "row" if str(path).lower().endswith(".parquet") else "line"


def data_hash(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal, read in pieces. Raises InputError if it cannot be read."""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from error


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """A text file's lines, decoded one by one so that an error can name its line; a byte order mark is dropped."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{place(path, number)}: not UTF-8 ({error.reason}); save the file as UTF-8") from error
    except OSError as error:
        raise _unreadable(path, error) from error


def _jsonl_rows(path: Path) -> Iterator[tuple[int, Row]]:
    for number, line in _lines(path):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"{place(path, number)}: expected one JSON object on the line; it is not JSON ({error})"
            ) from error
        if not isinstance(row, dict):
            raise InputError(
                f'{place(path, number)}: expected a JSON object such as {{"text": "..."}}; '
                f"found {_JSON_NAMES[type(row)]}"
            )
        yield number, row


def _csv_rows(path: Path) -> Iterator[tuple[int, Row]]:
    csv.field_size_limit(LONGEST_CELL)
    reader = csv.reader((line for _, line in _lines(path)), strict=True)
    columns: list[str] | None = None
    while True:
        number = reader.line_num + 1  # a quoted cell may hold line breaks: this is where the row begins
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise InputError(
                f"{place(path, number)}: not a CSV row ({error}); check its quotes, or save the file as JSONL"
            ) from error
        if not cells:
            continue
        if columns is None:
            columns = cells
            for mark, called in (";", "semicolons"), ("\t", "tabs"):
                if len(cells) == 1 and mark in cells[0]:
                    raise InputError(
                        f"{place(path, number)}: expected a header of names between commas; found {called} between "
                        "them; save the file with commas, or as JSONL"
                    )
            repeated = sorted({name for name in columns if name and columns.count(name) > 1})
            if repeated:
                raise InputError(f"{place(path, number)}: the header names {repeated[0]!r} twice; rename one of them")
            continue
        if len(cells) != len(columns):
            raise InputError(
                f"{place(path, number)}: expected {len(columns)} cells as in the header; found {len(cells)}; "
                "put cells that hold commas in double quotes"
            )
        yield number, dict(zip(columns, cells, strict=True))


def _parquet_rows(path: Path) -> Iterator[tuple[int, Row]]:
    import pyarrow  # here, because few runs read Parquet and the import takes a third of a second
    import pyarrow.parquet

    number = 0
    try:
        # Pages are read as they are needed; pyarrow's default holds all columns of a row group, which may be the file.
        with pyarrow.parquet.ParquetFile(path, buffer_size=PARQUET_BUFFER_BYTES, pre_buffer=False) as file:
            for batch in file.iter_batches(batch_size=PARQUET_BATCH_ROWS):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (pyarrow.ArrowException, UnicodeDecodeError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise _unreadable(path, error) from error
        reason = " ".join(str(error).split())  # an OSError without a number is pyarrow's word for damaged content
        raise InputError(f"{path}: expected a Parquet file; it cannot be read after row {number} ({reason})") from error


def _unreadable(path: str | Path, error: OSError) -> InputError:
    return InputError(f"{path}: cannot be read ({error.strerror or error}); check the path and its permissions")


_READERS: dict[str, Callable[[Path], Iterator[tuple[int, Row]]]] = {
    ".jsonl": _jsonl_rows,
    ".ndjson": _jsonl_rows,
    ".csv": _csv_rows,
    ".parquet": _parquet_rows,
}

_JSON_NAMES = {
    list: "a list",
    str: "a string",
    int: "a number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}


def write_atomically(path: Path, text: str) -> None:
    """Replace a file in one step: a reader, or a run that was killed here, finds the old content or the new."""
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
