"""A model that learns from an LLM's labels alone (the paper's "silver" labels, Table 3): nobody labels a text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from service.model.decoding import Decoding
from service.model.errors import InputError, XalError
from service.model.families import load_network
from service.model.task import Task
from training.clock import Clock
from training.data import Example
from training.fitted import fitted_predictor
from training.llm.classifier import Classified
from training.predictions import measure
from training.trainer import TrainerConfig

STREAM = 8  # keeps this draw apart from every other generator that is seeded with a small number


def draw_unlabeled(pool: Sequence[Example], count: int | None, seed: int) -> list[Example]:
    """The pool texts that the LLM labels, drawn at random and in the pool's order; all of them for None.

    Raises InputError for a count that the pool does not have.
    """
    if count is None:
        return list(pool)
    if not 1 <= count <= len(pool):
        raise InputError(f"expected 1 to {len(pool)} texts for the LLM to label, the pool's size; found {count}")
    rng = np.random.default_rng([STREAM, seed])
    return [pool[index] for index in sorted(rng.permutation(len(pool))[:count])]


def check_loads(source: str, task: Task, config: TrainerConfig) -> None:
    """Load the backbone once and let it go: one that does not load is found before an LLM is paid."""
    with torch.random.fork_rng(devices=[]):
        load_network(source, task, config.pooling, config.conditioning)


def silver_labels(texts: Sequence[Example], answers: Classified) -> list[Example]:
    """The texts with the LLM's labels in place of their own, without those whose answer names no label.

    Raises XalError where none is left.
    """
    labeled = [replace(text, label=answers.labels[text.id]) for text in texts if answers.labels[text.id] is not None]
    if not labeled:
        raise XalError(
            f"none of the LLM's {len(texts)} answers names a label, so there is nothing to learn from; take another "
            "LLM, or, for one that thinks before it answers, raise --teacher-answer-tokens"
        )
    return labeled


def right_share(labeled: Sequence[Example], gold: Sequence[Example]) -> float:
    """Share of silver labels that are the gold ones, 0 to 1: measured, never learned from."""
    own = {example.id: example.label for example in gold}
    return sum(example.label == own[example.id] for example in labeled) / len(labeled)


def learn_and_measure(
    labeled: Sequence[Example],
    test: Sequence[Example],
    *,
    task: Task,
    source: str,
    config: TrainerConfig,
    seed: int,
    device: str,
    clock: Clock,
    progress: bool,
) -> dict[str, Any]:
    """Train on the labels alone and measure on ``test`` what a model directory of it predicts (see ``measure``)."""
    with clock("train"):
        predictor = fitted_predictor(
            labeled,
            None,
            task=task,
            source=source,
            config=config,
            seed=seed,
            device=device,
            decoding=Decoding(1, task.max_explanation_tokens),  # this model never learned to explain
            precision=config.precision,
            progress=progress,
        )
    with clock("evaluate"):
        return measure(predictor, test, progress=progress)
