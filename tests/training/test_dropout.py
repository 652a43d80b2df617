"""Passes with dropout: what they are, what repeats them, what they leave as it was."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from service.model.errors import InputError
from service.model.families import load_network
from service.model.predictor import Predictor
from tests import tiny
from training.data import Example
from training.dropout import PASSES, check_dropout, dropout_probabilities
from training.predictions import predict_examples

WITH_DROPOUT = ("t5", "bart", "bert2bert", "composed-llama", "composed-gpt2")
WITHOUT = ("t5gemma", "llama")


def examples(texts: Sequence[str]) -> list[Example]:
    return [Example(str(number), {"text": text}, None, None) for number, text in enumerate(texts)]


TEXTS = examples(["fine", *tiny.sentences(4), "it broke", "a camera", "no"])


@pytest.fixture(scope="module")
def predictor(model_dir: Path) -> Predictor:
    return Predictor.load(model_dir, device="cpu")


def plain(predictor: Predictor, texts: Sequence[Example]) -> np.ndarray:
    found = predict_examples(predictor, texts, explain=False, progress=False, stage="score")
    return np.array([list(prediction.probabilities.values()) for prediction in found])


@pytest.mark.parametrize("family", WITH_DROPOUT)
def test_every_pass_is_a_distribution_over_the_labels_and_another_one(
    family: str, make_model_dir: Callable[..., Path]
) -> None:
    found = dropout_probabilities(Predictor.load(make_model_dir(family), device="cpu"), TEXTS, 3, progress=False)
    assert found.shape == (len(TEXTS), PASSES, 3)
    assert np.all(found > 0)
    assert found.sum(axis=2) == pytest.approx(np.ones((len(TEXTS), PASSES)), abs=1e-12)
    for of_text in found:
        assert len(np.unique(of_text, axis=0)) == PASSES


def test_a_seed_repeats_the_passes_and_another_one_does_not(predictor: Predictor) -> None:
    one = dropout_probabilities(predictor, TEXTS, 3, passes=4, progress=False)
    torch.rand(5)  # what the caller draws in between makes no difference
    assert np.array_equal(dropout_probabilities(predictor, TEXTS, 3, passes=4, progress=False), one)
    assert not np.any(dropout_probabilities(predictor, TEXTS, 4, passes=4, progress=False) == one)


def test_the_mean_of_many_passes_is_near_the_prediction_without_dropout(model_dir: Path) -> None:
    predictor = Predictor.load(model_dir, device="cpu")
    with torch.no_grad():
        predictor.network.head.weight.mul_(0.05)  # logits so small that the softmax hardly bends
    found = dropout_probabilities(predictor, TEXTS, 0, passes=80, progress=False)
    expected = plain(predictor, TEXTS)
    assert np.abs(found.mean(axis=1) - expected).max() < 0.06
    assert np.abs(found - expected[:, None]).max() > 0.12  # of a single pass


def test_texts_keep_their_places_whatever_their_lengths(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    many = examples([text for sentence in tiny.sentences(4) for text in (sentence, sentence.split()[0])])
    expected = plain(predictor, many)
    assert np.abs(expected[:, None] - expected).max(axis=2).max() > 0.3  # they can be told apart
    monkeypatch.setattr("training.dropout.BATCH_TOKENS", 64)  # several batches, sorted by length
    for module in predictor.network.encoder.modules():  # nothing is left out, so each pass is the plain prediction
        if isinstance(module, torch.nn.Dropout):
            monkeypatch.setattr(module, "p", 0.0)
        if isinstance(getattr(module, "dropout", None), float):
            monkeypatch.setattr(module, "dropout", 0.0)
    found = dropout_probabilities(predictor, many, 0, passes=2, progress=False)
    assert found[:, 0] == pytest.approx(expected, abs=1e-5)
    assert found[:, 1] == pytest.approx(expected, abs=1e-5)


def test_generators_and_the_evaluation_mode_are_as_before(predictor: Predictor) -> None:
    before, state = plain(predictor, TEXTS), torch.get_rng_state()
    dropout_probabilities(predictor, TEXTS, 3, passes=2, progress=False)
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(module.training for module in predictor.network.modules())
    assert np.array_equal(plain(predictor, TEXTS), before)


def test_they_are_as_before_after_a_failure_too(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    state = torch.get_rng_state()

    def fail(*_: object) -> None:
        assert predictor.network.encoder.training
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(predictor.network, "classify", fail)
        with pytest.raises(RuntimeError, match="out of memory"):
            dropout_probabilities(predictor, TEXTS, 3, passes=2, progress=False)
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(module.training for module in predictor.network.modules())


@pytest.mark.parametrize("family", WITHOUT)
def test_an_encoder_without_dropout_is_refused_before_any_text_is_read(
    family: str, make_model_dir: Callable[..., Path]
) -> None:
    predictor = Predictor.load(make_model_dir(family), device="cpu")
    with pytest.raises(InputError, match=r"no dropout, .* choose a strategy that needs none \(not bald, not bemps\)"):
        dropout_probabilities(predictor, TEXTS, 0, progress=False)
    assert not predictor.network.encoder.training


def test_dropout_in_attention_alone_is_enough_and_that_of_other_parts_is_not(
    backbone_dir: Callable[[str], Path],
) -> None:
    with torch.random.fork_rng():
        network, _ = load_network(backbone_dir("llama"), tiny.TASK, "cls")
    config = network.encoder.config
    config.classifier_dropout = 0.1  # of a head that a network has no use for
    config.decoder_layerdrop = 0.1
    with pytest.raises(InputError, match="no dropout"):
        check_dropout(network.encoder)
    config.attention_dropout = 0.1
    check_dropout(network.encoder)
