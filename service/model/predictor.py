"""The only inference path: N texts in, N outcomes out, for the service, for pool scoring and for evaluation alike."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from service.model import checkpoint
from service.model.checkpoint import Checkpoint
from service.model.classification import Item, Outcome, Query, classify, model_failure
from service.model.decoding import Decoding
from service.model.encoding import batches_by_length
from service.model.errors import ItemError
from service.model.explainer import Explainer
from service.model.hardware import choose_device, choose_dtype
from service.model.scoring import Normaliser
from service.model.threads import limit_threads

logger = logging.getLogger(__name__)

BATCH_TOKENS = 8192  # in one batch of labels; more only takes more memory
WINDOW = 256  # texts read ahead for their explanations: enough to sort by length


class Predictor:
    """A model that answers.

    Not thread-safe, but an ``explainer`` may be at work in one thread while another asks for labels, and
    ``estimated_tokens`` may be called at any time.
    """

    def __init__(self, model: Checkpoint, device: torch.device) -> None:
        self.network = model.network.to(device)
        self.encoder = model.encoder
        self.task = model.settings.task
        self.decoding = model.settings.decoding
        self.normaliser: Normaliser | None = model.settings.normaliser
        self.acquisition = model.settings.acquisition
        self.trained_on_explanations = model.settings.trained_on_explanations
        self.manifest: dict[str, Any] = model.manifest
        self.model_version = model.model_version
        self.device = device

    @classmethod
    def load(cls, directory: str | Path, *, device: str = "auto", dtype: str = "auto") -> Predictor:
        """Load a verified model directory.

        device: auto (a GPU if there is one), cpu, cuda, cuda:N, mps. dtype: auto (see ``choose_dtype``), float32,
        bfloat16, float16; the head and all scores are float32 in any case. Raises CheckpointError for a bad directory
        and InputError for a device or dtype that is not there.
        """
        place = choose_device(device)
        if place.type == "cpu":
            limit_threads()
        return cls(checkpoint.load(directory, choose_dtype(dtype, place, checkpoint.weights_size(directory))), place)

    def estimated_tokens(self, item: Item) -> int:
        """A cheap guess by characters of the encoder tokens an item takes; at most max_input_tokens.

        High for most texts, low for scripts that need a token for each character; batches go by true lengths.
        """
        characters = sum(len(value) for value in item.fields.values() if isinstance(value, str))
        return min(self.task.max_input_tokens, characters // 3 + 8)

    def predict(
        self,
        items: Sequence[Item],
        *,
        explain: bool = False,
        num_beams: int | None = None,
        max_new_tokens: int | None = None,
    ) -> list[Outcome]:
        """Answer N items with N outcomes, in their order; an item that cannot be answered gets an ItemError.

        The encoder runs once per text; batches hold texts of similar length. explain: as ``explanations`` does.
        """
        if explain:
            return list(self.explanations(items, num_beams=num_beams, max_new_tokens=max_new_tokens))
        outcomes: list[Outcome | None] = [None] * len(items)
        queries: list[Query] = []
        for place, item in enumerate(items):
            try:
                queries.append(Query.of(place, item, self.encoder, candidates=False))
            except ItemError as error:
                outcomes[place] = error
        for group in batches_by_length([query.length for query in queries], BATCH_TOKENS):
            batch = [queries[index] for index in group]
            for query, outcome in zip(batch, self._classify(batch), strict=True):
                outcomes[query.place] = outcome
        return [outcome for outcome in outcomes if outcome is not None]

    def explanations(
        self, items: Iterable[Item], *, num_beams: int | None = None, max_new_tokens: int | None = None
    ) -> Iterator[Outcome]:
        """Outcomes of any number of items, with explanation and candidates scored, in the items' order.

        Reads only so far ahead that texts of similar length can be explained together. num_beams and max_new_tokens
        default to the model's own, and max_new_tokens goes no further than the decoder's positions.
        """
        explainer = self.explainer(num_beams=num_beams, max_new_tokens=max_new_tokens)
        source, ahead = enumerate(items), True
        done: dict[int, Outcome] = {}
        yielded = 0
        while ahead or explainer.busy:
            if ahead and explainer.room > 0:
                window = list(islice(source, WINDOW))
                explainer.add(window)
                ahead = len(window) == WINDOW
            done |= explainer.advance()
            while yielded in done:
                yield done.pop(yielded)
                yielded += 1

    def explainer(
        self, *, num_beams: int | None = None, max_new_tokens: int | None = None, budget: int | None = None
    ) -> Explainer:
        """What explains texts as they come. num_beams, max_new_tokens: see ``explanations``. budget: tokens whose keys
        and values are held at once; None for as many as take the memory that suits the device."""
        wanted = self.decoding.max_new_tokens if max_new_tokens is None else max_new_tokens
        decoding = Decoding(
            num_beams=self.decoding.num_beams if num_beams is None else num_beams,
            max_new_tokens=min(wanted, self.network.decoder_positions or wanted),
        )
        return Explainer(self.network, self.encoder, decoding, budget)

    def _classify(self, batch: list[Query]) -> list[Outcome]:
        """Outcomes of one batch. Where the model fails on it (memory, a fault), its halves are tried by themselves."""
        try:
            with torch.inference_mode():
                return classify(self.network, self.encoder, batch)[1]
        except Exception as error:  # whatever torch raises for one text must not reach the others
            if len(batch) == 1:
                return [model_failure(error)]
            logger.warning("the model failed on %d texts (%s); trying halves", len(batch), type(error).__name__)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        middle = len(batch) // 2
        return self._classify(batch[:middle]) + self._classify(batch[middle:])
