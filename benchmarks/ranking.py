"""Does the model score the reasonable explanation of a held-out text above the unreasonable ones?"""

from __future__ import annotations

import torch

from benchmarks.datasets import DataSet
from service.model.classification import Item
from service.model.decoding import score_explanations
from service.model.errors import ItemError, XalError
from service.model.predictor import Predictor
from training.explanation_quality import RankingAccuracy, ranking_accuracy
from training.held_out import gold_first, rank

TEXTS = 16  # scored at once, with all their explanations


def rank_as_served(predictor: Predictor, data: DataSet) -> tuple[RankingAccuracy, RankingAccuracy | None]:
    """Ranking accuracy of the scores that the service gives candidates, over all texts and over those whose label is
    predicted right (see ``rank``)."""
    items = [Item(e.fields, tuple(gold_first(e, data.explanations).values())) for e in data.ranking]
    # What is generated beside the scores is not wanted here: one token of it is the least.
    outcomes = predictor.predict(items, explain=True, num_beams=1, max_new_tokens=1)
    for example, outcome in zip(data.ranking, outcomes, strict=True):
        if isinstance(outcome, ItemError):
            raise XalError(f"ranking: text {example.id!r}: {outcome.message}")
    return rank(data.ranking, [outcome for outcome in outcomes if not isinstance(outcome, ItemError)])


def rank_given_own_labels(predictor: Predictor, data: DataSet) -> RankingAccuracy:
    """Ranking accuracy where each explanation is given the label that it was written for, as in training; of a model
    that is conditioned on labels."""
    network, encoder = predictor.network, predictor.encoder
    rows: list[list[float]] = []
    for first in range(0, len(data.ranking), TEXTS):
        examples = data.ranking[first : first + TEXTS]
        written = [gold_first(example, data.explanations) for example in examples]
        texts = [encoder.encode_fields(example.fields) for example in examples]
        with torch.inference_mode():
            scores = score_explanations(
                network,
                network.encode(encoder.inputs(texts, predictor.device)),
                [row for row, own in enumerate(written) for _ in own],
                [encoder.encode_explanation(text) for own in written for text in own.values()],
                [data.task.label_ids.index(label) for own in written for label in own],
            )
        k = len(data.task.labels)
        rows += [scores[row * k : (row + 1) * k] for row in range(len(examples))]
    return ranking_accuracy(rows)
