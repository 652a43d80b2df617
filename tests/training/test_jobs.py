"""Runs side by side: all finished, one failure costs one run, a kill leaves what the same command goes on from."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from service.model.errors import InputError, XalError
from tests.training_fixtures import SMALL, comparable
from training.experiment import Grid
from training.jobs import Job, run_jobs, run_loop
from training.loop import read_rounds
from training.round_model import model_directory
from training.run_request import RunOptions
from training.strategies import QueryStrategy
from training.trainer import fit

XAL = Path(sys.executable).with_name("xal")


@pytest.fixture
def make_jobs(
    example_files: dict[str, Path], backbone_dir: Callable[[str], Path], tmp_path: Path
) -> Callable[..., list[Job]]:
    """The runs of a grid over the small data set: 12 labels in 2 rounds."""

    def make(*strategies: str, **options: Any) -> list[Job]:
        common = RunOptions(
            task=example_files["task"],
            data=example_files["data"],
            explanations=example_files["explanations"],
            strategy=strategies[0],
            output=tmp_path / "grid",
            model=str(backbone_dir("t5")),
            budget=12,
            query_size=6,
            num_beams=1,
            max_new_tokens=4,
            device="cpu",
            trainer=SMALL,
            **options,
        )
        return [Job(cell.name, cell.options(common)) for cell in Grid(tuple(strategies)).cells()]

    return make


def test_runs_side_by_side_are_what_they_are_one_after_the_other(
    make_jobs: Callable[..., list[Job]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    jobs = make_jobs("xal", "me-exp", "random")
    run_jobs(jobs, tmp_path / "cache", at_once=2)
    for job in jobs:
        alone = replace(job, options=replace(job.options, output=tmp_path / "alone" / job.name, shared=None))
        run_jobs([alone], tmp_path / "cache", at_once=1)
        found = read_rounds(job.options.output)
        assert [entry["n_labeled"] for entry in found] == [6, 12]
        assert comparable(found) == comparable(read_rounds(alone.options.output))


def test_strategies_that_train_alike_train_the_first_round_once(
    make_jobs: Callable[..., list[Job]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[tuple[int, bool, float]] = []

    def counting_fit(labeled: Any, explanations: Any, **settings: Any) -> Any:
        trained.append((len(labeled), explanations is not None, settings["config"].lambda2))
        return fit(labeled, explanations, **settings)

    monkeypatch.setattr("training.round_model.fit", counting_fit)
    jobs = {
        job.options.strategy: job for job in make_jobs("xal", "me-exp", "xal-std", "xal-no-rank", "entropy", "random")
    }
    run_jobs(list(jobs.values()), tmp_path / "cache", at_once=1)
    shared = [path for path in (tmp_path / "grid" / ".first-rounds").iterdir() if path.is_dir()]
    first_rounds = [(explained, lambda2 > 0) for n_labeled, explained, lambda2 in trained if n_labeled == 6]
    assert len(trained) == len(jobs) + len(first_rounds)  # a second round each
    assert len(shared) == len(first_rounds) == 3

    def learned(strategy: str) -> dict[str, str]:
        """The model of the first round: every file of weights with its content's hash."""
        model = model_directory(jobs[strategy].options.output, 0)
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in model.glob("*.safetensors")}

    assert learned("xal") == learned("me-exp") == learned("xal-std")
    assert learned("entropy") == learned("random")
    assert learned("xal") != learned("xal-no-rank") != learned("entropy") != learned("xal")
    settings = json.loads((model_directory(jobs["xal-std"].options.output, 0) / "xal.json").read_text())
    assert settings["acquisition"] == "standardized"


@pytest.mark.parametrize("at_once", [1, 2])
def test_a_run_that_fails_says_why_and_leaves_the_others_alone(
    make_jobs: Callable[..., list[Job]], tmp_path: Path, capfd: pytest.CaptureFixture[str], at_once: int
) -> None:
    first, broken = make_jobs("random", "entropy")
    (tmp_path / "grid" / broken.name).mkdir(parents=True)
    (tmp_path / "grid" / broken.name / "mine.txt").write_text("keep me")
    with pytest.raises(InputError, match=f"1 of 2 runs did not finish: {broken.name}; what was finished is kept"):
        run_jobs([broken, first], tmp_path / "cache", at_once=at_once)
    assert f"xal run: {broken.name}: " in capfd.readouterr().err
    assert len(read_rounds(first.options.output)) == 2
    assert (tmp_path / "grid" / broken.name / "mine.txt").read_text() == "keep me"


