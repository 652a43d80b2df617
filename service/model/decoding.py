"""Beam search: the top-1 hypothesis for each text of a memory, and its score by Eq. 6.

A search holds some texts at a time, each in a slot; one whose hypothesis is found leaves its slot to the next, so that
short explanations do not wait for long ones. The search is that of transformers' ``generate`` with early_stopping and
a length_penalty of 1: of all continuations of a text's beams the best 2 * num_beams are looked at; those of the first
num_beams that end are finished hypotheses, ranked by their mean log-probability (Eq. 6); the best others go on; as soon
as num_beams are finished, or the longest length is reached, the best finished one is the text's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from service.model.encoding import batches_by_length, pad
from service.model.network import Memory, Network
from service.model.scoring import explanation_score
from service.model.tree import Opening, Tree, resized

SCORED_TOKENS = 1024  # scored at once, cues included: most have a row of logits over the whole vocabulary
PATIENCE = {"cpu": 1}  # steps between two looks at what is found; elsewhere 4, for a look waits for the device
CACHED_ROWS = 8  # of logits
BLOCK = 128  # tokens of the vocabulary, of which the highest logit is found first
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


class Found(NamedTuple):
    """A text's top-1 hypothesis. key: the text's. tokens: with the end-of-sequence token if it was reached. score:
    Eq. 6, NaN where the model gave no numbers."""

    key: int
    tokens: list[int]
    score: float


class Search:
    """A beam search over texts that come and go, each in a slot.

    ``admit`` texts, ``step`` to write one token of every beam, ``collect`` what is found. There are as many slots as
    texts were at work at once, until ``shrink``.
    """

    def __init__(self, network: Network, decoding: Decoding) -> None:
        self.network, self.decoding = network, decoding
        beams, length, device = decoding.num_beams, decoding.max_new_tokens, network.device
        self.tree: Tree | None = None
        self.texts: list[int | None] = []  # who has the slot
        self.written: list[int] = []  # what ``steps`` says, known without asking the device
        self.tokens = torch.zeros(0, beams, length, dtype=torch.long, device=device)  # of the running beams
        self.scores = torch.zeros(0, beams, device=device)  # their summed log-probabilities
        self.steps = torch.zeros(0, dtype=torch.long, device=device)  # tokens that they have
        self.first = torch.zeros(0, dtype=torch.long, device=device)  # position of the first one
        self.finished = torch.zeros(0, dtype=torch.long, device=device)  # how many hypotheses are
        self.best = torch.zeros(0, device=device)  # Eq. 6 of the best finished one
        self.best_tokens = torch.zeros(0, length, dtype=torch.long, device=device)
        self.best_length = torch.zeros(0, dtype=torch.long, device=device)

    @property
    def due(self) -> bool:
        """Whether it is time to ``collect``: a GPU works on while it is asked for nothing."""
        patience = PATIENCE.get(self.tokens.device.type, 4)
        return max(self.written) >= self.decoding.max_new_tokens or max(self.written) % patience == 0

    @property
    def free(self) -> list[int]:
        """Slots without a text."""
        return [slot for slot, text in enumerate(self.texts) if text is None]

    def admit(self, keys: Sequence[int], opening: Opening) -> None:
        """Let texts begin. keys: numbers to know them by."""
        if self.tree is None:
            self.tree = Tree(opening, self.decoding.num_beams, self.decoding.max_new_tokens)
        if (missing := len(keys) - len(self.free)) > 0:
            self._resize(list(range(len(self.texts))), len(self.texts) + missing)
        slots = self.free[: len(keys)]
        for slot, key in zip(slots, keys, strict=True):
            self.texts[slot], self.written[slot] = key, 1
        rows = torch.tensor(slots, device=self.network.device)
        self.tree.admit(rows, opening)
        self.first[rows] = opening.first
        self.steps[rows], self.finished[rows], self.best[rows] = 0, 0, NEVER
        # So far there is one beam of no tokens; what it sees, all that go on from it see.
        self._choose(rows, opening.logits.unsqueeze(1), self.scores.new_zeros(len(rows), 1))

    def step(self) -> None:
        """Write one token of every beam."""
        assert self.tree is not None
        latest = self.steps - 1  # the token that the decoder has not read yet
        self.tree.write(latest, max(self.written) - 1, self.first + latest)
        tokens = self.tokens.gather(2, latest[:, None, None].expand(-1, self.tokens.shape[1], 1)).squeeze(2)
        logits = self.network.grow(self.tree, tokens)  # (slots, beams, vocab)
        self.tree.follow(self._choose(torch.arange(len(self.texts), device=logits.device), logits, self.scores))
        self.written = [count + 1 for count in self.written]

    def collect(self) -> list[Found]:
        """Every text whose hypothesis is found; its slot is free."""
        over = (self.finished >= self.decoding.num_beams) | (self.steps >= self.decoding.max_new_tokens)
        slots = over.nonzero().flatten()
        if not len(slots):
            return []
        found = []
        columns = (self.best_tokens[slots], self.best_length[slots], self.best[slots])
        for slot, tokens, length, score in zip(slots.tolist(), *(column.tolist() for column in columns), strict=True):
            key = self.texts[slot]
            if key is not None:
                found.append(Found(key, tokens[:length], score if length else float("nan")))
            self.texts[slot], self.written[slot] = None, 1  # it goes on with nothing, for rows are computed together
        self.steps[slots], self.finished[slots] = 1, 0
        return found

    def shrink(self) -> None:
        """Let go of the free slots: they are computed like all others."""
        self._resize([slot for slot, text in enumerate(self.texts) if text is not None], 0)

    def _resize(self, kept: list[int], slots: int) -> None:
        """Keep some slots; there will be at least so many."""
        rows, slots = torch.tensor(kept, dtype=torch.long, device=self.network.device), max(slots, len(kept))
        free = slots - len(kept)
        self.texts = [*(self.texts[slot] for slot in kept), *[None] * free]
        self.written = [*(self.written[slot] for slot in kept), *[1] * free]
        for name in ("tokens", "scores", "steps", "first", "finished", "best", "best_tokens", "best_length"):
            setattr(self, name, resized(getattr(self, name), rows, slots))
        assert self.tree is not None
        self.tree.resize(rows, slots)

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
    beams = logits.shape[1]
    log_probs, tokens = (found.unflatten(0, (-1, beams)) for found in likeliest(logits.flatten(0, 1), size))
    total = scores.unsqueeze(-1) + log_probs  # (n, beams, k)
    if (missing := size - total[0].numel()) > 0:
        total, tokens = F.pad(total.flatten(1), (0, missing), value=NEVER), F.pad(tokens.flatten(1), (0, missing))
    best, index = total.flatten(1).topk(size, dim=1)
    return best, (index // log_probs.shape[-1]).clamp(max=beams - 1), tokens.flatten(1).gather(1, index)


def likeliest(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k likeliest tokens of each row, or all, and their log-probabilities. (rows, vocab) -> (rows, k) each, the
    latter, float32, first."""
    k = min(k, logits.shape[-1])
    if logits.device.type != "cpu":
        values, tokens = logits.float().topk(k, dim=-1)
        return values - logits.float().logsumexp(dim=-1, keepdim=True), tokens
    # A vocabulary's worth of float32 is larger than a CPU's caches: some rows at a time.
    parts = [_likeliest_of_few(part.float(), k) for part in logits.split(CACHED_ROWS)]
    log_probs, tokens = (torch.cat(column) for column in zip(*parts, strict=True))
    return log_probs, tokens


