"""Algorithm 1: label, ask the teacher, train anew, measure, score the pool, choose the next texts; round by round.

A round is finished when it stands in metrics.json, which is replaced in one step. A run that was killed goes on from
there; what the open round had already paid for (its explanations, its trained model) is used again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from service.model.errors import InputError
from service.model.predictor import Predictor
from service.model.task import Task
from training.bill import billed, close_bill
from training.clock import Clock
from training.cold_start import diverse_initial_set
from training.config import RunConfig
from training.data import Example
from training.dropout import dropout_probabilities
from training.extremes import extremes
from training.held_out import measure_explanations
from training.judge import Judge, train_word_judge
from training.locks import alone
from training.pool import Pool, check_budget, initial_set
from training.predictions import Scored, measure, score_labeled, score_pool, score_prefiltered
from training.prefilter import STREAM as PREFILTER_STREAM
from training.prefilter import Kept
from training.records import write_atomically
from training.round_map import MAP_FILE, save_map
from training.round_model import ModelMaker, model_directory, round_directory, training_digest
from training.runs import CONFIG_FILE, METRICS_FILE
from training.selection import diagnose, finds_errors, redundancy
from training.splits import Splits
from training.strategies import PoolScores, QueryStrategy
from training.strategies.interface import Indices
from training.teacher import Explained, Teacher, Usage

# Keep these draws apart from every other generator that is seeded with a small number.
SELECTION_STREAM, DROPOUT_STREAM, PICTURE_STREAM = 2, 4, 5


@dataclass(frozen=True)
class Loop:
    """One run of Algorithm 1 over simulated labels.

    teacher: explains the texts of each round; None where the model learns from labels alone. source: the pre-trained
    weights that every round starts from. shared: where the runs of an experiment keep the models of their first rounds
    (see ModelMaker), None for a run of its own. judges: by name, what makes others who say which label the explanations
    of splits.explained argue for, beside the one who learns from the round's own explanations.
    """

    config: RunConfig
    task: Task
    splits: Splits
    strategy: QueryStrategy
    teacher: Teacher | None
    source: str
    directory: Path
    progress: bool = True
    shared: Path | None = None
    judges: tuple[tuple[str, Callable[[], Judge]], ...] = ()

    def rounds(self) -> Iterator[dict[str, Any]]:
        """Every round as metrics.json holds it, the moment it is finished; those of an earlier start come first.

        Raises InputError where the directory holds another run, or the budget does not fit the pool.
        """
        check_budget(len(self.splits.train), self.config.query_size, self.config.budget)
        check_output(self.directory, self.config)  # before anything is written; and below, where nobody else may write
        self.directory.mkdir(parents=True, exist_ok=True)
        with alone(self.directory):
            rounds, pool = self._begin()
            yield from rounds
            chosen = rounds[-1]["queried_ids"] if rounds else self._initial_set()
            if rounds:  # a kill may have left models; a finished run keeps those that it was to keep
                begun = replace(self, config=RunConfig.load(self.directory))
                begun._drop_models(len(rounds) - 1, last=not chosen)
            while chosen:
                pool.label(chosen)
                rounds.append(self._round(len(rounds), chosen, pool))
                write_atomically(self.directory / METRICS_FILE, _to_json(rounds))
                close_bill(self.directory)
                chosen = rounds[-1]["queried_ids"]
                self._drop_models(len(rounds) - 1, last=not chosen)
                yield rounds[-1]

    def _begin(self) -> tuple[list[dict[str, Any]], Pool]:
        """The finished rounds of this run, and the pool after them. A finished run is left as it is."""
        check_output(self.directory, self.config)
        rounds, pool = read_rounds(self.directory), Pool(self.splits.train)
        for finished in rounds:
            pool.label(finished["selected_ids"])
        self._check_explanations(rounds, pool)
        if not rounds or rounds[-1]["queried_ids"]:
            self.config.save(self.directory, goes_on=has_begun(self.directory))
        return rounds, pool

    def _check_explanations(self, rounds: Sequence[Mapping[str, Any]], pool: Pool) -> None:
        """Raise InputError where the finished rounds learned from other recorded explanations than there are now."""
        if not rounds or self.teacher is None or self.teacher.covered is None:  # an LLM's are kept in its cache
            return
        learned = rounds[-1].get("training_data")
        if learned not in (None, training_digest(pool.labeled, self._explain(pool.labeled))):
            raise InputError(
                f"{self.directory}: its rounds learned from other explanations than {self.teacher.name} holds now; "
                "give those to go on, or another --output"
            )

    def _initial_set(self) -> list[str]:
        config, pool = self.config, self.splits.train
        if config.initial == "random":
            return initial_set(pool, config.query_size, config.initial_set)
        return diverse_initial_set(
            pool, config.query_size, config.initial_set, task=self.task, source=self.source, device=config.device
        )

    def _round(self, number: int, chosen: list[str], pool: Pool) -> dict[str, Any]:
        """Everything from the new labels to the next choice; returns the round's entry for metrics.json."""
        clock, labeled, unlabeled = Clock(), pool.labeled, pool.unlabeled
        with clock("teach"):
            explained = self._explain(labeled)
            learned = training_digest(labeled, explained)
            usage = billed(self.directory, learned, "teacher", explained.usage)
        with clock("train"):
            maker = ModelMaker(
                self.config, self.task, self.source, self.strategy.acquisition, self.shared, self.progress
            )
            directory = maker.make(self.directory, number, labeled, explained)
            predictor = Predictor.load(directory, device=self.config.device, dtype=self.config.trainer.precision)
        clock.seconds["train"] = predictor.manifest["lineage"]["train_seconds"]  # of an earlier start, perhaps
        with clock("evaluate"):
            test = measure(predictor, self.splits.test, progress=self.progress)
            dev = measure(predictor, self.splits.dev, progress=self.progress) if self.splits.dev else None
            explanations = self._measure_explanations(learned, predictor, explained)
        to_query = self._to_query(len(labeled), test["macro_f1"])
        with clock("score"):
            scored = self._score(number, predictor, unlabeled, labeled, last=to_query == 0)
        with clock("select"):
            next_query = self._select(number, scored.scores, to_query)
        gold = np.array([self.task.label_ids.index(str(example.label)) for example in scored.texts], dtype=np.int64)
        with clock("map"):
            self._save_map(number, predictor, labeled, scored, gold, next_query)
        return {
            "round": number,
            "n_labeled": len(labeled),
            **test,
            "dev": dev,
            "n_test": len(self.splits.test),
            "selected_ids": chosen,
            "queried_ids": [scored.texts[index].id for index in next_query[:to_query]],
            "seconds": clock.seconds,
            "teacher": asdict(usage),
            "training_data": learned,
            "normaliser": _normaliser(scored.scores),
            **self._described(scored, gold, next_query),
            "explanations": explanations,
            "explanation_examples": extremes(scored.texts, scored.predictions, self.task) if scored.explained else None,
            "model_version": predictor.model_version,
        }

    def _explain(self, texts: Sequence[Example]) -> Explained:
        """The teacher's explanations of all these texts; thanks to its cache an LLM is paid for the new ones only."""
        if self.teacher is None:
            return Explained({}, Usage())
        return self.teacher.explain({example.id: example.fields for example in texts})

    def _measure_explanations(self, learned: str, predictor: Predictor, explained: Explained) -> dict[str, Any] | None:
        """How good explanations of held-out texts are. ``usage`` is what the teacher and the judges took for these: a
        measurement's cost, not the method's."""
        examples = self.splits.explained
        if self.teacher is None or not examples:
            return None
        theirs = self._explain(examples)
        judges = {"words": train_word_judge(explained.explanations), **{name: make() for name, make in self.judges}}
        found = measure_explanations(predictor, examples, theirs.explanations, judges, progress=self.progress)
        usage = sum((judge.usage for judge in judges.values()), theirs.usage)
        return {**found, "usage": asdict(billed(self.directory, learned, "explanations", usage))}

    def _to_query(self, n_labeled: int, macro_f1: float) -> int:
        """How many texts to label next: 0 where the budget is spent or the target is reached."""
        if self.config.until is not None and macro_f1 >= self.config.until.target:
            return 0
        return min(self.config.query_size, self.config.budget - n_labeled)

    def _score(
        self,
        number: int,
        predictor: Predictor,
        unlabeled: Sequence[Example],
        labeled: Sequence[Example],
        last: bool,
    ) -> Scored:
        """What the strategy needs to see, of the whole pool or of the part of it that a prefilter leaves.

        After the last round nothing is chosen any more, but a strategy that looks at explanations has its last pool
        scored too, for the export wants the sums of Eq. 8; unless there will be no model to export.
        """
        config, needs = self.config, self.strategy.needs
        explain = "explanation_scores" in needs
        of_use = not last or (explain and config.keep_models != "none")
        if not unlabeled or not needs or not of_use:
            return Scored(PoolScores(len(unlabeled)), unlabeled)
        if config.prefilter is None:
            scored = score_pool(predictor, unlabeled, explain=explain, progress=self.progress)
        else:
            rng = self._rng(PREFILTER_STREAM, number)
            size = config.query_size
            scored = score_prefiltered(predictor, unlabeled, config.prefilter, size, rng, progress=self.progress)
        found: dict[str, Any] = {}
        if "labeled" in needs:
            found["labeled"] = score_labeled(predictor, labeled, progress=self.progress)
        if "dropout_probabilities" in needs:
            seed = int(self._rng(DROPOUT_STREAM, number).integers(2**63))
            found["dropout_probabilities"] = dropout_probabilities(
                predictor, scored.texts, seed, progress=self.progress
            )
        return scored.with_arrays(**found)

    def _select(self, number: int, scores: PoolScores, to_query: int) -> list[int]:
        """Indices into the texts that were scored: the next query, or, when nothing more is to be labeled and the pool
        was scored all the same, what the next query would be."""
        if to_query == 0 and scores.explanation_scores is None:
            return []
        size = to_query or min(self.config.query_size, scores.n)
        return self.strategy.select(scores, size, self._rng(SELECTION_STREAM, number)).tolist()

    def _described(self, scored: Scored, gold: Indices, next_query: list[int]) -> dict[str, Any]:
        """What the selection was like, as far as the strategy saw the pool."""
        scores, chosen = scored.scores, np.array(next_query, dtype=np.int64)
        lambda_, acquisition = self.strategy.lambda_, self.strategy.acquisition
        diagnosed = scores.explanation_scores is not None and next_query
        kept: Kept | None = scored.part.kept(self.strategy, scores, len(chosen)) if scored.part else None
        return {
            "selection": diagnose(scores, chosen, lambda_, acquisition).to_dict() if diagnosed else None,
            "redundancy": redundancy(scores.embeddings, chosen) if scores.embeddings is not None else None,
            "errors": finds_errors(scores, gold) if scores.probabilities is not None else None,
            "prefilter": asdict(kept) if kept else None,
        }

    def _save_map(
        self,
        number: int,
        predictor: Predictor,
        labeled: Sequence[Example],
        scored: Scored,
        gold: Indices,
        next_query: list[int],
    ) -> None:
        if scored.scores.embeddings is None:
            return
        if scored.scores.labeled is None:
            scored = scored.with_arrays(labeled=score_labeled(predictor, labeled, progress=self.progress))
        chosen = np.array(next_query, dtype=np.int64)
        path = round_directory(self.directory, number) / MAP_FILE
        save_map(path, scored.scores, gold, chosen, self._rng(PICTURE_STREAM, number))

    def _rng(self, stream: int, number: int) -> np.random.Generator:
        return np.random.default_rng([stream, self.config.seed, self.config.initial_set, number])

    def _drop_models(self, number: int, *, last: bool) -> None:
        """Let go of the models that the run does not keep, after a round."""
        if self.config.keep_models != "all":
            for earlier in range(number):
                shutil.rmtree(model_directory(self.directory, earlier), ignore_errors=True)
        if self.config.keep_models == "none" and last:
            shutil.rmtree(model_directory(self.directory, number), ignore_errors=True)


