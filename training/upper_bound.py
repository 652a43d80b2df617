"""How good a model becomes that has all labels: what ``--until`` is a share of, measured once and kept."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from service.model.scoring import LAMBDA
from training.backbones import identity
from training.config import RunConfig, Until
from training.data import Example
from training.locks import in_turn
from training.loop import Loop, read_rounds
from training.strategies import PoolScores, QueryStrategy
from training.strategies.interface import Indices


def _all(scores: PoolScores, size: int, rng: np.random.Generator) -> Indices:  # noqa: ARG001
    return np.arange(size)


UPPER_BOUND = QueryStrategy(
    name="upper-bound", reference="training on everything", uses_explanations=False, needs=frozenset(), choose=_all
)


def target(loop: Loop, share: float, cache: Path) -> tuple[Until, list[str]]:
    """Where a run stops that is to reach ``share`` of the upper bound, and notes for the user.

    The upper bound is the test macro-F1 of the run's own model trained on the labels of its whole pool, without
    explanations, whatever the strategy, so that all strategies of an experiment run towards one target. It is a run
    directory of its own in the cache, made at the first call and read at every other; who comes while it is made waits.
    """
    bound = _bound(loop, cache)
    with in_turn(bound.directory):
        known = read_rounds(bound.directory)
        entry = known[0] if known else next(iter(bound.rounds()))
    found = float(entry["macro_f1"])
    until = Until(share=share, upper_bound=found, target=share * found)
    note = (
        f"upper bound: macro-F1 {found:.3f} with all {entry['n_labeled']} labels of the pool ({bound.directory}); "
        f"the run stops at {until.target:.3f}, {share:.0%} of it"
    )
    return until, [note]


def _bound(loop: Loop, cache: Path) -> Loop:
    """The run that labels the whole pool at once; its directory's name says what it depends on."""
    everything = len(loop.splits.train)
    # What a model that learns from labels alone does not use is the same for all that share the bound.
    trainer = loop.config.trainer.model_copy(update={"lambda1": 0.0, "lambda2": 0.0, "explanation_epochs": None})
    settings = {
        "strategy": UPPER_BOUND.name,
        "budget": everything,
        "query_size": everything,
        "initial": "random",
        "initial_set": 0,
        "seed": 0,
        "lambda_": LAMBDA,
        "measure_explanations": 0,
        "trainer": trainer,
        "num_beams": 1,
        "max_new_tokens": 1,
        "warm_start": False,
        "keep_models": "none",
    }
    unused = ("until", "prefilter", "judge", "teacher", "llm", "explanations", "adaptation")
    config = loop.config.model_copy(update={**settings, **dict.fromkeys(unused)})
    name = re.sub(r"\W+", "-", loop.task.name)[:40].strip("-")  # whatever a task is called, no way out of the cache
    directory = cache / "upper-bounds" / f"{name}-{_digest(config, loop, cache)}"
    splits = replace(loop.splits, explained=[])
    return replace(
        loop,
        config=config,
        splits=splits,
        strategy=UPPER_BOUND,
        teacher=None,
        directory=directory,
        shared=None,
        judges=(),
    )


def _digest(config: RunConfig, loop: Loop, cache: Path) -> str:
    """Changes with the model, the settings and the program of its training, the files, and every text and label that
    is taken of them."""
    parts = [_content(part) for part in (loop.splits.train, loop.splits.dev, loop.splits.test)]
    files = [file.sha256 if file else None for file in (config.data, config.test_data, config.dev_data)]
    content = [config.task, config.model, config.trainer.model_dump(), identity(loop.source, cache), files, parts]
    content += [config.only_explained, importlib.metadata.version("xal")]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def _content(examples: list[Example]) -> list[object]:
    return [[example.id, dict(example.fields), example.label] for example in examples]
