"""N texts in, N outcomes out: equal in any company, bad ones apart, the encoder run once, faults kept to one text."""

import logging
import math
import shutil
import threading
import warnings
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import entropy as scipy_entropy

from service.model import explainer as explainer_module
from service.model import predictor as predictor_module
from service.model.classification import Item, Outcome, Prediction
from service.model.decoding import Decoding, beam_search
from service.model.encoding import TokenBatch
from service.model.errors import InputError, ItemError
from service.model.network import Memory
from service.model.predictor import Predictor
from service.model.scoring import Normaliser
from tests import tiny
from tests.service.model import plain

CANDIDATES = ("the reviewer is happy", "bad", "it says nothing about the product, so it is neutral")
GOOD = [
    Item({"text": "i love this camera , and the battery lasts all day long"}, CANDIDATES),
    Item({"text": "no"}),
    Item({"text": "the price is fair"}, CANDIDATES[:1]),
    Item({"text": "it broke after two weeks and nobody answered"}, CANDIDATES[1:]),
]
LONG = Item({"text": "no " * 30 + "and " * 30}, ("good " * 40,))  # 30 times as long as "no"


def predictions(outcomes: list[Outcome]) -> list[Prediction]:
    assert all(isinstance(outcome, Prediction) for outcome in outcomes), outcomes
    return [outcome for outcome in outcomes if isinstance(outcome, Prediction)]


def assert_same(found: Outcome, expected: Outcome, tolerance: float = 1e-5) -> None:
    assert isinstance(found, Prediction)
    assert isinstance(expected, Prediction)
    assert (found.label, found.truncated) == (expected.label, expected.truncated)
    assert found.probabilities == pytest.approx(expected.probabilities, abs=tolerance)
    assert found.entropy == pytest.approx(expected.entropy, abs=tolerance)
    assert found.explanation == expected.explanation
    assert (found.explanation_score is None) == (expected.explanation_score is None)
    if expected.explanation_score is not None:
        assert found.explanation_score == pytest.approx(expected.explanation_score, abs=tolerance)
    assert found.candidate_scores == pytest.approx(expected.candidate_scores, abs=tolerance)
    np.testing.assert_allclose(found.h0, expected.h0, atol=tolerance)


@pytest.fixture
def fresh(make_model_dir: Callable[..., Path]) -> Predictor:
    """A T5 of its own for a test that damages it."""
    return Predictor.load(make_model_dir("t5"), device="cpu")


# ----------------------------------------------------------------------------------------------------- what it answers


def test_a_classification_is_a_distribution_its_entropy_and_its_top_label(predictor: Predictor) -> None:
    for answer in predictions(predictor.predict(GOOD)):
        values = list(answer.probabilities.values())
        assert tuple(answer.probabilities) == ("negative", "neutral", "positive")
        assert math.fsum(values) == pytest.approx(1.0, abs=1e-12)
        assert answer.label == max(answer.probabilities, key=answer.probabilities.__getitem__)
        assert answer.entropy == pytest.approx(float(scipy_entropy(values)), abs=1e-9)
        assert (answer.h0.shape, answer.h0.dtype) == ((32,), np.float32)
        assert (answer.explanation, answer.explanation_score, answer.candidate_scores) == (None, None, ())
        assert not answer.truncated


def test_probabilities_are_the_softmax_of_the_head_over_h0(predictor: Predictor) -> None:
    w = predictor.network.head.weight.detach().double().numpy()
    b = predictor.network.head.bias.detach().double().numpy()
    for answer in predictions(predictor.predict(GOOD)):
        weights = [math.exp(float(np.dot(w[c], answer.h0.astype(np.float64)) + b[c])) for c in range(3)]
        expected = [weight / sum(weights) for weight in weights]
        assert list(answer.probabilities.values()) == pytest.approx(expected, abs=1e-5)


def test_texts_differ_in_their_answers(predictor: Predictor) -> None:
    # Guards every "equal" below: a model that says the same of all texts would pass them.
    same = [Item(item.fields, CANDIDATES[:1]) for item in GOOD]
    answers = predictions(predictor.predict(same, explain=True))
    for left, right in combinations(answers, 2):
        assert np.abs(left.h0 - right.h0).max() > 5e-3
        assert abs(left.candidate_scores[0] - right.candidate_scores[0]) > 5e-5


