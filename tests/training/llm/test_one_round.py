import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.model.errors import InputError
from training.llm.one_round import begin, finish, measured
from training.runs import read_run

ENTRY = {"round": 0, "n_labeled": 0, "macro_f1": 0.5, "accuracy": 0.6}


def config(**changes: Any) -> dict[str, Any]:
    settings = {"strategy": "llm-zero-shot", "task": {"name": "t", "fields": ["text"]}, "seed": 0}
    return {**settings, "data": {"file": "/a", "sha256": "1"}, "llm": {"base_url": "http://a"}, **changes}


def test_what_was_measured_is_read_as_any_run_and_not_measured_again(tmp_path: Path) -> None:
    directory = tmp_path / "new" / "llm-zero-shot"
    assert measured(directory, config()) is None
    begin(directory, config())
    assert measured(directory, config()) is None  # begun is not finished
    assert measured(directory, config(seed=1)) is None  # so nothing is lost by other settings
    finish(directory, ENTRY)
    assert measured(directory, config()) == ENTRY
    assert json.loads((directory / "metrics.json").read_text()) == [ENTRY]
    run = read_run(directory)
    assert (run.strategy, run.task_name, run.n_labeled) == ("llm-zero-shot", "t", [0])
    written = yaml.safe_load((directory / "config.yaml").read_text())
    assert {key: written[key] for key in config()} == config()
    assert "torch" in written["versions"]
    assert "git_hash" in written


def test_where_things_lie_may_change_and_nothing_else(tmp_path: Path) -> None:
    begin(tmp_path, config())
    finish(tmp_path, ENTRY)
    elsewhere = {"data": {"file": "/b", "sha256": "1"}, "llm": {"base_url": "http://b"}}
    assert measured(tmp_path, config(**elsewhere)) == ENTRY
    with pytest.raises(InputError, match=r"with other settings \(data.sha256 was '1', is '2'; seed was 0, is 3\)"):
        measured(tmp_path, config(seed=3, data={"file": "/a", "sha256": "2"}))
    with pytest.raises(InputError, match=r"shots was None, is 4"):
        measured(tmp_path, config(shots=4))


def test_a_directory_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds other files; give an --output that is empty or not there yet"):
        measured(tmp_path, config())


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    begin(tmp_path, config())
    (tmp_path / "metrics.json").write_text("[{")
    with pytest.raises(InputError, match=r"metrics\.json: broken"):
        measured(tmp_path, config())
