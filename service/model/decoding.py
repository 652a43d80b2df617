"""Beam search: the top-1 hypothesis for each text of a memory, and its score by Eq. 6."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from service.model.encoding import batches_by_length, pad
from service.model.network import Memory, Network
from service.model.scoring import explanation_score

SCORED_TOKENS = 1024  # scored at once, cues included: most have a row of logits over the whole vocabulary


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


def beam_search(
    network: Network, memory: Memory, decoding: Decoding, labels: Sequence[int] | None = None
) -> Hypotheses:
    """Top-1 hypotheses by beam search over a memory, scored by Eq. 6 from their tokens' log-probabilities.

    labels: the label that each text's explanation is given, where the network is conditioned on labels. The search's
    own scores are not used: what length ``generate`` divides by has differed between versions of transformers.
    """
    memory = network.remember(memory)
    given = None if labels is None else torch.tensor(labels)
    by_cue: dict[tuple[int, ...], list[int]] = {}  # one search for each cue, as all rows of a search begin alike
    for row, cue in enumerate(network.cues_of(given, len(memory.mask))):
        by_cue.setdefault(cue, []).append(row)
    tokens: list[list[int]] = [[]] * len(memory.mask)
    for cue, rows in by_cue.items():
        part = memory if len(by_cue) == 1 else memory.select(torch.tensor(rows, device=network.device))
        found = network.search(part, cue, decoding.num_beams, decoding.max_new_tokens)
        for row, ids in zip(rows, found, strict=True):
            tokens[row] = _until_end(ids, network.eos_id)
    return Hypotheses(tokens, score_explanations(network, memory, range(len(tokens)), tokens, labels))


def score_explanations(
    network: Network,
    memory: Memory,
    owners: Sequence[int],
    explanations: Sequence[Sequence[int]],
    labels: Sequence[int] | None = None,
) -> list[float]:
    """Eq. 6 of each explanation under the memory of the text that it is about.

    owners: for each explanation, its text's row in the memory. explanations: token ids, end-of-sequence last. labels:
    the label that each explanation is given, where the network is conditioned on labels.
    """
    memory = network.remember(memory) if explanations else memory
    scores = [0.0] * len(explanations)
    cue = max(map(len, network.cues)) - 1  # what the decoder reads of it has logits too
    for group in batches_by_length([cue + len(tokens) for tokens in explanations], SCORED_TOKENS):
        batch = pad([explanations[index] for index in group], network.pad_id, network.device)
        rows = torch.tensor([owners[index] for index in group], device=network.device)
        given = None if labels is None else torch.tensor([labels[index] for index in group])
        log_probs = network.explanation_log_probs(memory, batch, rows, given)
        for index, score in zip(group, explanation_score(log_probs, batch.mask).tolist(), strict=True):
            scores[index] = score
    return scores


def _until_end(tokens: list[int], eos_id: int) -> list[int]:
    return tokens[: tokens.index(eos_id) + 1] if eos_id in tokens else tokens
