"""The offline backbones are made of the real parts. The tests of those with a language model are slow."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from service.model.composed import ComposedModel
from training.offline_backbones import COMPOSITIONS, HALVES, place, prepared
from training.offline_parts import PARTS, cache_directory, fetch
from training.trainer import TrainerConfig


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """An empty cache with the machine's parts."""
    for name in ("all-minilm-l6-v2", "smollm2-135m-instruct"):
        fetch(name, cache_directory())
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "parts").symlink_to(cache_directory() / "parts")
    return tmp_path / "cache"


def test_minilm_minilm_is_the_pretrained_encoder_twice(cache: Path) -> None:
    directory = prepared("minilm-minilm", cache)
    model = AutoModelForSeq2SeqLM.from_pretrained(directory)
    pretrained = AutoModel.from_pretrained(fetch("all-minilm-l6-v2", cache)).state_dict()
    encoder, decoder = model.encoder.state_dict(), model.decoder.bert.state_dict()
    for name, weights in pretrained.items():
        assert torch.equal(encoder[name], weights), name
        if not name.startswith("pooler"):
            assert torch.equal(decoder[name], weights), name
    crossing = [name for name in decoder if "crossattention" in name]
    assert len(crossing) == 6 * 10
    assert torch.equal(model.decoder.cls.predictions.decoder.weight, pretrained["embeddings.word_embeddings.weight"])
    tokenizer = AutoTokenizer.from_pretrained(directory)
    assert model.config.decoder_start_token_id == tokenizer.cls_token_id


def test_a_backbone_is_made_once_and_always_the_same(cache: Path) -> None:
    one = prepared("minilm-minilm", cache)
    first = (one / "model.safetensors").stat()
    assert prepared("minilm-minilm", cache, thorough=True) == one == place("minilm-minilm", cache)
    assert (one / "model.safetensors").stat().st_ino == first.st_ino
    weights = (one / "model.safetensors").read_bytes()
    (one / "config.json").unlink()
    assert prepared("minilm-minilm", cache) == one
    assert (one / "model.safetensors").stat().st_ino != first.st_ino
    assert (one / "model.safetensors").read_bytes() == weights
    assert str(cache.parent) not in (one / "config.json").read_text()


@pytest.mark.slow
def test_minilm_smollm2_is_both_pretrained_models(cache: Path) -> None:
    model = ComposedModel.from_pretrained(prepared("minilm-smollm2", cache))
    halves = [
        (model.encoder, AutoModel.from_pretrained(fetch("all-minilm-l6-v2", cache))),
        (model.decoder, AutoModelForCausalLM.from_pretrained(prepared("smollm2", cache))),
    ]
    for half, pretrained in halves:
        weights = half.state_dict()
        for name, expected in pretrained.state_dict().items():
            assert torch.equal(weights[name], expected), name


def test_what_is_listed_of_each_backbone_is_so() -> None:
    prepared("minilm-minilm", cache_directory())  # the others are measured where they are there already
    for name, composition in COMPOSITIONS.items():
        assert TrainerConfig.model_validate(composition.training).pooling == "mean"
        assert set(composition.parts) <= set(PARTS)
        directory = place(name, cache_directory())
        if directory.exists():
            found = sum(file.stat().st_size for file in directory.rglob("*") if file.is_file()) / 1e6
            assert abs(found - composition.disk_mb) < 2
    assert set(HALVES) <= set(PARTS)
