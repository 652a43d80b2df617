"""Decoder-only language models: the text stands before the explanation, and the keys and values of it are the memory.

Three ways to the same numbers: the prefix computed once and its cache given to every explanation and beam (here), all
explanations of a text packed behind one prefix in a single pass (composed.py, for training), or each sequence alone.
"""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    DynamicCache,
    GenerationConfig,
    PreTrainedModel,
)

from service.model.attention import added, tree_attention
from service.model.encoding import TextEncoder, TokenBatch
from service.model.errors import InputError
from service.model.network import Branches, Conditioning, Memory, Network, positions
from service.model.scoring import token_log_probs
from service.model.task import Task
from service.model.tree import Opening, Tree


@dataclass(frozen=True)
class Prefix:
    """What a decoder keeps of the tokens before an explanation.

    cache: keys and values of every layer, (batch, heads, prefix, head width). mask: (batch, prefix) bool, false where
    padding stands, which may be anywhere in a row but at its first place.
    """

    cache: DynamicCache
    mask: Tensor

    def select(self, rows: Tensor) -> Prefix:
        """The prefixes of the given texts, a row per entry (repeats allowed). rows: (n,) int64."""
        cache = DynamicCache()
        for number, layer in enumerate(self.cache.layers):
            cache.update(layer.keys.index_select(0, rows), layer.values.index_select(0, rows), number)
        return Prefix(cache, self.mask.index_select(0, rows))


@dataclass(frozen=True)
class PrefixMemory(Memory):
    """A memory whose decoder has read the text, or can. text: the decoder's tokens of it. prefix: None until read."""

    text: TokenBatch
    prefix: Prefix | None

    def select(self, rows: Tensor) -> PrefixMemory:
        encoded = super().select(rows)
        text = TokenBatch(self.text.ids.index_select(0, rows), self.text.mask.index_select(0, rows))
        prefix = self.prefix.select(rows) if self.prefix else None
        return PrefixMemory(encoded.states, encoded.mask, encoded.h0, text, prefix)


class PrefixNetwork(Network):
    """A network whose decoder is a causal language model. longest_prefix: tokens it reads before a cue, at most."""

    longest_prefix: int

    @property
    @abstractmethod
    def decoder(self) -> PreTrainedModel:
        """The causal language model itself."""

    def read(self, memory: PrefixMemory) -> Prefix:
        """The memory's prefix. Raises ValueError where ``remember`` has not been called."""
        if memory.prefix is None:
            raise ValueError("the decoder has not read the texts of this memory; call remember first")
        return memory.prefix

    def cached_log_probs(self, prefix: Prefix, branches: Branches, length: int) -> Tensor:
        """Explanations behind prefixes that have been read, a row of each for every explanation. -> (n, length)."""
        before = int(branches.first.min())  # of the cue alone: no logits are needed
        logits = self.decoder(
            input_ids=branches.ids,
            attention_mask=torch.cat([prefix.mask, branches.mask], dim=1).long(),
            past_key_values=prefix.cache,
            use_cache=True,
            logits_to_keep=branches.ids.shape[1] - before,
            position_ids=behind(prefix.mask, branches.ids.shape[1]),
        ).logits  # (n, width - before, vocab)
        log_probs = token_log_probs(logits, branches.targets[:, before:])
        return branches.explanations(F.pad(log_probs, (before, 0)), length)

    def begin(self, memory: Memory, rows: Tensor, cue: Sequence[int]) -> Opening:
        assert isinstance(memory, PrefixMemory)
        prefix = self.read(memory).select(rows)
        ids = torch.tensor([cue] * len(rows), device=self.device)
        numbers = behind(prefix.mask, len(cue))
        mask = torch.cat([prefix.mask, torch.ones_like(ids, dtype=torch.bool)], dim=1)
        logits = self.decoder(
            input_ids=ids,
            attention_mask=mask.long(),
            past_key_values=prefix.cache,
            use_cache=True,
            logits_to_keep=1,
            position_ids=numbers,
        ).logits
        return Opening(prefix.cache, mask, torch.cat([places(prefix.mask), numbers], dim=1), logits[:, -1])

    def grow(self, tree: Tree, tokens: Tensor) -> Tensor:
        mask = added(self.decoder, tree.mask)
        with tree_attention(self.decoder):
            logits: Tensor = self.decoder(
                input_ids=tokens,
                attention_mask=mask,
                past_key_values=tree,
                use_cache=True,
                position_ids=tree.positions,
            ).logits
        return logits


