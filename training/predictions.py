"""Examples through the predictor that will serve them: measured on labels, or scored as an unlabeled pool."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from service.model.classification import Item, Prediction
from service.model.errors import ItemError, XalError
from service.model.predictor import Predictor
from training.data import Example
from training.evaluation import evaluate
from training.strategies import PoolScores

CHUNK = 64  # texts between two steps of the progress bar


def predict_examples(
    predictor: Predictor, examples: Sequence[Example], *, explain: bool, progress: bool, stage: str
) -> list[Prediction]:
    """One prediction for each example, in their order. Raises XalError where the model fails on one of them."""
    # Texts of similar length share a chunk, so that little of a batch is padding.
    order = sorted(range(len(examples)), key=lambda i: predictor.estimated_tokens(Item(examples[i].fields)))
    predictions: dict[int, Prediction] = {}
    with tqdm(total=len(examples), desc=stage, unit="text", disable=None if progress else True) as bar:
        for first in range(0, len(order), CHUNK):
            chunk = order[first : first + CHUNK]
            outcomes = predictor.predict([Item(examples[index].fields) for index in chunk], explain=explain)
            for index, outcome in zip(chunk, outcomes, strict=True):
                if isinstance(outcome, ItemError):
                    raise XalError(f"{stage}: text {examples[index].id!r}: {outcome.message}")
                predictions[index] = outcome
            bar.update(len(chunk))
    return [predictions[index] for index in range(len(examples))]


def measure(predictor: Predictor, examples: Sequence[Example], *, progress: bool) -> dict[str, Any]:
    """Macro-F1, accuracy and F1 per class on labeled examples (see ``evaluate``)."""
    predictions = predict_examples(predictor, examples, explain=False, progress=progress, stage="evaluate")
    gold = [str(example.label) for example in examples]
    return evaluate(gold, [prediction.label for prediction in predictions], predictor.task.label_ids)


def score_pool(predictor: Predictor, unlabeled: Sequence[Example], *, explain: bool, progress: bool) -> PoolScores:
    """The arrays that a strategy sees, in the pool's order; explanation scores only if ``explain``."""
    predictions = predict_examples(predictor, unlabeled, explain=explain, progress=progress, stage="score")
    return PoolScores(
        len(unlabeled),
        probabilities=np.array([list(prediction.probabilities.values()) for prediction in predictions]),
        explanation_scores=np.array([p.explanation_score for p in predictions], dtype=np.float64) if explain else None,
        embeddings=np.stack([prediction.h0 for prediction in predictions]),
    )
