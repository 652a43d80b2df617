import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.model.errors import InputError
from service.model.task import Task
from training.data import Example, check_pool, first_repeat, iter_examples, read_examples

TASK = Task.from_dict(
    {
        "name": "stance",
        "fields": ["text", "target"],
        "label_field": "gold",
        "labels": {"0": "against", "1": "favor"},
        "input": "{text} {target}",
        "prompt": "{label}",
        "max_input_tokens": 16,
        "max_explanation_tokens": 16,
    }
)
ROW = {"id": "a", "text": "x", "target": "y", "gold": "1"}


def jsonl(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path: Path, require_labels: bool = True) -> list[Example]:
    return read_examples(path, TASK, require_labels=require_labels)


def problem(path: Path, require_labels: bool = True) -> str:
    with pytest.raises(InputError) as caught:
        read(path, require_labels)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_columns_beyond_the_task_are_left_out_and_fields_keep_the_tasks_order(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", {"target": "y", "more": [1], **ROW, "split": "train"})
    (example,) = read(path)
    assert example == Example("a", {"text": "x", "target": "y"}, "1", "train")
    assert list(example.fields) == ["text", "target"]


def test_csv_and_parquet_give_the_same_examples_as_jsonl(tmp_path: Path) -> None:
    rows = [{"id": 7, "text": "x, z", "target": "y", "gold": 1}, {"id": 8, "text": "w", "target": "y", "gold": 0}]
    (tmp_path / "a.csv").write_text('id,text,target,gold\n7,"x, z",y,1\n8,w,y,0\n')
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    expected = [
        Example("7", {"text": "x, z", "target": "y"}, "1", None),
        Example("8", {"text": "w", "target": "y"}, "0", None),
    ]
    assert read(jsonl(tmp_path / "a.jsonl", *rows)) == expected
    assert read(tmp_path / "a.csv") == expected
    assert read(tmp_path / "a.parquet") == expected


def test_without_ids_the_index_of_the_row_is_the_id(tmp_path: Path) -> None:
    row = {key: value for key, value in ROW.items() if key != "id"}
    path = tmp_path / "a.jsonl"
    path.write_text(f"\n{json.dumps(row)}\n\n{json.dumps(row)}\n")
    assert [example.id for example in read(path)] == ["0", "1"]
    assert [example.id for example in iter_examples(path, TASK)] == ["0", "1"]
    assert check_pool(path, TASK) == 2


@pytest.mark.parametrize(("value", "label"), [(1, "1"), (0.0, "0"), ("1", "1")])
def test_labels_may_be_numbers(tmp_path: Path, value: object, label: str) -> None:
    assert read(jsonl(tmp_path / "a.jsonl", {**ROW, "gold": value}))[0].label == label


@pytest.mark.parametrize("spelling", ["true", "True"])
def test_a_boolean_label_is_matched_in_both_spellings(tmp_path: Path, spelling: str) -> None:
    task = Task.from_dict({**TASK.to_dict(), "labels": {spelling: "yes", "other": "no"}})
    path = jsonl(tmp_path / "a.jsonl", {**ROW, "gold": True})
    assert read_examples(path, task, require_labels=True)[0].label == spelling


def test_integers_that_a_table_turned_into_floats_are_read_as_integers(tmp_path: Path) -> None:
    table = pyarrow.table({"text": ["a", "b"], "target": [3.0, 3.5], "gold": [1.0, float("nan")]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    first, second = read(tmp_path / "a.parquet", require_labels=False)
    assert (first.fields["target"], first.label) == ("3", "1")
    assert (second.fields["target"], second.label) == ("3.5", None)


def test_labels_may_be_missing_only_where_they_are_not_required(tmp_path: Path) -> None:
    unlabeled = {key: value for key, value in ROW.items() if key != "gold"}
    assert read(jsonl(tmp_path / "a.jsonl", unlabeled), require_labels=False)[0].label is None
    assert "no column 'gold'; found 'id', 'text', 'target'" in problem(jsonl(tmp_path / "a.jsonl", unlabeled))
    for nothing in (None, ""):
        path = jsonl(tmp_path / "a.jsonl", {**ROW, "gold": nothing})
        assert read(path, require_labels=False)[0].label is None
        assert "line 1: the label ('gold') is empty; expected 0, 1" in problem(path)
    path = jsonl(tmp_path / "a.jsonl", {**ROW, "gold": "2"})
    assert "the label '2' is not one of the task's: expected 0, 1" in problem(path, require_labels=False)


def test_splits_have_one_spelling(tmp_path: Path) -> None:
    names = ["train", "dev", "validation", "val", "test"]
    path = jsonl(tmp_path / "a.jsonl", *({**ROW, "id": name, "split": name} for name in names))
    assert [example.split for example in read(path)] == ["train", "dev", "dev", "dev", "test"]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([{**ROW, "id": "b"}, ROW, ROW], "line 3: the id 'a' was used in line 2"),
        ([{**ROW, "id": 1}, {**ROW, "id": "1"}], "line 2: the id '1' was used in line 1"),
        ([ROW, {**ROW, "id": None}], "line 2: expected an id in every row or in none; found none here"),
        ([{**ROW, "id": " "}, ROW], "line 2: expected an id in every row or in none; only later rows have one"),
        ([ROW, {"id": "b", "text": "x", "gold": 1}], "line 2: no column 'target'; found 'id', 'text', 'gold'"),
        ([{**ROW, "text": " \n"}], "line 1: the field 'text' is empty"),
        ([{**ROW, "target": None}], "line 1: the field 'target' is empty"),
        ([{**ROW, "text": ["x"]}], "line 1: expected text in the column 'text'; found a list"),
        ([{**ROW, "text": "\ud800"}], "line 1: 'text' holds half of a surrogate pair"),
        ([{**ROW, "id": "\udfff"}], "line 1: 'id' holds half of a surrogate pair"),
        ([{**ROW, "gold": "favor"}], "line 1: the label 'favor' is not one of the task's: expected 0, 1"),
        ([{**ROW, "gold": True}], "the label 'True' is not one of the task's"),
        ([{**ROW, "split": "eval"}], "line 1: unknown split 'eval'; expected train, dev"),
        ([{**ROW, "split": "train"}, {**ROW, "id": "b"}], "line 2: the column 'split' stands in some rows only"),
        ([], "expected at least one row of data; found none"),
    ],
)
def test_unsound_rows_are_named_with_file_and_line(tmp_path: Path, rows: list[dict], expected: str) -> None:
    message = problem(jsonl(tmp_path / "data.jsonl", *rows))
    assert str(tmp_path / "data.jsonl") in message
    assert expected in message


def test_a_parquet_file_says_row_instead_of_line(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([ROW, ROW]), tmp_path / "a.parquet")
    assert "row 2: the id 'a' was used in row 1" in problem(tmp_path / "a.parquet")


def test_scoring_reads_empty_texts_and_pays_no_heed_to_labels(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", {**ROW, "text": None, "gold": "nonsense"}, {**ROW, "id": "b", "text": 5})
    assert list(iter_examples(path, TASK)) == [
        Example("a", {"text": "", "target": "y"}, None, None),
        Example("b", {"text": "5", "target": "y"}, None, None),
    ]
    assert check_pool(path, TASK) == 2


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([{**ROW, "id": "b"}, ROW, {**ROW, "id": "c"}, ROW], "line 4: the id 'a' was used in line 2"),
        ([ROW, {"id": "b", "text": "x"}], "line 2: no column 'target'"),
        ([ROW, {**ROW, "id": ""}], "line 2: expected an id in every row"),
        ([{**ROW, "text": {"x": 1}}], "line 1: expected text in the column 'text'; found a dict"),
        ([], "expected at least one row of data"),
    ],
)
def test_a_pool_is_checked_before_it_is_scored(tmp_path: Path, rows: list[dict], expected: str) -> None:
    with pytest.raises(InputError) as caught:
        check_pool(jsonl(tmp_path / "pool.jsonl", *rows), TASK)
    assert expected in str(caught.value)


def test_colliding_hashes_alone_are_no_repeat() -> None:
    ids = ["a", "bb", "cc", "d", "bb", "a"]
    assert first_repeat(lambda: enumerate(ids[:4], start=1), digest=len) == (4, None)
    assert first_repeat(lambda: enumerate(ids, start=1), digest=len) == (6, ("bb", 2, 5))


@given(st.lists(st.text(max_size=2)))
def test_a_repeat_is_found_if_and_only_if_there_is_one(ids: list[str]) -> None:
    count, repeat = first_repeat(lambda: enumerate(ids), digest=hash)
    assert count == len(ids)
    if len(set(ids)) == len(ids):
        assert repeat is None
    else:
        assert repeat is not None
        id_, first, second = repeat
        assert first < second
        assert ids[first] == ids[second] == id_
