"""``xal llm`` over a small data set and a real HTTP server that knows the label of most texts."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from sklearn.metrics import f1_score

from service.model.errors import InputError
from tests import tiny
from tests.training.chat_server import ChatServer, Turn
from tests.training_fixtures import SMALL
from training.data import Example
from training.llm import baselines
from training.llm.baselines import BaselineOptions, BaselineResult, evaluate_answers, run_baselines
from training.locks import alone
from training.pool import initial_set
from training.report import report
from training.runs import read_run
from training.teacher import TeacherBudgetError, TeacherError
from training.teacher_api import TeacherConfig

ROOT = Path(__file__).parents[3]
LABELS = tiny.TASK.label_ids
Run = Callable[..., list[BaselineResult]]


@pytest.fixture
def rows(example_files: dict[str, Path]) -> list[dict[str, str]]:
    return [json.loads(line) for line in example_files["data"].read_text().splitlines()]


@pytest.fixture
def knowing(rows: list[dict[str, str]]) -> Callable[[int, str], Turn]:
    """Right on most texts, says nothing clear of every fifth, takes every other neutral one for negative."""
    answers = {}
    for place, row in enumerate(rows):
        answer = "negative" if row["label"] == "neutral" and place % 2 else row["label"]
        answers[f"text: {' '.join(row['text'].split())}"] = "I cannot tell." if place % 5 == 4 else answer

    def behave(_: int, prompt: str) -> Turn:
        asked = prompt.rpartition("\n\nWhich of these")[0].rpartition("\n\n")[2]
        return Turn(content=answers[asked])

    return behave


@pytest.fixture
def run(example_files: dict[str, Path], backbone_dir: Callable[[str], Path], tmp_path: Path) -> Run:
    """All settings of ``xal llm`` with a tiny model, unless told otherwise; the LLM's cache lasts as the test does."""

    def start(server: ChatServer, llm: dict[str, Any] | None = None, **changes: Any) -> list[BaselineResult]:
        config = {"base_url": server.base_url, "model": "m", "cache_path": tmp_path / "llm.sqlite", "backoff_s": 0.01}
        options: dict[str, Any] = {
            "task": example_files["task"],
            "data": example_files["data"],
            "output": tmp_path / "out",
            "llm": TeacherConfig(**{**config, **(llm or {})}),
            "shots": 3,
            "query_size": 12,
            "model": str(backbone_dir("t5")),
            "trainer": SMALL,
            "device": "cpu",
        }
        return list(run_baselines(BaselineOptions(**options | changes), cache=tmp_path / "cache", progress=False))

    return start


def metrics(directory: Path) -> dict[str, Any]:
    (entry,) = json.loads((directory / "metrics.json").read_text())
    return entry


def test_an_answer_that_names_no_label_is_wrong_for_its_class_and_counts_for_no_other() -> None:
    # a: 2 of 3 found, 1 wrong one among those said: precision 2/3, recall 2/3. b: 1 of 2, nothing wrong: F1 2/3. c: 0.
    gold, said = ["a", "a", "a", "b", "b", "c"], ["a", "a", None, "b", None, "a"]
    found = evaluate_answers(gold, said, ["a", "b", "c"])
    assert found["per_class_f1"] == pytest.approx({"a": 2 / 3, "b": 2 / 3, "c": 0.0})
    assert found["macro_f1"] == pytest.approx(4 / 9)
    assert found["accuracy"] == 0.5
    assert found["unparsable"] == 2
    assert evaluate_answers(["a", "b"], [None, None], ["a", "b"])["macro_f1"] == 0.0


def test_zero_shot_measures_the_llms_answers_to_the_test_texts(
    run: Run, knowing: Callable[[int, str], Turn], rows: list[dict[str, str]], tmp_path: Path
) -> None:
    with ChatServer(knowing) as server:
        (result,) = run(server, settings=["zero-shot"])
    entry = metrics(tmp_path / "out" / "llm-zero-shot")
    assert entry == result.entry
    test = [(place, row["label"]) for place, row in enumerate(rows) if row["split"] == "test"]
    gold = [label for _, label in test]
    # 30..38: of every fifth from 34 nothing is known; neutral stands at 31, 34, 37, taken for negative at odd places.
    said = ["" if place % 5 == 4 else "negative" if place in (31, 37) else label for place, label in test]
    expected = f1_score(gold, said, labels=list(LABELS), average="macro", zero_division=0)
    assert entry["macro_f1"] == pytest.approx(expected)
    assert entry["accuracy"] == pytest.approx(sum(g == s for g, s in zip(gold, said, strict=True)) / 9)
    assert (entry["round"], entry["n_labeled"], entry["n_test"], entry["selected_ids"]) == (0, 0, 9, [])
    assert entry["unparsable"] == 1
    assert entry["teacher"] == {
        "requests": 9, "cached": 0, "prompt_tokens": 90, "completion_tokens": 45, "cost": 0.0
    }  # fmt: skip
    assert list(entry["seconds"]) == ["ask"]
    config = yaml.safe_load((tmp_path / "out" / "llm-zero-shot" / "config.yaml").read_text())
    assert (config["strategy"], config["model"], config["teacher"]) == ("llm-zero-shot", "m", "llm:m")
    assert config["task"] == tiny.TASK.to_dict()
    assert str(result) == (
        f"zero-shot: macro-F1 {expected:.3f}, accuracy 0.667 on 9 test texts; 1 answers of the LLM name no label"
    )


