"""Composed backbones: both halves as they were, one bridge for all, and the turns that a chat model expects."""

from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, BertConfig, BertForMaskedLM, EncoderDecoderConfig

from service.model.composed import Composed
from service.model.families import load_network
from tests import tiny
from training.composition import compose, conversation

CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WITHOUT_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}" + CHAT


def save_halves(family: str, directory: Path, template: str | None = None) -> tuple[Path, Path]:
    name = family.removeprefix("composed-")
    own, decoders_own = tiny.make_tokenizer(family), tiny.make_tokenizer(name)
    decoders_own.chat_template = template
    with torch.random.fork_rng():
        torch.manual_seed(5)
        halves = {"encoder": (tiny.bert(own), own), "lm": (tiny.BACKBONES[name](decoders_own), decoders_own)}
    for half, (model, tokenizer) in halves.items():
        model.save_pretrained(directory / half)
        tokenizer.save_pretrained(directory / half)
    return directory / "encoder", directory / "lm"


@pytest.mark.parametrize("family", tiny.COMPOSED)
def test_a_composition_holds_both_halves_as_they_were_and_one_bridge_for_all(family: str, tmp_path: Path) -> None:
    encoder, decoder = save_halves(family, tmp_path)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    compose(encoder, decoder, tmp_path / "one")
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    compose(*save_halves(family, tmp_path / "elsewhere"), tmp_path / "other")
    for name in ("model.safetensors", "config.json"):  # wherever the halves came from
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()
    config = AutoConfig.from_pretrained(tmp_path / "one")
    assert type(config) is EncoderDecoderConfig
    assert config.architectures == ["ComposedModel"]
    network, text_encoder = load_network(tmp_path / "one", tiny.TASK, "cls")
    for half, path in (("encoder", encoder), ("decoder", decoder)):
        loaded = getattr(network.backbone, half).state_dict()
        kept = type(getattr(network.backbone, half)).from_pretrained(path).state_dict()
        assert loaded.keys() == kept.keys()
        assert all(torch.equal(value, kept[name]) for name, value in loaded.items())
    assert text_encoder.decoder_tokenizer is not None
    assert len(text_encoder.tokenizer) != len(text_encoder.decoder_tokenizer)
    assert not network.backbone.bridge.bias.any()


def test_a_chat_model_is_asked_in_its_own_turns(tmp_path: Path) -> None:
    compose(*save_halves("composed-llama", tmp_path, CHAT), tmp_path / "chat")
    network, encoder = load_network(tmp_path / "chat", tiny.TASK, "cls", "label")
    assert isinstance(network, Composed)
    tokenizer = encoder.decoder_tokenizer
    assert tokenizer is not None
    assert tokenizer.decode(network.opening) == "<|im_start|>system\n<|im_end|>\n<|im_start|>user\n"
    instruction = "The sentiment of this review is neutral, explain the reason within 30 words."
    assert tokenizer.decode(network.cues[1]) == f"\n{instruction}<|im_end|>\n<|im_start|>assistant\n"
    start, end = (tokenizer.convert_tokens_to_ids(token) for token in ("<|im_start|>", "<|im_end|>"))
    assert (network.opening.count(start), network.opening.count(end)) == (2, 1)  # as special tokens, not as text
    assert (network.cues[1].count(start), network.cues[1].count(end)) == (1, 1)


def test_other_models_begin_with_their_first_token_and_answer_on_a_new_line() -> None:
    tokenizer = tiny.make_tokenizer("llama")
    assert conversation(tokenizer) == ("<|im_start|>", "\n")
    tokenizer.bos_token = None
    assert conversation(tokenizer) == ("", "\n")


def test_a_template_that_knows_no_system_message_gets_none() -> None:
    tokenizer = tiny.make_tokenizer("llama")
    tokenizer.chat_template = WITHOUT_SYSTEM
    assert conversation(tokenizer) == ("<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n")


def test_a_decoder_that_cannot_write_is_not_composed(tmp_path: Path) -> None:
    encoder, _ = save_halves("composed-llama", tmp_path)
    gaps = BertForMaskedLM(BertConfig(vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2))
    gaps.save_pretrained(tmp_path / "gaps")
    with pytest.raises(ValueError, match="a model of type bert cannot write explanations; give a causal language"):
        compose(encoder, tmp_path / "gaps", tmp_path / "both")
    assert not (tmp_path / "both").exists()
