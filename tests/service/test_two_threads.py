"""Labels in one thread and explanations in another, by one model at once: each is what it is alone."""

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from service.model.classification import Item, Outcome, Prediction
from service.model.predictor import Predictor
from tests import tiny

ITEMS = [
    Item({"text": "no"}, ("bad",)),
    Item({"text": "the price is fair"}),
    Item({"text": "i love this camera , and the battery lasts all day long"}, ("the reviewer is happy", "no")),
    Item({"text": "it broke after two weeks and nobody answered, so i sent it back and bought another one instead"}),
]
ROUNDS = 12


@pytest.fixture(autouse=True)
def _hasty_switches() -> Iterator[None]:
    """Python lets the other thread go on a thousand times as often as usual."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_labels_and_explanations_by_one_model_at_once_are_what_they_are_alone(
    family: str, make_model_dir: Callable[..., Path]
) -> None:
    predictor = Predictor.load(make_model_dir(family), device="cpu")
    labels, explanations = predictor.predict(ITEMS), predictor.predict(ITEMS, explain=True)
    over = threading.Event()

    def explain() -> list[tuple[int, Outcome]]:
        """Every item some times; two or three are at work at once, so that others join them."""
        explainer = predictor.explainer(budget=200)
        explainer.add((number, ITEMS[number % len(ITEMS)]) for number in range(ROUNDS * len(ITEMS)))
        found: list[tuple[int, Outcome]] = []
        while explainer.busy:
            found += explainer.advance()
        return found

    def classify() -> list[list[Outcome]]:
        found = []
        while not over.is_set():
            found += [predictor.predict(ITEMS), predictor.predict(ITEMS[:2])]
        return found

    with ThreadPoolExecutor(max_workers=2) as pool:
        labeling, explaining = pool.submit(classify), pool.submit(explain)
        try:
            explained = explaining.result()
        finally:
            over.set()
        labeled = labeling.result()
    assert len(explained) == ROUNDS * len(ITEMS)
    assert len(labeled) > 2
    for number, outcome in explained:
        assert_same(outcome, explanations[number % len(ITEMS)])
    for outcomes in labeled:
        for outcome, alone in zip(outcomes, labels, strict=False):
            assert_same(outcome, alone)


def assert_same(found: Outcome, alone: Outcome) -> None:
    assert isinstance(found, Prediction)
    assert isinstance(alone, Prediction)
    assert (found.label, found.explanation) == (alone.label, alone.explanation)
    assert found.probabilities == pytest.approx(alone.probabilities, abs=1e-5)
    assert found.candidate_scores == pytest.approx(alone.candidate_scores, abs=1e-5)
    assert found.explanation_score == (
        None if alone.explanation_score is None else pytest.approx(alone.explanation_score, abs=1e-5)
    )