def test_a_defect_costs_one_run_and_says_where_it_is(
    make_jobs: Callable[..., list[Job]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    broken, sound = make_jobs("random", "entropy")

    def select(strategy: QueryStrategy, *rest: Any) -> Any:
        return 1 // 0 if strategy.name == "random" else choose(strategy, *rest)

    choose = QueryStrategy.select
    monkeypatch.setattr(QueryStrategy, "select", select)
    with pytest.raises(XalError, match=f"1 of 2 runs did not finish: {broken.name}"):
        run_jobs([broken, sound], tmp_path / "cache", at_once=1)
    assert len(read_rounds(sound.options.output)) == 2
    said = capsys.readouterr().err
    assert "return 1 // 0" in said
    assert f"xal run: {broken.name}: integer division" in said


def test_what_goes_wrong_in_preparing_the_first_run_leaves_the_others_alone(
    make_jobs: Callable[..., list[Job]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def defect(*_: Any, **__: Any) -> None:
        raise RuntimeError("in this process alone; the runs have their own")

    monkeypatch.setattr("training.jobs.prepare", defect)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    jobs = make_jobs("random", "entropy")
    run_jobs(jobs, tmp_path / "cache", at_once=2)
    assert all(len(read_rounds(job.options.output)) == 2 for job in jobs)


def test_too_little_memory_is_said_with_what_helps(
    make_jobs: Callable[..., list[Job]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def out_of_memory(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 1")

    monkeypatch.setattr(QueryStrategy, "select", out_of_memory)
    with pytest.raises(XalError, match=r"^CUDA out of memory; give --micro-batch-size or --num-beams a lower number"):
        run_loop(make_jobs("random")[0].options, tmp_path / "cache", progress=False)


@pytest.mark.parametrize("at_once", [0, -1])
def test_a_number_of_runs_at_a_time_is_at_least_one(
    make_jobs: Callable[..., list[Job]], tmp_path: Path, at_once: int
) -> None:
    with pytest.raises(InputError, match=f"--jobs: expected at least 1, found {at_once}"):
        run_jobs(make_jobs("random"), tmp_path / "cache", at_once=at_once)


def test_a_failure_that_is_no_wrong_input_is_a_failure_of_the_whole(
    make_jobs: Callable[..., list[Job]], tmp_path: Path
) -> None:
    diverging = make_jobs("random")[0]
    trainer = {**SMALL, "learning_rate": 1e30}
    with pytest.raises(XalError, match="1 of 1 runs did not finish") as caught:
        run_jobs([replace(diverging, options=replace(diverging.options, trainer=trainer))], tmp_path / "cache")
    assert not isinstance(caught.value, InputError)


def test_a_killed_experiment_leaves_no_process_behind_and_the_same_command_finishes_it(
    example_files: dict[str, Path], backbone_dir: Callable[[str], Path], tmp_path: Path
) -> None:
    output = tmp_path / "grid"
    command = [
        *(str(XAL), "run", "--task", str(example_files["task"]), "--data", str(example_files["data"])),
        *("--explanations", str(example_files["explanations"]), "--strategy", "xal,random", "--seed", "0-1"),
        *("--model", str(backbone_dir("t5")), "--budget", "12", "--query-size", "6", "--epochs", "3"),
        *("--num-beams", "1", "--max-new-tokens", "4", "--keep-models", "none", "--jobs", "2"),
        *("--output", str(output)),
    ]
    environment = {**os.environ, "XAL_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True) as process:
        deadline = time.monotonic() + 120
        while not list(output.glob("*/metrics.json")) and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)  # the parent alone: its children must notice
    kept = {path: path.read_bytes() for path in output.glob("*/metrics.json")}
    assert kept
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert "4 runs in" in done.stdout
    runs = sorted(path.name for path in output.iterdir())
    assert runs == ["random-i0-s0", "random-i0-s1", "xal-i0-s0", "xal-i0-s1"]  # and no shared models any more
    assert all([e["n_labeled"] for e in read_rounds(output / run)] == [6, 12] for run in runs)
    for path, content in kept.items():  # what was finished was not done again
        before = json.loads(content)
        assert json.loads(path.read_bytes())[: len(before)] == before
