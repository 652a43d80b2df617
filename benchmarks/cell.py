"""One cell of the comparison: one model trained on so many labels with one seed, and all that is measured on it.

The model goes the product's own way: the trainer fits it, a model directory holds it, the predictor answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.datasets import DataSet
from benchmarks.ranking import rank_as_served, rank_given_own_labels
from benchmarks.rows import Settled
from service.model.classification import Prediction
from service.model.decoding import Decoding
from service.model.hardware import choose_device
from service.model.predictor import Predictor
from service.model.scoring import Acquisition, acquisition_terms, pool_normaliser
from training.clock import Clock
from training.data import Example
from training.explanation_quality import consistency, distinct
from training.fitted import fitted_predictor
from training.judge import Judge
from training.pool import initial_set
from training.predictions import measure, predict_examples, score_pool
from training.selection import variance_shares
from training.strategies import PoolScores


@dataclass(frozen=True)
class Protocol:
    """What every cell has in common.

    num_beams: as runs have it. explained: the first so many dev texts are explained and judged. scored: so many
    unlabeled texts of the pool, drawn at random, are scored for Eq. 8 and for the clock. judge_texts: the judges learn
    from the explanations of at most so many texts of the pool; more take minutes and add little. judge_recipe: raise it
    when judges learn otherwise, so that what others judged is measured again.
    """

    num_beams: int = 5
    explained: int = 100
    scored: int = 100
    judge_texts: int = 1000
    judge_recipe: int = 1


def run_cell(
    settled: Settled,
    data: DataSet,
    judges: Mapping[str, Judge],
    *,
    labels: int,
    seed: int,
    device: str = "auto",
    protocol: Protocol | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Train one model and measure it; plain values, with None where a model without explanations has nothing to say.

    labels: texts drawn from the pool to train on; a larger draw of the same seed holds the smaller one. seed: of the
    draw and of the training. Raises InputError where the pool has too few texts to train on and to score.
    """
    protocol = protocol or Protocol()
    clock = Clock()
    drawn = initial_set(data.pool, labels + protocol.scored, seed)
    by_id = {example.id: example for example in data.pool}
    labeled, unlabeled = ([by_id[id_] for id_ in ids] for ids in (drawn[:labels], drawn[labels:]))
    with clock("train"):
        predictor = fitted_predictor(
            labeled,
            data.explained(labeled) if settled.row.explains else None,
            task=data.task,
            source=settled.backbone.source,
            config=settled.config,
            seed=seed,
            device=device,
            decoding=Decoding(protocol.num_beams, data.task.max_explanation_tokens),
            precision="float32",  # alike on all machines
            progress=progress,
        )
    results = measure(predictor, data.dev, progress=progress)
    found: dict[str, Any] = {"macro_f1": results["macro_f1"], "accuracy": results["accuracy"]}
    if settled.row.explains:
        found |= _explanations(predictor, data, judges, protocol, progress)
    with clock("score"):
        scores = score_pool(predictor, unlabeled, explain=settled.row.explains, progress=progress).scores
    if settled.row.explains:
        found |= _terms(scores)
    return found | {
        "train_seconds": clock.seconds["train"],
        "score_seconds_per_100": round(100 * clock.seconds["score"] / len(unlabeled), 3),
        "scored": len(unlabeled),
        "device": _device_name(device),
        "threads": torch.get_num_threads(),
    }


def _explanations(
    predictor: Predictor, data: DataSet, judges: Mapping[str, Judge], protocol: Protocol, progress: bool
) -> dict[str, Any]:
    """Everything about explanations: those written for dev texts, and the scores of recorded ones."""
    dev = data.dev[: protocol.explained]
    predictions = predict_examples(predictor, dev, explain=True, progress=progress, stage="explain")
    written = [str(prediction.explanation) for prediction in predictions]
    labels = [prediction.label for prediction in predictions]
    judged = {name: judge.judge(written) for name, judge in judges.items()}
    own_labels = predictor.network.conditioning == "label"
    tokens = [len(predictor.encoder.decoder_tokens(text)) for text in written]
    served, where_right = rank_as_served(predictor, data)
    return {
        "ranking": asdict(served),
        "ranking_where_right": asdict(where_right) if where_right else None,
        "ranking_own_label": asdict(rank_given_own_labels(predictor, data)) if own_labels else None,
        "consistency": {name: consistency(labels, named) for name, named in judged.items()},
        "judge_accuracy": {name: judge.accuracy(data.explained(data.ranking)) for name, judge in judges.items()},
        "distinct": distinct(written),
        "explained": len(dev),
        "mean_words": float(np.mean([len(text.split()) for text in written])),
        # An explanation that ended has its end token among max_new_tokens, so fewer tokens of its own.
        "without_end": float(np.mean([n >= predictor.decoding.max_new_tokens for n in tokens])),
        "samples": [
            _sample(data, example, prediction, {name: named[row] for name, named in judged.items()})
            for row, (example, prediction) in enumerate(zip(dev, predictions, strict=True))
        ],
    }


def _terms(scores: PoolScores) -> dict[str, Any]:
    """Spread of the explanation score, and what share of Eq. 8's variance its term carries in each acquisition."""
    p, c = scores.explanation_scores, scores.entropy
    assert p is not None  # the pool was scored with explanations
    normaliser = pool_normaliser(p, c)

    def share(acquisition: Acquisition) -> float | None:
        return variance_shares(*acquisition_terms(p, c, normaliser, acquisition=acquisition))[0]

    return {
        "explanation_score_std": float(p.std()),
        "entropy_std": float(c.std()),
        "explanation_share": {"paper": share("paper"), "standardized": share("standardized")},
    }


def _sample(data: DataSet, example: Example, prediction: Prediction, judged: Mapping[str, str]) -> dict[str, Any]:
    sample = {"id": example.id, "gold": example.label, "predicted": prediction.label, "judged": dict(judged)}
    if data.shows_texts:
        sample |= {"text": data.task.render_input(example.fields), "explanation": prediction.explanation}
    return sample


def _device_name(device: str) -> str:
    chosen = choose_device(device)
    return torch.cuda.get_device_name(chosen) if chosen.type == "cuda" else chosen.type
