"""Parts keep whole blocks through every way to be killed, and never mix rows of two different things."""

import fcntl
import json
from pathlib import Path

import pytest

from service.model.errors import InputError, XalError
from training.parts import Parts

ABOUT = {"model": "a", "input": {"bytes": 3}, "note": "ä"}


def filled(path: Path, rows: int, total: int = 10) -> None:
    """As many rows as a process writes that is killed after so many, blocks of 4."""
    with Parts(path, ABOUT, 4, total) as parts:
        while parts.rows < rows:
            parts.write({"row": parts.rows, "text": "ü\u2028"})
            if parts.rows % 4 == 0 or parts.rows == total:
                parts.finish_block()


@pytest.mark.parametrize(("written", "kept"), [(0, 0), (3, 0), (4, 4), (7, 4), (8, 8), (9, 8), (10, 10)])
def test_whole_blocks_are_kept_and_the_last_one_may_be_smaller(tmp_path: Path, written: int, kept: int) -> None:
    filled(tmp_path / "p", written)
    with Parts(tmp_path / "p", ABOUT, 4, 10) as parts:
        assert (parts.rows, parts.differing) == (kept, [])
        assert parts.next_block == min(4, 10 - kept)
        assert [row["row"] for row in parts.read()] == list(range(kept))


def test_a_file_cut_at_any_byte_goes_on_to_the_same_rows(tmp_path: Path) -> None:
    filled(tmp_path / "whole", 10)
    whole = (tmp_path / "whole").read_bytes()
    path = tmp_path / "cut"
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        filled(path, 10)
        assert path.read_bytes() == whole, size


def test_rows_of_something_else_are_dropped_and_the_difference_named(tmp_path: Path) -> None:
    filled(tmp_path / "p", 10)
    with Parts(tmp_path / "p", {**ABOUT, "model": "b", "beams": 2}, 4, 10) as parts:
        assert (parts.rows, parts.differing) == (0, ["beams", "model"])
        assert list(parts.read()) == []
    assert len((tmp_path / "p").read_text().splitlines()) == 1


@pytest.mark.parametrize("content", [b"", b"\n", b"[1]\n", b"\xff\x00\n", json.dumps(ABOUT).encode()])
def test_a_file_that_says_nothing_of_itself_is_begun_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "p").write_bytes(content)
    with Parts(tmp_path / "p", ABOUT, 4, 10) as parts:
        assert (parts.rows, parts.differing) == (0, [])


def test_one_process_works_on_a_file(tmp_path: Path) -> None:
    filled(tmp_path / "p", 4)
    with (tmp_path / "p").open("ab") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another process is working on these results"):
            Parts(tmp_path / "p", ABOUT, 4, 10)
    with Parts(tmp_path / "p", ABOUT, 4, 10) as parts:
        assert parts.rows == 4


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    filled(tmp_path / "p", 10)
    lines = (tmp_path / "p").read_bytes().splitlines(keepends=True)
    (tmp_path / "p").write_bytes(b"".join([*lines[:3], b"\0\0\0\n", *lines[4:]]))
    with Parts(tmp_path / "p", ABOUT, 4, 10) as parts, pytest.raises(XalError, match="p, line 4: damaged"):
        list(parts.read())
