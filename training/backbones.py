"""What --model names: a hub id, a directory, or an offline composition made here from parts of the package index."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, BertConfig, BertLMHeadModel, BertModel, EncoderDecoderModel

from service.model.checkpoint import new_directory
from training.offline_parts import fetch

DEFAULT = "minilm-minilm"


@dataclass(frozen=True)
class Backbone:
    """Pre-trained weights to start every round from.

    source: a hub id or a directory. training: TrainerConfig fields that suit it better than the paper's values.
    """

    source: str
    training: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Composition:
    """An offline backbone: how its directory is made, and the training settings that suit it."""

    description: str
    make: Callable[[Path, Path], None]  # (cache directory, directory to fill)
    training: Mapping[str, Any]


def resolve(name: str, cache: Path) -> Backbone:
    """The backbone that --model names. A composition is made once and kept in the cache; anything else is taken as a
    directory or a hub id, which transformers resolves."""
    if name not in COMPOSITIONS:
        return Backbone(name)
    composition = COMPOSITIONS[name]
    directory = cache / "backbones" / name
    if not directory.is_dir():
        with new_directory(directory) as temporary:
            composition.make(cache, temporary)
    return Backbone(str(directory), composition.training)


def _minilm_to_minilm(cache: Path, directory: Path) -> None:
    """Encoder and decoder both from all-MiniLM-L6-v2; the cross-attention between them is new, drawn once, here."""
    part = str(fetch("all-minilm-l6-v2", cache))
    tokenizer = AutoTokenizer.from_pretrained(part)
    encoder = BertModel.from_pretrained(part)
    config = BertConfig.from_pretrained(part, is_decoder=True, add_cross_attention=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        decoder = BertLMHeadModel.from_pretrained(part, config=config)
    model = EncoderDecoderModel(encoder=encoder, decoder=decoder)
    model.config.decoder_start_token_id = tokenizer.cls_token_id
    model.config.pad_token_id = tokenizer.pad_token_id
    model.config.eos_token_id = tokenizer.sep_token_id
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)


COMPOSITIONS: Mapping[str, Composition] = {
    "minilm-minilm": Composition(
        "encoder and decoder from all-MiniLM-L6-v2, joined by new cross-attention (50M parameters, no hub needed)",
        _minilm_to_minilm,
        # The encoder is pre-trained, the cross-attention and the language-model head start from nothing.
        {
            "pooling": "mean",
            "learning_rate": 1e-4,
            "decoder_learning_rate": 5e-4,
            "head_learning_rate": 1e-2,
            "batch_size": 4,
            "epochs": 6,
        },
    ),
}
