"""The only inference path: N texts in, N outcomes out, for the service, for pool scoring and for evaluation alike."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from service.model import checkpoint
from service.model.checkpoint import Checkpoint
from service.model.decoding import Decoding, beam_search, score_explanations
from service.model.encoding import EncodedText, batches_by_length
from service.model.errors import InputError, ItemError
from service.model.network import Memory
from service.model.scoring import Normaliser, entropy

logger = logging.getLogger(__name__)

BATCH_TOKENS = 8192  # in one batch, those that all beams may write included; more only takes more memory


@dataclass(frozen=True)
class Item:
    """One text to answer. fields: the task's fields. candidates: explanations to score beside the generated one."""

    fields: Mapping[str, str]
    candidates: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prediction:
    """What the model says of one text.

    probabilities: label id -> P(y|x), Eq. 2, adding up to 1. entropy: of these, in nats, 0 to log C. truncated: the
    text was longer than the encoder reads. h0: (hidden,) float32, the text's vector. explanation: the top-1
    hypothesis of beam search, and explanation_score its Eq. 6 (at most 0), None unless asked for. candidate_scores:
    Eq. 6 of each of the item's candidates, in their order. Of a model that is conditioned on labels, all three are
    given the predicted label.
    """

    label: str
    probabilities: dict[str, float]
    entropy: float
    truncated: bool
    h0: NDArray[np.float32] = field(compare=False)
    explanation: str | None = None
    explanation_score: float | None = None
    candidate_scores: tuple[float, ...] = ()


Outcome = Prediction | ItemError


@dataclass(frozen=True)
class _Encoded:
    """An item that can be answered: its place among the items, its tokens, its candidates' tokens."""

    place: int
    text: EncodedText
    candidates: list[tuple[int, ...]]


