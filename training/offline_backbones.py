"""Backbones that a package index alone can bring: what each is, and how its directory is made of parts.

Each is made once and kept, sealed, in the cache's folder ``backbones``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, BertConfig, BertLMHeadModel, BertModel, EncoderDecoderModel

from training.composition import compose
from training.gguf_conversion import convert
from training.offline_parts import fetch
from training.sealed import sealed


@dataclass(frozen=True)
class Composition:
    """An offline backbone: what it is, how its directory is made, and the training settings that suit it.

    recipe: raise it when ``make`` or a part changes, so that a directory made by the old one is not used again.
    parts: of offline_parts. download_mb: what these weigh; disk_mb: the directory, about.
    """

    about: str
    recipe: int
    make: Callable[[Path, Path], None]  # (cache directory, directory to fill)
    training: Mapping[str, Any]
    parts: tuple[str, ...]
    licence: str
    download_mb: int
    disk_mb: int


def place(name: str, cache: Path) -> Path:
    """Where an offline backbone's directory is, or will be."""
    return cache / "backbones" / f"{name}-{COMPOSITIONS[name].recipe}"


def prepared(name: str, cache: Path, *, thorough: bool = False) -> Path:
    """The directory of an offline backbone, made if need be; checked by sizes or, if thorough, by SHA-256 too."""
    make = COMPOSITIONS[name].make
    return sealed(place(name, cache), lambda directory: make(cache, directory), thorough=thorough)


def _minilm_to_minilm(cache: Path, directory: Path) -> None:
    """Encoder and decoder both from all-MiniLM-L6-v2; the cross-attention between them is new, drawn once, here."""
    part = str(fetch("all-minilm-l6-v2", cache, thorough=True))
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
    for half in (model.config.encoder, model.config.decoder):
        half._name_or_path = ""  # the same files on every machine, wherever its cache is
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def _minilm_with_smollm2(cache: Path, directory: Path) -> None:
    compose(fetch("all-minilm-l6-v2", cache, thorough=True), prepared("smollm2", cache, thorough=True), directory)


def _smollm2(cache: Path, directory: Path) -> None:
    convert(fetch("smollm2-135m-instruct", cache, thorough=True), directory)


# The encoder is pre-trained and small, the bridge and the head start from nothing. The decoder can write already: two
# epochs of low-rank updates teach it what to write about.
COMPOSED_TRAINING: Mapping[str, Any] = {
    "pooling": "mean",
    "conditioning": "label",
    "decoder_tuning": "lora-16",
    "learning_rate": 1e-4,
    "decoder_learning_rate": 2e-3,
    "head_learning_rate": 1e-2,
    "batch_size": 4,
    "epochs": 6,
    "explanation_epochs": 2,
    "lambda2": 0.1,
}

# What reads is what writes, and trains from the first epoch on: at the composed decoder's learning rate it forgets how
# to read, and names one label for all texts.
PREFIX_LM_TRAINING: Mapping[str, Any] = {
    **COMPOSED_TRAINING,
    "learning_rate": 5e-4,
    "decoder_learning_rate": 5e-4,
    "head_learning_rate": 1e-3,
}

COMPOSITIONS: Mapping[str, Composition] = {
    "minilm-minilm": Composition(
        about="encoder-decoder: all-MiniLM-L6-v2 twice, with new cross-attention; small and fast, explains badly",
        recipe=1,
        make=_minilm_to_minilm,
        # The encoder is pre-trained, the cross-attention and the language-model head start from nothing.
        training={
            "pooling": "mean",
            "learning_rate": 1e-4,
            "decoder_learning_rate": 5e-4,
            "head_learning_rate": 1e-2,
            "batch_size": 4,
            "epochs": 6,
        },
        parts=("all-minilm-l6-v2",),
        licence="Apache-2.0",
        download_mb=84,
        disk_mb=197,
    ),
    "minilm-smollm2": Composition(
        about="composed: the encoder all-MiniLM-L6-v2 and the language model SmolLM2-135M-Instruct",
        recipe=1,
        make=_minilm_with_smollm2,
        training=COMPOSED_TRAINING,
        parts=("all-minilm-l6-v2", "smollm2-135m-instruct"),
        licence="Apache-2.0",
        download_mb=177,
        disk_mb=634,
    ),
    "smollm2": Composition(
        about="prefix-LM: the language model SmolLM2-135M-Instruct reads and writes; 4-bit weights, in float32",
        recipe=1,
        make=_smollm2,
        training=PREFIX_LM_TRAINING,
        parts=("smollm2-135m-instruct",),
        licence="Apache-2.0",
        download_mb=93,
        disk_mb=542,
    ),
}

# Offline parts that can be half of ENCODER+DECODER: name -> (cache, thorough) -> where they are, made if need be.
HALVES: Mapping[str, Callable[..., Path]] = {
    "all-minilm-l6-v2": partial(fetch, "all-minilm-l6-v2"),
    "smollm2-135m-instruct": partial(prepared, "smollm2"),
}
