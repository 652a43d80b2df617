"""The upper bound: measured once for all runs of one pool, and where a run stops for it."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.model.errors import InputError
from tests.training_fixtures import SMALL
from training.locks import in_turn
from training.loop import Loop, read_rounds
from training.upper_bound import target


@pytest.fixture
def bounded(make_loop: Callable[..., Loop], tmp_path: Path) -> Callable[..., tuple[Any, Path]]:
    """(what ``target`` finds for a run of these options, the bound's directory)."""

    def find(share: float = 0.9, **options: Any) -> tuple[Any, Path]:
        loop = make_loop(tmp_path / "unused", **options)
        until, notes = target(loop, share, tmp_path / "cache")
        assert len(notes) == 1
        return until, Path(notes[0].partition("(")[2].partition(")")[0])

    return find


def test_the_bound_is_the_test_macro_f1_of_one_model_trained_on_all_labels_alone(bounded: Callable[..., Any]) -> None:
    until, directory = bounded(share=0.8)
    (entry,) = read_rounds(directory)
    assert entry["n_labeled"] == 24  # the whole pool
    assert until.upper_bound == entry["macro_f1"]
    assert until.target == pytest.approx(0.8 * entry["macro_f1"])
    config = yaml.safe_load((directory / "config.yaml").read_text())
    assert (config["strategy"], config["teacher"], config["seed"]) == ("upper-bound", None, 0)
    assert not (directory / "rounds" / "00" / "model").exists()  # nobody asks it for anything


def test_strategies_draws_seeds_and_weights_share_one_bound(bounded: Callable[..., Any], trainings: list[int]) -> None:
    _, first = bounded()
    for options in (
        {"strategy": "entropy"},
        {"strategy": "xal-no-rank", "seed": 3, "initial_set": 2},
        {"lambda_": 0.1, "trainer": {**SMALL, "lambda1": 0.7}, "num_beams": 1, "budget": 12},
        {"keep_models": "last", "share": 0.5},
    ):
        assert bounded(**options)[1] == first
    assert trainings == [24]


def test_another_training_or_another_pool_has_another_bound(bounded: Callable[..., Any]) -> None:
    found = {
        bounded()[1],
        bounded(trainer={**SMALL, "epochs": 2})[1],
        bounded(measure_explanations=4)[1],  # leaves 20 texts in the pool
    }
    assert len(found) == 3


def test_who_comes_while_the_bound_is_measured_waits_for_it(bounded: Callable[..., Any], trainings: list[int]) -> None:
    until, directory = bounded()
    aside = directory.rename(directory.with_name("aside"))
    locked = threading.Event()

    def measure() -> None:
        with in_turn(directory):
            locked.set()
            time.sleep(0.5)
            aside.rename(directory)

    other = threading.Thread(target=measure)
    other.start()
    assert locked.wait(10)
    assert bounded(strategy="random") == (until, directory)
    other.join()
    assert trainings == [24]


@pytest.mark.parametrize(("model", "shared"), [("composed-gpt2", True), ("llama", False)])
def test_an_adaptation_leaves_the_bound_of_an_encoder_that_is_apart(
    make_loop: Callable[..., Loop], backbone_dir: Callable[[str], Path], tmp_path: Path, model: str, shared: bool
) -> None:
    cache = tmp_path / "cache"
    options = {"until": 0.5, "budget": None, "query_size": 6, "model": str(backbone_dir(model))}
    for name in ("adapted", "plain"):
        make_loop(tmp_path / name, adapt=name == "adapted", cache=cache, **options)
    bounds = [path for path in (cache / "upper-bounds").iterdir() if path.is_dir()]
    assert len(bounds) == (1 if shared else 2)


def test_a_run_goes_on_to_the_target_that_it_began_with(make_loop: Callable[..., Loop], tmp_path: Path) -> None:
    options = {"strategy": "random", "budget": None, "query_size": 6, "until": 0.01}
    begun = make_loop(tmp_path / "r", cache=tmp_path / "one", **options)
    rounds = list(begun.rounds())
    again = make_loop(tmp_path / "r", cache=tmp_path / "emptied", **options)
    assert again.config.until == begun.config.until
    assert not (tmp_path / "emptied" / "upper-bounds").exists()
    assert list(again.rounds()) == rounds
    with pytest.raises(InputError, match=r"until\.share was 0\.01, is 0\.02"):
        make_loop(tmp_path / "r", **{**options, "until": 0.02})
    next(make_loop(tmp_path / "without", strategy="random").rounds())
    with pytest.raises(InputError, match="was begun without --until"):
        make_loop(tmp_path / "without", cache=tmp_path / "emptied", **options)
    assert not (tmp_path / "emptied" / "upper-bounds").exists()


def test_a_run_stops_with_the_round_that_reaches_the_target(make_loop: Callable[..., Loop], tmp_path: Path) -> None:
    easy = make_loop(tmp_path / "easy", strategy="random", budget=None, query_size=6, until=0.01)
    assert easy.config.budget == 24
    assert easy.config.until.target == pytest.approx(0.01 * easy.config.until.upper_bound)
    (entry,) = easy.rounds()  # a share as small is reached at once
    assert entry["queried_ids"] == []
    assert yaml.safe_load((tmp_path / "easy" / "config.yaml").read_text())["until"]["share"] == 0.01


def test_a_run_that_never_reaches_it_ends_with_its_budget(make_loop: Callable[..., Loop], tmp_path: Path) -> None:
    hard = make_loop(tmp_path / "hard", strategy="random", budget=None, query_size=None, until=1.0)
    assert (hard.config.budget, hard.config.query_size) == (24, 24)  # 50 a round is more than the pool has
    assert [entry["n_labeled"] for entry in hard.rounds()] == [24]


@pytest.mark.parametrize("share", [0.0, -1.0, 1.5, float("nan")])
def test_a_share_lies_between_none_and_all(make_loop: Callable[..., Loop], tmp_path: Path, share: float) -> None:
    with pytest.raises(InputError, match="--until: expected a share of the upper bound, above 0 and at most 1"):
        make_loop(tmp_path / "r", until=share)


def test_no_name_of_a_task_leads_out_of_the_cache(
    make_loop: Callable[..., Loop], example_files: dict[str, Path], tmp_path: Path
) -> None:
    for number, name in enumerate(("/absolute/name", "../../above", "x" * 300, "..")):
        task = tmp_path / f"{number}.yaml"
        content = yaml.safe_load(example_files["task"].read_text())
        task.write_text(yaml.safe_dump({**content, "name": name}))
        cache = tmp_path / f"cache{number}"
        make_loop(tmp_path / f"r{number}", task=task, until=0.5, budget=None, query_size=6, cache=cache)
        (bound,) = (path for path in (cache / "upper-bounds").iterdir() if path.is_dir())
        assert (bound / "metrics.json").is_file()