def places(mask: Tensor) -> Tensor:
    """Position of every token of a row, padding not counted. (batch, length) bool -> (batch, length)."""
    return (mask.long().cumsum(dim=1) - 1).clamp(min=0)


def behind(mask: Tensor, length: int) -> Tensor:
    """Positions of ``length`` tokens that follow the tokens of a mask. (batch, prefix) bool -> (batch, length)."""
    return mask.sum(dim=1, keepdim=True) + torch.arange(length, device=mask.device)


def cues(encoder: TextEncoder, conditioning: Conditioning, closing: str) -> list[tuple[int, ...]]:
    """What stands between a text and its explanation: what the teacher was told of each label, where one is given.

    closing: what the model expects between a question and its answer.
    """
    labels = [None] if conditioning == "none" else encoder.task.label_ids
    return [encoder.decoder_tokens(f"\n{encoder.task.instruction(label)}{closing}") for label in labels]


def writes(config: Any) -> bool:
    """Whether a configuration is that of a causal language model that can be given a cache and positions."""
    # BERT and its kin have a head for it, but were trained to fill gaps, and number their positions as they like.
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING or type(config) in MODEL_FOR_MASKED_LM_MAPPING:
        return False
    takes = inspect.signature(MODEL_FOR_CAUSAL_LM_MAPPING[type(config)].forward).parameters
    # Recurrent layers (Mamba, Qwen3-Next) keep no keys to share; without position ids (BLOOM, MPT) padding would count.
    kinds = {"full_attention", "sliding_attention", *_layer_types(config)}
    return {"past_key_values", "position_ids"} <= set(takes) and len(kinds) == 2


def room(decoder_config: Any, before: int, cues: Sequence[Sequence[int]]) -> int | None:
    """The longest explanation behind ``before`` tokens of text and the longest cue; None where there is no end.

    All must fit a sliding window, too: what leaves it depends on the padding of a cached prefix, and on packing.
    """
    ends = [end for end in (positions(decoder_config), _window(decoder_config)) if end is not None]
    return min(ends) - before - max(map(len, cues)) + 1 if ends else None


def check_room(network: PrefixNetwork, task: Task) -> None:
    """Raise InputError where text, cue and explanation do not fit the decoder together."""
    end = network.decoder_positions
    if end is not None and task.max_explanation_tokens > end:
        needed = network.longest_prefix + max(map(len, network.cues)) + task.max_explanation_tokens - 1
        raise InputError(
            f"task: max_input_tokens {task.max_input_tokens} and max_explanation_tokens {task.max_explanation_tokens} "
            f"take {needed} tokens of the decoder, which reads {needed - task.max_explanation_tokens + end}; "
            "lower one of them"
        )


def _window(decoder_config: Any) -> int | None:
    """How far back the layers see that see least; None where all see everything."""
    if _layer_types(decoder_config) == {"full_attention"}:
        return None
    named = (getattr(decoder_config.get_text_config(), name, None) for name in ("sliding_window", "window_size"))
    return min((size for size in named if isinstance(size, int)), default=None)


def _layer_types(decoder_config: Any) -> set[str]:
    return set(getattr(decoder_config.get_text_config(), "layer_types", None) or [])


def plain_generation(decoder: PreTrainedModel, eos_id: int, pad_id: int) -> None:
    """Forget a checkpoint's own generation settings: the hypothesis is the model's most probable explanation."""
    decoder.generation_config = GenerationConfig(eos_token_id=eos_id, pad_token_id=pad_id)
