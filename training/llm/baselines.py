"""What an LLM makes of a task without the loop (the paper's Table 3), each setting a run of one round.

zero-shot, few-shot: it classifies the test texts. silver: it labels the pool, and a model learns from these labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from service.model.errors import InputError
from service.model.hardware import choose_device
from service.model.task import Task
from training import backbones
from training.backbones import Backbone
from training.clock import Clock
from training.config import DataFile
from training.data import Example
from training.evaluation import evaluate
from training.llm.classifier import RECIPE, LLMClassifier, draw_shots
from training.llm.one_round import begin, finish, measured
from training.llm.silver import check_loads, draw_unlabeled, learn_and_measure, right_share, silver_labels
from training.locks import alone
from training.pool import initial_set
from training.run_data import read_splits
from training.run_request import QUERY_SIZE
from training.splits import Splits
from training.teacher_api import TeacherConfig
from training.trainer import TrainerConfig

SETTINGS = ("zero-shot", "few-shot", "silver")
UNPARSABLE = ""  # a label that no task has


@dataclass(frozen=True)
class BaselineOptions:
    """One ``xal llm`` as its user states it.

    llm: which LLM is asked. output: holds one run directory for each setting, ``llm-zero-shot`` and so on. settings: of
    SETTINGS. shots: labeled texts in a few-shot prompt, drawn by label from the first ``query_size`` texts that a run
    with this ``initial_set`` has labeled, so that few-shot costs ``query_size`` labels, as many as that run's first
    round, and stands beside it; None for 100, or for all of a smaller pool. silver: so many pool texts are labeled by
    the LLM, None for all. model, trainer, device: what learns from these labels, and how, as for ``xal run``. seed: of
    the draws and of the training.
    """

    task: Path
    data: Path
    output: Path
    llm: TeacherConfig | None
    settings: Sequence[str] = SETTINGS
    test: Path | None = None
    dev: Path | None = None
    shots: int = 8
    query_size: int | None = None
    initial_set: int = 0
    silver: int | None = None
    model: str = backbones.DEFAULT
    trainer: Mapping[str, Any] = field(default_factory=dict)
    device: str = "auto"
    seed: int = 0


@dataclass(frozen=True)
class BaselineResult:
    """One setting's result. entry: the only round of its metrics.json. repeated: an earlier start has measured it."""

    setting: str
    directory: Path
    entry: Mapping[str, Any]
    repeated: bool

    def __str__(self) -> str:
        entry = self.entry
        unparsable = f"; {entry['unparsable']} answers of the LLM name no label" if entry["unparsable"] else ""
        return (
            f"{self.setting}: macro-F1 {entry['macro_f1']:.3f}, accuracy {entry['accuracy']:.3f} on {entry['n_test']} "
            f"test texts{unparsable}{' (measured before)' if self.repeated else ''}"
        )


def run_baselines(
    options: BaselineOptions,
    *,
    cache: Path,
    progress: bool = True,
    note: Callable[[str], None] = lambda _: None,
) -> Iterator[BaselineResult]:
    """Each setting's result the moment it is measured; a finished one is not repeated, an unfinished one asks only for
    what the LLM's cache lacks. note: is told what was decided for the user.

    Raises InputError for whatever is wrong with files and settings, before an LLM is asked, and for a setting that
    another process is measuring; TeacherError where the LLM does not answer (see ``Surveyor.ask``).
    """
    baselines = _prepared(options, cache, progress)
    for said in baselines.splits.notes:
        note(said)
    found = {name: measured(baselines.directory(name), baselines.config(name)) for name in options.settings}
    if baselines.backbone and found.get("silver", True) is None:
        check_loads(baselines.backbone.source, baselines.task, baselines.trainer)
    for setting, before in found.items():
        entry, repeated = (before, True) if before is not None else baselines.measure(setting)
        yield BaselineResult(setting, baselines.directory(setting), entry, repeated)


def evaluate_answers(gold: Sequence[str], answers: Sequence[str | None], label_ids: Sequence[str]) -> dict[str, Any]:
    """``evaluate`` of an LLM's answers: one that names no label (None) is a wrong answer of no class. It lowers the
    recall of its text's class and no precision; the mean is over the task's labels. ``unparsable`` says how many.
    """
    predicted = [UNPARSABLE if answer is None else answer for answer in answers]
    found = evaluate(gold, predicted, [*label_ids, UNPARSABLE])
    per_class = {label: found["per_class_f1"][label] for label in label_ids}
    unparsable = sum(answer is None for answer in answers)
    return found | {
        "macro_f1": float(np.mean(list(per_class.values()))),
        "per_class_f1": per_class,
        "unparsable": unparsable,
    }


