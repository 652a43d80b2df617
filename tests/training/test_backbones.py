"""What --model names: offline backbones, directories, pairs composed on the spot, and what is refused."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModel, BertConfig, BertModel, GPT2Config, GPT2LMHeadModel, T5Config

from service.model.composed import ComposedModel
from service.model.errors import InputError
from tests import tiny
from training.backbones import DEFAULT, listing, prepare, resolve
from training.offline_backbones import COMPOSED_TRAINING, COMPOSITIONS, PREFIX_LM_TRAINING
from training.offline_parts import cache_directory, fetch
from training.trainer import TrainerConfig


def save_encoder(directory: Path, seed: int = 0) -> Path:
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        BertModel(BertConfig(vocab_size=tiny.VOCABULARY, **shape)).save_pretrained(directory)
    tiny.make_tokenizer("bert2bert").save_pretrained(directory)
    return directory


def save_decoder(directory: Path) -> Path:
    tokenizer = tiny.make_tokenizer("bart")
    config = GPT2Config(
        vocab_size=tiny.VOCABULARY,
        n_embd=16,
        n_layer=1,
        n_head=2,
        n_positions=128,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng():
        GPT2LMHeadModel(config).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


@pytest.fixture
def halves(tmp_path: Path) -> tuple[Path, Path]:
    return save_encoder(tmp_path / "tiny-bert"), save_decoder(tmp_path / "tiny-gpt2")


def test_an_offline_name_brings_its_own_training_settings() -> None:
    backbone = resolve("minilm-minilm", cache_directory())
    assert backbone.name == "minilm-minilm"
    assert backbone.training == COMPOSITIONS["minilm-minilm"].training
    assert Path(backbone.source).parent == cache_directory() / "backbones"


def test_a_directory_of_another_family_has_that_familys_settings(halves: tuple[Path, Path], tmp_path: Path) -> None:
    composed = resolve("+".join(map(str, halves)), tmp_path / "cache")
    again = resolve(composed.source, tmp_path / "cache")
    assert (again.source, again.training) == (composed.source, COMPOSED_TRAINING)
    alone = resolve(str(halves[1]), tmp_path / "cache").training
    assert alone == PREFIX_LM_TRAINING
    # What reads is what writes: one rate, above an encoder's and below that of a decoder beside one.
    assert alone["learning_rate"] == alone["decoder_learning_rate"]
    assert COMPOSED_TRAINING["learning_rate"] < alone["learning_rate"] < COMPOSED_TRAINING["decoder_learning_rate"]


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


def test_a_causal_language_model_and_a_composed_one_are_taken_as_they_are(
    halves: tuple[Path, Path], tmp_path: Path
) -> None:
    encoder, decoder = halves
    assert resolve(str(decoder), tmp_path / "cache").source == str(decoder)
    composed = resolve(f"{encoder}+{decoder}", tmp_path / "cache").source
    assert resolve(composed, tmp_path / "cache").source == composed
    odd = (tmp_path / "a+b").resolve()
    decoder.rename(odd)  # a directory is a directory, whatever its name
    assert resolve(str(odd), tmp_path / "cache").source == str(odd)


def test_encoder_and_decoder_are_composed_once(
    halves: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, decoder = halves
    cache = tmp_path / "cache"
    backbone = resolve(f"{encoder}+{decoder}", cache)
    directory = Path(backbone.source)
    assert backbone.name == f"{encoder}+{decoder}"
    assert backbone.training == COMPOSED_TRAINING
    assert directory.parent == cache / "backbones"
    assert directory.name.startswith("tiny-bert+tiny-gpt2-")
    weights = ComposedModel.from_pretrained(directory).encoder.state_dict()
    assert all(torch.equal(weights[k], v) for k, v in AutoModel.from_pretrained(encoder).state_dict().items())
    made = (directory / "model.safetensors").stat().st_ino
    monkeypatch.chdir(tmp_path)  # a relative path names the same pair
    assert resolve("./tiny-bert+./tiny-gpt2", cache) == backbone
    assert prepare("./tiny-bert+./tiny-gpt2", cache) == directory
    assert (directory / "model.safetensors").stat().st_ino == made


def test_other_weights_under_the_same_name_are_another_pair(halves: tuple[Path, Path], tmp_path: Path) -> None:
    encoder, decoder = halves
    one = resolve(f"{encoder}+{decoder}", tmp_path / "cache").source
    size = (encoder / "model.safetensors").stat().st_size
    save_encoder(encoder, seed=1)
    assert (encoder / "model.safetensors").stat().st_size == size
    two = resolve(f"{encoder}+{decoder}", tmp_path / "cache").source
    assert one != two
    assert {path.name for path in (tmp_path / "cache" / "backbones").iterdir()} == {Path(one).name, Path(two).name}


def test_a_damaged_pair_is_composed_anew_and_a_changed_byte_is_found_by_preparing(
    halves: tuple[Path, Path], tmp_path: Path
) -> None:
    name, cache = "+".join(map(str, halves)), tmp_path / "cache"
    weights = Path(resolve(name, cache).source) / "model.safetensors"
    sound = weights.read_bytes()
    weights.write_bytes(sound[:-1])
    resolve(name, cache)
    assert weights.read_bytes() == sound
    weights.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
    prepare(name, cache)
    assert weights.read_bytes() == sound


def test_an_offline_part_can_be_a_half(halves: tuple[Path, Path], tmp_path: Path) -> None:
    fetch("all-minilm-l6-v2", cache_directory())
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "parts").symlink_to(cache_directory() / "parts")
    backbone = resolve(f"all-minilm-l6-v2+{halves[1]}", cache)
    assert backbone.name == f"all-minilm-l6-v2+{halves[1]}"
    assert ComposedModel.from_pretrained(backbone.source).config.encoder.hidden_size == 384


@pytest.mark.parametrize(
    ("encoder", "decoder", "message"),
    [
        ("gpt2", "gpt2", r"tiny-gpt2 \(type gpt2, prefix-LM\) cannot be the encoder; expected one such as BERT"),
        ("t5", "gpt2", r"\(type t5, encoder-decoder\) cannot be the encoder"),
        ("bert", "bert", r"tiny-bert \(type bert\) cannot be the decoder; expected a causal language model"),
        ("bert", "t5", r"\(type t5, encoder-decoder\) cannot be the decoder"),
    ],
)
def test_a_half_of_the_wrong_kind_is_named(
    halves: tuple[Path, Path], tmp_path: Path, encoder: str, decoder: str, message: str
) -> None:
    T5Config().save_pretrained(tmp_path / "t5")
    places = {"bert": halves[0], "gpt2": halves[1], "t5": tmp_path / "t5"}
    with pytest.raises(InputError, match=message):
        resolve(f"{places[encoder]}+{places[decoder]}", tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("name", ["a+b+c", "+b", "a+"])
def test_a_pair_is_two_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"expected ENCODER\+DECODER, each a hub id, a directory"):
        resolve(name, tmp_path)


@pytest.mark.parametrize("kept", [0, 1000])
def test_halves_that_do_not_load_leave_nothing(halves: tuple[Path, Path], tmp_path: Path, kept: int) -> None:
    weights = halves[1] / "model.safetensors"
    content = weights.read_bytes()[:kept]
    weights.unlink()
    if kept:
        weights.write_bytes(content)
    with pytest.raises(InputError, match="the halves cannot be loaded and composed: ") as caught:
        resolve("+".join(map(str, halves)), tmp_path / "cache")
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "cache" / "backbones").iterdir()) == []


def test_a_model_that_cannot_write_is_refused(halves: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"of type bert, which alone cannot write .* ENCODER\+DECODER"):
        resolve(str(halves[0]), tmp_path / "cache")


def test_a_directory_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no configuration of a model there"):
        resolve(str(tmp_path), tmp_path / "cache")
    with pytest.raises(InputError, match=f"no such directory; the model that needs no hub is {DEFAULT}"):
        resolve(str(tmp_path / "none"), tmp_path / "cache")


def test_the_listing_says_what_is_prepared_how_large_and_where(halves: tuple[Path, Path], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    before = listing(cache)
    assert [line for line in before.splitlines() if not line.startswith(" ")] == [
        f"{name} (the default)" if name == DEFAULT else name for name in COMPOSITIONS
    ]
    assert before.count("not prepared; about ") == len(COMPOSITIONS)
    assert "Apache-2.0" in before
    assert not cache.exists()  # looking makes nothing
    directory = resolve("+".join(map(str, halves)), cache).source
    (Path(directory).parent / ".a+b-0123456789ab-work").mkdir()  # of a process that is composing
    found = sum(path.stat().st_size for path in Path(directory).rglob("*") if path.name != "seal.json") / 1e6
    assert listing(cache) == f"{before}\ntiny-bert+tiny-gpt2\n  prepared: {found:.0f} MB in {directory}"
    (Path(directory) / "model.safetensors").unlink()
    assert f"damaged: model.safetensors is missing or cannot be read; in {directory}" in listing(cache)