def read_rounds(directory: Path) -> list[dict[str, Any]]:
    """The finished rounds of a run directory, none where no round is finished; raises InputError for a broken file."""
    path = directory / METRICS_FILE
    try:
        rounds: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except ValueError as error:
        raise InputError(f"{path}: broken ({error}); restore the file or begin a new run") from None
    if not isinstance(rounds, list):
        raise InputError(f"{path}: expected a list of rounds, found {type(rounds).__name__}; restore the file")
    return rounds


def check_output(directory: Path, config: RunConfig) -> None:
    """Raise InputError where a run with these settings can neither begin nor go on in the directory."""
    if directory.exists() and not directory.is_dir():
        raise InputError(f"{directory}: expected a directory for --output, found a file; give another --output")
    if has_begun(directory):
        config.check_same_run(directory)
    elif _holds_other_files(directory):
        raise InputError(f"{directory} holds other files; give an --output that is empty or not there yet")


def has_begun(directory: Path) -> bool:
    """Whether something was trained by the settings that stand there."""
    return (directory / "rounds").exists() or (directory / METRICS_FILE).exists()


def _holds_other_files(directory: Path) -> bool:
    """Whether this is neither a run directory nor empty. Hidden files do not count: a kill in the middle of the first
    write leaves one."""
    if (directory / CONFIG_FILE).exists() or not directory.exists():
        return False
    return any(not path.name.startswith(".") for path in directory.iterdir())


def _to_json(rounds: list[dict[str, Any]]) -> str:
    return json.dumps(rounds, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _normaliser(scores: PoolScores) -> dict[str, Any] | None:
    """What the terms of Eq. 8 were like over the pool that this round's model scored, for the export."""
    if scores.explanation_scores is None:
        return None
    return asdict(scores.pool_sums)
