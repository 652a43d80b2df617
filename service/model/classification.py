"""What is asked and answered of a text, and its label: the encoder run once, the head over h_0 (Eq. 1, 2)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from service.model.encoding import EncodedText, TextEncoder
from service.model.errors import ItemError
from service.model.network import Memory, Network
from service.model.scoring import entropy

logger = logging.getLogger(__name__)


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
NOT_FINITE = ItemError("model_failure", "the model gave a number that is not finite for this text")


@dataclass(frozen=True)
class Query:
    """An item in tokens. place: its number among the items. candidates: the tokens of each."""

    place: int
    text: EncodedText
    candidates: tuple[tuple[int, ...], ...] = ()

    @classmethod
    def of(cls, place: int, item: Item, encoder: TextEncoder, *, candidates: bool) -> Query:
        """Raises ItemError for an item that cannot be answered. candidates: whether they are asked for."""
        scored = tuple(encoder.encode_explanation(text) for text in item.candidates) if candidates else ()
        return cls(place, encoder.encode_fields(item.fields), scored)

    @property
    def length(self) -> int:
        """Tokens that encoder and decoder read of the text."""
        return len(self.text.ids) + len(self.text.decoder_ids)


def model_failure(error: Exception) -> ItemError:
    """What a text is answered on which the model fails even by itself; the log has the kind of error alone."""
    logger.error("the model failed on one text: %s", type(error).__name__)
    return ItemError("model_failure", "the model failed on this text")


def classify(network: Network, encoder: TextEncoder, queries: Sequence[Query]) -> tuple[Memory, list[Outcome]]:
    """Label, probabilities and entropy of each text of a batch, and the memory of all of them."""
    memory = network.encode(encoder.inputs([query.text for query in queries], network.device))
    # float64 from here on: the probabilities of a text then add up to 1 to the last printed digit.
    probabilities = torch.softmax(network.classify(memory).double(), dim=-1).cpu().numpy()  # (batch, C)
    vectors = memory.h0.cpu().numpy().copy()  # h0 may be a view: a prediction must not keep all states alive
    outcomes: list[Outcome] = []
    for query, row, nats, vector in zip(queries, probabilities, entropy(probabilities), vectors, strict=True):
        if not np.isfinite(row).all():
            outcomes.append(NOT_FINITE)
            continue
        names = encoder.task.label_ids
        by_label = dict(zip(names, row.tolist(), strict=True))
        outcomes.append(Prediction(names[int(row.argmax())], by_label, float(nats), query.text.truncated, vector))
    return memory, outcomes
