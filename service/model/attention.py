"""How a decoder is told who sees whom, and attention that suits the beams of a search."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask


def attended(decoder: PreTrainedModel, visible: Tensor) -> Tensor:
    """Who sees whom, as the decoder's attention takes it. (batch, 1, query, key) bool -> the same shape."""
    if decoder.config._attn_implementation == "sdpa":
        return visible
    # Written-out attention (Gemma 2, GPT-Neo, GPT-OSS) adds the mask to its scores, where true would count as 1.
    dtype = decoder.dtype
    return torch.zeros_like(visible, dtype=dtype).masked_fill(~visible, torch.finfo(dtype).min)


ATTENTION = "xal_tree"  # the name that transformers knows it by
FEW = 16  # queries of a text, up to which this is the faster way


@contextmanager
def tree_attention(decoder: PreTrainedModel) -> Iterator[None]:
    """Inside, a decoder that would use torch's fused attention uses what suits the beams of a search.

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
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    position_bias: Tensor | None = None,
    **rest: Any,
) -> tuple[Tensor, None]:
    """Attention of a few queries to many keys. Heads that share keys stand below each other, as if they were more
    queries, instead of having the keys copied. query: (slots, heads, beams, width) -> (slots, beams, heads, width)."""
    slots, heads, beams, width = query.shape
    if attention_mask is None or attention_mask.dtype != torch.bool or beams > FEW or dropout:
        output: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, position_bias=position_bias, **rest
        )
        return output
    shared = key.shape[1]
    query = (query * (width**-0.5 if scaling is None else scaling)).reshape(slots, shared, -1, width)
    scores = (query @ key.transpose(-1, -2)).view(slots, heads, beams, -1)
    if position_bias is not None:
        scores = scores + position_bias
    scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    weights = scores.softmax(dim=-1, dtype=torch.float32).to(value.dtype).view(slots, shared, -1, key.shape[2])
    return (weights @ value).view(slots, heads, beams, width).transpose(1, 2), None
