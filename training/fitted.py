"""A model of its own, outside of any run's rounds: fitted, kept in a model directory for a moment, loaded from it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from service.model import checkpoint
from service.model.checkpoint import ModelSettings, Provenance
from service.model.decoding import Decoding
from service.model.hardware import choose_device
from service.model.predictor import Predictor
from service.model.task import Task
from training.data import Example
from training.trainer import Precision, TrainerConfig, fit


def fitted_predictor(
    examples: Sequence[Example],
    explanations: Mapping[str, Mapping[str, str]] | None,
    *,
    task: Task,
    source: str | Path,
    config: TrainerConfig,
    seed: int,
    device: str,
    decoding: Decoding,
    precision: Precision,
    progress: bool = True,
) -> Predictor:
    """Train as a round does and answer as the service does: the predictor of a model directory, which is gone again.

    examples, explanations, source, config, seed, progress: see ``fit``. device: auto, cpu, cuda, cuda:N or mps.
    decoding: how it explains where a call does not say. precision: what it answers in.
    """
    network, encoder = fit(
        examples,
        explanations,
        task=task,
        source=source,
        config=config,
        seed=seed,
        device=choose_device(device),
        progress=progress,
    )
    settings = ModelSettings(
        task=task,
        pooling=config.pooling,
        conditioning=config.conditioning,
        decoding=decoding,
        normaliser=None,
        trained_on_explanations=explanations is not None,
    )
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "model"
        checkpoint.save(directory, network, encoder, settings, Provenance())
        del network  # one copy is enough for a GPU
        return Predictor.load(directory, device=device, dtype=precision)
