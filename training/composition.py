"""A composed backbone: any encoder and any causal language model, written into one directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from service.model.composed import ComposedModel
from service.model.encoding import DECODER
from service.model.prefix import writes


def compose(encoder: str | Path, decoder: str | Path, directory: Path) -> None:
    """Write a composed model and its tokenizers into a directory, the bridge drawn with seed 0.

    encoder, decoder: hub ids or directories. Raises OSError or ValueError as transformers does for what it cannot load,
    and ValueError for a decoder that is no causal language model.
    """
    local: dict[str, Any] = {"trust_remote_code": False}
    config = AutoConfig.from_pretrained(str(decoder), **local)
    if not writes(config):
        raise ValueError(f"a model of type {config.model_type} cannot write explanations; give a causal language model")
    halves: dict[str, Any] = {**local, "use_safetensors": True, "dtype": torch.float32}
    tokenizer = AutoTokenizer.from_pretrained(str(decoder), **local)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = ComposedModel.of(
            AutoModel.from_pretrained(str(encoder), **halves),
            AutoModelForCausalLM.from_pretrained(str(decoder), **halves),
            *conversation(tokenizer),
        )
    model.save_pretrained(directory)
    AutoTokenizer.from_pretrained(str(encoder), **local).save_pretrained(directory)
    tokenizer.save_pretrained(directory / DECODER)


def conversation(tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
    """(opening, closing): what a chat model's template puts before a user's message, and before its own answer.

    Other models begin with their first token, if they have one, and answer on a new line.
    """
    if tokenizer.chat_template is None:
        return tokenizer.bos_token or "", "\n"
    message = "the message"
    turns = [{"role": "system", "content": ""}, {"role": "user", "content": message}]
    try:  # an empty system message instead of a template's own long one; not every model knows such messages
        whole = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    except (TemplateError, ValueError):
        whole = tokenizer.apply_chat_template(turns[1:], tokenize=False, add_generation_prompt=True)
    opening, _, closing = str(whole).partition(message)
    return opening, closing
