"""The README says what is so: its commands run, its answers have the shape of the service's, its tree is the tree.

Slow steps are made small, and nothing else: the tiny model instead of a real one, a local chat server instead of the
paid one, the running service's address instead of port 3000. ``make`` is asked what it would do.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from service.model.task import Task
from tests.service_process import RunningService
from tests.training.chat_server import ChatServer
from training.strategies import PoolScores

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BIN = Path(sys.executable).parent


def fences() -> list[tuple[str, str]]:
    """(language, content) of every fenced block, in order."""
    found: list[tuple[str, str]] = []
    language: str | None = None
    for line in README.splitlines(keepends=True):
        if not line.startswith("```"):
            if language is not None:
                found[-1] = (language, found[-1][1] + line)
        elif language is None:
            language = line[3:].strip()
            found.append((language, ""))
        else:
            language = None
    return found


def blocks(language: str) -> list[str]:
    return [content for name, content in fences() if name == language]


def commands(start: str) -> list[str]:
    """Every command of the bash blocks that starts so: lines up to where quotes are closed and nothing continues."""
    found, command = [], ""
    for line in "\n".join(blocks("bash")).splitlines():
        command = f"{command}\n{line}".replace("\\\n", " ").strip()
        if command.endswith("\\") or command.count("'") % 2:
            continue
        found.append(command)
        command = ""
    matching = [command for command in found if command.startswith(start)]
    assert matching, f"no command starts with {start}"
    return matching


def test_every_block_is_of_a_kind_that_these_tests_know() -> None:
    assert {name for name, _ in fences()} <= {"", "console", "text", "bash", "yaml", "json", "python"}


def test_the_two_commands_are_targets_of_the_makefile() -> None:
    for line in blocks("console")[0].splitlines():
        command = line.removeprefix("$ ").partition("#")[0].split()
        subprocess.run([command[0], "-n", *command[1:]], cwd=ROOT, check=True, capture_output=True)


def test_the_tree_names_files_that_are_there_and_none_is_missing() -> None:
    tree = next(block for block in blocks("") if block.startswith("service/"))
    for folder in ("service", "service/model", "training"):
        for path in (ROOT / folder).glob("*.py"):
            short = path.name.replace("teacher_", "_")
            assert path.name == "__init__.py" or path.name in tree or short in tree, f"{path} is not in the tree"
    for name in re.findall(r"[\w/]+\.py", tree):
        name = name.replace("_api", "teacher_api").replace("_cache", "teacher_cache") if name.startswith("_") else name
        assert list(ROOT.glob(f"*/{name}")) or list(ROOT.glob(f"*/*/{name}")), f"{name} is not there"


def test_the_tasks_are_tasks_and_the_first_is_the_example() -> None:
    first, second = [Task.from_dict(yaml.safe_load(block)) for block in blocks("yaml")]
    assert first == Task.from_yaml(ROOT / "examples" / "product-reviews" / "task.yaml")
    assert second.fields == ("sentence1", "sentence2")


@pytest.fixture
def workplace(tmp_path: Path, backbone_dir: Callable[[str], Path]) -> Callable[..., str]:
    """Runs one of the README's commands in a folder that looks like a checkout; returns what it printed."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "training").symlink_to(ROOT / "training")
    small = f" --model {backbone_dir('t5')} --epochs 1 --num-beams 1 --max-new-tokens 4"

    def run(command: str, **env: str) -> str:
        words = shlex.split(command + (small if command.startswith("xal run") else ""))
        words[0] = str(BIN / words[0])
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **env}
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=1200, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.mark.timeout(1800)
def test_the_commands_of_a_run_follow_each_other(workplace: Callable[..., str], tmp_path: Path) -> None:
    for command in (
        *commands("python -m"),
        *commands("xal backbone"),
        *commands("xal run")[:2],
        *commands("xal report"),
        *commands("xal export"),
        *commands("xal score"),
        *commands("xal doctor"),
    ):
        workplace(command)
    rounds = json.loads((tmp_path / "build" / "run" / "metrics.json").read_text())
    assert [entry["n_labeled"] for entry in rounds] == [50, 100]
    scores = (tmp_path / "build" / "scores.jsonl").read_text().splitlines()
    assert len(scores) == 2000
    assert (tmp_path / "build" / "report" / "learning_curve.png").exists()
    assert len(list((tmp_path / "build" / "experiment").glob("*/metrics.json"))) == 6
    assert (tmp_path / "build" / "comparison" / "comparisons.png").exists()


