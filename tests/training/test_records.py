import hashlib
import tracemalloc
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from service.model.errors import InputError
from training.records import data_hash, iter_rows, place


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def write_parquet(path: Path, rows: list[dict]) -> Path:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def problem(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        list(iter_rows(path))
    message = str(caught.value)
    assert "\n" not in message
    return message


ROWS = [{"id": "a", "text": "Größe, „gut“"}, {"id": "b", "text": "two\nlines"}]


def test_the_three_formats_give_the_same_rows(tmp_path: Path) -> None:
    jsonl = write(tmp_path / "a.jsonl", '{"id": "a", "text": "Größe, „gut“"}\n{"id": "b", "text": "two\\nlines"}\n')
    csv = write(tmp_path / "a.csv", 'id,text\na,"Größe, „gut“"\nb,"two\nlines"\n')
    parquet = write_parquet(tmp_path / "a.PARQUET", ROWS)
    for path in (jsonl, csv, parquet):
        assert [row for _, row in iter_rows(path)] == ROWS


def test_numbers_are_lines_where_rows_begin_and_blank_lines_are_skipped(tmp_path: Path) -> None:
    jsonl = write(tmp_path / "a.ndjson", '\n{"a": 1}\n\n  \n{"a": 2}')
    assert list(iter_rows(jsonl)) == [(2, {"a": 1}), (5, {"a": 2})]
    csv = write(tmp_path / "a.csv", 'a,b\n1,"x\ny"\n\n2,z\n')
    assert list(iter_rows(csv)) == [(2, {"a": "1", "b": "x\ny"}), (5, {"a": "2", "b": "z"})]
    parquet = write_parquet(tmp_path / "a.parquet", [{"a": 1}, {"a": 2}])
    assert list(iter_rows(parquet)) == [(1, {"a": 1}), (2, {"a": 2})]
    assert place("x/a.jsonl", 5) == "x/a.jsonl, line 5"
    assert place("x/a.Parquet", 5) == "x/a.Parquet, row 5"


def test_byte_order_mark_and_windows_line_ends_do_not_reach_the_rows(tmp_path: Path) -> None:
    assert list(iter_rows(write(tmp_path / "a.csv", b"\xef\xbb\xbfid,text\r\n1,x\r\n"))) == [
        (2, {"id": "1", "text": "x"})
    ]
    assert list(iter_rows(write(tmp_path / "a.jsonl", b'\xef\xbb\xbf{"id": "1"}\r\n'))) == [(1, {"id": "1"})]


def test_a_line_separator_inside_a_json_string_does_not_end_the_line(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"text": "a\u2028b\x85c"}\n')
    assert list(iter_rows(path)) == [(1, {"text": "a\u2028b\x85c"})]


def test_unnamed_csv_columns_may_repeat(tmp_path: Path) -> None:
    assert list(iter_rows(write(tmp_path / "a.csv", ",text,\n0,x,\n"))) == [(2, {"": "", "text": "x"})]


def test_a_csv_cell_may_be_long(tmp_path: Path) -> None:
    text = "word " * 100_000
    assert [row for _, row in iter_rows(write(tmp_path / "a.csv", f'id,text\n1,"{text}"\n'))] == [
        {"id": "1", "text": text}
    ]


def test_a_wrong_path_or_suffix_fails_before_reading(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"missing\.csv: expected a data file; found no such file"):
        iter_rows(tmp_path / "missing.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(InputError, match="found a directory"):
        iter_rows(tmp_path / "folder.csv")
    with pytest.raises(InputError, match=r"expected a file ending in \.jsonl, .*\.parquet; found suffix '\.xlsx'"):
        iter_rows(tmp_path / "a.xlsx")
    with pytest.raises(InputError, match="found no suffix"):
        iter_rows(tmp_path / "data")


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.jsonl", b'{"a": 1}\n{"a": "\xe4"}\n', "a.jsonl, line 2: not UTF-8"),
        ("a.csv", b"a\n1\n\xe4\n", "a.csv, line 3: not UTF-8"),
        ("a.csv", "id,text\n1,x\n".encode("utf-16"), "a.csv, line 1: not UTF-8"),
        ("a.jsonl", '{"a": 1}\n{"a": 1\n', "a.jsonl, line 2: expected one JSON object on the line; it is not JSON"),
        ("a.jsonl", '{"a": 1} {"a": 2}\n', "line 1: expected one JSON object"),
        ("a.jsonl", "[1, 2]\n", "line 1: expected a JSON object such as"),
        ("a.jsonl", "null\n", "found null"),
        ("a.jsonl", "[" * 100_000 + "\n", "line 1: expected one JSON object"),
        ("a.jsonl", '{"a": ' + "9" * 5000 + "}\n", "line 1: expected one JSON object"),
        ("a.csv", "a,b\n1,2\n1,2,3\n", "a.csv, line 3: expected 2 cells as in the header; found 3"),
        ("a.csv", "a,b\n1\n", "a.csv, line 2: expected 2 cells as in the header; found 1"),
        ("a.csv", 'a,b\n1,"x"y\n', "a.csv, line 2: not a CSV row"),
        ("a.csv", 'a,b\n1,2\n3,"never closed\n5,6\n', "a.csv, line 3: not a CSV row"),
        ("a.csv", "a,text,text\n", "a.csv, line 1: the header names 'text' twice"),
        (
            "a.csv",
            "text;label\na, b;x\n",
            "line 1: expected a header of names between commas; found semicolons between",
        ),
        ("a.csv", "text\tlabel\na, b\tx\n", "found tabs between them; save the file with commas, or as JSONL"),
        ("a.parquet", "id,text\n", "a.parquet: expected a Parquet file"),
        ("a.parquet", "", "a.parquet: expected a Parquet file"),
    ],
)
def test_broken_files_are_named_with_their_line(tmp_path: Path, name: str, content: str | bytes, expected: str) -> None:
    assert expected in problem(write(tmp_path / name, content))


