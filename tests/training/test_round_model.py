"""The model of a round: trained once for all runs of an experiment that train alike; each has its own copy."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from service.model import checkpoint
from tests.training_fixtures import SMALL
from training.loop import Loop
from training.round_model import ModelMaker, model_directory
from training.teacher import Explained, Usage

Make = Callable[..., Path]


def maker(loop: Loop) -> ModelMaker:
    return ModelMaker(loop.config, loop.task, loop.source, loop.strategy.acquisition, loop.shared, progress=False)


@pytest.fixture
def first_round(make_loop: Callable[..., Loop], tmp_path: Path) -> Make:
    """Make the model of the first round of a run with these options, in a directory of this name."""

    def make(name: str, **options: Any) -> Path:
        loop = make_loop(tmp_path / name, **{"shared": tmp_path / "shared", **options})
        loop.directory.mkdir(exist_ok=True)
        loop.config.save(loop.directory)
        labeled = loop.splits.train[:6]
        explained = Explained({}, Usage())
        if loop.teacher is not None:
            explained = loop.teacher.explain({example.id: example.fields for example in labeled})
        return maker(loop).make(tmp_path / name, 0, labeled, explained)

    return make


def weights(directory: Path) -> Mapping[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.glob("*.safetensors")}


def lineage(directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = checkpoint.verify(directory)["lineage"]
    return found


def shared_models(tmp_path: Path) -> list[Path]:
    return sorted(path for path in (tmp_path / "shared").iterdir() if not path.name.startswith("."))


def test_runs_that_train_alike_train_their_first_round_once(
    first_round: Make, tmp_path: Path, trainings: list[int]
) -> None:
    one = first_round("one", strategy="xal")
    (shared,) = shared_models(tmp_path)
    other = first_round("other", strategy="me-exp", budget=12)  # chooses by entropy alone, later on
    assert shared_models(tmp_path) == [shared]
    assert trainings == [6]
    assert one == model_directory(tmp_path / "one", 0)
    assert weights(one) == weights(other)
    assert lineage(one) == lineage(other)  # with what the one training took
    shutil.rmtree(one)
    checkpoint.load(other)  # each has a copy of its own


def test_a_first_round_is_the_same_whether_it_is_shared_or_not(first_round: Make, tmp_path: Path) -> None:
    shared, alone = first_round("shared-one"), first_round("alone", shared=None)
    assert weights(shared) == weights(alone)
    assert checkpoint.verify(shared)["model_version"] == checkpoint.verify(alone)["model_version"]
    assert len(shared_models(tmp_path)) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"seed": 1},
        {"trainer": {**SMALL, "learning_rate": 2e-3}},
        {"strategy": "xal-no-rank"},  # lambda2 is 0
        {"strategy": "random"},  # learns from labels alone
    ],
)
def test_another_training_is_never_shared(first_round: Make, tmp_path: Path, options: dict[str, Any]) -> None:
    one, other = first_round("one"), first_round("other", **options)
    assert weights(one) != weights(other)
    assert len(shared_models(tmp_path)) == 2


def test_another_file_with_the_same_ids_is_another_training(
    first_round: Make, example_files: dict[str, Path], tmp_path: Path
) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text(example_files["data"].read_text().replace('"text": "', '"text": "Once more: '))
    assert weights(first_round("one")) != weights(first_round("other", data=data))


def test_each_copy_scores_as_its_own_strategy_does(first_round: Make) -> None:
    paper, standardised = first_round("xal", strategy="xal"), first_round("std", strategy="xal-std", num_beams=3)
    assert weights(paper) == weights(standardised)
    assert checkpoint.read_settings(paper).acquisition == "paper"
    settings = checkpoint.read_settings(standardised)
    assert (settings.acquisition, settings.decoding.num_beams) == ("standardized", 3)


def test_a_shared_model_of_a_run_that_was_killed_is_made_again(first_round: Make, tmp_path: Path) -> None:
    one = first_round("one")
    (whole,) = shared_models(tmp_path)
    shutil.copytree(whole, whole.with_name(f".{whole.name}-abc"))  # was being saved
    (whole / "manifest.json").unlink()
    other = first_round("other")
    assert weights(other) == weights(one)
    assert lineage(whole) == lineage(other)
    assert [path.name for path in whole.parent.iterdir()] == [whole.name]


def test_a_model_that_is_there_already_is_not_made_again(
    first_round: Make, tmp_path: Path, trainings: list[int]
) -> None:
    one = first_round("one")
    shutil.rmtree(tmp_path / "shared")
    assert first_round("one") == one
    assert trainings == [6]
    (one / "head.safetensors").unlink()  # damaged
    (one.parent / "litter").write_text("x")
    again = first_round("one")
    assert trainings == [6, 6]
    assert checkpoint.verify(again)
    assert [path.name for path in again.parent.iterdir()] == ["model"]


def test_later_rounds_are_each_runs_own(make_loop: Callable[..., Loop], tmp_path: Path, trainings: list[int]) -> None:
    options = {"shared": tmp_path / "shared", "budget": 12}
    xal = list(make_loop(tmp_path / "xal", **options).rounds())
    entropy = list(make_loop(tmp_path / "me", strategy="me-exp", **options).rounds())
    assert trainings == [6, 12, 12]
    assert xal[0]["seconds"]["train"] == entropy[0]["seconds"]["train"]
    assert xal[0]["macro_f1"] == entropy[0]["macro_f1"]
    assert len(shared_models(tmp_path)) == 1
    assert [entry["macro_f1"] for entry in make_loop(tmp_path / "alone", budget=12).rounds()] == [
        entry["macro_f1"] for entry in xal
    ]


WAITS = """
import fcntl, sys
with open(sys.argv[1], "w") as stream:
    fcntl.flock(stream, fcntl.LOCK_EX)
    print("holds", flush=True)
    sys.stdin.read()
"""


def test_a_lock_goes_with_the_process_that_held_it(first_round: Make, tmp_path: Path) -> None:
    first_round("one")
    (whole,) = shared_models(tmp_path)
    lock = whole.with_name(f".{whole.name}.lock")
    holder = subprocess.Popen(
        [sys.executable, "-c", WAITS, os.fspath(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "holds\n"
    holder.kill()
    holder.communicate()
    assert weights(first_round("other")) == weights(whole)