def test_few_shot_shows_texts_of_the_initial_set_one_of_each_label(
    run: Run, knowing: Callable[[int, str], Turn], rows: list[dict[str, str]], tmp_path: Path
) -> None:
    with ChatServer(knowing) as server:
        run(server, settings=["few-shot"])
        entry = metrics(tmp_path / "out" / "llm-few-shot")
        by_id = {row["id"]: row for row in rows}
        shots = [by_id[id_] for id_ in entry["shot_ids"]]
        assert len(shots) == 3
        assert {shot["label"] for shot in shots} == set(LABELS)
        assert all(shot["split"] == "train" for shot in shots)
        shown = "".join(
            f"text: {' '.join(shot['text'].split())}\nThe sentiment of this review is {shot['label']}\n\n"
            for shot in shots
        )
        assert len(server.prompts) == 9
        assert all(prompt.startswith(shown) for prompt in server.prompts)
        run(server, settings=["few-shot"], output=tmp_path / "again")
        assert len(server.prompts) == 9  # the same shots, so the same questions
    assert metrics(tmp_path / "again" / "llm-few-shot")["shot_ids"] == entry["shot_ids"]


def test_few_shot_costs_the_labels_of_all_texts_among_which_its_shots_are_drawn(
    run: Run, knowing: Callable[[int, str], Turn], rows: list[dict[str, str]], tmp_path: Path
) -> None:
    with ChatServer(knowing) as server:
        run(server, settings=["few-shot"], initial_set=1)
    entry = metrics(tmp_path / "out" / "llm-few-shot")
    pool = [Example(row["id"], {"text": row["text"]}, row["label"], "train") for row in rows[:24]]
    assert entry["selected_ids"] == initial_set(pool, 12, 1)  # what a run's first round has labeled
    assert entry["n_labeled"] == 12
    assert set(entry["shot_ids"]) < set(entry["selected_ids"])


def test_a_query_size_that_few_shot_does_not_draw_from_is_no_matter(
    run: Run, knowing: Callable[[int, str], Turn]
) -> None:
    with ChatServer(knowing) as server:
        (result,) = run(server, settings=["zero-shot"], query_size=100)
    assert result.entry["n_labeled"] == 0


def test_silver_trains_a_model_on_the_llms_labels_of_the_pool(
    run: Run, knowing: Callable[[int, str], Turn], rows: list[dict[str, str]], tmp_path: Path
) -> None:
    with ChatServer(knowing) as server:
        run(server, settings=["silver"])
        pool = [f"text: {' '.join(row['text'].split())}" for row in rows if row["split"] == "train"]
        assert sorted(prompt.partition("\n")[0] for prompt in server.prompts) == sorted(pool)  # no test text, no shots
        entry = metrics(tmp_path / "out" / "llm-silver")
        assert entry["unparsable"] == 4  # places 4, 9, 14, 19 of 24
        # Of the 20 others, the neutral ones at odd places are wrong: 1, 7, 13 (19 is silent).
        assert entry["silver"] == {"labels": 20, "accuracy": 17 / 20}
        assert (entry["n_labeled"], entry["selected_ids"], entry["n_test"]) == (0, [], 9)
        assert set(entry["per_class_f1"]) == set(LABELS)
        assert list(entry["seconds"]) == ["ask", "train", "evaluate"]
        run(server, settings=["silver"], output=tmp_path / "again")
        assert len(server.prompts) == 24
        again = metrics(tmp_path / "again" / "llm-silver")
        assert {**again, "seconds": 0, "teacher": 0} == {**entry, "seconds": 0, "teacher": 0}
        run(server, settings=["silver"], output=tmp_path / "part", silver=5)
    assert metrics(tmp_path / "part" / "llm-silver")["silver"]["labels"] <= 5
    config = yaml.safe_load((tmp_path / "out" / "llm-silver" / "config.yaml").read_text())
    assert (Path(config["model"]).name, config["teacher"], config["silver"]) == ("t5", "llm:m", 24)
    assert config["trainer"]["epochs"] == SMALL["epochs"]


