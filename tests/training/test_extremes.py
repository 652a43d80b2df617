"""The most and the least reasonable explanations: which, in what order, and what is told of them."""

import json

import numpy as np
import pytest

from service.model.classification import Prediction
from tests import tiny
from training.data import Example
from training.extremes import LONGEST_TEXT, extremes


def text(number: int, content: str = "a camera") -> Example:
    return Example(f"t{number}", {"text": content}, "positive", None)


def prediction(score: float) -> Prediction:
    return Prediction("negative", {"negative": 1.0}, 0.0, False, np.zeros(2, np.float32), f"because {score}", score)


def ids(entries: list[dict[str, object]]) -> list[object]:
    return [entry["id"] for entry in entries]


def test_the_highest_and_the_lowest_scores_the_most_extreme_first() -> None:
    scores = [-2.0, -0.5, -9.0, -1.0, -4.0, -3.0]
    found = extremes([text(n) for n in range(6)], [prediction(score) for score in scores], tiny.TASK, shown=2)
    assert ids(found["most"]) == ["t1", "t3"]
    assert ids(found["least"]) == ["t2", "t4"]
    assert found["least"][0] == {
        "id": "t2",
        "text": "a camera",
        "predicted": "negative",
        "gold": "positive",
        "explanation": "because -9.0",
        "score": -9.0,
    }
    assert json.loads(json.dumps(found, allow_nan=False)) == found


@pytest.mark.parametrize(("n", "shown", "count"), [(0, 5, 0), (1, 5, 0), (2, 5, 1), (7, 5, 3), (10, 5, 5), (30, 5, 5)])
def test_no_text_stands_in_both_lists(n: int, shown: int, count: int) -> None:
    found = extremes([text(i) for i in range(n)], [prediction(-1.0 - i) for i in range(n)], tiny.TASK, shown)
    assert ids(found["most"]) == [f"t{i}" for i in range(count)]
    assert ids(found["least"]) == [f"t{i}" for i in range(n - 1, n - 1 - count, -1)]


def test_ties_keep_the_pools_order_from_the_most_to_the_least() -> None:
    found = extremes([text(n) for n in range(6)], [prediction(-1.0)] * 6, tiny.TASK, shown=2)
    assert ids(found["most"] + found["least"]) == ["t0", "t1", "t5", "t4"]


def test_a_long_text_is_cut_and_says_so() -> None:
    pair = [text(0, "x" * LONGEST_TEXT), text(1, "y" * (LONGEST_TEXT + 1))]
    found = extremes(pair, [prediction(-1.0), prediction(-2.0)], tiny.TASK)
    assert found["most"][0]["text"] == "x" * LONGEST_TEXT
    assert found["least"][0]["text"] == "y" * (LONGEST_TEXT - 3) + "..."
