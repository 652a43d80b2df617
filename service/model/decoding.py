"""Beam search: the top-1 hypothesis for each text of a memory, and its score by Eq. 6.

A search holds some texts at a time, each in a slot; one whose hypothesis is found leaves its slot to the next, so that
short explanations do not wait for long ones. The search is that of transformers' ``generate`` with early_stopping and
a length_penalty of 1: of all continuations of a text's beams the best 2 * num_beams are looked at; those of the first
num_beams that end are finished hypotheses, ranked by their mean log-probability (Eq. 6); the best others go on; as soon
as num_beams are finished, or the longest length is reached, the best finished one is the text's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from service.model.encoding import batches_by_length, pad
from service.model.network import Memory, Network
from service.model.scoring import explanation_score
from service.model.tree import Opening, Tree

SCORED_TOKENS = 1024  # scored at once, cues included: most have a row of logits over the whole vocabulary
TREE_TOKENS = 8192  # keys and values of one layer that a search holds at once
NEVER = -1.0e9  # a score that no hypothesis has


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


class Search:
    """A beam search over as many texts at a time as there are slots.

    ``admit`` gives texts to free slots, ``step`` writes one token of every beam, ``collect`` takes out what is found.
    """

    def __init__(self, network: Network, decoding: Decoding, slots: int) -> None:
        self.network, self.decoding = network, decoding
        beams, length, device = decoding.num_beams, decoding.max_new_tokens, network.device
        self.tree: Tree | None = None
        self.texts: list[int | None] = [None] * slots  # who has the slot
        self.tokens = torch.zeros(slots, beams, length, dtype=torch.long, device=device)  # of the running beams
        self.scores = torch.zeros(slots, beams, device=device)  # their summed log-probabilities
        self.steps = torch.ones(slots, dtype=torch.long, device=device)  # tokens that they have
        self.first = torch.zeros(slots, dtype=torch.long, device=device)  # position of the first one
        self.finished = torch.zeros(slots, dtype=torch.long, device=device)  # how many hypotheses are
        self.best = torch.full((slots,), NEVER, device=device)  # Eq. 6 of the best finished one
        self.best_tokens = torch.zeros(slots, length, dtype=torch.long, device=device)
        self.best_length = torch.zeros(slots, dtype=torch.long, device=device)

    @property
    def free(self) -> list[int]:
        """Slots without a text."""
        return [slot for slot, text in enumerate(self.texts) if text is None]

    @property
    def busy(self) -> bool:
        """Whether any slot has a text."""
        return any(text is not None for text in self.texts)

    def admit(self, slots: Sequence[int], texts: Sequence[int], opening: Opening) -> None:
        """Let texts begin in free slots. texts: numbers to know them by."""
        if self.tree is None:
            self.tree = Tree(opening, len(self.texts), self.decoding.num_beams, self.decoding.max_new_tokens)
        for slot, text in zip(slots, texts, strict=True):
            self.texts[slot] = text
        rows = torch.tensor(slots, device=self.network.device)
        self.tree.admit(rows, opening)
        self.first[rows] = opening.first
        self.steps[rows], self.finished[rows], self.best[rows] = 0, 0, NEVER
        # So far there is one beam of no tokens; what it sees, all that go on from it see.
        self._choose(rows, opening.logits.unsqueeze(1), self.scores.new_zeros(len(rows), 1))

    def step(self) -> None:
        """Write one token of every beam."""
        assert self.tree is not None
        written = self.steps - 1  # those that the decoder has read
        self.tree.write(written, int(written.max()), self.first + written)
        latest = self.tokens.gather(2, written[:, None, None].expand(-1, self.tokens.shape[1], 1)).squeeze(2)
        logits = self.network.grow(self.tree, latest)  # (slots, beams, vocab)
        self.tree.follow(self._choose(torch.arange(len(self.texts), device=logits.device), logits, self.scores))

    def collect(self) -> list[tuple[int, list[int], float]]:
        """(text, tokens, Eq. 6) of every hypothesis that is found; its slot is free."""
        over = (self.finished >= self.decoding.num_beams) | (self.steps >= self.decoding.max_new_tokens)
        found = []
        for slot in over.nonzero().flatten().tolist():
            text = self.texts[slot]
            if text is not None:
                found.append((text, self.best_tokens[slot, : self.best_length[slot]].tolist(), float(self.best[slot])))
                self.texts[slot] = None
            self.steps[slot] = 1  # it goes on with nothing, for rows are computed together
        return found

    def shrink(self) -> None:
        """Let go of the free slots."""
        kept = [slot for slot, text in enumerate(self.texts) if text is not None]
        rows = torch.tensor(kept, device=self.network.device)
        self.texts = [self.texts[slot] for slot in kept]
        for name in ("tokens", "scores", "steps", "first", "finished", "best", "best_tokens", "best_length"):
            setattr(self, name, getattr(self, name)[rows])
        if self.tree is not None:
            self.tree.keep(rows)

    def _choose(self, rows: Tensor, logits: Tensor, scores: Tensor) -> Tensor:
        """Continue the beams of some slots. logits: (n, beams, vocab) of the next token. scores: (n, beams), the beams'
        own. -> (n, num_beams), the beam that each of the new ones goes on from."""
        num_beams, longest = self.decoding.num_beams, self.decoding.max_new_tokens
        total, parents, tokens = _continuations(logits, scores, 2 * num_beams)  # (n, 2 * num_beams) each, best first
        steps = self.steps[rows].unsqueeze(1)
        ends = (tokens == self.network.eos_id) | (steps + 1 >= longest)
        before = self.tokens[rows]  # (n, beams, length)

        # Of those among the first num_beams that end, the best.
        first = torch.arange(total.shape[1], device=total.device) < num_beams
        counts = ends & first & (total > NEVER) & (self.finished[rows] < num_beams).unsqueeze(1)
        value, which = (total / (steps + 1)).masked_fill(~counts, NEVER).max(dim=1, keepdim=True)
        better = value > self.best[rows].unsqueeze(1)  # (n, 1)
        hypothesis = _longer(before, parents.gather(1, which), tokens.gather(1, which), steps).squeeze(1)
        self.best_tokens[rows] = torch.where(better, hypothesis, self.best_tokens[rows])
        self.best_length[rows] = torch.where(better, steps + 1, self.best_length[rows].unsqueeze(1)).squeeze(1)
        self.best[rows] = torch.maximum(value.squeeze(1), self.best[rows])
        self.finished[rows] += counts.sum(dim=1)

        # Of the others, the num_beams best go on.
        self.scores[rows], going_on = total.masked_fill(ends, NEVER).topk(num_beams, dim=1)
        parents, tokens = parents.gather(1, going_on), tokens.gather(1, going_on)
        self.tokens[rows] = _longer(before, parents, tokens, steps)
        self.steps[rows] += 1
        return parents


def _continuations(logits: Tensor, scores: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """The best continuations of each text's beams by one token: their summed log-probabilities, best first, the beams
    that they go on from, and the tokens. (n, beams, vocab), (n, beams) -> (n, size) each; NEVER where there are fewer.
    """
    logits = logits.float()
    of_beam, tokens = logits.topk(min(size, logits.shape[-1]), dim=-1)  # (n, beams, k)
    total = scores.unsqueeze(-1) + of_beam - logits.logsumexp(dim=-1, keepdim=True)
    if (missing := size - total[0].numel()) > 0:
        total, tokens = F.pad(total.flatten(1), (0, missing), value=NEVER), F.pad(tokens.flatten(1), (0, missing))
    best, index = total.flatten(1).topk(size, dim=1)
    return best, (index // of_beam.shape[-1]).clamp(max=logits.shape[1] - 1), tokens.flatten(1).gather(1, index)


def _longer(written: Tensor, parents: Tensor, tokens: Tensor, steps: Tensor) -> Tensor:
    """Beams longer by a token. written: (n, beams, length). parents, tokens: (n, k). steps: (n, 1), where the token
    stands. -> (n, k, length)."""
    chosen = written.gather(1, parents.unsqueeze(2).expand(-1, -1, written.shape[2]))
    return chosen.scatter(2, steps.unsqueeze(1).expand(-1, tokens.shape[1], 1), tokens.unsqueeze(2))


def beam_search(
    network: Network, memory: Memory, decoding: Decoding, labels: Sequence[int] | None = None
) -> Hypotheses:
    """Top-1 hypotheses by beam search over a memory, with their Eq. 6.

    labels: the label that each text's explanation is given, where the network is conditioned on labels.
    """
    given = None if labels is None else torch.tensor(labels)
    cues = network.cues_of(given, len(memory.mask))
    waiting = deque(range(len(cues)))
    tokens: list[list[int]] = [[]] * len(cues)
    scores = [0.0] * len(cues)
    room = TREE_TOKENS // (decoding.num_beams * decoding.max_new_tokens + memory.mask.shape[1])
    search = Search(network, decoding, min(len(cues), max(1, room)))
    while waiting or search.busy:
        if waiting:
            free = search.free
            entering: dict[tuple[int, ...], list[int]] = {}  # texts with one cue are read together
            for _ in range(min(len(free), len(waiting))):
                text = waiting.popleft()
                entering.setdefault(cues[text], []).append(text)
            for cue, texts in entering.items():
                slots, free = free[: len(texts)], free[len(texts) :]
                search.admit(slots, texts, network.begin(memory, torch.tensor(texts, device=network.device), cue))
        for text, found, score in search.collect():
            tokens[text], scores[text] = found, score
        if search.busy:
            if not waiting and 2 * len(search.free) >= len(search.texts):
                search.shrink()
            search.step()
    return Hypotheses(tokens, scores)


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