def test_the_llm_s_own_answers_are_measured(workplace: Callable[..., str], tmp_path: Path) -> None:
    workplace(commands("python -m")[0])
    with ChatServer() as chat:
        said = workplace(commands("xal llm")[0].replace("http://localhost:8000/v1", chat.base_url))
    assert "zero-shot: macro-F1" in said
    assert sorted(path.name for path in (tmp_path / "build" / "llm").iterdir()) == ["llm-few-shot", "llm-zero-shot"]


def test_the_run_with_a_paid_llm_asks_it_within_its_caps(workplace: Callable[..., str], tmp_path: Path) -> None:
    workplace(commands("python -m")[0])
    command = commands("xal run")[2]
    assert "--model google/flan-t5-large" in command
    with ChatServer() as chat:
        local = command.replace("https://api.openai.com/v1", chat.base_url)
        local += " --budget 4 --query-size 2 --teacher-cache teacher.sqlite"  # 4 texts x 3 labels
        workplace(local, OPENAI_API_KEY="sk-test")
    assert len(chat.prompts) == 12
    assert set(chat.keys) == {"Bearer sk-test"} or set(chat.keys) == {"sk-test"}
    rounds = json.loads((tmp_path / "build" / "flan-t5" / "metrics.json").read_text())
    assert rounds[-1]["teacher"]["cached"] == 6  # the first round's texts are not asked about again


def shape(value: Any) -> Any:
    """Keys and types, whatever the numbers and words are."""
    if isinstance(value, Mapping):
        return {key: shape(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [shape(entry) for entry in value]
    return float if isinstance(value, float) else type(value)


def test_the_curl_lines_get_answers_of_the_shape_that_is_shown(service: RunningService) -> None:
    shown = [json.loads(block) for block in blocks("json")]
    asked = [command for command in commands("curl") if " -d " in command]
    assert len(asked) == len(shown) == 3
    for command, expected in zip(asked, shown, strict=True):
        done = subprocess.run(
            shlex.split(command.replace("localhost:3000", service.url)), capture_output=True, text=True, check=True
        )
        answer = json.loads(done.stdout)
        assert shape(answer).keys() == shape(expected).keys()
        selected = answer.pop("selected", None)
        assert (selected is None) == (expected.pop("selected", None) is None)
        assert shape(answer) == shape(expected)


def test_the_other_curl_lines_are_answered(service: RunningService) -> None:
    for command in (command for command in commands("curl") if " -d " not in command):
        words = shlex.split(command.replace("localhost:3000", service.url))
        assert subprocess.run([*words, "--fail"], capture_output=True, check=False).returncode == 0, command


def test_the_client_example_runs(service_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    example = next(block for block in blocks("python") if "XalClient" in block)
    exec(example.replace("http://localhost:3000", service_url), {})
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_the_strategy_example_is_a_strategy() -> None:
    names: dict[str, Any] = {}
    exec(next(block for block in blocks("python") if "QueryStrategy" in block), names)
    strategy = names["unexplained"]()
    scores = PoolScores(3, explanation_scores=np.array([-0.5, -2.0, -1.0]))
    assert strategy.select(scores, 2, np.random.default_rng(0)).tolist() == [1, 2]


def test_the_teacher_example_is_a_teacher() -> None:
    names: dict[str, Any] = {}
    exec(next(block for block in blocks("python") if "class Template" in block), names)
    explained = names["Template"]().explain({"7": {"text": "fine"}})
    assert set(explained.explanations["7"]) == {"negative", "neutral", "positive"}


def test_serving_and_building_are_commands_that_exist() -> None:
    assert commands("xal serve")[0].startswith("xal serve --model build/model")
    assert {"bentoml build"} <= set(commands("bentoml build"))
    for command in ("xal serve --help", "bentoml build --help", "bentoml serve --help"):
        name, *words = command.split()
        subprocess.run([str(BIN / name), *words], check=True, capture_output=True)
