"""A run's files -> its pool, development set and test set, the same every time they are read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from service.model.errors import InputError
from service.model.task import Task
from training.config import DataFile, RunConfig
from training.data import Example, read_examples
from training.held_out import hold_out
from training.splits import EmptySplitError, Splits, split_examples
from training.teacher import RecordedTeacher


def read_splits(
    task: Task,
    data: DataFile,
    test: DataFile | None = None,
    dev: DataFile | None = None,
    *,
    covered: frozenset[str] | None = None,
    only_covered: bool = False,
    explained: int = 0,
) -> Splits:
    """Pool, dev and test of a run's files, and so many texts to measure explanations on (see ``hold_out``).

    covered: ids that the teacher can explain, None for any; with only_covered, the pool keeps no others.
    Raises InputError for unsound files, and for one whose content is no longer what its hash says.
    """
    test_examples, dev_examples = (_read(file, task) if file else None for file in (test, dev))
    try:
        splits = split_examples(_read(data, task), test_examples, dev_examples)
    except EmptySplitError as error:
        raise InputError(f"{data.file}: {error}") from None
    if only_covered and covered is not None:
        splits = _only(splits, covered)
    return hold_out(splits, explained, covered) if explained else splits


def splits_of(config: RunConfig, task: Task) -> Splits:
    """The splits of a run that was begun earlier, from the files that its config.yaml names."""
    covered = None
    if config.explanations is not None and (config.only_explained or config.measure_explanations):
        _check_unchanged(config.explanations)
        covered = RecordedTeacher(config.explanations.file, task).covered
    return read_splits(
        task,
        config.data,
        config.test_data,
        config.dev_data,
        covered=covered,
        only_covered=config.only_explained,
        explained=config.measure_explanations,
    )


def _only(splits: Splits, covered: frozenset[str]) -> Splits:
    pool = [example for example in splits.train if example.id in covered]
    if not pool:
        raise InputError("the pool is empty: the teacher's file explains none of its texts; check that the ids agree")
    left_out = len(splits.train) - len(pool)
    notes = [f"left out {left_out} pool texts without recorded explanations"] if left_out else []
    return replace(splits, train=pool, notes=splits.notes + notes)


def _read(file: DataFile, task: Task) -> list[Example]:
    _check_unchanged(file)
    return read_examples(file.file, task, require_labels=True)


def _check_unchanged(file: DataFile) -> None:
    if DataFile.of(Path(file.file)) != file:
        raise InputError(f"{file.file} is not the file that the run began with (its SHA-256 differs); restore it")