def test_finished_settings_are_not_repeated_and_reports_read_them(
    run: Run, knowing: Callable[[int, str], Turn], tmp_path: Path
) -> None:
    with ChatServer(knowing) as server:
        first = run(server)
        asked = len(server.prompts)
        assert asked == 9 + 9 + 24
        before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("metrics.json")}
        second = run(server)
        assert len(server.prompts) == asked
    assert [result.setting for result in first] == ["zero-shot", "few-shot", "silver"]
    assert [result.repeated for result in first + second] == [False] * 3 + [True] * 3
    assert [result.entry for result in second] == [result.entry for result in first]
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("metrics.json")} == before
    assert str(second[0]).endswith("(measured before)")
    runs = [read_run(result.directory) for result in first]
    assert [found.strategy for found in runs] == ["llm-zero-shot", "llm-few-shot", "llm-silver"]
    assert [found.n_labeled for found in runs] == [[0], [12], [0]]
    text = report([result.directory for result in first], tmp_path / "report")
    assert all(name in text for name in ("llm-zero-shot", "llm-few-shot", "llm-silver"))


def test_shots_come_from_all_of_a_pool_that_is_smaller_than_the_usual_query(
    run: Run, knowing: Callable[[int, str], Turn], tmp_path: Path
) -> None:
    with ChatServer(knowing) as server:
        run(server, settings=["few-shot"], query_size=None)
    assert read_run(tmp_path / "out" / "llm-few-shot").config["query_size"] == 24


