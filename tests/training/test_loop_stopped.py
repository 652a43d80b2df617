"""A run that is stopped goes on as if it had not been; what a run directory refuses."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import yaml

from service.model.errors import InputError
from tests.training.chat_server import ChatServer
from tests.training_fixtures import comparable
from training.loop import Loop, read_rounds
from training.round_map import MAP_FILE
from training.round_model import model_directory, round_directory
from training.teacher_api import TeacherConfig

XAL = Path(sys.executable).with_name("xal")


def test_a_run_with_a_prefilter_goes_on_and_not_with_another_one(
    make_loop: Callable[..., Loop], tmp_path: Path
) -> None:
    options = {"prefilter": 1.0, "prefilter_sample": 2}
    whole = list(make_loop(tmp_path / "whole", **options).rounds())
    rounds = make_loop(tmp_path / "r", **options).rounds()
    next(rounds)
    rounds.close()
    assert comparable(list(make_loop(tmp_path / "r", **options).rounds())) == comparable(whole)
    with pytest.raises(InputError, match=r"prefilter\.ratio was 1\.0, is 2\.0"):
        next(make_loop(tmp_path / "r", prefilter=2.0, prefilter_sample=2).rounds())


def test_another_run_cannot_go_on_in_a_run_directory(make_loop: Callable[..., Loop], finished_run: Path) -> None:
    with pytest.raises(InputError, match="seed was 0, is 1"):
        next(make_loop(finished_run, seed=1).rounds())


def test_a_directory_with_other_files_is_left_alone(make_loop: Callable[..., Loop], tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(InputError, match="holds other files"):
        next(make_loop(tmp_path).rounds())
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_two_processes_cannot_work_on_one_run(
    make_loop: Callable[..., Loop], finished_run: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished_run, tmp_path / "r")
    with (tmp_path / "r" / ".lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another process is working on this run"):
            next(make_loop(tmp_path / "r").rounds())


def test_a_run_that_keeps_no_models_keeps_its_maps_and_goes_on_all_the_same(
    make_loop: Callable[..., Loop], finished_run: Path, tmp_path: Path
) -> None:
    run = tmp_path / "r"
    rounds = make_loop(run, keep_models="none").rounds()
    next(rounds)
    assert model_directory(run, 0).exists()  # until the next round is finished
    rounds.close()
    found, kept = comparable(list(make_loop(run, keep_models="none").rounds())), comparable(read_rounds(finished_run))
    assert found[:2] == kept[:2]
    # Without a model to export, the last pool is of no use: what scoring it would tell is left open.
    of_scoring = {"normaliser", "selection", "redundancy", "errors", "explanation_examples"}
    assert found[2] == kept[2] | dict.fromkeys(of_scoring)
    assert len(list(make_loop(run, keep_models="none").rounds())) == 3  # finished as it is: nothing is trained again
    assert not list(run.rglob("model"))
    assert sorted(run.rglob(MAP_FILE)) == [round_directory(run, number) / MAP_FILE for number in (0, 1)]


def start(
    run: Path, files: dict[str, Path], backbone: Path, more: Sequence[str] = (), xal: Sequence[str] = (str(XAL),)
) -> subprocess.Popen[str]:
    arguments = [*xal, "run", "--strategy", "xal", "--output", str(run), "--model", str(backbone)]
    for name in ("task", "data", "explanations"):
        arguments += [f"--{name}", str(files[name])]
    arguments += ["--budget", "18", "--query-size", "6", "--num-beams", "2", "--max-new-tokens", "6", "--device", "cpu"]
    arguments += ["--epochs", "1", "--batch-size", "4", "--learning-rate", "0.001", *more]
    return subprocess.Popen(
        arguments,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def kill_once(process: subprocess.Popen[str], reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not reached() and process.poll() is None:
        assert time.monotonic() < deadline, "the run never came so far"
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()


# xal, but that the given call of a function, as "1 training.loop.measure", waits until standard input is closed.
WAITS = """
import importlib, itertools, sys
nth, place, *arguments = sys.argv[1:]
module, _, name = place.rpartition(".")
module, calls = importlib.import_module(module), itertools.count(1)
function = getattr(module, name)
def waits(*args, **options):
    if next(calls) == int(nth):
        print("waits", flush=True)
        sys.stdin.read()
    return function(*args, **options)