def test_a_damaged_parquet_file_names_the_last_sound_row(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pyarrow.Table.from_pylist([{"text": f"some words {i}"} for i in range(5000)])
    pyarrow.parquet.write_table(table, path, row_group_size=2048, use_dictionary=False, compression="snappy")
    second = pyarrow.parquet.ParquetFile(path).metadata.row_group(1).column(0).data_page_offset
    content = bytearray(path.read_bytes())
    content[second : second + 200] = b"\xff" * 200
    path.write_bytes(content)
    assert "cannot be read after row 2048 " in problem(path)


def test_rows_are_read_as_they_are_taken(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"a": 1}\nnot json\n')
    rows = iter_rows(path)
    assert next(rows) == (1, {"a": 1})
    with pytest.raises(InputError, match="line 2"):
        next(rows)


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet"])
def test_memory_stays_flat_however_long_the_file_is(tmp_path: Path, name: str) -> None:
    def peak(count: int) -> int:
        path = tmp_path / f"{count}{name}"
        rows = [{"id": i, "text": "word " * 40} for i in range(count)]
        if name == "a.jsonl":
            write(path, "".join(f'{{"id": {row["id"]}, "text": "{row["text"]}"}}\n' for row in rows))
        elif name == "a.csv":
            write(path, "id,text\n" + "".join(f"{row['id']},{row['text']}\n" for row in rows))
        else:
            write_parquet(path, rows)
        del rows
        tracemalloc.start()
        for _ in iter_rows(path):
            pass
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(1500)  # imports and caches
    assert peak(20_000) < 1.5 * peak(2_500)


def test_a_parquet_row_group_is_not_held_whole(tmp_path: Path) -> None:
    texts = [f"{i} " * 200 for i in range(40_000)]  # about 45 MB of text, one row group
    table = pyarrow.table({"text": texts})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet", compression="none", use_dictionary=False)
    size = (tmp_path / "a.parquet").stat().st_size
    del table
    before = pyarrow.total_allocated_bytes()
    most = max(pyarrow.total_allocated_bytes() - before for _ in iter_rows(tmp_path / "a.parquet"))
    assert size > 40_000_000
    assert most < size / 4


def test_the_hash_is_that_of_the_bytes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.bin", b"xal" * 1_000_000)
    assert data_hash(path) == hashlib.sha256(b"xal" * 1_000_000).hexdigest()
    with pytest.raises(InputError, match="cannot be read"):
        data_hash(tmp_path / "missing")
