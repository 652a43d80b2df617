"""What --model names: a hub id, a directory, an offline backbone, or ENCODER+DECODER, which is composed here, once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers import MODEL_MAPPING, AutoConfig

from service.model.errors import InputError
from service.model.families import COMPOSED, PREFIX_LM, family_of
from training.composition import compose
from training.offline_backbones import (
    COMPOSED_TRAINING,
    COMPOSITIONS,
    HALVES,
    PREFIX_LM_TRAINING,
    Composition,
    place,
    prepared,
)
from training.records import data_hash
from training.sealed import damage, sealed, size

DEFAULT = "minilm-smollm2"
COMPOSED_RECIPE = 1  # raise it when ``compose`` changes
# Settings of families, for a directory or hub id too; encoder-decoders have the paper's.
TRAINING = {COMPOSED.name: COMPOSED_TRAINING, PREFIX_LM.name: PREFIX_LM_TRAINING}


@dataclass(frozen=True)
class Backbone:
    """Pre-trained weights to start every round from.

    name: what a run's settings call it. source: a hub id or a directory. training: TrainerConfig fields that suit it
    better than the paper's values.
    """

    name: str
    source: str
    training: Mapping[str, Any] = field(default_factory=dict)


def resolve(name: str, cache: Path, *, thorough: bool = False) -> Backbone:
    """The backbone that --model names. What has to be made is made once, and checked when it is used again: by the
    files' sizes or, if thorough, by their SHA-256 too.

    Raises InputError for a model that cannot write explanations, for halves that do not compose, and for a directory
    or a hub id that is not there.
    """
    if name in COMPOSITIONS:
        return Backbone(name, str(prepared(name, cache, thorough=thorough)), COMPOSITIONS[name].training)
    if "+" in name and not Path(name).expanduser().is_dir():
        return _composed(name, cache, thorough=thorough)
    source = _source(name)
    config = _config(source)
    family = family_of(config)
    if family is None:
        raise InputError(
            f"model {source} is of type {config.model_type}, which alone cannot write explanations; give an "
            "encoder-decoder (T5, BART), a causal language model (Llama, GPT-2), or compose an encoder with one: "
            f"ENCODER+DECODER; the model that needs no hub is {DEFAULT}"
        )
    return Backbone(source, source, TRAINING.get(family.name, {}))


def identity(source: str, cache: Path) -> object:
    """What tells two sources of one name apart, as plain values: the place of what this cache made, whose name says
    how; all files of another directory, read every time, for they may have changed; the hub's commit."""
    directory = Path(source)
    if any(directory.is_relative_to(cache / kept) for kept in ("parts", "backbones", "adapted")):
        return directory.relative_to(cache).as_posix()
    if directory.is_dir():
        files = (path for path in directory.rglob("*") if path.is_file())
        return sorted((path.relative_to(directory).as_posix(), data_hash(path)) for path in files)
    return [source, getattr(_config(source), "_commit_hash", None)]


def prepare(name: str, cache: Path) -> Path:
    """The directory of an offline backbone or of ENCODER+DECODER: fetched, converted, composed if need be, and every
    file checked by its SHA-256. Raises InputError for a name that stands for something else, which needs no making."""
    if name not in COMPOSITIONS and "+" not in name:
        raise InputError(f"{name}: nothing to prepare; expected {', '.join(COMPOSITIONS)} or ENCODER+DECODER")
    return Path(resolve(name, cache, thorough=True).source)


def listing(cache: Path) -> str:
    """The offline backbones, and what else was composed: what they are, whether they are prepared, where."""
    blocks = [_described(name, composition, cache) for name, composition in COMPOSITIONS.items()]
    own = {place(name, cache) for name in COMPOSITIONS}
    found = sorted((cache / "backbones").glob("[!.]*+*")) if (cache / "backbones").is_dir() else []
    blocks += [f"{path.name.rpartition('-')[0]}\n  {_state(path)}" for path in found if path not in own]
    return "\n".join(blocks)


def _described(name: str, composition: Composition, cache: Path) -> str:
    directory = place(name, cache)
    if directory.exists():
        state = _state(directory)
    else:
        state = f"not prepared; about {composition.disk_mb} MB, will be in {directory}"
    parts = f"made of {', '.join(composition.parts)} (download {composition.download_mb} MB, {composition.licence})"
    default = " (the default)" if name == DEFAULT else ""
    return f"{name}{default}\n  {composition.about}\n  {parts}\n  {state}"


def _state(directory: Path) -> str:
    if reason := damage(directory):
        return f"damaged: {reason}; in {directory}"
    return f"prepared: {size(directory) / 1e6:.0f} MB in {directory}"


def _source(name: str) -> str:
    """A directory's absolute path, which names the same model from anywhere; a hub id as it is."""
    local = Path(name).expanduser()
    return str(local.absolute()) if local.is_dir() else name


def _config(source: str) -> Any:
    """Read the configuration alone: a wrong kind of model gets a better message than loading it would give."""
    offline = f"the model that needs no hub is {DEFAULT}"
    if source.startswith(("/", ".", "~")) and not Path(source).is_dir():
        raise InputError(f"model {source}: no such directory; {offline}")
    try:
        return AutoConfig.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"model {source}: no configuration of a model there, or no way to the hub ({reason}); {offline}"
        ) from None


@dataclass(frozen=True)
class _Half:
    """One side of ENCODER+DECODER: its name in a run's settings, where it is, its configuration."""

    name: str
    source: str
    config: Any

    def __str__(self) -> str:
        family = family_of(self.config)
        return f"{self.name} (type {self.config.model_type}{f', {family.name}' if family else ''})"


def _half(name: str, cache: Path) -> _Half:
    source = str(HALVES[name](cache)) if name in HALVES else _source(name)
    return _Half(name if name in HALVES else source, source, _config(source))


def _composed(name: str, cache: Path, *, thorough: bool) -> Backbone:
    """ENCODER+DECODER, composed once into a directory whose name changes when one of the halves does."""
    names = name.split("+")
    if len(names) != 2 or not all(names):
        raise InputError(
            f"model {name}: expected ENCODER+DECODER, each a hub id, a directory without + in its path, or one of "
            f"{', '.join(HALVES)}"
        )
    encoder, decoder = (_half(half, cache) for half in names)
    if family_of(encoder.config) is not None or type(encoder.config) not in MODEL_MAPPING:
        raise InputError(
            f"model {name}: {encoder} cannot be the encoder; expected one such as BERT, MiniLM, DeBERTa or ModernBERT "
            "(a model that can write explanations is named alone)"
        )
    if family_of(decoder.config) is not PREFIX_LM:
        raise InputError(
            f"model {name}: {decoder} cannot be the decoder; expected a causal language model such as Llama or GPT-2"
        )

    def make(directory: Path) -> None:
        for half in (encoder, decoder):
            if half.name in HALVES:
                HALVES[half.name](cache, thorough=True)
        try:
            compose(encoder.source, decoder.source, directory)
        except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"model {name}: the halves cannot be loaded and composed: {reason}") from None

    content = json.dumps([COMPOSED_RECIPE, identity(encoder.source, cache), identity(decoder.source, cache)])
    digest = hashlib.sha256(content.encode()).hexdigest()[:12]
    short = f"{Path(encoder.name).name}+{Path(decoder.name).name}"
    directory = sealed(cache / "backbones" / f"{short}-{digest}", make, thorough=thorough)
    return Backbone(f"{encoder.name}+{decoder.name}", str(directory), COMPOSED_TRAINING)