def test_results_of_other_settings_are_refused_before_anything_is_asked(
    run: Run, knowing: Callable[[int, str], Turn], tmp_path: Path
) -> None:
    with ChatServer(knowing) as server:
        run(server, settings=["few-shot"])
        asked = len(server.prompts)
        with pytest.raises(InputError, match=r"llm-few-shot was measured with other settings \(shots was 3, is 4\)"):
            run(server, settings=["zero-shot", "few-shot"], shots=4)
        with pytest.raises(InputError, match="model was 'm', is 'other'"):
            run(server, llm={"model": "other"}, settings=["few-shot"])
        assert len(server.prompts) == asked
    assert not (tmp_path / "out" / "llm-zero-shot").exists()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"llm": None}, "an LLM has to be named: give --teacher-url URL"),
        ({"settings": ["one-shot"]}, "expected settings of zero-shot, few-shot, silver; found one-shot"),
        ({"settings": []}, "found none"),
        ({"shots": 13}, "expected 1 to 12 shots"),
        ({"query_size": 25}, "--query-size: expected 1 to 24 texts, the pool's size, found 25"),
        ({"query_size": 0}, "--query-size: expected 1 to 24 texts, the pool's size, found 0"),
        ({"query_size": -5}, "--query-size: expected 1 to 24 texts, the pool's size, found -5"),
        ({"silver": 25}, "expected 1 to 24 texts for the LLM to label"),
        ({"seed": -1}, "--seed: expected a number from 0 to .*, found -1"),
        ({"seed": 2**64}, "--seed: expected a number from 0 to"),
        ({"model": "/nowhere"}, "no such directory"),
        ({"trainer": {"epochs": 0}}, "trainer: epochs: .* found 0"),
        ({"device": "abacus"}, "abacus"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_asked(
    example_files: dict[str, Path],
    backbone_dir: Callable[[str], Path],
    tmp_path: Path,
    wrong: dict[str, Any],
    message: str,
) -> None:
    with ChatServer() as server:
        options: dict[str, Any] = {
            "task": example_files["task"],
            "data": example_files["data"],
            "output": tmp_path / "out",
            "llm": TeacherConfig(base_url=server.base_url, model="m", cache_path=tmp_path / "llm.sqlite"),
            "query_size": 12,
            "model": str(backbone_dir("t5")),
        }
        with pytest.raises(InputError, match=message):
            list(run_baselines(BaselineOptions(**options | wrong), cache=tmp_path, progress=False))
    assert server.prompts == []
    assert not (tmp_path / "out").exists()


def test_a_setting_that_another_process_measures_is_refused_at_once(
    run: Run, knowing: Callable[[int, str], Turn], tmp_path: Path
) -> None:
    directory = tmp_path / "out" / "llm-zero-shot"
    directory.mkdir(parents=True)
    with ChatServer(knowing) as server:
        with alone(directory), pytest.raises(InputError, match="llm-zero-shot: another process is working on this run"):
            run(server, settings=["zero-shot"])
        assert server.prompts == []
        assert not (directory / "config.yaml").exists()
        (result,) = run(server, settings=["zero-shot"])
    assert not result.repeated


def test_what_another_process_has_measured_by_now_is_not_measured_again(
    run: Run, knowing: Callable[[int, str], Turn], monkeypatch: pytest.MonkeyPatch
) -> None:
    with ChatServer(knowing) as server:
        (first,) = run(server, settings=["zero-shot"])
        looks = iter([None, first.entry])  # nothing there at the start, a result once the directory is held
        monkeypatch.setattr(baselines, "measured", lambda directory, config: next(looks))  # noqa: ARG005
        written = (first.directory / "metrics.json").stat().st_mtime_ns
        (second,) = run(server, settings=["zero-shot"])
    assert second.repeated
    assert second.entry == first.entry
    assert (first.directory / "metrics.json").stat().st_mtime_ns == written


def test_notes_say_what_was_decided(example_files: dict[str, Path], rows: list[dict[str, str]], tmp_path: Path) -> None:
    data = tmp_path / "unsplit.jsonl"
    unsplit = [{key: value for key, value in row.items() if key != "split"} for row in rows]
    data.write_text("".join(json.dumps(row) + "\n" for row in unsplit))
    notes: list[str] = []
    with ChatServer(Turn(content="neutral")) as server:
        llm = TeacherConfig(base_url=server.base_url, model="m", cache_path=tmp_path / "llm.sqlite")
        options = BaselineOptions(example_files["task"], data, tmp_path / "out", llm, settings=["zero-shot"])
        (result,) = run_baselines(options, cache=tmp_path, progress=False, note=notes.append)
    assert result.entry["n_test"] == 8
    assert notes[0].startswith("held out 8 of 39 examples as the test set")


def test_a_cap_ends_it_and_a_higher_one_goes_on(run: Run, knowing: Callable[[int, str], Turn], tmp_path: Path) -> None:
    with ChatServer(knowing) as server:
        with pytest.raises(TeacherBudgetError, match=r"^classifier: "):
            run(server, llm={"max_total_tokens": 800}, settings=["zero-shot"])
        answered = len(server.prompts)
        assert 0 < answered < 9
        assert not (tmp_path / "out" / "llm-zero-shot" / "metrics.json").exists()
        (result,) = run(server, settings=["zero-shot"])
        assert len(server.prompts) == 9
    assert result.entry["teacher"]["cached"] == answered


def test_a_server_that_refuses_leaves_nothing_finished(run: Run, tmp_path: Path) -> None:
    with ChatServer(Turn(status=401)) as server, pytest.raises(TeacherError, match="API key"):
        run(server, settings=["zero-shot"])
    assert not (tmp_path / "out" / "llm-zero-shot" / "metrics.json").exists()


CHILD = """
import sys
from pathlib import Path
from training.llm import baselines
from training.llm.baselines import BaselineOptions, run_baselines
from training.teacher_api import TeacherConfig
url, task, data, folder = sys.argv[1:]
llm = TeacherConfig(base_url=url, model="m", cache_path=Path(folder) / "llm.sqlite", concurrency=2)
options = BaselineOptions(Path(task), Path(data), Path(folder) / "out", llm, settings=["zero-shot"])
list(run_baselines(options, cache=Path(folder), progress=False))
"""


def test_a_killed_start_is_asked_for_the_rest_only(
    run: Run, knowing: Callable[[int, str], Turn], example_files: dict[str, Path], tmp_path: Path
) -> None:
    def slowly(n: int, prompt: str) -> Turn:
        return Turn(content=knowing(n, prompt).content, delay_s=0.2)

    with ChatServer(slowly) as server:
        paths = [str(example_files["task"]), str(example_files["data"]), str(tmp_path)]
        command = [sys.executable, "-c", CHILD, server.base_url, *paths]
        process = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE)
        while len(server.prompts) < 5:
            assert process.poll() is None, process.communicate()[1].decode()
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        asked = len(server.prompts)
        (result,) = run(server, settings=["zero-shot"])
    assert not result.repeated
    cached = result.entry["teacher"]["cached"]
    assert asked - 2 <= cached <= asked  # all but those in flight
    assert result.entry["teacher"]["requests"] == 9 - cached == len(server.prompts) - asked
