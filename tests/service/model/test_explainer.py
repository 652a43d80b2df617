"""Continuous batching: whatever texts are at work together, each gets the answer that it gets alone."""

from collections.abc import Callable

import pytest
import torch

from service.model import decoding
from service.model import explainer as explainer_module
from service.model.classification import Item, Outcome, Prediction, Query, classify
from service.model.decoding import Decoding, beam_search
from service.model.errors import ItemError
from service.model.explainer import Explainer
from service.model.predictor import Predictor

TEXTS = ("no", "it works", "i love this camera , and the battery lasts all day long", "the price is fair", "so so")
ITEMS = [Item({"text": text}, ("the reviewer is happy",) if "price" in text else ()) for text in TEXTS]


def finished(explainer: Explainer) -> dict[int, Outcome]:
    outcomes: dict[int, Outcome] = {}
    while explainer.busy:
        outcomes |= dict(explainer.advance())
    return outcomes


def assert_close(found: Outcome, expected: Outcome) -> None:
    assert isinstance(found, Prediction)
    assert isinstance(expected, Prediction)
    assert (found.label, found.explanation) == (expected.label, expected.explanation)
    assert found.explanation_score == pytest.approx(expected.explanation_score, abs=1e-5)
    assert found.candidate_scores == pytest.approx(expected.candidate_scores, abs=1e-5)


@pytest.mark.parametrize("conditioning", ["none", "label"])
def test_texts_that_join_others_at_work_get_the_answer_that_they_get_alone(
    family: str, conditioning: str, predictor_of: Callable[..., Predictor]
) -> None:
    predictor = predictor_of(family, conditioning)
    alone = [predictor.predict([item], explain=True)[0] for item in ITEMS]
    explainer = predictor.explainer()
    outcomes: dict[int, Outcome] = {}
    for number, item in enumerate(ITEMS):
        explainer.add([(number, item)])
        for _ in range(2):  # each joins when the one before has written two tokens
            outcomes |= dict(explainer.advance())
    outcomes |= finished(explainer)
    for number, expected in enumerate(alone):
        assert_close(outcomes[number], expected)


@pytest.mark.parametrize("num_beams", [1, 3])
def test_an_explanation_of_one_token_is_one(predictor: Predictor, num_beams: int) -> None:
    outcomes = predictor.predict(ITEMS, explain=True, num_beams=num_beams, max_new_tokens=1)
    for item, outcome in zip(ITEMS, outcomes, strict=True):
        text = predictor.encoder.encode_fields(item.fields)
        with torch.inference_mode():
            memory = predictor.network.encode(predictor.encoder.inputs([text]))
            label = int(predictor.network.classify(memory).argmax())
            expected = beam_search(predictor.network, memory, Decoding(num_beams, 1), [label])
        assert isinstance(outcome, Prediction)
        assert outcome.explanation == predictor.encoder.decode(expected.tokens[0])
        assert outcome.explanation_score == pytest.approx(expected.scores[0], abs=1e-5)
    explainer = predictor.explainer(num_beams=num_beams, max_new_tokens=1)
    explainer.add(enumerate(ITEMS))
    assert len(explainer.advance()) == len(ITEMS)  # nothing is left to write


def test_a_text_that_is_done_leaves_its_place_to_one_that_waits(predictor: Predictor) -> None:
    fits = predictor.explainer(budget=150)  # two or so at a time
    fits.add(enumerate(ITEMS * 3))
    most, order = 0, []
    while fits.busy:
        order += [number for number, _ in fits.advance()]
        most = max(most, len(fits._at_work))
    assert most < len(ITEMS)
    assert sorted(order) == list(range(15))


