"""Explanations of texts that no model learns from: are the reasonable ones ranked higher, and do those that a model
writes argue for what it predicts?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from tqdm import tqdm

from service.model.classification import Item, Prediction
from service.model.errors import InputError, ItemError, XalError
from service.model.predictor import Predictor
from training.data import Example
from training.explanation_quality import RankingAccuracy, consistency, distinct, ranking_accuracy
from training.judge import Explanations, Judge
from training.splits import Splits

HELD_OUT_SEED = 1021  # the same texts for every run of a pool, whatever its seeds are


def hold_out(splits: Splits, size: int, covered: frozenset[str] | None) -> Splits:
    """The splits with ``size`` texts to measure explanations on in ``explained``, drawn at random.

    They are dev texts that the teacher can explain, test texts where there is no dev, or, where its file explains too
    few of either, texts of the pool, which then leave it. covered: ids that the teacher can explain, None for any.
    Raises InputError where even the pool has too few.
    """
    for examples in (splits.dev, splits.test):
        known = [example for example in examples if covered is None or example.id in covered]
        if len(known) >= size:
            return replace(splits, explained=_drawn(known, size))
    known = [example for example in splits.train if covered is None or example.id in covered]
    if len(known) <= size:
        raise InputError(
            f"--measure-explanations {size}: the teacher explains {len(known)} texts of the pool and too few of dev "
            "and test; lower the number or give more explanations"
        )
    explained = _drawn(known, size)
    left_out = {tuple(example.fields.values()) for example in explained}  # nor does a model learn from a repeated text
    note = f"held out {size} explained texts of the pool to measure explanations on, for the teacher explains no others"
    pool = [example for example in splits.train if tuple(example.fields.values()) not in left_out]
    return replace(splits, train=pool, explained=explained, notes=[*splits.notes, note])


def _drawn(examples: Sequence[Example], size: int) -> list[Example]:
    places = np.random.default_rng(HELD_OUT_SEED).permutation(len(examples))[:size]
    return [examples[place] for place in sorted(places)]


def measure_explanations(
    predictor: Predictor,
    examples: Sequence[Example],
    explanations: Explanations,
    judges: Mapping[str, Judge],
    *,
    progress: bool,
) -> dict[str, Any]:
    """Ranking accuracy, consistency and variety of explanations, as metrics.json holds them.

    explanations: the teacher's, for every label of each example. judges: by name; each judges what the model writes,
    and its accuracy on the teacher's explanations stands beside that. ranking_where_right: over the texts whose label
    the model predicts right, None without any.
    """
    items = [Item(example.fields, tuple(gold_first(example, explanations).values())) for example in examples]
    predictions = []
    with tqdm(total=len(items), desc="explain", unit="text", disable=None if progress else True) as bar:
        for example, outcome in zip(examples, predictor.explanations(items), strict=True):
            if isinstance(outcome, ItemError):
                raise XalError(f"held-out explanations: text {example.id!r}: {outcome.message}")
            predictions.append(outcome)
            bar.update()
    ranking, where_right = rank(examples, predictions)
    written = [str(prediction.explanation) for prediction in predictions]
    labels = [prediction.label for prediction in predictions]
    return {
        "texts": len(examples),
        "ranking": asdict(ranking),
        "ranking_where_right": asdict(where_right) if where_right else None,
        "consistency": {name: consistency(labels, judge.judge(written)) for name, judge in judges.items()},
        "judge_accuracy": {name: judge.accuracy(explanations) for name, judge in judges.items()},
        "distinct": distinct(written),
    }


def rank(
    examples: Sequence[Example], predictions: Sequence[Prediction]
) -> tuple[RankingAccuracy, RankingAccuracy | None]:
    """Ranking accuracy of the candidates' scores, those of ``gold_first`` in its order, as the service gives them: a
    model that is conditioned on labels scores all of a text's given the label that it predicts. Over all texts, and
    over those whose label is predicted right, None without any."""
    pairs = list(zip(examples, predictions, strict=True))
    right = [prediction.candidate_scores for example, prediction in pairs if prediction.label == example.label]
    of_all = ranking_accuracy([prediction.candidate_scores for prediction in predictions])
    return of_all, ranking_accuracy(right) if right else None


def gold_first(example: Example, explanations: Explanations) -> dict[str, str]:
    """Label -> the teacher's explanation for it, the gold label's (the reasonable one) first."""
    own = explanations[example.id]
    return {label: own[label] for label in sorted(own, key=lambda label: label != example.label)}
