"""A finished round -> a model directory: its weights, Eq. 8 over its pool, its metrics and lineage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from service.model.checkpoint import Provenance, read_settings, resave, verify
from service.model.errors import InputError
from service.model.predictor import Predictor
from service.model.scoring import Normaliser, pool_normaliser
from service.model.task import Task
from training.config import RunConfig
from training.loop import read_rounds
from training.pool import Pool
from training.predictions import score_pool
from training.round_model import model_directory
from training.run_data import splits_of


def export(run: Path, number: int, output: Path, *, device: str = "auto", progress: bool = True) -> str:
    """Write the model of round ``number`` of a run directory as a model directory; returns its model version.

    Raises InputError for a round that the run has not finished or whose model was not kept, and for an output that
    exists.
    """
    config = RunConfig.load(run)
    rounds = read_rounds(run)
    if not 0 <= number < len(rounds):
        finished = f"finished are 0 to {len(rounds) - 1}" if rounds else "none is finished yet"
        raise InputError(f"{run} has no finished round {number}; {finished}")
    if output.exists():
        raise InputError(f"{output} exists; give an --output that does not, or remove it first")
    source = model_directory(run, number)
    if not source.is_dir():
        kept = [other for other in range(len(rounds)) if model_directory(run, other).is_dir()]
        instead = f"export round {kept[-1]}" if kept else "run again with --keep-models all into another --output"
        raise InputError(
            f"{run}: the model of round {number} was not kept (keep_models: {config.keep_models}); {instead}"
        )
    verify(source)
    settings = replace(read_settings(source), normaliser=_normaliser(run, config, rounds, number, device, progress))
    return resave(source, output, settings, _provenance(run, config, rounds[number]))


def _normaliser(
    run: Path, config: RunConfig, rounds: list[dict[str, Any]], number: int, device: str, progress: bool
) -> Normaliser | None:
    """What the terms of Eq. 8 were like over the pool as it was after this round's labels.

    A round whose strategy did not look at explanations has not scored its pool with them: that is done now. None for
    a model that never learned to explain, and for a pool that was labeled to its end.
    """
    if rounds[number]["normaliser"] is not None:
        return Normaliser(**rounds[number]["normaliser"])
    if not config.trains_on_explanations:
        return None
    pool = Pool(splits_of(config, Task.from_dict(config.task)).train)
    for entry in rounds[: number + 1]:
        pool.label(entry["selected_ids"])
    if not pool.unlabeled:
        return None
    predictor = Predictor.load(model_directory(run, number), device=device, dtype=config.trainer.precision)
    scores = score_pool(predictor, pool.unlabeled, explain=True, progress=progress).scores
    assert scores.explanation_scores is not None  # asked for in the line above
    return pool_normaliser(scores.explanation_scores, scores.entropy)


def _provenance(run: Path, config: RunConfig, entry: Mapping[str, Any]) -> Provenance:
    metrics = {name: entry[name] for name in ("macro_f1", "accuracy", "n_test", "n_labeled")}
    metrics |= {f"f1_{label}": value for label, value in entry["per_class_f1"].items()}
    corpus = (config.adaptation or {}).get("corpus")
    lineage = {
        "run": run.resolve().name,
        "round": entry["round"],
        "strategy": config.strategy,
        "seed": config.seed,
        "initial_set": config.initial_set,
        "data_hash": config.data.sha256,
        "teacher": config.teacher,
        "explanations_hash": config.explanations.sha256 if config.explanations else None,
        "model": config.model,
        "adapted": config.adaptation is not None,
        "adaptation_corpus_hash": corpus["sha256"] if corpus else None,
    }
    return Provenance(metrics=metrics, lineage=lineage)
