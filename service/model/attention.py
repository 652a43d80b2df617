"""How a decoder is told who sees whom, and attention that suits the beams of a search."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask


def attended(decoder: PreTrainedModel, visible: Tensor) -> Tensor:
    """Who sees whom, as the decoder's attention takes it. (batch, 1, query, key) bool -> the same shape."""
    # Written-out attention (Gemma 2, GPT-Neo, GPT-OSS) adds the mask to its scores, where true would count as 1.
    return visible if decoder.config._attn_implementation == "sdpa" else added(decoder, visible)


def added(decoder: PreTrainedModel, visible: Tensor) -> Tensor:
    """The same as numbers to add to any attention's scores."""
    dtype = decoder.dtype
    return torch.zeros_like(visible, dtype=dtype).masked_fill(~visible, torch.finfo(dtype).min)


ATTENTION = "xal_tree"  # the name that transformers knows it by


@contextmanager
def tree_attention(decoder: PreTrainedModel) -> Iterator[None]:
    """Inside, a decoder that would use torch's fused attention uses it as it suits the beams of a search.

    A half that shares its configuration with the decoder may run at the same time: it finds the same numbers.
    """
    config = decoder.config
    before = config._attn_implementation
    if before == "sdpa":
        AttentionInterface.register(ATTENTION, _attention)
        AttentionMaskInterface.register(ATTENTION, sdpa_mask)
        config._attn_implementation = ATTENTION
    try:
        yield
    finally:
        config._attn_implementation = before


def _attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **rest: Any
) -> tuple[Tensor, None]:
    """Heads that share keys stand below each other, as if they were more queries, instead of having many keys copied
    for a few queries. query: (slots, heads, beams, width) -> (slots, beams, heads, width)."""
    slots, heads, beams, width = query.shape
    shared = key.shape[1]
    if heads == shared or attention_mask is None or beams > key.shape[2] // 2:
        output: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **rest)
        return output
    attended = F.scaled_dot_product_attention(
        query.reshape(slots, shared, -1, width),
        key,
        value,
        attn_mask=attention_mask.repeat(1, 1, heads // shared, 1),
        dropout_p=rest.get("dropout", 0.0),
        scale=rest.get("scaling"),
    )
    return attended.reshape(slots, heads, beams, width).transpose(1, 2), None