setattr(module, name, waits)
from training.cli import main
sys.exit(main(arguments))
"""


def kill_at(nth: int, place: str, run: Path, files: dict[str, Path], backbone: Path) -> None:
    """Kill a run in the given call of a function."""
    process = start(run, files, backbone, xal=[sys.executable, "-c", WAITS, str(nth), place])
    assert process.stdout is not None
    assert any(line.endswith("waits\n") for line in process.stdout), "the run never came so far"
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_a_run_killed_in_the_middle_of_a_training_goes_on(
    finished_run: Path, example_files: dict[str, Path], backbone_dir: Callable[[str], Path], tmp_path: Path
) -> None:
    run = tmp_path / "killed"
    process = start(run, example_files, backbone_dir("t5"), ["--epochs", "2000"])  # would take minutes
    kill_once(process, lambda: (run / ".lock").exists() and time.time() - (run / ".lock").stat().st_mtime > 1)
    assert not read_rounds(run)
    assert not (run / "rounds").exists()
    # Nothing but settings is there yet, so the run may even begin with others: now it is the short one.
    output, _ = (process := start(run, example_files, backbone_dir("t5"))).communicate(timeout=120)
    assert process.returncode == 0, output
    assert comparable(read_rounds(run)) == comparable(read_rounds(finished_run))


def test_a_run_killed_while_saving_a_model_trains_it_again(
    make_loop: Callable[..., Loop], finished_run: Path, tmp_path: Path
) -> None:
    run = tmp_path / "r"
    rounds = make_loop(run).rounds()
    first = next(rounds)
    rounds.close()
    shutil.rmtree(run / "rounds" / "01", ignore_errors=True)
    shutil.copytree(model_directory(finished_run, 1), run / "rounds" / "01" / ".model-abc")  # not renamed yet
    (run / "rounds" / "01" / ".model-abc" / "manifest.json").unlink()
    again = list(make_loop(run).rounds())
    assert again[0] == first
    assert comparable(again) == comparable(read_rounds(finished_run))
    assert not list(run.rglob(".model-*"))


def test_a_kill_in_the_very_first_write_does_no_harm(make_loop: Callable[..., Loop], tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / ".config.yaml.part").write_text("strategy: x")
    assert next(make_loop(tmp_path / "r", budget=6).rounds())["n_labeled"] == 6


def test_a_model_that_learned_from_other_explanations_is_not_used_again(
    make_loop: Callable[..., Loop], example_files: dict[str, Path], tmp_path: Path, trainings: list[int]
) -> None:
    lines = example_files["explanations"].read_text().splitlines()
    recorded = tmp_path / "recorded.jsonl"
    recorded.write_text("\n".join(lines) + "\n")
    first = next(make_loop(tmp_path / "r", explanations=recorded, budget=6).rounds())
    (tmp_path / "r" / "metrics.json").unlink()  # as if killed between the model and the metrics
    again = next(make_loop(tmp_path / "r", explanations=recorded, budget=6).rounds())
    assert trainings == [6]
    assert again["seconds"]["train"] == first["seconds"]["train"]
    (tmp_path / "r" / "metrics.json").unlink()
    recorded.write_text("\n".join(line.replace("the", "no") for line in lines) + "\n")
    other = next(make_loop(tmp_path / "r", explanations=recorded, budget=6).rounds())
    assert trainings == [6, 6]
    assert other["model_version"] != first["model_version"]


def test_a_killed_run_goes_on_to_the_same_choices_and_metrics(
    finished_run: Path, example_files: dict[str, Path], backbone_dir: Callable[[str], Path], tmp_path: Path
) -> None:
    run, files, backbone = tmp_path / "killed", example_files, backbone_dir("t5")
    # In the middle of a training, before any round is finished; ...
    kill_at(2, "training.trainer.accumulate_gradients", run, files, backbone)
    assert not read_rounds(run)
    # ... with the first round finished and the second one's model just trained, but not measured: the first one's was
    # measured over the test and the development texts.
    kill_at(3, "training.loop.measure", run, files, backbone)
    finished = read_rounds(run)
    assert len(finished) == 1
    trained = tmp_path / "trained.json"
    trained.hardlink_to(model_directory(run, 1) / "manifest.json")
    output, _ = (process := start(run, files, backbone)).communicate(timeout=120)
    assert process.returncode == 0, output
    assert comparable(read_rounds(run)) == comparable(read_rounds(finished_run))
    assert read_rounds(run)[0] == finished[0]  # not run again, not even its seconds differ
    assert trained.samefile(model_directory(run, 1) / "manifest.json")  # what was paid for is used
    leftovers = [path for path in run.rglob(".*") if path.name != ".lock"]
    assert leftovers == []


def test_who_comes_second_leaves_the_settings_of_the_first_alone(
    make_loop: Callable[..., Loop], tmp_path: Path
) -> None:
    run = tmp_path / "r"
    make_loop(run).config.save(_made(run))
    settings = (run / "config.yaml").read_bytes()
    with (run / ".lock").open("w") as stream:  # the first is at its first training
        fcntl.flock(stream, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another process is working on this run"):
            next(make_loop(run, seed=1).rounds())
    assert (run / "config.yaml").read_bytes() == settings


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory


def test_a_finished_run_stays_as_it_is_and_is_no_other_run_s_without_its_rounds(
    make_loop: Callable[..., Loop], finished_run: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(finished_run, tmp_path / "r")
    settings = (run / "config.yaml").read_bytes().replace(b"git_hash: ", b"git_hash: earlier-")
    (run / "config.yaml").write_bytes(settings)
    assert comparable(list(make_loop(run).rounds())) == comparable(read_rounds(finished_run))
    assert (run / "config.yaml").read_bytes() == settings
    shutil.rmtree(run / "rounds")
    with pytest.raises(InputError, match="seed was 0, is 1"):
        make_loop(run, seed=1)


def test_a_run_that_goes_on_remembers_what_it_was_started_with_before(
    make_loop: Callable[..., Loop], tmp_path: Path
) -> None:
    run = tmp_path / "r"
    rounds = make_loop(run).rounds()
    next(rounds)
    rounds.close()
    begun = yaml.safe_load((run / "config.yaml").read_text())
    assert "earlier_starts" not in begun
    (run / "config.yaml").write_text(yaml.safe_dump({**begun, "git_hash": "older"}))
    for _ in range(2):  # the second time nothing is new
        rounds = make_loop(run).rounds()
        next(rounds)
        rounds.close()
        found = yaml.safe_load((run / "config.yaml").read_text())
        assert found["earlier_starts"] == [{"versions": begun["versions"], "git_hash": "older"}]
        assert found["git_hash"] == begun["git_hash"]


def test_a_run_does_not_go_on_from_other_recorded_explanations(
    make_loop: Callable[..., Loop], example_files: dict[str, Path], tmp_path: Path
) -> None:
    lines = example_files["explanations"].read_text().splitlines()
    recorded = tmp_path / "recorded.jsonl"
    recorded.write_text("\n".join(lines) + "\n")
    (first,) = make_loop(tmp_path / "r", explanations=recorded, budget=6).rounds()
    changed = [line.replace("the", "no") if json.loads(line)["id"] in first["selected_ids"] else line for line in lines]
    recorded.write_text("\n".join(changed) + "\n")
    with pytest.raises(InputError, match=r"learned from other explanations than recorded:recorded\.jsonl holds now"):
        next(make_loop(tmp_path / "r", explanations=recorded, budget=6).rounds())
    unused = [line.replace("the", "no") if line == other else line for line, other in zip(lines, changed, strict=True)]
    recorded.write_text("\n".join(unused) + "\n")  # what it has not read yet may change
    assert list(make_loop(tmp_path / "r", explanations=recorded, budget=6).rounds()) == [first]


def test_what_a_killed_round_has_paid_for_stands_in_its_bill(
    make_loop: Callable[..., Loop], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with ChatServer() as server:
        llm = TeacherConfig(base_url=server.base_url, model="m", cache_path=tmp_path / "cache.sqlite")
        options = {"explanations": None, "llm": llm, "budget": 6}
        with monkeypatch.context() as patched:
            patched.setattr("training.loop.measure", stopped)
            with pytest.raises(KeyboardInterrupt):
                next(make_loop(tmp_path / "r", **options).rounds())
        asked = len(server.prompts)
        (entry,) = make_loop(tmp_path / "r", **options).rounds()
        assert len(server.prompts) == asked
        elsewhere = llm.model_copy(update={"cache_path": tmp_path / "other.sqlite"})
        (whole,) = make_loop(tmp_path / "whole", **{**options, "llm": elsewhere}).rounds()
    assert entry["teacher"] == whole["teacher"]
    assert entry["teacher"]["requests"] == asked > 0
    assert not (tmp_path / "r" / ".bill.json").exists()


def test_a_model_that_a_kill_has_left_goes_with_the_next_start(
    make_loop: Callable[..., Loop], finished_run: Path, tmp_path: Path
) -> None:
    for keep, kept in (("all", ["00", "01", "02"]), ("last", ["02"]), ("none", [])):
        run = shutil.copytree(finished_run, tmp_path / keep)
        settings = (run / "config.yaml").read_text()
        (run / "config.yaml").write_text(settings.replace("keep_models: all", f"keep_models: {keep}"))
        # What the finished run was to keep, whatever this start says.
        assert len(list(make_loop(run, keep_models="none").rounds())) == 3
        assert sorted(path.parent.name for path in run.rglob("model")) == kept


def test_an_output_that_is_a_file_is_said_before_anything_is_trained(
    make_loop: Callable[..., Loop], tmp_path: Path
) -> None:
    (tmp_path / "r").write_text("mine")
    with pytest.raises(InputError, match="expected a directory for --output, found a file"):
        make_loop(tmp_path / "r")
    assert (tmp_path / "r").read_text() == "mine"


def test_a_run_goes_on_with_explanations_that_were_added_in_another_file(
    make_loop: Callable[..., Loop], example_files: dict[str, Path], tmp_path: Path
) -> None:
    lines = example_files["explanations"].read_text().splitlines()
    older, newer = tmp_path / "older.jsonl", tmp_path / "newer.jsonl"
    older.write_text("\n".join(lines) + "\n")
    (first,) = make_loop(tmp_path / "r", explanations=older, budget=6).rounds()
    newer.write_text("\n".join([*lines, json.dumps({"id": "added", "explanations": {"neutral": "so-so"}})]) + "\n")
    assert list(make_loop(tmp_path / "r", explanations=newer, budget=6).rounds()) == [first]


def test_metrics_that_are_no_list_of_rounds_are_named(make_loop: Callable[..., Loop], tmp_path: Path) -> None:
    list(make_loop(tmp_path / "r", budget=6).rounds())
    (tmp_path / "r" / "metrics.json").write_text("{}")
    with pytest.raises(InputError, match=r"metrics\.json: expected a list of rounds, found dict"):
        next(make_loop(tmp_path / "r", budget=6).rounds())
