"""What --model names: the offline composition, directories, and what is refused."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoModelForSeq2SeqLM, AutoTokenizer, T5Config

from service.model.errors import InputError
from training.backbones import COMPOSITIONS, DEFAULT, resolve
from training.offline_parts import cache_directory, fetch
from training.trainer import TrainerConfig


def test_the_offline_composition_is_made_of_the_pretrained_encoder_twice(tmp_path: Path) -> None:
    part = fetch("all-minilm-l6-v2", cache_directory())
    (tmp_path / "parts").symlink_to(cache_directory() / "parts")
    backbone = resolve(DEFAULT, tmp_path)
    model = AutoModelForSeq2SeqLM.from_pretrained(backbone.source)
    pretrained = AutoModel.from_pretrained(part).state_dict()
    encoder, decoder = model.encoder.state_dict(), model.decoder.bert.state_dict()
    for name, weights in pretrained.items():
        assert torch.equal(encoder[name], weights), name
        if not name.startswith("pooler"):
            assert torch.equal(decoder[name], weights), name
    crossing = [name for name in decoder if "crossattention" in name]
    assert len(crossing) == 6 * 10
    assert torch.equal(model.decoder.cls.predictions.decoder.weight, pretrained["embeddings.word_embeddings.weight"])
    tokenizer = AutoTokenizer.from_pretrained(backbone.source)
    assert model.config.decoder_start_token_id == tokenizer.cls_token_id


def test_a_composition_is_made_once_and_always_the_same(tmp_path: Path) -> None:
    for cache in ("one", "two"):
        (tmp_path / cache).mkdir()
        (tmp_path / cache / "parts").symlink_to(cache_directory() / "parts")
    one = Path(resolve(DEFAULT, tmp_path / "one").source)
    made = (one / "model.safetensors").stat().st_mtime_ns
    assert Path(resolve(DEFAULT, tmp_path / "one").source) == one
    assert (one / "model.safetensors").stat().st_mtime_ns == made
    two = Path(resolve(DEFAULT, tmp_path / "two").source)
    assert (one / "model.safetensors").read_bytes() == (two / "model.safetensors").read_bytes()


def test_a_compositions_training_settings_are_settings_of_the_trainer() -> None:
    for composition in COMPOSITIONS.values():
        assert TrainerConfig.model_validate(composition.training).pooling == "mean"


def test_a_directory_is_taken_as_it_is_with_the_papers_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    T5Config().save_pretrained(tmp_path)
    assert resolve(str(tmp_path), tmp_path / "cache").source == str(tmp_path)
    monkeypatch.chdir(tmp_path.parent)  # a relative path names the same model from anywhere
    assert resolve(f"./{tmp_path.name}", tmp_path / "cache").name == str(tmp_path)
    assert resolve(str(tmp_path), tmp_path / "cache").training == {}
    assert TrainerConfig().model_dump(include={"epochs", "learning_rate", "batch_size", "lambda1", "lambda2"}) == {
        "epochs": 10,
        "learning_rate": 1e-4,
        "batch_size": 1,
        "lambda1": 0.1,
        "lambda2": 0.01,
    }


def test_a_directory_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no configuration of a model there"):
        resolve(str(tmp_path), tmp_path / "cache")
    with pytest.raises(InputError, match=f"no such directory; the model that needs no hub is {DEFAULT}"):
        resolve(str(tmp_path / "none"), tmp_path / "cache")
