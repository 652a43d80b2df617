"""What --model names: a hub id, a directory, or an offline composition made here from parts of the package index."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import (
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoTokenizer,
    BertConfig,
    BertLMHeadModel,
    BertModel,
    EncoderDecoderModel,
)

from service.model.checkpoint import new_directory
from service.model.errors import InputError
from training.offline_parts import fetch

DEFAULT = "minilm-minilm"


@dataclass(frozen=True)
class Backbone:
    """Pre-trained weights to start every round from.

    name: what a run's settings call it. source: a hub id or a directory. training: TrainerConfig fields that suit it
    better than the paper's values.
    """

    name: str
    source: str
    training: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Composition:
    """An offline backbone: how its directory is made, and the training settings that suit it.

    recipe: raise it when ``make`` changes, so that a directory made by the old one is not used again.
    """

    recipe: int
    make: Callable[[Path, Path], None]  # (cache directory, directory to fill)
    training: Mapping[str, Any]


def resolve(name: str, cache: Path) -> Backbone:
    """The backbone that --model names. A composition is made once and kept in the cache; anything else is taken as a
    directory or a hub id.

    Raises InputError for what is no encoder-decoder, and for a directory or a hub id that is not there.
    """
    if name not in COMPOSITIONS:
        local = Path(name).expanduser()
        source = str(local.absolute()) if local.is_dir() else name
        _check_encoder_decoder(source)
        return Backbone(source, source)
    composition = COMPOSITIONS[name]
    directory = cache / "backbones" / f"{name}-{composition.recipe}"
    if not directory.is_dir():
        try:
            with new_directory(directory) as temporary:
                composition.make(cache, temporary)
        except InputError:
            # Another process was faster: the same recipe makes the same directory, so that one will do.
            if not directory.is_dir():
                raise
    return Backbone(name, str(directory), composition.training)


def _check_encoder_decoder(name: str) -> None:
    """Read the configuration alone: a wrong kind of model gets a better message than loading it would give."""
    offline = f"the model that needs no hub is {DEFAULT}"
    if name.startswith(("/", ".", "~")) and not Path(name).is_dir():
        raise InputError(f"model {name}: no such directory; {offline}")
    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"model {name}: no configuration of a model there, or no way to the hub ({reason}); {offline}"
        ) from None
    if type(config) not in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING:
        raise InputError(
            f"model {name} is of type {config.model_type}, which is no encoder-decoder; give one such as T5, BART or "
            f"an EncoderDecoderModel; {offline}"
        )


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
        1,
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
