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
from service.model.scoring import PoolTerm, order, streamed_normaliser
from training.data import Example
from training.evaluation import calibration_error, evaluate
from training.prefilter import Draw, Kept, Prefilter
from training.strategies import LabeledScores, PoolScores, QueryStrategy

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
    """Macro-F1, accuracy, F1 per class (see ``evaluate``) and calibration error on labeled examples."""
    predictions = predict_examples(predictor, examples, explain=False, progress=progress, stage="evaluate")
    label_ids, gold = predictor.task.label_ids, [str(example.label) for example in examples]
    error = calibration_error(_probabilities(predictions), [label_ids.index(label) for label in gold])
    return evaluate(gold, [prediction.label for prediction in predictions], label_ids) | {"calibration_error": error}


@dataclass(frozen=True, eq=False)
class Scored:
    """What was found out about an unlabeled pool, or about the part of it that a prefilter left.

    scores: what a strategy sees of the texts, in their order. predictions: of the same texts, none where the strategy
    needed nothing. part: how a prefilter chose them, None where they are the whole pool.
    """

    scores: PoolScores
    texts: Sequence[Example]
    predictions: Sequence[Prediction] = ()
    part: ExplainedPart | None = None

    @property
    def explained(self) -> bool:
        """Whether these texts have explanations."""
        return self.scores.explanation_scores is not None

    def with_arrays(self, **arrays: Any) -> Scored:
        """The same with further arrays of PoolScores."""
        return replace(self, scores=replace(self.scores, **arrays))


def score_pool(predictor: Predictor, unlabeled: Sequence[Example], *, explain: bool, progress: bool) -> Scored:
    """The whole pool of at least one text, in its order; explanation scores only if ``explain``."""
    predictions = predict_examples(predictor, unlabeled, explain=explain, progress=progress, stage="score")
    return Scored(pool_scores(predictions), unlabeled, predictions)


def pool_scores(predictions: Sequence[Prediction]) -> PoolScores:
    """The arrays that a strategy sees of at least one prediction; explanation scores where all are explained."""
    p = [prediction.explanation_score for prediction in predictions]
    return PoolScores(
        len(predictions),
        probabilities=_probabilities(predictions),
        explanation_scores=None if None in p else np.array(p, dtype=np.float64),
        embeddings=np.stack([prediction.h0 for prediction in predictions]),
    )


def score_labeled(predictor: Predictor, labeled: Sequence[Example], *, progress: bool) -> LabeledScores:
    """What a strategy sees of the texts that are labeled already, at least one, in the order of labeling."""
    predictions = predict_examples(predictor, labeled, explain=False, progress=progress, stage="labeled")
    return LabeledScores(
        probabilities=_probabilities(predictions),
        embeddings=np.stack([prediction.h0 for prediction in predictions]),
        labels=np.array([predictor.task.label_ids.index(str(example.label)) for example in labeled]),
    )


def _probabilities(predictions: Sequence[Prediction]) -> NDArray[np.float64]:
    return np.array([list(prediction.probabilities.values()) for prediction in predictions])


@dataclass(frozen=True, eq=False)
class ExplainedPart:
    """Which texts of a pool a prefilter had explained: k of them, in the pool's order.

    is_candidate: (k,), false for those that were sampled. draw: how they were found.
    """

    is_candidate: NDArray[np.bool_]
    draw: Draw

    def kept(self, strategy: QueryStrategy, scores: PoolScores, size: int) -> Kept:
        """What the prefilter kept of the ``size`` texts that the strategy ranks highest. scores: of the k texts."""
        assert strategy.score is not None  # see Prefilter.check
        return Kept.measured(self.draw, strategy.score(scores), self.is_candidate, size)


def score_prefiltered(
    predictor: Predictor,
    unlabeled: Sequence[Example],
    prefilter: Prefilter,
    query_size: int,
    rng: np.random.Generator,
    *,
    progress: bool,
) -> Scored:
    """Entropy for all texts, explanations for the candidates and a sample (see prefilter.py): what is left of the pool
    for a strategy to choose from, with the sums of Eq. 8 over all of it.

    Z_c is exact; Z_p is estimated, each sampled text standing for as many others as the sample was drawn from.
    """
    entropies = score_pool(predictor, unlabeled, explain=False, progress=progress).scores.entropy.copy()
    draw = prefilter.draw(len(unlabeled), query_size, rng)
    by_entropy = order(entropies)
    places = np.sort(by_entropy[np.r_[: draw.candidates, draw.sampled]])
    is_candidate = np.isin(places, by_entropy[: draw.candidates])
    found = score_pool(predictor, [unlabeled[place] for place in places], explain=True, progress=progress)
    scores = found.scores
    assert scores.explanation_scores is not None  # asked for in the line above
    entropies[places] = scores.entropy  # of one text only one, to its last digit
    p, c = PoolTerm(), PoolTerm()
    p.add(-scores.explanation_scores[is_candidate])
    p.add(-scores.explanation_scores[~is_candidate], draw.weight)
    c.add(entropies)
    part = ExplainedPart(is_candidate, draw)
    return replace(found, part=part).with_arrays(normaliser=streamed_normaliser(p, c))
