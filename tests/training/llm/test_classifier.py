import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from service.model.errors import InputError
from service.model.task import Task
from tests.training.chat_server import ChatServer, Turn
from training.data import Example
from training.llm.classifier import Classified, LLMClassifier, draw_shots
from training.teacher import Usage
from training.teacher_api import TeacherConfig

ROOT = Path(__file__).parents[3]
TASK = Task.from_dict(
    {
        "name": "stance",
        "fields": ["tweet", "target_name"],
        "label_field": "label",
        "labels": {"1": "in favor", "0": "against"},
        "input": "{tweet} [SEP] {target_name}",
        "prompt": '"{tweet}". The stance of this tweet to "{target_name}" is {label}, explain the reason.',
        "max_input_tokens": 32,
        "max_explanation_tokens": 16,
    }
)
FIELDS = {"tweet": "Masks \n save lives.", "target_name": "masks"}
QUESTION = """true?
- The stance of this tweet to target name is in favor
- The stance of this tweet to target name is against
Answer with one of these alone: in favor, against."""
SHOTS = [
    Example("s1", {"tweet": "Never again.", "target_name": "masks"}, "0", "train"),
    Example("s2", {"tweet": "I love mine.", "target_name": "masks"}, "1", "train"),
]


def classifier(server: ChatServer, folder: Path, shots: list[Example] | None = None, **options: Any) -> LLMClassifier:
    settings = {"base_url": server.base_url, "model": "m", "cache_path": folder / "cache.sqlite", "backoff_s": 0.01}
    return LLMClassifier(TASK, TeacherConfig(**settings | options), shots or [], progress=False)


def test_a_zero_shot_prompt_shows_the_fields_and_asks_which_statement_is_true(tmp_path: Path) -> None:
    with ChatServer() as server:
        prompt = classifier(server, tmp_path).prompt(FIELDS)
    assert prompt == (
        "tweet: Masks save lives.\ntarget name: masks\n\nWhich of these statements about this text is " + QUESTION
    )


def test_a_few_shot_prompt_shows_labeled_texts_first(tmp_path: Path) -> None:
    with ChatServer() as server:
        prompt = classifier(server, tmp_path, SHOTS).prompt(FIELDS)
    assert prompt == (
        "tweet: Never again.\ntarget name: masks\nThe stance of this tweet to target name is against\n\n"
        "tweet: I love mine.\ntarget name: masks\nThe stance of this tweet to target name is in favor\n\n"
        "tweet: Masks save lives.\ntarget name: masks\n\nWhich of these statements about the last text is " + QUESTION
    )
    with ChatServer() as server, pytest.raises(ValueError, match="needs its label, found none for 's1'"):
        classifier(server, tmp_path, [Example("s1", FIELDS, None, None)])


def test_labels_come_by_text_and_what_names_none_is_counted_not_dropped(tmp_path: Path) -> None:
    said = {"yes": "In favor.", "no": "The answer is against", "both": "in favor, or against", "silent": None}

    def behave(_: int, prompt: str) -> Turn:
        return Turn(content=said[prompt.partition("\n")[0].removeprefix("tweet: ")])

    texts = {f"t-{word}": {"tweet": word, "target_name": "masks"} for word in said}
    with ChatServer(behave) as server:
        found = classifier(server, tmp_path).classify(texts)
    assert found.labels == {"t-yes": "1", "t-no": "0", "t-both": None, "t-silent": None}
    assert list(found.labels) == list(texts)
    assert found.unparsable == 2
    assert found.usage == Usage(4, 0, 40, 20, 0.0)


def test_what_was_answered_is_not_asked_again_and_shots_make_other_questions(tmp_path: Path) -> None:
    with ChatServer(Turn(content="against")) as server:
        first = classifier(server, tmp_path).classify({"a": FIELDS, "twin": FIELDS})
        again = classifier(server, tmp_path).classify({"a": FIELDS, "twin": FIELDS})
        assert len(server.prompts) == 1
        assert again == Classified(first.labels, Usage(cached=2))
        classifier(server, tmp_path, SHOTS).classify({"a": FIELDS})
    assert len(server.prompts) == 2


def examples(labels: str) -> list[Example]:
    return [Example(f"{label}{place}", FIELDS, label, "train") for place, label in enumerate(labels)]


@pytest.mark.parametrize(
    ("labels", "count", "expected"),
    [
        ("aaaaaaaabbbc", 3, {"a": 1, "b": 1, "c": 1}),
        ("aaaaaaaabbbc", 6, {"a": 3, "b": 2, "c": 1}),  # c has no second one; who is third is a's or b's
        ("aaaaaaaabbbc", 12, {"a": 8, "b": 3, "c": 1}),
        ("abababab", 4, {"a": 2, "b": 2}),
    ],
)
def test_shots_are_as_many_of_each_label_as_there_are(labels: str, count: int, expected: dict[str, int]) -> None:
    for seed in range(20):
        shots = draw_shots(examples(labels), count, seed)
        found = Counter(shot.label for shot in shots)
        assert len({shot.id for shot in shots}) == count
        assert found["c"] == expected.get("c", 0)
        assert abs(found["a"] - found["b"]) <= 1 or found["b"] == labels.count("b")
        if count != 6:
            assert found == expected


def test_shots_repeat_with_their_seed_and_neither_draw_nor_order_is_the_same_for_others() -> None:
    pool = examples("ab" * 20)
    draws = [[shot.id for shot in draw_shots(pool, 6, seed)] for seed in range(10)]
    assert draws == [[shot.id for shot in draw_shots(pool, 6, seed)] for seed in range(10)]
    assert len({frozenset(draw) for draw in draws}) == 10
    assert len({tuple(id_[0] for id_ in draw) for draw in draws}) > 3  # the labels come in no fixed order


@pytest.mark.parametrize("count", [0, 5])
def test_more_shots_than_labeled_texts_are_refused(count: int) -> None:
    with pytest.raises(InputError, match=f"expected 1 to 4 shots, .* found {count}"):
        draw_shots(examples("abab"), count, 0)


@pytest.mark.slow
def test_a_local_llm_names_labels(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    from training.local_llm import serve_local_llm
    from training.offline_parts import cache_directory

    task = Task.from_yaml(ROOT / "examples" / "product-reviews" / "task.yaml")
    texts = {
        "good": {"text": "i love this camera, the pictures are sharp and the battery lasts for days."},
        "bad": {"text": "it broke after a week and nobody answered my mails."},
        "worse": {"text": "the worst phone i have ever had."},
        "fine": {"text": "it came in a box with a charger and a manual."},
    }
    settings = {"cache_path": tmp_path / "cache.sqlite", "max_completion_tokens": 20, "concurrency": 2}
    with serve_local_llm(cache_directory()) as (base_url, model):
        config = TeacherConfig(base_url=base_url, model=model, max_total_tokens=20_000, **settings)
        found = LLMClassifier(task, config, progress=False).classify(texts)
    print(json.dumps(found.labels))
    assert list(found.labels) == list(texts)
    assert found.usage.requests == 4
    assert found.unparsable <= 1  # a model this small may be wrong, but it says what it means
    again = LLMClassifier(task, config, progress=False).classify(texts)  # nobody there to ask
    assert again == Classified(found.labels, Usage(cached=4))