def test_an_explanation_comes_with_its_score_and_those_of_the_candidates(predictor: Predictor) -> None:
    answers = predictions(predictor.predict(GOOD, explain=True))
    for item, answer in zip(GOOD, answers, strict=True):
        assert isinstance(answer.explanation, str)
        assert answer.explanation_score is not None
        assert answer.explanation_score <= 0
        assert len(answer.candidate_scores) == len(item.candidates)
        assert all(score < 0 for score in answer.candidate_scores)


@pytest.mark.parametrize("family", ["bert2bert", "composed-gpt2", "llama"])
def test_the_explanation_is_the_searchs_top_hypothesis_and_its_score(
    family: str, predictor_of: Callable[..., Predictor]
) -> None:
    predictor = predictor_of(family)
    network, encoder = predictor.network, predictor.encoder
    with torch.inference_mode():
        memory = network.encode(encoder.inputs([encoder.encode_fields(item.fields) for item in GOOD]))
        searched = beam_search(network, memory, predictor.decoding)
    answers = predictions(predictor.predict(GOOD, explain=True))
    for tokens, score, answer in zip(searched.tokens, searched.scores, answers, strict=True):
        assert answer.explanation == encoder.decode(tokens)
        assert answer.explanation_score == pytest.approx(score, abs=1e-5)


