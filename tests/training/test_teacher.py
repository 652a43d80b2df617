import json
from pathlib import Path
from typing import Any

import pytest

from service.model.errors import InputError
from service.model.task import Task
from training.teacher import Explained, RecordedTeacher, Usage

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "product-reviews"
TASK = Task.from_dict(
    {
        "name": "sentiment",
        "fields": ["text"],
        "label_field": "label",
        "labels": {"neg": "negative", "pos": "positive"},
        "input": "{text}",
        "prompt": "{text}: {label}, explain why.",
        "max_input_tokens": 32,
        "max_explanation_tokens": 16,
    }
)
GOOD = {"id": "a", "explanations": {"pos": "It is\n praised. ", "neg": "It is mocked."}}


def write(path: Path, *rows: Any) -> Path:
    path.write_text(
        "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), encoding="utf-8"
    )
    return path


def test_gives_what_is_recorded_in_the_order_asked_for_and_labels_in_the_tasks_order(tmp_path: Path) -> None:
    rows = [GOOD, {"id": 7, "explanations": {"neg": "Zu teuer.", "pos": "Größe passt."}}]
    path = write(tmp_path / "e.jsonl", *rows)
    teacher = RecordedTeacher(path, TASK)
    explained = teacher.explain({"7": {"text": "..."}, "a": {"text": "..."}})
    assert explained == Explained(
        {"7": {"neg": "Zu teuer.", "pos": "Größe passt."}, "a": {"neg": "It is mocked.", "pos": "It is praised."}},
        Usage(),
    )
    assert list(explained.explanations) == ["7", "a"]
    assert list(explained.explanations["a"]) == ["neg", "pos"]
    assert teacher.covered == {"a", "7"}
    assert teacher.name == "recorded:e.jsonl"


def test_missing_explanations_are_named_with_their_file(tmp_path: Path) -> None:
    path = write(tmp_path / "e.jsonl", GOOD, {"id": "half", "explanations": {"pos": "It is praised."}})
    teacher = RecordedTeacher(path, TASK)
    assert teacher.covered == {"a"}
    texts = {key: {"text": "..."} for key in ("a", "half", *(f"x{n}" for n in range(9)))}
    with pytest.raises(InputError) as caught:
        teacher.explain(texts)
    message = str(caught.value)
    assert str(path) in message
    assert "10 of 11 selected ids: half, x0, x1, x2, x3, ...;" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"id": "b", "explanations": ', "not JSON"),
        ([1], "a list"),
        ({"explanations": GOOD["explanations"]}, "expected an 'id'"),
        ({"id": True, "explanations": {}}, "expected an 'id'"),
        ({"id": "b", "explanation": {}}, "expected 'explanations' by label id, found NoneType"),
        ({"id": "b", "explanations": ["x"]}, "found list"),
        ({"id": "b", "explanations": {"pos": "x", "meh": "y"}}, "label 'meh' is not one of the task's: neg, pos"),
        ({"id": "b", "explanations": {"pos": " \n"}}, "explanation for 'pos' is empty"),
        ({"id": "b", "explanations": {"pos": 3}}, "explanation for 'pos' is empty or no text"),
        (GOOD, "the id 'a' stands there twice"),
    ],
)
def test_a_wrong_row_is_refused_with_file_and_line(tmp_path: Path, row: Any, message: str) -> None:
    path = write(tmp_path / "e.jsonl", GOOD, row)
    with pytest.raises(InputError) as caught:
        RecordedTeacher(path, TASK)
    assert str(caught.value).startswith(f"{path}, line 2: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_or_empty_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.jsonl"):
        RecordedTeacher(tmp_path / "nowhere.jsonl", TASK)
    with pytest.raises(InputError, match="expected explanations, found no row"):
        RecordedTeacher(write(tmp_path / "e.jsonl"), TASK)


def test_the_committed_explanations_cover_600_texts() -> None:
    teacher = RecordedTeacher(EXAMPLE / "explanations.jsonl", Task.from_yaml(EXAMPLE / "task.yaml"))
    assert len(teacher.covered) == 600
    explained = teacher.explain({"203_5": {"text": "..."}}).explanations["203_5"]
    assert list(explained) == ["negative", "neutral", "positive"]
    assert explained["neutral"].startswith("Weight of just under 3 oz")


def test_usages_add_up() -> None:
    assert Usage(1, 2, 3, 4, 0.5) + Usage(10, 20, 30, 40, 0.25) == Usage(11, 22, 33, 44, 0.75)
