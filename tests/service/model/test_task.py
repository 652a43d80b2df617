"""Task files: what is read, what is rendered, and the sentence that each mistake gets."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from service.model.errors import TaskError
from service.model.task import Task

STANCE: dict[str, Any] = {
    "name": "stance",
    "fields": ["tweet", "target"],
    "label_field": "stance",
    "labels": {"favor": "in favor", "neutral": "neutral", "against": "against"},
    "input": "{tweet} Target: {target}",
    "prompt": "Tweet: {tweet}. The stance of this tweet to the target {target} is {label}, explain the reason.",
    "max_input_tokens": 128,
    "max_explanation_tokens": 60,
}
FIELDS = {"tweet": "Wear a mask!", "target": "masks"}


def task(**changes: Any) -> Task:
    return Task.from_dict({**STANCE, **changes})


def test_the_encoder_reads_the_input_template_with_the_fields_filled_in() -> None:
    assert task().render_input(FIELDS) == "Wear a mask! Target: masks"


def test_the_teacher_is_told_the_labels_words_not_its_id() -> None:
    assert task().render_prompt(FIELDS, "favor") == (
        "Tweet: Wear a mask!. The stance of this tweet to the target masks is in favor, explain the reason."
    )


def test_the_labels_keep_the_order_of_the_file() -> None:
    assert task().label_ids == ("favor", "neutral", "against")


def test_doubled_braces_stand_for_themselves() -> None:
    assert task(input="{{{tweet}}} {{tweet}} {target}").render_input(FIELDS) == "{Wear a mask!} {tweet} masks"


@pytest.mark.parametrize(
    "text", ["{target}", "{label}", "{tweet.__class__}", "{0}", "{", "}", "{{target}}", "%(target)s", "$target", "\\1"]
)
def test_braces_in_a_text_are_not_a_template(text: str) -> None:
    fields = {"tweet": text, "target": "masks"}
    assert task().render_input(fields) == f"{text} Target: masks"
    assert f"Tweet: {text}. The stance" in task().render_prompt(fields, "against")


def test_braces_in_a_labels_words_are_not_a_template() -> None:
    labelled = task(labels={"a": "{tweet}", "b": "b"})
    assert "masks is {tweet}, explain" in labelled.render_prompt(FIELDS, "a")


def test_a_field_may_stand_twice_or_only_in_the_prompt() -> None:
    rendered = task(input="{tweet}/{tweet}").render_input(FIELDS)
    assert rendered == "Wear a mask!/Wear a mask!"


def test_a_task_outlives_the_way_through_plain_values() -> None:
    assert Task.from_dict(task().to_dict()) == task()
    assert yaml.safe_load(yaml.safe_dump(task().to_dict(), sort_keys=False)) == STANCE


def test_numbers_as_label_ids_become_texts() -> None:
    assert task(labels={0: "no", 1: "yes"}).label_ids == ("0", "1")


MISTAKES = {
    "nothing": (None, "expected a mapping with the keys name, fields,"),
    "a list": ([], "expected a mapping with the keys name, fields,"),
    "a missing key": ({k: v for k, v in STANCE.items() if k != "prompt"}, "missing prompt; a task needs name, fields"),
    "an unknown key": ({**STANCE, "lables": {}}, "unknown key lables; known are name, fields"),
    "an empty name": ({**STANCE, "name": " "}, "name: expected a text, found ' '"),
    "a number as name": ({**STANCE, "name": 7}, "name: expected a text, found 7"),
    "no field": ({**STANCE, "fields": []}, "fields: expected at least one field name"),
    "fields as one text": ({**STANCE, "fields": "tweet"}, "fields: expected a list of names such as [text]"),
    "a field that is no text": ({**STANCE, "fields": ["tweet", True]}, "fields: expected a list of names"),
    "an empty field": ({**STANCE, "fields": ["tweet", ""]}, "fields: expected a list of names"),
    "a field twice": ({**STANCE, "fields": ["tweet", "target", "tweet"]}, "fields: tweet, target, tweet names a field"),
    "a field called label": ({**STANCE, "fields": ["tweet", "target", "label"]}, "a field cannot be called 'label'"),
    "the label among the fields": ({**STANCE, "label_field": "tweet"}, "label_field: 'tweet' is also one of the field"),
    "labels as a list": ({**STANCE, "labels": ["a", "b"]}, "labels: expected 'label id: words' pairs, found ['a', 'b"),
    "one label": ({**STANCE, "labels": {"a": "a"}}, "labels: expected at least two, found 1"),
    "no label": ({**STANCE, "labels": {}}, "labels: expected at least two, found 0"),
    "a label without words": ({**STANCE, "labels": {"a": "a", "b": None}}, "labels: b: expected words in quotes, fou"),
    "a label with blank words": ({**STANCE, "labels": {"a": "a", "b": " "}}, "labels: b: expected words in quotes"),
    "an empty label id": ({**STANCE, "labels": {"a": "a", "": "b"}}, "labels: the label id '' is not a text"),
    "a label id of null": ({**STANCE, "labels": {"a": "a", None: "b"}}, "labels: the label id None is not a text"),
    "one label id as number and text": ({**STANCE, "labels": {1: "a", "1": "b"}}, "labels: 1 stands there twice"),
    "an input without a field": ({**STANCE, "input": "hello"}, "input: expected at least one {field}, found none"),
    "an input with a foreign field": (
        {**STANCE, "input": "{tweet} {topic}"},
        "input: names {topic}, which is no field of the task; it can use {tweet}, {target}",
    ),
    "an input with the label": ({**STANCE, "input": "{tweet} {label}"}, "input: names {label}, which is no field"),
    "a prompt without the label": ({**STANCE, "prompt": "{tweet}?"}, "prompt: expected {label}, so that each candidat"),
    "a prompt with a foreign field": (
        {**STANCE, "prompt": "{label} {Topic} {x}"},
        "prompt: names {Topic}, {x}, which is no field of the task; it can use {tweet}, {target}, {label}",
    ),
    "an attribute": ({**STANCE, "input": "{tweet.__class__}"}, "input: the placeholder {tweet.__class__} is not a pla"),
    "an index": ({**STANCE, "input": "{tweet[0]}"}, "input: the placeholder {tweet[0]} is not a plain"),
    "a position": ({**STANCE, "input": "{}"}, "input: the placeholder {} is not a plain {name}; write {{ and }}"),
    "a numbered position": ({**STANCE, "input": "{0}"}, "input: the placeholder {0} is not a plain"),
    "a format": ({**STANCE, "input": "{tweet:>10}"}, "input: the placeholder {tweet} is not a plain"),
    "a conversion": ({**STANCE, "input": "{tweet!r}"}, "input: the placeholder {tweet} is not a plain"),
    "an open brace": ({**STANCE, "input": "{tweet} {"}, "write {{ and }} for literal braces"),
    "a lone closing brace": ({**STANCE, "input": "{tweet} }"}, "write {{ and }} for literal braces"),
    "a column that no template can name": (
        {**STANCE, "fields": ["the tweet"], "input": "{the tweet}"},
        "{the tweet} is not a plain {name}; rename the column 'the tweet', to letters, digits and _",
    ),
    "a length as text": ({**STANCE, "max_input_tokens": "128"}, "max_input_tokens: expected a whole number, found '12"),
    "a fractional length": (
        {**STANCE, "max_input_tokens": 1.5},
        "max_input_tokens: expected a whole number, found 1.5",
    ),
    "a length of true": ({**STANCE, "max_input_tokens": True}, "max_input_tokens: expected a whole number, found True"),
    "a length too short": (
        {**STANCE, "max_explanation_tokens": 3},
        "max_explanation_tokens: expected a whole number of at least 4, found 3",
    ),
}


@pytest.mark.parametrize(("data", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_every_mistake_has_a_sentence_that_begins_with_the_file(data: object, message: str) -> None:
    with pytest.raises(TaskError) as raised:
        Task.from_dict(data, source="stance.yaml")
    assert str(raised.value).startswith("stance.yaml: ")
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


# --------------------------------------------------------------------------------------------------------- YAML files


def write(directory: Path, text: str) -> Path:
    path = directory / "task.yaml"
    path.write_text(text, encoding="utf-8")
    return path


LABELS = "labels: {favor: in favor, neutral: neutral, against: against}"
FILE = f"""
name: stance
fields: [tweet, target]
label_field: stance
{LABELS}
input: "{{tweet}} Target: {{target}}"
prompt: '{STANCE["prompt"]}'
max_input_tokens: 128
max_explanation_tokens: 60
"""


def test_a_task_file_is_read(tmp_path: Path) -> None:
    assert Task.from_yaml(write(tmp_path, FILE)) == task()


@pytest.mark.parametrize("label", ["yes", "no", "on", "Off"])
def test_a_label_that_yaml_takes_for_a_truth_value_is_told_apart(tmp_path: Path, label: str) -> None:
    file = write(tmp_path, FILE.replace(LABELS, f"labels: {{{label}: entailed, maybe: unclear}}"))
    with pytest.raises(TaskError, match=r"task\.yaml: labels: the label id (True|False) is not a text; put it in quot"):
        Task.from_yaml(file)
    quoted = write(tmp_path, FILE.replace(LABELS, f"labels: {{'{label}': entailed, maybe: unclear}}"))
    assert Task.from_yaml(quoted).label_ids == (label, "maybe")


def test_words_that_yaml_takes_for_a_truth_value_are_told_apart(tmp_path: Path) -> None:
    file = write(tmp_path, FILE.replace(LABELS, "labels: {a: yes, b: 'no'}"))
    with pytest.raises(TaskError, match="labels: a: expected words in quotes, found True"):
        Task.from_yaml(file)


@pytest.mark.parametrize(
    ("twice", "line"), [("labels: {favor: for, against: against, favor: pro}", 5), (f"{LABELS}\n{LABELS}", 6)]
)
def test_a_key_that_stands_twice_is_not_silently_dropped(tmp_path: Path, twice: str, line: int) -> None:
    with pytest.raises(TaskError, match=rf"task\.yaml: not valid YAML .*stands twice.* line {line}"):
        Task.from_yaml(write(tmp_path, FILE.replace(LABELS, twice)))


def test_a_missing_file_a_directory_and_other_bytes_are_said(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"none\.yaml: no such task file"):
        Task.from_yaml(tmp_path / "none.yaml")
    with pytest.raises(TaskError, match="cannot be read as a UTF-8 task file"):
        Task.from_yaml(tmp_path)
    (tmp_path / "latin.yaml").write_bytes("name: café".encode("latin-1"))
    with pytest.raises(TaskError, match=r"latin\.yaml: cannot be read as a UTF-8 task file"):
        Task.from_yaml(tmp_path / "latin.yaml")


def test_broken_yaml_is_one_line_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"task\.yaml: not valid YAML .*line 3") as raised:
        Task.from_yaml(write(tmp_path, "name: a\nfields: [b\nlabels: {"))
    assert "\n" not in str(raised.value)
    with pytest.raises(TaskError, match=r"not valid YAML .*unhashable key"):
        Task.from_yaml(write(tmp_path, "? [a]\n: b"))


def test_yaml_tags_run_nothing(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="not valid YAML"):
        Task.from_yaml(write(tmp_path, "name: !!python/object/apply:os.getcwd []"))


# --------------------------------------------------------------------------------------------------------- instruction

REVIEW = 'Review: "{text}". The sentiment towards the product is {label}, explain the reason within 30 words.'


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        (REVIEW, "The sentiment towards the product is rather bad, explain the reason within 30 words."),
        ("{text} {other} This is {label} -- why?", "This is rather bad -- why?"),
        ("{text}\n\nIs it {label} to {other}?", "Is it rather bad to other?"),
        ("{label}? Say why: {text}", "rather bad? Say why: text"),
        ("{text} is {label}", "is rather bad"),
        ("{text} {{so}} {label} and {label}", "{so} rather bad and rather bad"),
    ],
)
def test_the_instruction_is_what_the_prompt_says_behind_the_text(prompt: str, expected: str) -> None:
    task = Task.from_dict(
        {
            "name": "any",
            "fields": ["text", "other"],
            "label_field": "gold",
            "labels": {"neg": "rather bad", "pos": "good"},
            "input": "{text}",
            "prompt": prompt,
            "max_input_tokens": 8,
            "max_explanation_tokens": 8,
        }
    )
    assert task.instruction("neg") == expected
    assert "bad" not in task.instruction(None)
    assert task.instruction(None) == "Explain the reason."
