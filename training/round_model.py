"""The model of a round: trained, unless it is there already or another run of the same experiment has trained it."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from service.model import checkpoint
from service.model.checkpoint import ModelSettings, Provenance
from service.model.decoding import Decoding
from service.model.errors import CheckpointError
from service.model.hardware import choose_device
from service.model.scoring import Acquisition
from service.model.task import Task
from training.config import RunConfig
from training.data import Example
from training.locks import in_turn
from training.teacher import Explained
from training.trainer import fit


@dataclass(frozen=True)
class ModelMaker:
    """Trains the rounds of one run.

    source: the pre-trained weights that every round starts from. acquisition: see ModelSettings. shared: where the runs
    of an experiment keep their first rounds' models, which strategies with the same training have in common; None for a
    run that shares nothing.
    """

    config: RunConfig
    task: Task
    source: str
    acquisition: Acquisition
    shared: Path | None = None
    progress: bool = True

    def make(self, run: Path, number: int, labeled: Sequence[Example], explained: Explained) -> Path:
        """The model directory of a round, trained on these texts, labels and explanations if it is not yet."""
        directory = model_directory(run, number)
        digest = training_digest(labeled, explained)
        if _trained_on(directory, digest):
            return directory
        shutil.rmtree(directory.parent, ignore_errors=True)  # what a run killed while saving left there
        if number or self.shared is None:
            warm_start = model_directory(run, number - 1) if self.config.warm_start and number else None
            self._train(directory, number, labeled, explained, digest, warm_start)
            return directory
        first = self.shared / self._training(digest)
        with in_turn(first):  # who comes second waits, and trains nothing
            if not _trained_on(first, digest):
                for remains in (first, *first.parent.glob(f".{first.name}-*")):  # of a run killed while saving
                    shutil.rmtree(remains, ignore_errors=True)
                self._train(first, number, labeled, explained, digest, None)
            seconds = checkpoint.verify(first)["lineage"]["train_seconds"]
            checkpoint.resave(first, directory, self._settings(), _provenance(number, digest, seconds))
        return directory

    def _train(
        self,
        directory: Path,
        number: int,
        labeled: Sequence[Example],
        explained: Explained,
        digest: str,
        warm_start: Path | None,
    ) -> None:
        begin = time.perf_counter()
        network, encoder = fit(
            labeled,
            explained.explanations if self.config.trains_on_explanations else None,
            task=self.task,
            source=self.source,
            config=self.config.trainer,
            seed=self.config.seed,
            device=choose_device(self.config.device),
            warm_start=warm_start,
            progress=self.progress,
        )
        seconds = round(time.perf_counter() - begin, 3)
        checkpoint.save(directory, network, encoder, self._settings(), _provenance(number, digest, seconds))

    def _settings(self) -> ModelSettings:
        return ModelSettings(
            task=self.task,
            pooling=self.config.trainer.pooling,
            conditioning=self.config.trainer.conditioning,
            decoding=Decoding(self.config.num_beams, self.config.max_new_tokens),
            normaliser=None,  # known once this model has scored the pool; export puts it in
            trained_on_explanations=self.config.trains_on_explanations,
            acquisition=self.acquisition,
        )

    def _training(self, digest: str) -> str:
        """A name for everything that the training of a first round depends on, its texts (digest) included."""
        config = self.config
        data, training = config.data.sha256, config.trainer.model_dump()
        content = [digest, data, self.source, self.task.to_dict(), training, config.seed]
        content += [config.trains_on_explanations, str(choose_device(config.device).type)]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def model_directory(run: Path, number: int) -> Path:
    """Where a run directory keeps the model of a round."""
    return round_directory(run, number) / "model"


def round_directory(run: Path, number: int) -> Path:
    """Where a run directory keeps what belongs to a round."""
    return run / "rounds" / f"{number:02d}"


def _provenance(number: int, digest: str, seconds: float) -> Provenance:
    return Provenance(lineage={"round": number, "training_data": digest, "train_seconds": seconds})


def _trained_on(directory: Path, digest: str) -> bool:
    """Whether a sound model that learned from these very texts, labels and explanations is there already."""
    try:
        return bool(checkpoint.verify(directory)["lineage"]["training_data"] == digest)
    except CheckpointError:
        return False


def training_digest(labeled: Sequence[Example], explained: Explained) -> str:
    content = [(example.id, example.label, explained.explanations.get(example.id)) for example in labeled]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
