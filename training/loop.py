"""Algorithm 1: label, ask the teacher, train anew, measure, score the pool, choose the next texts; round by round.

A round is finished when it stands in metrics.json, which is replaced in one step. A run that was killed goes on from
there; what the open round had already paid for (its explanations, its trained model) is used again.
"""

from __future__ import annotations

import fcntl
import hashlib
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
from service.model.errors import CheckpointError, InputError
from service.model.hardware import choose_device
from service.model.predictor import Predictor
from service.model.task import Task
from training.clock import Clock
from training.config import RunConfig
from training.data import Example
from training.pool import Pool, check_budget, initial_set
from training.predictions import ExplainedPart, measure, score_pool, score_prefiltered
from training.prefilter import STREAM as PREFILTER_STREAM
from training.prefilter import Kept
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
                write_atomically(self.directory / METRICS_FILE, _to_json(rounds))
                self._drop_old_model(len(rounds) - 1)
                yield rounds[-1]
                chosen = rounds[-1]["queried_ids"]

    def _begin(self) -> None:
        if (self.directory / "rounds").exists():  # something was trained by the settings that stand there
            self.config.check_same_run(self.directory)
        elif _holds_other_files(self.directory):
            raise InputError(f"{self.directory} holds other files; give an --output that is empty or not there yet")
        self.directory.mkdir(parents=True, exist_ok=True)
        self.config.save(self.directory)

    def _round(self, number: int, chosen: list[str], pool: Pool) -> dict[str, Any]:
        """Everything from the new labels to the next choice; returns the round's entry for metrics.json."""
        clock = Clock()
        with clock("teach"):
            explained = self._explain(pool.labeled)
        with clock("train"):
            directory = self._train(number, pool.labeled, explained)
            predictor = Predictor.load(directory, device=self.config.device, dtype=self.config.trainer.precision)
        clock.seconds["train"] = predictor.manifest["lineage"]["train_seconds"]  # of an earlier start, perhaps
        with clock("evaluate"):
            test = measure(predictor, self.splits.test, progress=self.progress)
            dev = measure(predictor, self.splits.dev, progress=self.progress) if self.splits.dev else None
        unlabeled = pool.unlabeled
        to_query = min(self.config.query_size, self.config.budget - len(pool.labeled_ids))
        with clock("score"):
            scores, part = self._score(number, predictor, unlabeled, last=to_query == 0)
        with clock("select"):
            next_query = self._select(number, scores, to_query)
        explained_pool = scores.explanation_scores is not None and bool(next_query)
        return {
            "round": number,
            "n_labeled": len(pool.labeled_ids),
            **test,
            "dev": dev,
            "n_test": len(self.splits.test),
            "selected_ids": chosen,
            "queried_ids": [unlabeled[part.places[index] if part else index].id for index in next_query[:to_query]],
            "seconds": clock.seconds,
            "teacher": asdict(explained.usage),
            "normaliser": _normaliser(scores),
            "selection": self._diagnose(scores, next_query) if explained_pool else None,
            "prefilter": asdict(self._kept(part, len(next_query))) if part else None,
            "model_version": predictor.model_version,
        }

    def _explain(self, labeled: Sequence[Example]) -> Explained:
        """The teacher's explanations of all labeled texts; thanks to its cache an LLM is paid for the new ones only."""
        if self.teacher is None:
            return Explained({}, Usage())
        return self.teacher.explain({example.id: example.fields for example in labeled})

    def _train(self, number: int, labeled: Sequence[Example], explained: Explained) -> Path:
        """Train this round's model and save it, unless a killed run already had; returns its model directory."""
        config = self.config
        directory = model_directory(self.directory, number)
        digest = _digest(labeled, explained)
        if _trained_on(directory, digest):
            return directory
        shutil.rmtree(directory.parent, ignore_errors=True)  # what a run killed while saving left there
        begin = time.perf_counter()
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
            conditioning=config.trainer.conditioning,
            decoding=Decoding(config.num_beams, config.max_new_tokens),
            normaliser=None,  # known once this model has scored the pool; export puts it in
            trained_on_explanations=config.trains_on_explanations,
            acquisition=self.strategy.acquisition,
        )
        seconds = round(time.perf_counter() - begin, 3)
        lineage = {"round": number, "training_data": digest, "train_seconds": seconds}
        checkpoint.save(directory, network, encoder, settings, Provenance(lineage=lineage))
        return directory

    def _score(
        self, number: int, predictor: Predictor, unlabeled: Sequence[Example], last: bool
    ) -> tuple[PoolScores, ExplainedPart | None]:
        """What the strategy needs to see, and which part of the pool that is where a prefilter left some out.

        After the last round nothing is chosen any more, but a strategy that looks at explanations has its last pool
        scored too: an export wants the sums of Eq. 8, a reader their spread.
        """
        config = self.config
        explain = "explanation_scores" in self.strategy.needs
        if not unlabeled or not (explain or (self.strategy.needs and not last)):
            return PoolScores(len(unlabeled)), None
        if config.prefilter is None:
            return score_pool(predictor, unlabeled, explain=explain, progress=self.progress), None
        rng = np.random.default_rng([PREFILTER_STREAM, config.seed, config.initial_set, number])
        part = score_prefiltered(predictor, unlabeled, config.prefilter, config.query_size, rng, progress=self.progress)
        return part.scores, part

    def _select(self, number: int, scores: PoolScores, to_query: int) -> list[int]:
        """Indices into the texts that were scored: the next query, or, when the budget is spent and the pool was scored
        all the same, what the next query would be."""
        if to_query == 0 and scores.explanation_scores is None:
            return []
        size = to_query or min(self.config.query_size, scores.n)
        rng = np.random.default_rng([SELECTION_STREAM, self.config.seed, self.config.initial_set, number])
        return self.strategy.select(scores, size, rng).tolist()

    def _diagnose(self, scores: PoolScores, next_query: list[int]) -> dict[str, Any]:
        chosen = np.array(next_query)
        return diagnose(scores, chosen, self.config.lambda_, self.strategy.acquisition).to_dict()

    def _kept(self, part: ExplainedPart, size: int) -> Kept:
        return part.kept(self.config.lambda_, self.strategy.acquisition, size)

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


def _holds_other_files(directory: Path) -> bool:
    """Whether this is neither a run directory nor empty. Hidden files do not count: a kill in the middle of the first
    write leaves one."""
    if (directory / CONFIG_FILE).exists() or not directory.exists():
        return False
    return any(not path.name.startswith(".") for path in directory.iterdir())


def model_directory(run: Path, number: int) -> Path:
    """Where a run directory keeps the model of a round."""
    return run / "rounds" / f"{number:02d}" / "model"


def _trained_on(directory: Path, digest: str) -> bool:
    """Whether a sound model that learned from these very texts, labels and explanations is there already."""
    try:
        return bool(checkpoint.verify(directory)["lineage"]["training_data"] == digest)
    except CheckpointError:
        return False


def _digest(labeled: Sequence[Example], explained: Explained) -> str:
    content = [(example.id, example.label, explained.explanations.get(example.id)) for example in labeled]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _to_json(rounds: list[dict[str, Any]]) -> str:
    return json.dumps(rounds, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _normaliser(scores: PoolScores) -> dict[str, Any] | None:
    """What the terms of Eq. 8 were like over the pool that this round's model scored, for the export."""
    if scores.explanation_scores is None:
        return None
    return asdict(scores.pool_sums)


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Hold the run directory alone; the lock goes with the process, however that ends."""
    with (directory / ".lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(f"{directory}: another process is working on this run; wait for it or end it") from None
        yield
