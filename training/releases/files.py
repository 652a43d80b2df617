"""Finding a release's files under the path that the user gives, and reading their tables cell by cell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from service.model.errors import InputError
from training.records import Row, iter_rows, place

DEPTHS = ("", "*/", "*/*/")  # an unpacked archive often adds a folder or two; looking deeper could take for ever
EXPECTED_NAMES = 3  # of the names a file can have, and of those found instead, messages tell these many
FOUND_NAMES = 8


def find(release: Path, names: Sequence[str], source: str) -> Path:
    """The file of a release that bears one of these names, the first name first, up to two folders deep.

    names: relative paths such as ``RTE/train.tsv``. source: a sentence that says where the release is found; it ends
    the error. Raises InputError where there is no such file, or several at the same depth.
    """
    expected = " or ".join(names[:EXPECTED_NAMES])
    if not release.is_dir():
        found = "a file" if release.exists() else "no such folder"
        raise InputError(f"{release}: expected a folder that holds {expected}; found {found}; {source}")
    for name in names:
        for depth in DEPTHS:
            files = sorted(file for file in release.glob(depth + name) if file.is_file())
            if len(files) > 1:
                listed = " and ".join(str(file.relative_to(release)) for file in files[:2])
                raise InputError(f"{release}: expected one {name}, found {listed}; name the folder of one of them")
            if files:
                return files[0]
    raise InputError(f"{release}: expected {expected}; found {listing(release)}; {source}")


def listing(folder: Path) -> str:
    """The first names in a folder, for messages."""
    names = sorted(entry.name for entry in folder.iterdir())
    return ", ".join(names[:FOUND_NAMES]) + (", ..." if len(names) > FOUND_NAMES else "") or "an empty folder"


def read_table(path: Path) -> Iterator[tuple[int, Row]]:
    """(line or row number, row) of a table: .tsv and .txt without any quoting, others as iter_rows reads them.

    GLUE's and Microsoft's tables have tabs between cells and quotation marks that mean nothing but themselves. Raises
    InputError for text that is not UTF-8 and for a line with more or fewer cells than the header.
    """
    if path.suffix.lower() not in (".tsv", ".txt"):
        yield from iter_rows(path)
        return
    columns: list[str] | None = None
    for number, line in read_lines(path):
        cells = line.split("\t")
        if columns is None:
            columns = cells
        elif len(cells) != len(columns):
            raise InputError(
                f"{place(path, number)}: expected {len(columns)} cells with tabs between them, as in the header; found "
                f"{len(cells)}; fetch the file again, an editor or a spreadsheet may have changed it"
            )
        else:
            yield number, dict(zip(columns, cells, strict=True))


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """(line number, line) of a UTF-8 text file without its blank lines; a byte order mark is dropped.

    Raises InputError for a file that cannot be read or is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            for number, encoded in enumerate(file, start=1):
                line = encoded.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
                if line.strip():
                    yield number, line
    except UnicodeDecodeError as error:
        raise InputError(f"{place(path, number)}: not UTF-8 ({error.reason}); save the file as UTF-8") from error
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror or error}); check the path and its permissions"
        ) from error


def cell(row: Row, columns: Sequence[str], where: str, advice: str) -> str:
    """The cell under the first of these columns that the table has, as text; null is the empty text.

    where: file and line. advice: what to do where none of the columns is there; it ends the InputError.
    """
    for column in columns:
        if column in row:
            value = row[column]
            return "" if value is None else str(value)
    found = ", ".join(repr(name) for name in row)
    expected = " or ".join(repr(name) for name in columns)
    raise InputError(f"{where}: expected a column {expected}; found {found}; {advice}")
