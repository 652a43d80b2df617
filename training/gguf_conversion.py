"""A causal language model out of a GGUF file: a plain transformers directory, converted once, in float32.

transformers reads GGUF itself, slowly and with three things missing that the conversion sees to: the model that it
gives cannot be saved, the tokenizer splits texts before its merges by GPT-2's rule whatever the file says, and the
context length is not the tokenizer's.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import io
import sys
from pathlib import Path

import torch
from tokenizers.pre_tokenizers import ByteLevel, Digits, PreTokenizer
from tokenizers.pre_tokenizers import Sequence as Steps
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from service.model.errors import InputError

NEEDS = ("gguf", "accelerate")


def convert(file: Path, directory: Path) -> None:
    """Fill ``directory`` with the model and the tokenizer of a GGUF file, as ``from_pretrained`` loads them.

    Weights are dequantised to float32 and not otherwise changed: the logits are those of the file's model.
    Raises InputError where a package for reading GGUF is not installed, or the tokenizer is of a kind not known here.
    """
    if missing := [name for name in NEEDS if importlib.util.find_spec(name) is None]:
        raise InputError(
            f"reading {file.name} needs {' and '.join(missing)}: pip install --constraint constraints.txt '.[train]'"
        )
    print(f"converting {file.name}, once; half a minute", file=sys.stderr, flush=True)
    splitting = _splitting_rule(file)
    with contextlib.redirect_stderr(io.StringIO()):  # a progress bar that transformers draws even where it shall not
        model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    tokenizer.backend_tokenizer.pre_tokenizer = splitting
    tokenizer.model_max_length = model.config.max_position_embeddings
    _plain(model).save_pretrained(directory)
    _save(tokenizer, directory)


def _plain(model: PreTrainedModel) -> PreTrainedModel:
    """The same model, without the mark of a quantised one, which transformers does not save."""
    config = copy.deepcopy(model.config)
    del config.quantization_config
    with torch.random.fork_rng(devices=[]):  # its first weights are random, and replaced at once
        plain = type(model)(config)
    plain.load_state_dict(model.state_dict())
    plain.generation_config = model.generation_config
    return plain


def _save(tokenizer: PreTrainedTokenizerBase, directory: Path) -> None:
    # transformers would keep where the tokenizer was read from, a path of this machine's cache.
    for name in ("name_or_path", "vocab_file", "is_local", "local_files_only"):
        tokenizer.init_kwargs.pop(name, None)
    tokenizer.save_pretrained(directory)


def _splitting_rule(file: Path) -> PreTokenizer:
    """How the file's tokenizer splits a text before its merges are applied."""
    import gguf

    field = gguf.GGUFReader(file).get_field("tokenizer.ggml.pre")
    name = field.contents() if field else "gpt-2"
    by_bytes = ByteLevel(add_prefix_space=False, use_regex=True)
    rules = {"gpt-2": by_bytes, "smollm": Steps([Digits(individual_digits=True), by_bytes])}
    if name not in rules:
        raise InputError(f"{file}: its tokenizer is of the kind {name!r}; only {', '.join(rules)} can be converted")
    return rules[name]