def test_to_look_seldom_at_what_is_found_changes_nothing(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = predictor.predict(ITEMS, explain=True)
    monkeypatch.setitem(decoding.PATIENCE, "cpu", 5)  # as on a GPU, where every look waits for the device
    for found, outcome in zip(predictor.predict(ITEMS, explain=True), expected, strict=True):
        assert_close(found, outcome)


def test_no_more_tokens_are_held_than_the_budget_allows(predictor: Predictor) -> None:
    cue, written = (
        max(map(len, predictor.network.cues)),
        predictor.decoding.num_beams * predictor.decoding.max_new_tokens,
    )
    explainer = predictor.explainer(budget=200)
    explainer.add(enumerate(ITEMS * 4))
    while explainer.busy:
        explainer.advance()
        held = [query.length + cue + written for query in explainer._texts]
        assert len(held) <= 1 or len(held) * max(held) <= 200


def test_a_budget_is_as_many_tokens_as_fit_the_memory(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    network = predictor.network
    query = Query.of(0, ITEMS[0], predictor.encoder, candidates=False)
    with torch.inference_mode():
        memory, _ = classify(network, predictor.encoder, [query])
        opening = network.begin(network.remember(memory), torch.tensor([0]), network.cues[0])
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in opening.cache.layers)
    monkeypatch.setitem(explainer_module.MEMORY, "cpu", 300 * held // opening.mask.shape[1])
    assert predictor.explainer().budget == 300


def test_there_are_never_more_texts_at_work_than_a_device_takes(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(explainer_module.TEXTS, "cpu", 3)
    explainer = predictor.explainer(budget=10**6)
    assert explainer.room == 3
    explainer.add(enumerate(ITEMS))
    while explainer.busy:
        explainer.advance()
        assert len(explainer._at_work) <= 3


def test_of_many_that_wait_none_is_wanted_alone(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    """To read texts takes longer one by one than together."""
    monkeypatch.setitem(explainer_module.TEXTS, "cpu", 10)
    explainer = predictor.explainer(budget=10**6)
    assert [explainer.wanted(waiting) for waiting in (0, 1, 100)] == [0, 1, 10]
    explainer.add([(number, ITEMS[0]) for number in range(8)])
    explainer.advance()
    assert len(explainer._at_work) == 8
    assert explainer.wanted(1) == 1
    assert explainer.wanted(2) == 2
    assert explainer.wanted(3) == 2  # one in four of those at work
    explainer.add([(8, ITEMS[0])])
    explainer.advance()
    assert explainer.wanted(1) == 1
    assert explainer.wanted(2) == 0


def test_room_is_what_would_be_taken_in_at_once(predictor: Predictor) -> None:
    explainer = predictor.explainer(budget=500)
    explainer.add([(0, ITEMS[2])])  # the longest
    more = explainer.room
    assert more > 0
    explainer.add([(number, ITEMS[0]) for number in range(1, more + 2)])  # one too many
    assert explainer.room == -1
    explainer.advance()
    assert len(explainer._at_work) == more + 1


def test_items_that_cannot_be_answered_come_back_at_once_with_their_error(predictor: Predictor) -> None:
    explainer = predictor.explainer()
    explainer.add([(7, Item({"text": " "})), (8, ITEMS[0]), (9, Item({"other": "x"}))])
    first = dict(explainer.advance())
    assert {number: getattr(outcome, "code", None) for number, outcome in first.items() if number != 8} == {
        7: "empty_text",
        9: "missing_field",
    }
    assert isinstance((first | finished(explainer))[8], Prediction)


def test_a_device_too_small_for_the_budget_answers_all_the_same(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = predictor.predict(ITEMS, explain=True)
    grow = type(predictor.network).grow

    def small(network: object, tree: object, tokens: torch.Tensor) -> torch.Tensor:
        if len(tokens) > 2:
            raise torch.OutOfMemoryError("no more than two texts at a time")
        return grow(network, tree, tokens)  # type: ignore[arg-type]

    monkeypatch.setattr(type(predictor.network), "grow", small)
    explainer = predictor.explainer()
    explainer.add(enumerate(ITEMS))
    outcomes = finished(explainer)
    for number, outcome in enumerate(expected):
        assert_close(outcomes[number], outcome)
    assert "trying halves" in caplog.text


def test_what_was_done_when_the_model_failed_is_not_lost(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = predictor.predict(ITEMS, explain=True, num_beams=1, max_new_tokens=4)
    grow, calls = type(predictor.network).grow, 0

    def failing(network: object, tree: object, tokens: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 4:  # the first text is done, others are at work, and one has just come in
            raise RuntimeError("once")
        return grow(network, tree, tokens)  # type: ignore[arg-type]

    monkeypatch.setattr(type(predictor.network), "grow", failing)
    explainer = predictor.explainer(num_beams=1, max_new_tokens=4)
    found: list[tuple[int, Outcome]] = []
    for number, item in enumerate(ITEMS):
        explainer.add([(number, item)])
        found += explainer.advance()
    found += finished(explainer).items()
    assert sorted(number for number, _ in found) == list(range(len(ITEMS)))
    for number, outcome in found:
        assert_close(outcome, expected[number])


def test_a_text_that_brings_the_search_down_fails_by_itself(
    predictor_of: Callable[..., Predictor], monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = predictor_of("t5")
    expected = predictor.predict(ITEMS, explain=True)
    encode = predictor.encoder.inputs
    guilty = predictor.encoder.encode_fields(ITEMS[3].fields)

    def refusing(texts: list[object], device: object) -> object:
        if guilty in texts:
            raise RuntimeError("device-side assert")
        return encode(texts, device)  # type: ignore[arg-type]

    monkeypatch.setattr(predictor.encoder, "inputs", refusing)
    explainer = predictor.explainer()
    explainer.add(enumerate(ITEMS))
    outcomes = finished(explainer)
    failed = outcomes.pop(3)
    assert isinstance(failed, ItemError)
    assert failed.code == "model_failure"
    for number, outcome in outcomes.items():
        assert_close(outcome, expected[number])