class Predictor:
    """A model that answers. Not thread-safe: one caller at a time (``estimated_tokens`` may be called at any time)."""

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

        device: auto (a GPU if there is one), cpu, cuda, cuda:N, mps. dtype: auto (bfloat16 on a GPU that computes in
        it, else float32), float32, bfloat16, float16; the head and all scores are float32 in any case. Raises
        CheckpointError for a bad directory and InputError for a device or dtype that is not there.
        """
        place = choose_device(device)
        return cls(checkpoint.load(directory, dtype=choose_dtype(dtype, place)), place)

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

        The encoder runs once per text; batches hold texts of similar length. explain: generate and score an
        explanation and score the items' candidates; num_beams and max_new_tokens default to the model's own, and
        max_new_tokens goes no further than the decoder's positions.
        """
        decoding = None
        if explain:
            wanted = self.decoding.max_new_tokens if max_new_tokens is None else max_new_tokens
            decoding = Decoding(
                num_beams=self.decoding.num_beams if num_beams is None else num_beams,
                max_new_tokens=min(wanted, self.network.decoder_positions or wanted),
            )
        outcomes: list[Outcome | None] = [None] * len(items)
        encoded: list[_Encoded] = []
        for place, item in enumerate(items):
            try:
                candidates = [self.encoder.encode_explanation(text) for text in item.candidates] if explain else []
                encoded.append(_Encoded(place, self.encoder.encode_fields(item.fields), candidates))
            except ItemError as error:
                outcomes[place] = error
        # Each beam holds keys and values for all that it has written: many beams or long explanations, fewer texts.
        written = decoding.num_beams * decoding.max_new_tokens if decoding else 0
        lengths = [len(entry.text.ids) + len(entry.text.decoder_ids) + written for entry in encoded]
        for group in batches_by_length(lengths, BATCH_TOKENS):
            batch = [encoded[index] for index in group]
            for entry, outcome in zip(batch, self._answer(batch, decoding), strict=True):
                outcomes[entry.place] = outcome
        return [outcome for outcome in outcomes if outcome is not None]

    def _answer(self, batch: list[_Encoded], decoding: Decoding | None) -> list[Outcome]:
        """Outcomes of one batch. Where the model fails on it (memory, a fault), its halves are tried by themselves."""
        try:
            with torch.inference_mode():
                return self._run(batch, decoding)
        except Exception as error:  # whatever torch raises for one text must not reach the others
            if len(batch) == 1:
                logger.error("the model failed on one text: %s", type(error).__name__)
                return [ItemError("model_failure", "the model failed on this text")]
            logger.warning("the model failed on %d texts (%s); trying halves", len(batch), type(error).__name__)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        middle = len(batch) // 2
        return self._answer(batch[:middle], decoding) + self._answer(batch[middle:], decoding)

    def _run(self, batch: list[_Encoded], decoding: Decoding | None) -> list[Outcome]:
        memory = self.network.encode(self.encoder.inputs([entry.text for entry in batch], self.device))
        # float64 from here on: the probabilities of a text then add up to 1 to the last printed digit.
        probabilities = torch.softmax(self.network.classify(memory).double(), dim=-1).cpu().numpy()  # (batch, C)
        entropies = entropy(probabilities)
        vectors = memory.h0.cpu().numpy().copy()  # h0 may be a view: a prediction must not keep all states alive
        texts: list[str | None] = [None] * len(batch)
        scores: list[float | None] = [None] * len(batch)
        candidate_scores: list[tuple[float, ...]] = [()] * len(batch)
        if decoding is not None:
            memory = self.network.remember(memory)  # for the search and the candidates
            # Where explanations are given a label, all of a text's are given the one that is predicted.
            predicted = probabilities.argmax(axis=1).tolist()
            hypotheses = beam_search(self.network, memory, decoding, predicted)
            texts = [self.encoder.decode(tokens) for tokens in hypotheses.tokens]
            scores = list(hypotheses.scores)
            candidate_scores = self._score_candidates(memory, [entry.candidates for entry in batch], predicted)
        outcomes: list[Outcome] = []
        for row, entry in enumerate(batch):
            numbers = (*probabilities[row], scores[row] or 0.0, *candidate_scores[row])
            if not np.isfinite(numbers).all():
                outcomes.append(ItemError("model_failure", "the model gave a number that is not finite for this text"))
                continue
            outcomes.append(
                Prediction(
                    label=self.task.label_ids[int(probabilities[row].argmax())],
                    probabilities=dict(zip(self.task.label_ids, probabilities[row].tolist(), strict=True)),
                    entropy=float(entropies[row]),
                    truncated=entry.text.truncated,
                    h0=vectors[row],
                    explanation=texts[row],
                    explanation_score=scores[row],
                    candidate_scores=candidate_scores[row],
                )
            )
        return outcomes

    def _score_candidates(
        self, memory: Memory, candidates: list[list[tuple[int, ...]]], predicted: list[int]
    ) -> list[tuple[float, ...]]:
        """Eq. 6 of every text's candidates, under the memory that the text already has."""
        owners = [row for row, own in enumerate(candidates) for _ in own]
        flat = [tokens for own in candidates for tokens in own]
        scores = score_explanations(self.network, memory, owners, flat, [predicted[row] for row in owners])
        ends = np.cumsum([0, *(len(own) for own in candidates)])
        return [tuple(scores[first:last]) for first, last in pairwise(ends)]


def choose_device(name: str) -> torch.device:
    """The torch device for auto, cpu, cuda, cuda:N or mps; raises InputError where it is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"device {name!r}: expected auto, cpu, cuda, cuda:N or mps") from None
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not available.get(device.type, False):
        raise InputError(f"device {name!r} is not available here; use auto or cpu")
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """The torch dtype for auto, float32, bfloat16 or float16 on a device; raises InputError for any other name."""
    if name == "auto":
        fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if fast else torch.float32
    choices = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name not in choices:
        raise InputError(f"dtype {name!r}: expected auto, {', '.join(choices)}")
    return choices[name]
