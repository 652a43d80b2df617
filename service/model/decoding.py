"""Beam search: the top-1 hypothesis for each text of a memory, and its score by Eq. 6."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers.modeling_outputs import BaseModelOutput

from service.model.encoding import batches_by_length, pad
from service.model.network import Memory, Network
from service.model.scoring import explanation_score

SCORED_TOKENS = 1024  # explanation tokens scored at once: each has a row of logits over the whole vocabulary


@dataclass(frozen=True)
class Decoding:
    """How explanations are generated. num_beams: >= 1 (1 is greedy). max_new_tokens: >= 1, end token included.

    Raises ValueError for less.
    """

    num_beams: int
    max_new_tokens: int

    def __post_init__(self) -> None:
        if self.num_beams < 1 or self.max_new_tokens < 1:
            raise ValueError(f"num_beams and max_new_tokens must be at least 1, found {self}")


@dataclass(frozen=True)
class Hypotheses:
    """tokens: the top-1 hypothesis of each text, end-of-sequence token included if reached. scores: their Eq. 6."""

    tokens: list[list[int]]
    scores: list[float]


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
    return Hypotheses(tokens, score_explanations(network, memory, range(len(tokens)), tokens))


def score_explanations(
    network: Network, memory: Memory, owners: Sequence[int], explanations: Sequence[Sequence[int]]
) -> list[float]:
    """Eq. 6 of each explanation under the memory of the text that it is about.

    owners: for each explanation, its text's row in the memory. explanations: token ids, end-of-sequence last.
    """
    scores = [0.0] * len(explanations)
    for group in batches_by_length([len(tokens) for tokens in explanations], SCORED_TOKENS):
        batch = pad([explanations[index] for index in group], network.pad_id, network.device)
        rows = torch.tensor([owners[index] for index in group], device=network.device)
        log_probs = network.explanation_log_probs(memory.select(rows), batch)
        for index, score in zip(group, explanation_score(log_probs, batch.mask).tolist(), strict=True):
            scores[index] = score
    return scores


def _until_end(tokens: list[int], eos_id: int) -> list[int]:
    return tokens[: tokens.index(eos_id) + 1] if eos_id in tokens else tokens
