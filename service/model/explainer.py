"""Continuous batching: texts wait, are explained some at a time, and leave their place to the next when they are done.

How many are at work at once, a budget of tokens says: those whose keys and values the decoder holds for them.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch

from service.model.classification import NOT_FINITE, Item, Outcome, Prediction, Query, classify, model_failure
from service.model.decoding import Decoding, Search, open_texts, score_explanations
from service.model.encoding import TextEncoder
from service.model.errors import ItemError
from service.model.network import Memory, Network

logger = logging.getLogger(__name__)

# The more texts share a step, the less time each takes, by less and less. At a time, bytes of keys and values,
MEMORY = {"cpu": 768 * 2**20, "cuda": 4 * 2**30}
TEXTS = {"cpu": 256, "cuda": 1024}  # and texts, of which a small model could hold many
REFILL = 4  # of many that wait, some join when there is room for one in so many of those at work: to read takes longer


class Explainer:
    """Explains texts as they come; not thread-safe.

    ``add`` items at any time and ``advance`` while any is ``busy``: each call takes in what fits, writes one token of
    every beam, and returns what is done. Where the model fails, the texts at work are tried again in halves, so that
    one which brings it down costs the others time, not their answers.
    """

    def __init__(self, network: Network, encoder: TextEncoder, decoding: Decoding, budget: int | None = None) -> None:
        self.network, self.encoder, self.decoding = network, encoder, decoding
        device = network.device.type if network.device.type in MEMORY else "cpu"
        self.budget = budget or MEMORY[device] // network.token_bytes
        self._most = TEXTS[device]
        self._done: list[tuple[int, Outcome]] = []  # what the next ``advance`` returns
        self._waiting: deque[Query] = deque()
        self._apart: deque[list[Query]] = deque()  # groups to try again, with no other text beside them
        self._at_work: dict[int, tuple[Query, Prediction]] = {}  # by the query's place
        self._search = Search(network, decoding)

    def add(self, items: Iterable[tuple[int, Item]]) -> None:
        """Let items wait for their explanations, each with a number to know it by."""
        queries: list[Query] = []
        for place, item in items:
            try:
                queries.append(Query.of(place, item, self.encoder, candidates=True))
            except ItemError as error:
                self._done.append((place, error))
        # Texts of similar length are read together. Longest first: a lack of memory shows at once.
        self._waiting.extend(sorted(queries, key=lambda query: -query.length))

    @property
    def busy(self) -> bool:
        """Whether any item waits or is at work."""
        return bool(self._done or self._waiting or self._apart or self._at_work)

    @property
    def room(self) -> int:
        """How many more texts would be taken in at once; below 0 where some wait already."""
        longest = max((query.length for query in (*self._texts, *self._waiting)), default=0)
        return self._capacity(longest) - len(self._at_work) - len(self._waiting)

    def wanted(self, waiting: int) -> int:
        """How many of so many texts that wait elsewhere had better be added now."""
        room = max(0, self.room)
        return 0 if self._too_few(room, waiting) else min(room, waiting)

    def advance(self) -> list[tuple[int, Outcome]]:
        """Take in what fits, write one token of every beam. -> the items that are done, by their numbers."""
        entering = self._entering()
        try:
            with torch.inference_mode():
                if entering:
                    self._admit(entering)
                    self._collect()  # the first token comes with the reading, and may be the last
                if self._at_work:
                    self._search.step()
                    self._collect()
        except Exception as error:  # whatever torch raises for one text must not reach the others
            known = {*self._at_work, *(place for place, _ in self._done)}
            self._part([*self._texts, *(query for query in entering if query.place not in known)], error)
        done, self._done = self._done, []
        return done

    @property
    def _texts(self) -> list[Query]:
        return [query for query, _ in self._at_work.values()]

    def _capacity(self, length: int) -> int:
        """How many texts of at most such a length fit the budget."""
        cue = max(map(len, self.network.cues))
        each = self.decoding.num_beams * self.decoding.max_new_tokens + cue + length
        return max(1, min(self._most, self.budget // each))

    def _too_few(self, fitting: int, waiting: int) -> bool:
        """Whether so many of those that wait are not worth the reading yet."""
        return fitting < waiting and fitting * REFILL < len(self._at_work)

    def _entering(self) -> list[Query]:
        """The texts to take in now."""
        if not self._at_work:
            self._search = Search(self.network, self.decoding)
            if self._apart:
                return self._apart.popleft()
        elif self._apart:
            return []
        longest = max((query.length for query in self._texts), default=0)
        fitting = 0
        for query in self._waiting:
            longest = max(longest, query.length)
            if len(self._at_work) + fitting >= self._capacity(longest):
                break
            fitting += 1
        if self._too_few(fitting, len(self._waiting)):
            return []
        return [self._waiting.popleft() for _ in range(fitting)]

    def _admit(self, entering: list[Query]) -> None:
        """Read texts and let their explanations begin."""
        memory, outcomes = classify(self.network, self.encoder, entering)
        if any(query.candidates for query in entering):
            memory = self.network.remember(memory)  # for the search and the candidates
        # Where explanations are given a label, all of a text's are given the one that is predicted.
        names = self.encoder.task.label_ids
        labels = [names.index(outcome.label) if isinstance(outcome, Prediction) else 0 for outcome in outcomes]
        scores = self._score_candidates(memory, entering, labels)
        rows: list[int] = []
        for row, (query, outcome, own) in enumerate(zip(entering, outcomes, scores, strict=True)):
            if isinstance(outcome, Prediction) and np.isfinite(own).all():
                self._at_work[query.place] = query, replace(outcome, candidate_scores=own)
                rows.append(row)
            else:
                self._done.append((query.place, NOT_FINITE))
        if rows:
            if len(rows) < len(entering):
                memory = memory.select(torch.tensor(rows, device=self.network.device))
            cues = self.network.cues_of(torch.tensor([labels[row] for row in rows]), len(rows))
            open_texts(self._search, memory, cues, [entering[row].place for row in rows])

    def _score_candidates(
        self, memory: Memory, queries: Sequence[Query], labels: Sequence[int]
    ) -> list[tuple[float, ...]]:
        """Eq. 6 of every text's candidates, under the memory that the text has anyway."""
        owners = [row for row, query in enumerate(queries) for _ in query.candidates]
        flat = [tokens for query in queries for tokens in query.candidates]
        scores = score_explanations(self.network, memory, owners, flat, [labels[row] for row in owners])
        ends = np.cumsum([0, *(len(query.candidates) for query in queries)])
        return [tuple(scores[first:last]) for first, last in pairwise(ends)]

    def _collect(self) -> None:
        if not self._at_work or not self._search.due:
            return
        for place, tokens, score in self._search.collect():
            _, prediction = self._at_work.pop(place)
            if np.isfinite(score):
                text = self.encoder.decode(tokens)
                self._done.append((place, replace(prediction, explanation=text, explanation_score=score)))
            else:
                self._done.append((place, NOT_FINITE))
        if self._at_work and not self._waiting and 2 * len(self._at_work) <= len(self._search.texts):
            self._search.shrink()

    def _part(self, queries: list[Query], error: Exception) -> None:
        """The model failed on these texts: try halves of them, or give up on a single one."""
        self._at_work, self._search = {}, Search(self.network, self.decoding)
        if self.network.device.type == "cuda":
            torch.cuda.empty_cache()
        if len(queries) == 1:
            self._done.append((queries[0].place, model_failure(error)))
            return
        logger.warning("the model failed on %d texts (%s); trying halves", len(queries), type(error).__name__)
        middle = len(queries) // 2
        self._apart.extend([queries[:middle], queries[middle:]])
