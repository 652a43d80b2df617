"""A first set of labels that covers the pool: what a text's vector is, and which texts are taken."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from service.model.errors import InputError
from service.model.families import load_network
from tests import tiny
from training.cold_start import diverse_initial_set, embeddings
from training.data import Example

TEXTS = [
    Example(f"t{number}", {"text": text}, tiny.TASK.label_ids[number % 3], None)
    for number, text in enumerate([*tiny.sentences(6), "fine", "it broke"])
]


@pytest.mark.parametrize("family", ["t5", "bart", "composed-llama"])
def test_a_text_is_the_mean_of_the_pretrained_states_whatever_its_neighbours(
    backbone_dir: Callable[[str], Path], family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with torch.random.fork_rng():
        network, encoder = load_network(backbone_dir(family), tiny.TASK, "cls")
    network.eval()
    expected = []
    for example in TEXTS:  # one by one, unpadded
        with torch.inference_mode():
            states = network.encode(encoder.inputs([encoder.encode_fields(example.fields)])).states
        expected.append(states[0].mean(dim=0).numpy())
    monkeypatch.setattr("training.cold_start.BATCH_TOKENS", 100)  # several batches, sorted by length
    found = embeddings(TEXTS, tiny.TASK, str(backbone_dir(family)), "cpu")
    assert found.dtype == np.float32
    assert found == pytest.approx(np.array(expected), abs=1e-5)


def test_what_is_drawn_depends_on_the_number_alone(backbone_dir: Callable[[str], Path]) -> None:
    source = str(backbone_dir("t5"))
    chosen = diverse_initial_set(TEXTS, 5, 0, task=tiny.TASK, source=source, device="cpu")
    assert len(set(chosen)) == 5
    assert set(chosen) <= {example.id for example in TEXTS}
    unlabeled = [replace(example, label=None) for example in TEXTS]
    state = torch.get_rng_state()
    assert diverse_initial_set(unlabeled, 5, 0, task=tiny.TASK, source=source, device="cpu") == chosen
    assert torch.equal(torch.get_rng_state(), state)
    others = [diverse_initial_set(TEXTS, 5, seed, task=tiny.TASK, source=source, device="cpu") for seed in (1, 2, 3)]
    assert any(other != chosen for other in others)


def test_a_token_that_the_encoder_lacks_is_drawn_alike_every_time(
    backbone_dir: Callable[[str], Path], tmp_path: Path
) -> None:
    with torch.random.fork_rng():
        network, encoder = load_network(backbone_dir("t5"), tiny.TASK, "cls")
        network.backbone.resize_token_embeddings(len(encoder.tokenizer) - 1)  # room for all tokens but [CLS]
    network.backbone.save_pretrained(tmp_path / "small")
    tiny.make_tokenizer("t5").save_pretrained(tmp_path / "small")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        one = embeddings(TEXTS, tiny.TASK, str(tmp_path / "small"), "cpu")
        torch.manual_seed(2)
        assert np.array_equal(embeddings(TEXTS, tiny.TASK, str(tmp_path / "small"), "cpu"), one)


def test_of_two_kinds_of_texts_both_are_taken(backbone_dir: Callable[[str], Path]) -> None:
    # Nine of one kind and one of another: at random two texts hold the odd one in a fifth of all draws.
    texts = [Example(str(n), {"text": "the battery lasts all day"}, None, None) for n in range(9)]
    texts.insert(4, Example("odd", {"text": "Support never answered my letters; I want my money back."}, None, None))
    for seed in range(3):
        assert "odd" in diverse_initial_set(
            texts, 2, seed, task=tiny.TASK, source=str(backbone_dir("t5")), device="cpu"
        )


def test_a_pool_that_is_too_small_is_refused_before_a_model_is_loaded() -> None:
    with pytest.raises(InputError, match="cannot choose 9 texts to begin with from a pool of 8; lower the query size"):
        diverse_initial_set(TEXTS[:8], 9, 0, task=tiny.TASK, source="nowhere")
