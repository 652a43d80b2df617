"""The families of backbones: which one a configuration belongs to, and how its pre-trained weights become a network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    PreTrainedModel,
)

from service.model.composed import ComposedModel, composed
from service.model.encoder_decoder import encoder_decoder
from service.model.encoding import TextEncoder, load_tokenizers
from service.model.errors import InputError
from service.model.network import Conditioning, Network, Pooling
from service.model.prefix import writes
from service.model.prefix_lm import prefix_lm
from service.model.task import Task


@dataclass(frozen=True)
class Family:
    """One kind of backbone. loader: the class whose ``from_pretrained`` reads it. build: backbone -> network, its head
    new. own_decoder: whether its decoder reads tokens of its own."""

    name: str
    loader: Any
    build: Callable[[Any, TextEncoder, Pooling, Conditioning], Network]
    own_decoder: bool = False


ENCODER_DECODER = Family("encoder-decoder", AutoModelForSeq2SeqLM, encoder_decoder)
COMPOSED = Family("composed", ComposedModel, composed, own_decoder=True)
PREFIX_LM = Family("prefix-LM", AutoModelForCausalLM, prefix_lm)


def family_of(config: Any) -> Family | None:
    """The family that a model's configuration belongs to; None for a model that cannot write."""
    if ComposedModel.__name__ in (getattr(config, "architectures", None) or []):
        return COMPOSED
    if type(config) in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING:
        return ENCODER_DECODER
    # A language model without its head, or with a classifier's, would get a new one that has learned nothing.
    headed = any("LMHead" in name or "CausalLM" in name for name in getattr(config, "architectures", None) or [])
    return PREFIX_LM if headed and writes(config) else None


def load_network(
    source: str | Path, task: Task, pooling: Pooling, conditioning: Conditioning = "none"
) -> tuple[Network, TextEncoder]:
    """A network over the pre-trained weights of ``source`` (hub id or directory), its head new.

    New parameters (the head, an added [CLS]) are drawn from torch's global generator: fork and seed it around the
    call. Raises InputError where the source belongs to no family or cannot be loaded.
    """
    try:
        backbone, encoder, family, _ = load_backbone(source, task, torch.float32)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"model {source}: expected an encoder-decoder, a composed model or a causal language model of transformers "
            f"with safetensors weights, as a hub id or a directory; loading it failed: {reason}"
        ) from None
    embeddings = backbone.get_input_embeddings()
    if len(encoder.tokenizer) > embeddings.num_embeddings:
        # Of a composed model the encoder alone: its decoder has tokens and embeddings of its own.
        grown = backbone.encoder if family is COMPOSED else backbone
        grown.resize_token_embeddings(len(encoder.tokenizer))
    return family.build(backbone, encoder, pooling, conditioning), encoder


def load_backbone(
    source: str | Path, task: Task, dtype: torch.dtype, *, local_files_only: bool = False
) -> tuple[PreTrainedModel, TextEncoder, Family, list[str]]:
    """Weights, tokenizers and family of a hub id or directory, and the weights that it lacks.

    No code that comes with a model is run. Raises what transformers raises, and ValueError for no family's model.
    """
    local: dict[str, Any] = {"local_files_only": local_files_only, "trust_remote_code": False}
    config = AutoConfig.from_pretrained(str(source), **local)
    family = family_of(config)
    if family is None:
        raise ValueError(f"a model of type {config.model_type} ({config.architectures}) cannot write explanations")
    backbone, report = family.loader.from_pretrained(
        str(source), use_safetensors=True, dtype=dtype, output_loading_info=True, **local
    )
    tokenizer, decoder_tokenizer = load_tokenizers(
        source, own_decoder=family.own_decoder, local_files_only=local_files_only
    )
    return backbone, TextEncoder(tokenizer, task, decoder_tokenizer), family, sorted(report["missing_keys"])
