"""Beam search: the top-1 hypothesis for each text of a memory, and its score by Eq. 6."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutput

from service.model.encoding import TokenBatch
from service.model.network import Memory, Network
from service.model.scoring import explanation_score


@dataclass(frozen=True)
class Decoding:
    """How explanations are generated. num_beams: >= 1 (1 is greedy). max_new_tokens: >= 1, end token included."""

    num_beams: int
    max_new_tokens: int


@dataclass(frozen=True)
class Hypotheses:
    """tokens: the top-1 hypothesis of each text, end-of-sequence token included if reached. scores: (batch,), Eq. 6."""

    tokens: list[list[int]]
    scores: Tensor


def beam_search(network: Network, memory: Memory, decoding: Decoding) -> Hypotheses:
    """Top-1 hypotheses by beam search over a memory, scored by Eq. 6 from their tokens' log-probabilities.

    The search ranks hypotheses by summed log-probability over length (length_penalty 1) and stops as soon as it has
    ``num_beams`` finished ones. Its own ``sequences_scores`` are not used: what length they divide by has differed
    between versions of transformers.
    """
    sequences = network.backbone.generate(
        encoder_outputs=BaseModelOutput(last_hidden_state=memory.states),
        attention_mask=memory.mask.long(),
        num_beams=decoding.num_beams,
        max_new_tokens=decoding.max_new_tokens,
        early_stopping=decoding.num_beams > 1,
        length_penalty=1.0,
        do_sample=False,
    )  # (batch, 1 + length), the start token first
    tokens = [_until_end(row, network.eos_id) for row in sequences[:, 1:].tolist()]
    longest = max(len(row) for row in tokens)
    ids = torch.full((len(tokens), longest), network.pad_id, dtype=torch.long)
    mask = torch.zeros((len(tokens), longest), dtype=torch.bool)
    for index, row in enumerate(tokens):
        ids[index, : len(row)] = torch.tensor(row)
        mask[index, : len(row)] = True
    explanations = TokenBatch(ids.to(network.device), mask.to(network.device))
    log_probs = network.explanation_log_probs(memory, explanations)
    return Hypotheses(tokens, explanation_score(log_probs, explanations.mask))


def _until_end(tokens: list[int], eos_id: int) -> list[int]:
    return tokens[: tokens.index(eos_id) + 1] if eos_id in tokens else tokens
