"""A small data set of real sentences, its recorded explanations, and runs of tiny models over it."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import tiny
from training.data import Example
from training.loop import Loop
from training.run_request import RunOptions
from training.setup import prepare
from training.trainer import fit


@pytest.fixture(scope="session")
def example_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """task, data (24 pool texts, 6 dev, 9 test) and explanations for the pool."""
    folder = tmp_path_factory.mktemp("example")
    lines = tiny.EXPLANATIONS.read_text(encoding="utf-8").splitlines()[:39]
    recorded = [json.loads(line) for line in lines]
    rows = []
    for index, row in enumerate(recorded):
        label = tiny.TASK.label_ids[index % 3]
        split = "train" if index < 24 else "dev" if index < 30 else "test"
        rows.append({"id": row["id"], "text": row["explanations"][label], "label": label, "split": split})
    files = {name: folder / name for name in ("task.yaml", "data.jsonl", "explanations.jsonl")}
    files["task.yaml"].write_text(yaml.safe_dump(tiny.TASK.to_dict(), sort_keys=False))
    files["data.jsonl"].write_text("".join(json.dumps(row) + "\n" for row in rows))
    files["explanations.jsonl"].write_text("".join(line + "\n" for line in lines[:24]))
    return {name.partition(".")[0]: path for name, path in files.items()}


def comparable(rounds: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rounds without what a clock says."""
    return [{key: value for key, value in entry.items() if key != "seconds"} for entry in rounds]


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many texts each round's training in this process learned from, in turn; those from here on."""
    found: list[int] = []

    def counted(labeled: Sequence[Example], *args: Any, **settings: Any) -> Any:
        found.append(len(labeled))
        return fit(labeled, *args, **settings)

    monkeypatch.setattr("training.round_model.fit", counted)
    return found


SMALL = {"epochs": 1, "batch_size": 4, "learning_rate": 1e-3}


@pytest.fixture(scope="session")
def make_loop(
    example_files: dict[str, Path], backbone_dir: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Loop]:
    """A loop over the small data set: 18 labels in 3 rounds of 6 unless told otherwise."""
    common_cache = tmp_path_factory.getbasetemp() / "cache"

    def make(output: Path, cache: Path = common_cache, **options: Any) -> Loop:
        settings = {
            "task": example_files["task"],
            "data": example_files["data"],
            "explanations": example_files["explanations"],
            "strategy": "xal",
            "model": str(backbone_dir("t5")),
            "budget": 18,
            "query_size": 6,
            "num_beams": 2,
            "max_new_tokens": 6,
            "device": "cpu",
            "trainer": SMALL,
            **options,
        }
        loop, _ = prepare(RunOptions(output=output, **settings), cache=cache, progress=False)
        return loop

    return make


@pytest.fixture(scope="session")
def finished_run(make_loop: Callable[..., Loop], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a finished ``xal`` run; read-only for tests (copy it to change it)."""
    directory = tmp_path_factory.mktemp("runs") / "finished"
    list(make_loop(directory).rounds())
    return directory
