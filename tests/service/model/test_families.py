"""Which family a configuration belongs to, and what is refused when pre-trained weights are loaded."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoConfig,
    BartConfig,
    BertConfig,
    BertModel,
    BloomConfig,
    EncoderDecoderConfig,
    Gemma3TextConfig,
    GPT2Config,
    Lfm2Config,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    ModernBertConfig,
    MptConfig,
    OpenAIGPTConfig,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3NextConfig,
    RobertaConfig,
    T5Config,
    T5GemmaConfig,
)

from service.model.errors import InputError
from service.model.families import COMPOSED, ENCODER_DECODER, PREFIX_LM, Family, family_of, load_network
from tests import tiny

HALVES = {"encoder": BertConfig().to_dict(), "decoder": GPT2Config().to_dict()}


@pytest.mark.parametrize(
    ("config", "architecture", "family"),
    [
        (T5Config(), "T5ForConditionalGeneration", ENCODER_DECODER),
        (T5Config(), None, ENCODER_DECODER),
        (BartConfig(), "BartForConditionalGeneration", ENCODER_DECODER),
        (T5GemmaConfig(), "T5GemmaForConditionalGeneration", ENCODER_DECODER),
        (EncoderDecoderConfig(**HALVES), "EncoderDecoderModel", ENCODER_DECODER),
        (EncoderDecoderConfig(**HALVES), "ComposedModel", COMPOSED),
        (LlamaConfig(), "LlamaForCausalLM", PREFIX_LM),
        (GPT2Config(), "GPT2LMHeadModel", PREFIX_LM),
        (Qwen2Config(), "Qwen2ForCausalLM", PREFIX_LM),
        (MistralConfig(), "MistralForCausalLM", PREFIX_LM),
        (Gemma3TextConfig(), "Gemma3ForCausalLM", PREFIX_LM),
        # Without their head, or with another's: it would be new.
        (LlamaConfig(), "LlamaForSequenceClassification", None),
        (LlamaConfig(), None, None),
        # Trained to fill gaps, whatever their heads.
        (BertConfig(), "BertModel", None),
        (BertConfig(), "BertForMaskedLM", None),
        (BertConfig(), "BertLMHeadModel", None),
        (RobertaConfig(is_decoder=True), "RobertaForCausalLM", None),
        (ModernBertConfig(), "ModernBertForMaskedLM", None),
        # Positions by attention biases that count padding; no keys and values to share.
        (BloomConfig(), "BloomForCausalLM", None),
        (MptConfig(), "MptForCausalLM", None),
        (OpenAIGPTConfig(), "OpenAIGPTLMHeadModel", None),
        (MambaConfig(), "MambaForCausalLM", None),
        (Lfm2Config(layer_types=["conv", "full_attention"], num_hidden_layers=2), "Lfm2ForCausalLM", None),
        (Qwen3NextConfig(), "Qwen3NextForCausalLM", None),
    ],
    ids=lambda value: value if isinstance(value, str) else getattr(value, "model_type", getattr(value, "name", None)),
)
def test_the_family_of_a_configuration(
    config: PreTrainedConfig, architecture: str | None, family: Family | None
) -> None:
    config.architectures = None if architecture is None else [architecture]
    assert family_of(config) is family


def test_every_tiny_backbone_is_of_its_family(family: str, backbone_dir: Callable[[str], Path]) -> None:
    found = family_of(AutoConfig.from_pretrained(backbone_dir(family)))
    assert found is (
        ENCODER_DECODER if family in tiny.ENCODER_DECODERS else COMPOSED if family in tiny.COMPOSED else PREFIX_LM
    )


def test_the_backbones_weights_are_not_changed_by_loading(family: str, backbone_dir: Callable[[str], Path]) -> None:
    network, _ = load_network(backbone_dir(family), tiny.TASK, "cls")
    found = family_of(AutoConfig.from_pretrained(backbone_dir(family)))
    assert found is not None
    plain = found.loader.from_pretrained(backbone_dir(family))
    for (name, ours), theirs in zip(network.backbone.state_dict().items(), plain.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), name


# -------------------------------------------------------------------------------------------------------------- refused


def encoder_only(directory: Path) -> None:
    BertModel(BertConfig(vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2)).save_pretrained(
        directory
    )


def pickled(directory: Path) -> None:
    (directory / "model.safetensors").unlink()
    torch.save({}, directory / "pytorch_model.bin")


def cut_off(directory: Path) -> None:
    whole = (directory / "model.safetensors").read_bytes()
    (directory / "model.safetensors").write_bytes(whole[:5000])


def bringing_code(directory: Path) -> None:
    config = json.loads((directory / "config.json").read_text())
    classes = dict.fromkeys(("AutoModelForSeq2SeqLM", "AutoModelForCausalLM", "AutoModel"), "evil.M")
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.C", **classes}}
    (directory / "config.json").write_text(json.dumps(config))
    (directory / "evil.py").write_text("raise SystemExit('this code must not run')")


@pytest.mark.parametrize("kind", ["t5", "composed-llama", "llama"])
@pytest.mark.parametrize("spoil", [shutil.rmtree, encoder_only, pickled, cut_off, bringing_code])
def test_a_source_that_is_no_safe_backbone_is_refused_in_one_line(
    backbone_dir: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    spoil: Callable[[Path], None],
) -> None:
    monkeypatch.setattr("builtins.input", lambda _prompt="": "y")  # transformers would ask whether to run its code
    source = shutil.copytree(backbone_dir(kind), tmp_path / "source")
    spoil(source)
    expected = "expected an encoder-decoder, a composed model or a causal language model of transformers with safetens"
    with pytest.raises(InputError, match=expected) as raised:
        load_network(source, tiny.TASK, "cls")
    assert str(source) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_an_encoder_alone_is_said_to_write_nothing(backbone_dir: Callable[[str], Path], tmp_path: Path) -> None:
    source = shutil.copytree(backbone_dir("t5"), tmp_path / "source")
    encoder_only(source)
    with pytest.raises(InputError, match=r"a model of type bert \(\['BertModel'\]\) cannot write explanations"):
        load_network(source, tiny.TASK, "cls")


def test_a_composed_model_without_its_decoders_tokenizer_is_refused(
    backbone_dir: Callable[[str], Path], tmp_path: Path
) -> None:
    source = shutil.copytree(backbone_dir("composed-llama"), tmp_path / "source")
    shutil.rmtree(source / "decoder")
    with pytest.raises(InputError, match="failed: the decoder's tokenizer is missing: no folder decoder there"):
        load_network(source, tiny.TASK, "cls")