def _prepared(options: BaselineOptions, cache: Path, progress: bool) -> _Baselines:
    if options.llm is None:
        raise InputError("an LLM has to be named: give --teacher-url URL (or set XAL_TEACHER_URL)")
    if not options.settings or set(options.settings) - set(SETTINGS):
        raise InputError(f"expected settings of {', '.join(SETTINGS)}; found {', '.join(options.settings) or 'none'}")
    for name, seed in (("--seed", options.seed), ("--initial-set", options.initial_set)):
        if not 0 <= seed < 2**63:  # what torch takes
            raise InputError(f"{name}: expected a number from 0 to {2**63 - 1}, found {seed}")
    choose_device(options.device)
    task = Task.from_yaml(options.task)
    data = DataFile.of(options.data)
    test, dev = (DataFile.of(path) if path else None for path in (options.test, options.dev))
    splits = read_splits(task, data, test, dev)
    pool = len(splits.train)
    size = min(QUERY_SIZE, pool) if options.query_size is None else options.query_size
    backbone = backbones.resolve(options.model, cache) if "silver" in options.settings else None
    try:
        trainer = TrainerConfig(**{**(backbone.training if backbone else {}), **options.trainer})
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        raise InputError(
            f"trainer: {problem['loc'][0]}: {problem['msg'].lower()}, found {problem['input']!r}"
        ) from None
    labeled, shots, unlabeled = list[Example](), list[Example](), list[Example]()
    if "few-shot" in options.settings:
        if not 1 <= size <= pool:
            raise InputError(f"--query-size: expected 1 to {pool} texts, the pool's size, found {size}")
        by_id = {example.id: example for example in splits.train}
        labeled = [by_id[id_] for id_ in initial_set(splits.train, size, options.initial_set)]
        shots = draw_shots(labeled, options.shots, options.seed)
    if "silver" in options.settings:
        unlabeled = draw_unlabeled(splits.train, options.silver, options.seed)
    return _Baselines(
        replace(options, query_size=size), options.llm, task, (data, test, dev), splits, labeled, shots, unlabeled,
        backbone, trainer, progress,
    )  # fmt: skip


@dataclass(frozen=True)
class _Baselines:
    """Everything read, checked and drawn. files: data, test and dev; labeled, shots: the texts whose labels few-shot
    costs, and those of them that it shows; unlabeled: what the LLM labels for silver."""

    options: BaselineOptions
    llm: TeacherConfig
    task: Task
    files: tuple[DataFile, DataFile | None, DataFile | None]
    splits: Splits
    labeled: list[Example]
    shots: list[Example]
    unlabeled: list[Example]
    backbone: Backbone | None
    trainer: TrainerConfig
    progress: bool

    def directory(self, setting: str) -> Path:
        return self.options.output / f"llm-{setting}"

    def config(self, setting: str) -> dict[str, Any]:
        """What config.yaml holds, but for versions and git hash: a run's settings as far as this one has them."""
        data, test, dev = self.files
        llm = self.llm.model_dump(include={"base_url", "temperature", "max_completion_tokens"})
        content = {
            "strategy": f"llm-{setting}",
            "task": self.task.to_dict(),
            "data": data.model_dump(),
            "test_data": test.model_dump() if test else None,
            "dev_data": dev.model_dump() if dev else None,
            "initial_set": self.options.initial_set,
            "seed": self.options.seed,
            "model": self.llm.model,
            "teacher": f"llm:{self.llm.model}",
            "llm": {**llm, "recipe": RECIPE},
        }
        if setting == "few-shot":
            content |= {"shots": self.options.shots, "query_size": self.options.query_size}
        if setting == "silver" and self.backbone:
            content |= {"silver": len(self.unlabeled), "model": self.backbone.name}
            content |= {"trainer": self.trainer.model_dump(), "device": self.options.device}
        return content

    def measure(self, setting: str) -> tuple[dict[str, Any], bool]:
        """Measure a setting and write its run directory; returns the round, and whether another process has measured it
        in the meantime, and not this one."""
        directory, config = self.directory(setting), self.config(setting)
        directory.mkdir(parents=True, exist_ok=True)
        with alone(directory):
            before = measured(directory, config)
            if before is not None:
                return before, True
            begin(directory, config)
            entry = self._round(setting)
            finish(directory, entry)
            return entry, False

    def _round(self, setting: str) -> dict[str, Any]:
        """A setting as metrics.json holds it. Its labels are those that people gave: for few-shot to all texts among
        which its shots were drawn."""
        labeled, shots = (self.labeled, self.shots) if setting == "few-shot" else ([], [])
        entry = self._from_silver() if setting == "silver" else self._from_answers(shots)
        return {
            "round": 0,
            "n_labeled": len(labeled),
            **entry,
            "n_test": len(self.splits.test),
            "selected_ids": [example.id for example in labeled],
            "shot_ids": [shot.id for shot in shots],
        }

    def _from_answers(self, shots: Sequence[Example]) -> dict[str, Any]:
        """The LLM's own answers to the test texts."""
        clock, test = Clock(), self.splits.test
        with clock("ask"):
            answers = self._classifier(shots).classify({example.id: example.fields for example in test})
        gold = [str(example.label) for example in test]
        found = evaluate_answers(gold, [answers.labels[example.id] for example in test], self.task.label_ids)
        return {**found, "seconds": clock.seconds, "teacher": asdict(answers.usage)}

    def _from_silver(self) -> dict[str, Any]:
        """What a model predicts for the test texts that learned from the LLM's answers to the pool's."""
        assert self.backbone is not None  # resolved for this setting
        clock = Clock()
        with clock("ask"):
            answers = self._classifier().classify({example.id: example.fields for example in self.unlabeled})
        labeled = silver_labels(self.unlabeled, answers)
        found = learn_and_measure(
            labeled,
            self.splits.test,
            task=self.task,
            source=self.backbone.source,
            config=self.trainer,
            seed=self.options.seed,
            device=self.options.device,
            clock=clock,
            progress=self.progress,
        )
        silver = {"labels": len(labeled), "accuracy": right_share(labeled, self.unlabeled)}
        return {
            **found,
            "seconds": clock.seconds,
            "teacher": asdict(answers.usage),
            "unparsable": answers.unparsable,
            "silver": silver,
        }

    def _classifier(self, shots: Sequence[Example] = ()) -> LLMClassifier:
        return LLMClassifier(self.task, self.llm, shots, progress=self.progress)
