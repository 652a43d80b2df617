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
    SETTINGS. shots: labeled texts in a few-shot prompt, drawn from the first ``query_size`` texts that a run with this
    ``initial_set`` has labeled; None for 100, or for all of a smaller pool. silver: so many pool texts are labeled by
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

    Raises InputError for whatever is wrong with files and settings, before an LLM is asked; TeacherError where the LLM
    does not answer (see ``Surveyor.ask``).
    """
    baselines = _prepared(options, cache, progress)
    for said in baselines.splits.notes:
        note(said)
    found = {name: measured(baselines.directory(name), baselines.config(name)) for name in options.settings}
    if baselines.backbone and found.get("silver", True) is None:
        check_loads(baselines.backbone.source, baselines.task, baselines.trainer)
    for setting, before in found.items():
        entry = before or baselines.measure(setting)
        yield BaselineResult(setting, baselines.directory(setting), entry, repeated=before is not None)


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
    size = min(QUERY_SIZE, len(splits.train)) if options.query_size is None else options.query_size
    backbone = backbones.resolve(options.model, cache) if "silver" in options.settings else None
    try:
        trainer = TrainerConfig(**{**(backbone.training if backbone else {}), **options.trainer})
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        raise InputError(
            f"trainer: {problem['loc'][0]}: {problem['msg'].lower()}, found {problem['input']!r}"
        ) from None
    drawn: dict[str, list[Example]] = {"few-shot": [], "silver": []}
    if "few-shot" in options.settings:
        by_id = {example.id: example for example in splits.train}
        ids = initial_set(splits.train, size, options.initial_set)
        drawn["few-shot"] = draw_shots([by_id[id_] for id_ in ids], options.shots, options.seed)
    if "silver" in options.settings:
        drawn["silver"] = draw_unlabeled(splits.train, options.silver, options.seed)
    return _Baselines(
        replace(options, query_size=size), options.llm, task, (data, test, dev), splits, drawn["few-shot"],
        drawn["silver"], backbone, trainer, progress,
    )  # fmt: skip


@dataclass(frozen=True)
class _Baselines:
    """Everything read, checked and drawn. files: data, test and dev; shots, unlabeled: what was drawn for the settings
    few-shot and silver."""

    options: BaselineOptions
    llm: TeacherConfig
    task: Task
    files: tuple[DataFile, DataFile | None, DataFile | None]
    splits: Splits
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

    def measure(self, setting: str) -> dict[str, Any]:
        """Measure a setting and write its run directory; returns the round."""
        begin(self.directory(setting), self.config(setting))
        shots = self.shots if setting == "few-shot" else []
        entry = self._from_silver() if setting == "silver" else self._from_answers(shots)
        entry = {
            "round": 0,
            "n_labeled": len(shots),
            **entry,
            "n_test": len(self.splits.test),
            "selected_ids": [shot.id for shot in shots],
        }
        finish(self.directory(setting), entry)
        return entry

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
