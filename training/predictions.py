"""Examples through the predictor that will serve them: measured on labels, or scored as an unlabeled pool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from service.model.classification import Item, Prediction
from service.model.errors import ItemError, XalError
from service.model.predictor import Predictor
from service.model.scoring import Acquisition, PoolTerm, order, streamed_normaliser
from training.data import Example
from training.evaluation import evaluate
from training.prefilter import Draw, Kept, Prefilter
from training.strategies import PoolScores
from training.strategies.interface import Indices

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


@dataclass(frozen=True, eq=False)
class ExplainedPart:
    """What a prefilter leaves of an unlabeled pool for a strategy to choose from.

    scores: of the k explained texts, in the pool's order, with the sums of Eq. 8 over the whole pool. places: where
    these stand in the pool, (k,). is_candidate: (k,), false for those that were sampled. draw: how they were found.
    """

    scores: PoolScores
    places: Indices
    is_candidate: NDArray[np.bool_]
    draw: Draw

    def kept(self, lambda_: float, acquisition: Acquisition, size: int) -> Kept:
        """What the prefilter kept of the ``size`` texts with the highest acquisition score."""
        return Kept.measured(self.draw, self.scores.acquisition_scores(lambda_, acquisition), self.is_candidate, size)


def score_prefiltered(
    predictor: Predictor,
    unlabeled: Sequence[Example],
    prefilter: Prefilter,
    query_size: int,
    rng: np.random.Generator,
    *,
    progress: bool,
) -> ExplainedPart:
    """Entropy for all texts, explanations for the candidates and a sample (see prefilter.py).

    Z_c is exact; Z_p is estimated, each sampled text standing for as many others as the sample was drawn from.
    """
    entropies = score_pool(predictor, unlabeled, explain=False, progress=progress).entropy.copy()
    draw = prefilter.draw(len(unlabeled), query_size, rng)
    by_entropy = order(entropies)
    places = np.sort(by_entropy[np.r_[: draw.candidates, draw.sampled]])
    is_candidate = np.isin(places, by_entropy[: draw.candidates])
    scores = score_pool(predictor, [unlabeled[place] for place in places], explain=True, progress=progress)
    assert scores.explanation_scores is not None  # asked for in the line above
    entropies[places] = scores.entropy  # of one text only one, to its last digit
    p, c = PoolTerm(), PoolTerm()
    p.add(-scores.explanation_scores[is_candidate])
    p.add(-scores.explanation_scores[~is_candidate], draw.weight)
    c.add(entropies)
    return ExplainedPart(replace(scores, normaliser=streamed_normaliser(p, c)), places, is_candidate, draw)