@pytest.mark.parametrize("predicted", [0, 2])
def test_explanation_and_candidates_are_given_the_predicted_label(
    family: str, predicted: int, predictor_of: Callable[..., Predictor], monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = predictor_of(family, "label")
    network, encoder = predictor.network, predictor.encoder
    bias = torch.full((3,), -100.0).index_fill(0, torch.tensor(predicted), 100.0)
    monkeypatch.setattr(network.head.bias, "data", bias)  # whatever the texts are like
    answers = predictions(predictor.predict(GOOD[1:3], explain=True, num_beams=2, max_new_tokens=5))
    with torch.inference_mode():
        texts = [encoder.encode_fields(item.fields) for item in GOOD[1:3]]
        memory = network.encode(encoder.inputs(texts))
        searched = beam_search(network, memory, Decoding(2, 5), [predicted] * 2)
        expected = plain.score(network, texts[1], encoder.encode_explanation(CANDIDATES[0]), predicted)
    assert answers[1].candidate_scores == pytest.approx([expected], rel=1e-6, abs=1e-5)
    for answer, tokens, score in zip(answers, searched.tokens, searched.scores, strict=True):
        assert answer.label == predictor.task.label_ids[predicted]
        assert answer.explanation == encoder.decode(tokens)
        assert answer.explanation_score == pytest.approx(score, abs=1e-5)


def test_a_long_text_is_said_to_be_truncated(predictor: Predictor) -> None:
    outcomes = predictions(predictor.predict([GOOD[1], Item({"text": "a b " * 200})]))
    assert [outcome.truncated for outcome in outcomes] == [False, True]


def test_candidates_are_scored_only_where_explanations_are_asked_for(predictor_of: Callable[..., Predictor]) -> None:
    outcome = predictions(predictor_of("t5").predict([Item({"text": "good"}, ("  ",))]))[0]
    assert outcome.candidate_scores == ()


def test_no_items_have_no_outcomes(predictor_of: Callable[..., Predictor]) -> None:
    assert predictor_of("t5").predict([]) == []
    assert predictor_of("t5").predict([], explain=True) == []


def test_beams_and_length_can_be_asked_for_and_default_to_the_models(predictor_of: Callable[..., Predictor]) -> None:
    predictor = predictor_of("bart")
    own = predictions(predictor.predict(GOOD, explain=True))
    same = predictions(predictor.predict(GOOD, explain=True, num_beams=3, max_new_tokens=12))
    other = predictions(predictor.predict(GOOD, explain=True, num_beams=1, max_new_tokens=2))
    for left, right in zip(own, same, strict=True):
        assert_same(left, right)
    assert [answer.explanation for answer in other] != [answer.explanation for answer in own]


@pytest.mark.parametrize("family", [name for name in tiny.FAMILIES if name != "t5"])
def test_more_tokens_than_the_decoder_has_positions_are_not_written(
    predictor_of: Callable[..., Predictor], family: str
) -> None:
    answer = predictions(predictor_of(family).predict(GOOD[:1], explain=True, num_beams=1, max_new_tokens=4000))[0]
    end = predictor_of(family).network.decoder_positions
    longest = predictions(predictor_of(family).predict(GOOD[:1], explain=True, num_beams=1, max_new_tokens=end))[0]
    assert_same(answer, longest)


# ------------------------------------------------------------------------------------------------- equal in any company


@pytest.mark.parametrize("explain", [False, True])
def test_a_batch_of_one_equals_a_batch_of_many(predictor: Predictor, explain: bool) -> None:
    together = predictor.predict(GOOD, explain=explain)
    with_long = predictor.predict([LONG, *GOOD, LONG], explain=explain)
    for row, item in enumerate(GOOD):
        alone = predictor.predict([item], explain=explain)[0]
        assert_same(together[row], alone)
        assert_same(with_long[row + 1], alone)
    assert_same(with_long[0], predictor.predict([LONG], explain=explain)[0])


def allow(predictor: Predictor, tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an explainer hold so many tokens."""
    monkeypatch.setitem(explainer_module.MEMORY, "cpu", tokens * predictor.network.token_bytes)


@pytest.mark.parametrize("explain", [False, True])
def test_outcomes_stand_in_the_items_order_however_they_are_batched(
    predictor: Predictor, explain: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = [LONG, *GOOD, LONG, *reversed(GOOD)]
    expected = predictor.predict(items, explain=explain)
    monkeypatch.setattr(predictor_module, "BATCH_TOKENS", 50)
    monkeypatch.setattr(predictor_module, "WINDOW", 4)
    allow(predictor, 200, monkeypatch)  # two or three texts with 3 beams of 12 tokens
    for found, outcome in zip(predictor.predict(items, explain=explain), expected, strict=True):
        assert_same(found, outcome)


def test_the_same_question_gets_the_same_answer(predictor: Predictor) -> None:
    first, second = (predictions(predictor.predict(GOOD, explain=True)) for _ in range(2))
    for left, right in zip(first, second, strict=True):
        assert left.probabilities == right.probabilities
        assert left.explanation_score == right.explanation_score


def test_the_callers_random_numbers_are_left_alone(predictor_of: Callable[..., Predictor]) -> None:
    before = torch.get_rng_state()
    predictor_of("t5").predict(GOOD, explain=True)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_a_prediction_keeps_its_own_vector_alive_and_not_all_states(
    predictor_of: Callable[..., Predictor], pooling: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = predictor_of("bart")
    monkeypatch.setattr(predictor.network, "pooling", pooling)
    held: Any = predictions(predictor.predict([*GOOD, LONG]))[0].h0
    while isinstance(held, np.ndarray) and held.base is not None:
        held = held.base
    assert isinstance(held, np.ndarray)
    assert held.nbytes == 5 * 32 * 4  # a float32 vector for each text of the batch, not 32 states a text


# ------------------------------------------------------------------------------------------------ bad among good items

BAD = {
    "empty": (Item({"text": ""}), "empty_text"),
    "blank": (Item({"text": " \n\t"}), "empty_text"),
    "missing field": (Item({}), "missing_field"),
    "unknown field": (Item({"text": "fine", "SECRET": "x"}), "unknown_field"),
    "no text": (Item({"text": 7}), "invalid_text"),  # type: ignore[dict-item]
    "lone surrogate": (Item({"text": "SECRET \udc00"}), "invalid_text"),
    "empty candidate": (Item({"text": "SECRET"}, ("good", " ")), "empty_text"),
    "candidate that is no text": (Item({"text": "SECRET"}, (None,)), "invalid_text"),  # type: ignore[arg-type]
    "candidate with a lone surrogate": (Item({"text": "SECRET"}, ("\ud800",)), "invalid_text"),
}


def test_bad_items_get_their_codes_and_change_nothing_for_the_good(
    predictor: Predictor, caplog: pytest.LogCaptureFixture
) -> None:
    mixed: list[Item] = []
    for index, (bad, _) in enumerate(BAD.values()):
        mixed += [bad, GOOD[index % len(GOOD)]]
    outcomes = predictor.predict(mixed, explain=True)
    clean = predictor.predict(GOOD, explain=True)
    assert len(outcomes) == len(mixed)
    for index, (_, code) in enumerate(BAD.values()):
        outcome = outcomes[2 * index]
        assert isinstance(outcome, ItemError)
        assert outcome.code == code
        assert "SECRET" not in outcome.message
        assert_same(outcomes[2 * index + 1], clean[index % len(GOOD)])
    assert "SECRET" not in caplog.text


@pytest.mark.parametrize("item", [bad for bad, _ in BAD.values()], ids=list(BAD))
def test_a_bad_item_alone_is_an_outcome_and_no_exception(predictor_of: Callable[..., Predictor], item: Item) -> None:
    assert isinstance(predictor_of("t5").predict([item], explain=True)[0], ItemError)


# ------------------------------------------------------------------------------------------- faults kept to one text

MARK = "\u2603"  # becomes the unknown token, or bytes, which none of the good texts has


def fail_on_mark(predictor: Predictor, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> list[int]:
    """Make the model fail on any batch that holds the mark; returns the sizes of the batches that it is then given."""
    encode = predictor.network.encode
    mark_id = predictor.encoder.tokenizer(MARK, add_special_tokens=False)["input_ids"][-1]
    sizes: list[int] = []

    def failing(batch: TokenBatch) -> Memory:
        sizes.append(len(batch.ids))
        if (batch.ids == mark_id).any():
            raise error
        return encode(batch)

    monkeypatch.setattr(predictor.network, "encode", failing)
    return sizes


def test_a_model_that_fails_on_one_text_answers_the_others(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = predictor.predict(GOOD, explain=True)
    sizes = fail_on_mark(predictor, monkeypatch, RuntimeError("CUDA out of memory while at SECRET"))
    outcomes = predictor.predict([*GOOD[:2], Item({"text": f"SECRET {MARK}"}), *GOOD[2:]], explain=True)
    failed = outcomes.pop(2)
    assert isinstance(failed, ItemError)
    assert (failed.code, failed.message) == ("model_failure", "the model failed on this text")
    for found, answer in zip(outcomes, expected, strict=True):
        assert_same(found, answer)
    assert len(sizes) <= 7  # five texts in halves: 5, 2, 3, and on to the one
    assert [record.levelname for record in caplog.records][-1] in {"ERROR", "WARNING"}
    assert "RuntimeError" in caplog.text
    assert "SECRET" not in caplog.text


def test_several_failing_texts_each_get_their_error(fresh: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_on_mark(fresh, monkeypatch, IndexError("index out of range"))
    items = [Item({"text": f"{MARK} one"}), GOOD[0], Item({"text": f"{MARK} two"}), GOOD[1], Item({"text": MARK})]
    kinds = [type(outcome).__name__ for outcome in fresh.predict(items)]
    assert kinds == ["ItemError", "Prediction", "ItemError", "Prediction", "ItemError"]


def test_an_interrupt_is_not_taken_for_a_fault(fresh: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_on_mark(fresh, monkeypatch, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        fresh.predict([GOOD[0], Item({"text": MARK})])


@pytest.mark.parametrize("explain", [False, True])
def test_a_text_whose_numbers_are_not_finite_is_a_model_failure_of_its_own(
    make_model_dir: Callable[..., Path], explain: bool
) -> None:
    fresh = Predictor.load(make_model_dir("bert2bert"), device="cpu")  # its decoder has embeddings of its own
    expected = fresh.predict(GOOD, explain=explain)
    embeddings = fresh.network.backbone.get_encoder().get_input_embeddings()
    with torch.no_grad():
        embeddings.weight[fresh.encoder.tokenizer.unk_token_id] = math.nan
    outcomes = fresh.predict([*GOOD, Item({"text": f"good {MARK}"}, CANDIDATES)], explain=explain)
    failed = outcomes.pop()
    assert isinstance(failed, ItemError)
    assert failed.code == "model_failure"
    for found, answer in zip(outcomes, expected, strict=True):
        assert_same(found, answer)


def test_logits_that_are_not_numbers_are_a_model_failure_for_all(fresh: Predictor) -> None:
    torch.nn.init.constant_(fresh.network.head.bias, math.nan)
    outcomes = fresh.predict(GOOD)
    assert [outcome.code for outcome in outcomes if isinstance(outcome, ItemError)] == ["model_failure"] * len(GOOD)


# ---------------------------------------------------------------------------------------------- the encoder runs once


@pytest.fixture
def encoded_rows(family: str, predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The number of texts in each run of the encoder."""
    rows: list[int] = []
    if family == "llama":  # whose encoder writes, too
        encode = predictor.network.encode

        def counted(batch: TokenBatch) -> Memory:
            rows.append(len(batch.ids))
            return encode(batch)

        monkeypatch.setattr(predictor.network, "encode", counted)
        yield rows
        return
    hook = predictor.network.encoder.register_forward_hook(
        lambda _module, _inputs, output: rows.append(len(output.last_hidden_state))
    )
    yield rows
    hook.remove()


def test_the_encoder_runs_once_for_head_search_and_candidates(predictor: Predictor, encoded_rows: list[int]) -> None:
    predictor.predict(GOOD, explain=True, num_beams=3)
    assert encoded_rows == [len(GOOD)]


def test_each_text_is_encoded_once_in_whatever_batches(
    predictor: Predictor, encoded_rows: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    allow(predictor, 110, monkeypatch)  # one or two texts with 3 beams of 12 tokens
    predictor.predict([*GOOD, *GOOD], explain=True)
    assert sum(encoded_rows) == 8
    assert len(encoded_rows) > 3


def test_the_budget_counts_what_the_beams_write(
    predictor: Predictor, encoded_rows: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    allow(predictor, 400, monkeypatch)
    predictor.predict([Item({"text": "no"})] * 40, explain=True, num_beams=4, max_new_tokens=12)
    assert max(encoded_rows) <= 400 // (4 * 12)
    assert sum(encoded_rows) == 40


# -------------------------------------------------------------------------------------------------------------- loading


def test_a_loaded_predictor_knows_what_its_model_directory_says(model_dir: Path) -> None:
    predictor = Predictor.load(str(model_dir), device="cpu")
    assert predictor.task == tiny.TASK
    assert predictor.normaliser == Normaliser(9.5, 4.5, 50)
    assert (predictor.decoding.num_beams, predictor.decoding.max_new_tokens) == (3, 12)
    assert predictor.trained_on_explanations
    assert predictor.model_version == predictor.manifest["model_version"]
    assert predictor.manifest["metrics"] == {"macro_f1": 0.5}
    assert not predictor.network.training


def test_a_loaded_directory_is_no_longer_needed(model_dir: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(model_dir, tmp_path / "model")
    predictor = Predictor.load(copy, device="cpu")
    expected = predictor.predict(GOOD)
    shutil.rmtree(copy)
    for found, answer in zip(predictor.predict(GOOD), expected, strict=True):
        assert_same(found, answer, tolerance=0)


def test_bfloat16_gives_nearly_the_answers_of_float32(
    family: str, predictor: Predictor, make_model_dir: Callable[..., Path]
) -> None:
    half = Predictor.load(make_model_dir(family), device="cpu", dtype="bfloat16")
    assert next(half.network.backbone.parameters()).dtype == torch.bfloat16
    assert half.network.head.weight.dtype == torch.float32
    exact, rough = (predictions(one.predict(GOOD, explain=True)) for one in (predictor, half))
    for left, right in zip(exact, rough, strict=True):
        assert math.fsum(right.probabilities.values()) == pytest.approx(1.0, abs=1e-12)
        assert right.h0.dtype == np.float32
        assert list(right.probabilities.values()) == pytest.approx(list(left.probabilities.values()), abs=0.1)
        assert right.candidate_scores == pytest.approx(left.candidate_scores, rel=0.05)


def test_loading_and_answering_warn_of_nothing(family: str, make_model_dir: Callable[..., Path]) -> None:
    records: list[logging.LogRecord] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = records.append  # type: ignore[method-assign]
    logging.getLogger("transformers").addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            predictor = Predictor.load(make_model_dir(family), device="cpu")
            predictor.predict([*GOOD, LONG], explain=True)
            predictor.predict(GOOD, explain=True, num_beams=1)
    finally:
        logging.getLogger("transformers").removeHandler(handler)
    assert [record.getMessage() for record in records] == []


# ------------------------------------------------------------------------------------------------- tokens, roughly


def test_estimated_tokens_grow_with_the_text_up_to_the_tasks_limit(predictor_of: Callable[..., Predictor]) -> None:
    predictor = predictor_of("t5")
    assert predictor.estimated_tokens(Item({"text": "no"})) == 8  # 2 characters // 3, and 8
    assert predictor.estimated_tokens(Item({"text": "x" * 30})) == 18
    assert predictor.estimated_tokens(Item({"text": "x" * 10**6})) == tiny.TASK.max_input_tokens
    assert predictor.estimated_tokens(Item({"text": 7})) == 8  # type: ignore[dict-item]


def test_estimated_tokens_may_be_asked_for_while_the_model_answers(predictor_of: Callable[..., Predictor]) -> None:
    predictor = predictor_of("t5")
    expected = predictor.predict(GOOD, explain=True)
    done = threading.Event()
    estimates: set[int] = set()

    def ask() -> None:
        while not done.is_set():
            estimates.add(predictor.estimated_tokens(GOOD[0]))

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        found = predictor.predict(GOOD, explain=True)
    finally:
        done.set()
        asking.join()
    assert len(estimates) == 1
    for left, right in zip(found, expected, strict=True):
        assert_same(left, right, tolerance=0)


def test_a_wrong_device_is_said_before_the_directory_is_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="device 'gpu'"):
        Predictor.load(tmp_path / "none", device="gpu")
