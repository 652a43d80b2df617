"""Algorithm 1: label, ask the teacher, train anew, measure, score the pool, choose the next texts; round by round.

A round is finished when it stands in metrics.json, which is replaced in one step. A run that was killed goes on from
there; what the open round had already paid for (its explanations, its trained model) is used again.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from service.model import checkpoint
from service.model.checkpoint import ModelSettings, Provenance
from service.model.decoding import Decoding
from service.model.errors import InputError
from service.model.predictor import Predictor, choose_device
from service.model.scoring import pool_normaliser
from service.model.task import Task
from training.config import RunConfig
from training.data import Example
from training.pool import Pool, check_budget, initial_set
from training.predictions import measure, score_pool
from training.records import write_atomically
from training.runs import CONFIG_FILE, METRICS_FILE
from training.selection import diagnose
from training.splits import Splits
from training.strategies import PoolScores, QueryStrategy
from training.teacher import Explained, Teacher, Usage
from training.trainer import fit

SELECTION_STREAM = 2  # keeps the strategies' draws apart from every other generator seeded with a small number


@dataclass(frozen=True)
class Loop:
    """One run of Algorithm 1 over simulated labels.

    teacher: explains the texts of each round; None where the model learns from labels alone. source: the pre-trained
    weights that every round starts from.
    """

    config: RunConfig
    task: Task
    splits: Splits
    strategy: QueryStrategy
    teacher: Teacher | None
    source: str
    directory: Path
    progress: bool = True

    def rounds(self) -> Iterator[dict[str, Any]]:
        """Every round as metrics.json holds it, the moment it is finished; those of an earlier start come first.

        Raises InputError where the directory holds another run, or the budget does not fit the pool.
        """
        check_budget(len(self.splits.train), self.config.query_size, self.config.budget)
        self._begin()
        with _locked(self.directory):
            rounds = read_rounds(self.directory)
            yield from rounds
            pool = Pool(self.splits.train)
            for finished in rounds:
                pool.label(finished["selected_ids"])
            chosen = initial_set(self.splits.train, self.config.query_size, self.config.initial_set)
            if rounds:
                chosen = rounds[-1]["queried_ids"]
            while chosen:
                pool.label(chosen)
                rounds.append(self._round(len(rounds), chosen, pool))
                write_atomically(self.directory / METRICS_FILE, json.dumps(rounds, indent=2, ensure_ascii=False) + "\n")
                self._drop_old_model(len(rounds) - 1)
                yield rounds[-1]
                chosen = rounds[-1]["queried_ids"]

    def _begin(self) -> None:
        if (self.directory / CONFIG_FILE).exists():
            self.config.check_same_run(self.directory)
            if self.config != RunConfig.load(self.directory):
                self.config.save(self.directory)
            return
        if self.directory.exists() and any(self.directory.iterdir()):
            raise InputError(f"{self.directory} holds other files; give an --output that is empty or does not exist")
        self.directory.mkdir(parents=True, exist_ok=True)
        self.config.save(self.directory)

    def _round(self, number: int, chosen: list[str], pool: Pool) -> dict[str, Any]:
        """Everything from the new labels to the next choice; returns the round's entry for metrics.json."""
        clock = _Clock()
        with clock("teach"):
            explained = self._explain(pool.labeled)
        with clock("train"):
            directory = self._train(number, pool.labeled, explained)
            predictor = Predictor.load(directory, device=self.config.device)
        with clock("evaluate"):
            test = measure(predictor, self.splits.test, progress=self.progress)
            dev = measure(predictor, self.splits.dev, progress=self.progress) if self.splits.dev else None
        unlabeled = pool.unlabeled
        to_query = min(self.config.query_size, self.config.budget - len(pool.labeled_ids))
        with clock("score"):
            scores = self._score(predictor, unlabeled, last=to_query == 0)
        with clock("select"):
            queried = self._select(number, scores, to_query)
        diagnosable = bool(queried) and scores.explanation_scores is not None
        return {
            "round": number,
            "n_labeled": len(pool.labeled_ids),
            **test,
            "dev": dev,
            "n_test": len(self.splits.test),
            "selected_ids": chosen,
            "queried_ids": [unlabeled[index].id for index in queried],
            "seconds": clock.seconds,
            "teacher": asdict(explained.usage),
            "normaliser": _normaliser(scores),
            "selection": diagnose(scores, np.array(queried), self.config.lambda_).to_dict() if diagnosable else None,
            "model_version": predictor.model_version,
        }

    def _explain(self, labeled: Sequence[Example]) -> Explained:
        """The teacher's explanations of all labeled texts; thanks to its cache an LLM is paid for the new ones only."""
        if self.teacher is None:
            return Explained({}, Usage())
        return self.teacher.explain({example.id: example.fields for example in labeled})

    def _train(self, number: int, labeled: Sequence[Example], explained: Explained) -> Path:
        """Train this round's model and save it, unless a killed run already had; returns its model directory."""
        directory = model_directory(self.directory, number)
        if directory.exists():
            return directory
        shutil.rmtree(directory.parent, ignore_errors=True)  # what a run killed while saving left there
        config = self.config
        network, encoder = fit(
            labeled,
            explained.explanations if config.trains_on_explanations else None,
            task=self.task,
            source=self.source,
            config=config.trainer,
            seed=config.seed,
            device=choose_device(config.device),
            warm_start=model_directory(self.directory, number - 1) if config.warm_start and number else None,
            progress=self.progress,
        )
        settings = ModelSettings(
            task=self.task,
            pooling=config.trainer.pooling,
            decoding=Decoding(config.num_beams, config.max_new_tokens),
            normaliser=None,  # known once this model has scored the pool; export puts it in
            trained_on_explanations=config.trains_on_explanations,
        )
        checkpoint.save(directory, network, encoder, settings, Provenance(lineage={"round": number}))
        return directory

    def _score(self, predictor: Predictor, unlabeled: Sequence[Example], last: bool) -> PoolScores:
        """What the strategy needs to see; after the last round, what an export needs: the sums of Eq. 8."""
        explain = self.config.trains_on_explanations if last else "explanation_scores" in self.strategy.needs
        if not unlabeled or not (explain or (self.strategy.needs and not last)):
            return PoolScores(len(unlabeled))
        return score_pool(predictor, unlabeled, explain=explain, progress=self.progress)

    def _select(self, number: int, scores: PoolScores, size: int) -> list[int]:
        """Indices into the unlabeled pool; fewer than a whole query where the pool or the budget ends."""
        if size == 0:
            return []
        rng = np.random.default_rng([SELECTION_STREAM, self.config.seed, self.config.initial_set, number])
        return self.strategy.select(scores, size, rng).tolist()

    def _drop_old_model(self, number: int) -> None:
        if self.config.keep_models == "last" and number:
            shutil.rmtree(model_directory(self.directory, number - 1), ignore_errors=True)


def read_rounds(directory: Path) -> list[dict[str, Any]]:
    """The finished rounds of a run directory, none where no round is finished; raises InputError for a broken file."""
    path = directory / METRICS_FILE
    try:
        rounds: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except ValueError as error:
        raise InputError(f"{path}: broken ({error}); restore the file or begin a new run") from None
    return rounds


def model_directory(run: Path, number: int) -> Path:
    """Where a run directory keeps the model of a round."""
    return run / "rounds" / f"{number:02d}" / "model"


def _normaliser(scores: PoolScores) -> dict[str, Any] | None:
    """The sums of Eq. 8 over the pool that this round's model scored, for the export."""
    if scores.explanation_scores is None:
        return None
    return asdict(pool_normaliser(scores.explanation_scores, scores.entropy))


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Hold the run directory alone; the lock goes with the process, however that ends."""
    with (directory / ".lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(f"{directory}: another process is working on this run; wait for it or end it") from None
        yield


class _Clock:
    """Seconds by stage: ``with clock("train"): ...``."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self.seconds[stage] = round(time.perf_counter() - begin, 3)
