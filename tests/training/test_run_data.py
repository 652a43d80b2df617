"""A run's files give the same pool every time: when it begins, and when an export reads them again."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service.model.errors import InputError
from tests import tiny
from training.config import DataFile, RunConfig
from training.loop import Loop
from training.run_data import read_splits, splits_of
from training.splits import Splits


def parts(splits: Splits) -> tuple[list[Any], ...]:
    return (splits.train, splits.dev, splits.test, splits.explained)


@pytest.fixture
def partial(example_files: dict[str, Path], tmp_path: Path) -> Path:
    """Explanations of 14 of the pool's 24 texts, and of no text of dev and test."""
    path = tmp_path / "partial.jsonl"
    path.write_text("".join(example_files["explanations"].read_text().splitlines(keepends=True)[:14]))
    return path


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"strategy": "random"},
        {"measure_explanations": 4},
        {"only_explained": True},
        {"only_explained": True, "measure_explanations": 4},
        {"only_explained": True, "measure_explanations": 4, "strategy": "entropy"},
    ],
)
def test_the_pool_of_a_run_is_found_again_from_its_settings(
    make_loop: Callable[..., Loop], partial: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    loop = make_loop(tmp_path / "r", explanations=partial, budget=6, **options)
    (tmp_path / "r").mkdir()
    loop.config.save(tmp_path / "r")
    found = splits_of(RunConfig.load(tmp_path / "r"), loop.task)
    assert parts(found) == parts(loop.splits)
    measured = options.get("measure_explanations", 0)
    assert len(found.explained) == measured
    assert len(found.train) == (14 if options.get("only_explained") else 24) - measured
    assert not {example.id for example in found.explained} & {example.id for example in found.train}


def test_separate_files_are_found_again_too(
    make_loop: Callable[..., Loop], example_files: dict[str, Path], tmp_path: Path
) -> None:
    rows = [json.loads(line) for line in example_files["data"].read_text().splitlines()]
    files = {}
    for name, chosen in {"data": rows[:24], "dev": rows[24:30], "test": rows[30:]}.items():
        files[name] = tmp_path / f"{name}.jsonl"
        plain = [{key: value for key, value in row.items() if key != "split"} for row in chosen]
        files[name].write_text("".join(json.dumps(row) + "\n" for row in plain))
    loop = make_loop(tmp_path / "r", budget=6, measure_explanations=3, **files)
    found = splits_of(loop.config, loop.task)
    assert parts(found) == parts(loop.splits)
    assert [len(part) for part in parts(found)] == [21, 6, 9, 3]


def test_files_that_changed_meanwhile_are_named(
    make_loop: Callable[..., Loop], example_files: dict[str, Path], partial: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text(example_files["data"].read_text())
    loops = {
        measured: make_loop(tmp_path / "r", data=data, explanations=partial, budget=6, measure_explanations=measured)
        for measured in (0, 2)
    }
    partial.write_text(example_files["explanations"].read_text())
    splits_of(loops[0].config, loops[0].task)  # what is explained decides nothing here, ...
    with pytest.raises(InputError, match=r"partial\.jsonl is not the file that the run began with"):
        splits_of(loops[2].config, loops[2].task)  # ... but here
    data.write_text(data.read_text() + "\n")
    with pytest.raises(InputError, match=r"data\.jsonl is not the file that the run began with .* restore it"):
        splits_of(loops[0].config, loops[0].task)


def test_a_pool_of_which_nothing_is_explained_is_empty_and_says_so(example_files: dict[str, Path]) -> None:
    data = DataFile.of(example_files["data"])
    with pytest.raises(InputError, match="the pool is empty: the teacher's file explains none of its texts"):
        read_splits(tiny.TASK, data, covered=frozenset(["another id"]), only_covered=True)
    assert len(read_splits(tiny.TASK, data, covered=None, only_covered=True).train) == 24  # a teacher who explains all


def test_what_was_left_out_is_told(example_files: dict[str, Path]) -> None:
    data = DataFile.of(example_files["data"])
    covered = frozenset(json.loads(line)["id"] for line in example_files["data"].read_text().splitlines()[:10])
    splits = read_splits(tiny.TASK, data, covered=covered, only_covered=True, explained=3)
    assert len(splits.train) == 7
    assert splits.notes[0] == "left out 14 pool texts without recorded explanations"
    assert "held out 3 explained texts" in splits.notes[1]
    assert {example.id for example in splits.explained} | {example.id for example in splits.train} == covered


def test_a_file_without_a_test_set_is_named(example_files: dict[str, Path], tmp_path: Path) -> None:
    rows = example_files["data"].read_text().splitlines()[:24]
    (tmp_path / "pool.jsonl").write_text("\n".join(rows) + "\n")
    with pytest.raises(InputError, match=r"pool\.jsonl: the test set is empty"):
        read_splits(tiny.TASK, DataFile.of(tmp_path / "pool.jsonl"))