def _likeliest_of_few(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    values, tokens = highest(logits, k)
    scaled = (logits - values[:, :1]).exp_()  # no overflow: the highest is 1
    return values - values[:, :1] - scaled.sum(dim=-1, keepdim=True).log(), tokens


def highest(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k highest of each row and their places, as ``topk`` finds them but on a CPU three times as fast: they are in
    the k blocks with the highest maxima. (rows, vocab) -> (rows, k) each."""
    count, rest = divmod(values.shape[-1], BLOCK)
    if count < 4 * k:
        return values.topk(k, dim=-1)
    blocks = values[:, : count * BLOCK].unflatten(1, (count, BLOCK))
    chosen = blocks.amax(dim=-1).topk(k, dim=-1).indices.unsqueeze(-1)  # (rows, k, 1)
    places = (chosen * BLOCK + torch.arange(BLOCK)).flatten(1)
    if rest:
        last = torch.arange(count * BLOCK, values.shape[-1]).expand(len(values), rest)
        places = torch.cat([places, last], dim=1)
    found, index = values.gather(1, places).topk(k, dim=-1)
    return found, places.gather(1, index)


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
    search = Search(network, decoding)
    open_texts(search, memory, cues, range(len(cues)))
    found = {hypothesis.key: hypothesis for hypothesis in search.collect()}
    while len(found) < len(cues):
        search.step()
        found |= {hypothesis.key: hypothesis for hypothesis in search.collect()}
    return Hypotheses(
        [found[text].tokens for text in range(len(cues))], [found[text].score for text in range(len(cues))]
    )


def open_texts(search: Search, memory: Memory, cues: Sequence[tuple[int, ...]], keys: Sequence[int]) -> None:
    """Admit all texts of a memory, each behind its cue; texts with one cue are read together."""
    for cue in dict.fromkeys(cues):
        rows = [row for row, own in enumerate(cues) if own == cue]
        opening = search.network.begin(memory, torch.tensor(rows, device=search.network.device), cue)
        search.admit([keys[row] for row in rows], opening)


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
