"""Which runs a grid stands for, in which order, and in which directories."""

from dataclasses import replace
from pathlib import Path

import pytest

from service.model.errors import InputError
from training.experiment import Grid, check_directory, check_prefilter
from training.run_request import RunOptions

COMMON = RunOptions(task=Path("t.yaml"), data=Path("d.jsonl"), strategy="xal", output=Path("out"))


def names(grid: Grid) -> list[str]:
    return [cell.name for cell in grid.cells()]


def test_every_combination_is_one_run_draw_by_draw() -> None:
    grid = Grid(("xal", "random"), initial_sets=(0, 1), seeds=(5, 2))
    assert names(grid) == [
        f"{strategy}-i{initial}-s{seed}" for initial in (0, 1) for seed in (5, 2) for strategy in ("xal", "random")
    ]


def test_runs_that_share_a_first_round_come_after_those_that_train_it() -> None:
    grid = Grid(("entropy", "random", "xal"), initial_sets=(0, 1))
    assert names(grid) == ["entropy-i0-s0", "xal-i0-s0", "random-i0-s0", "entropy-i1-s0", "xal-i1-s0", "random-i1-s0"]


def test_strategies_with_another_training_have_first_rounds_of_their_own() -> None:
    # xal and me-exp train alike, xal-no-rank without the ranking loss, entropy without explanations
    assert names(Grid(("me-exp", "xal", "xal-no-rank", "entropy"))) == [
        "me-exp-i0-s0",
        "xal-no-rank-i0-s0",
        "entropy-i0-s0",
        "xal-i0-s0",
    ]


def test_a_weight_makes_further_runs_only_of_the_strategies_that_use_it() -> None:
    grid = Grid(("random", "xal", "xal-no-rank"), lambda2s=(0.01, 0.5))
    assert sorted(names(grid)) == [
        "random-i0-s0",
        "xal-i0-s0-lambda2_0.01",
        "xal-i0-s0-lambda2_0.5",
        "xal-no-rank-i0-s0",
    ]
    assert sorted(names(Grid(("me-exp", "xal"), lambdas=(0.2, 1.0)))) == [
        "me-exp-i0-s0",
        "xal-i0-s0-lambda_0.2",
        "xal-i0-s0-lambda_1",
    ]


def test_weights_reach_every_strategy_that_is_told_to_train_on_explanations() -> None:
    grid = Grid(("entropy",), lambda1s=(0.1, 0.3), train_on_explanations=True)
    assert [cell.lambda1 for cell in grid.cells()] == [0.1, 0.3]
    told_not_to = Grid(("me-exp",), lambda1s=(0.1, 0.3), train_on_explanations=False)
    with pytest.raises(InputError, match="--lambda1: none of me-exp trains with it"):
        told_not_to.cells()


def test_weights_that_differ_a_little_have_directories_of_their_own() -> None:
    assert names(Grid(("xal",), lambdas=(0.1234567, 0.1234568, 2.0))) == [
        "xal-i0-s0-lambda_0.1234567",
        "xal-i0-s0-lambda_0.1234568",
        "xal-i0-s0-lambda_2",
    ]


def test_a_run_is_told_its_own_values_and_place_and_where_first_rounds_are_shared() -> None:
    cell = Grid(("xal",), seeds=(3, 4), lambda1s=(0.3,)).cells()[0]
    options = cell.options(COMMON)
    assert options.output == Path("out/xal-i0-s3-lambda1_0.3")
    assert options.shared == Path("out/.first-rounds")
    assert (options.strategy, options.seed, options.trainer, options.lambda_) == ("xal", 3, {"lambda1": 0.3}, 0.5)
    alone = cell.options(COMMON, alone=True)
    assert (alone.output, alone.shared) == (Path("out"), None)


def test_a_prefilter_is_for_the_strategies_of_an_experiment_that_read_explanations() -> None:
    common = replace(COMMON, prefilter=3.0, prefilter_sample=5)
    grid = Grid(("xal", "entropy"))
    check_prefilter(grid, common)
    assert {cell.strategy: cell.options(common).prefilter for cell in grid.cells()} == {"xal": 3.0, "entropy": None}
    assert {cell.options(common).prefilter_sample for cell in grid.cells()} == {5, None}
    with pytest.raises(InputError, match="--prefilter spares explanations, and the strategy entropy reads none"):
        check_prefilter(Grid(("entropy", "me-exp")), common)
    assert Grid(("entropy",)).cells()[0].options(common, alone=True).prefilter == 3.0  # refused when the run is set up


def test_one_value_everywhere_is_a_single_run() -> None:
    assert Grid(("xal",), lambdas=(0.3,)).is_single
    assert not Grid(("xal",), seeds=(0, 1)).is_single


def test_the_command_s_options_become_the_grid_s_axes() -> None:
    options, trainer = (
        {"strategy": "xal,random", "seed": "0-1", "lambda_": "0.5"},
        {"lambda2": "0.1,0.2", "epochs": 3},
    )
    grid = Grid.of(options, trainer)
    assert grid.train_on_explanations is None
    assert grid == Grid(("xal", "random"), seeds=(0, 1), lambdas=(0.5,), lambda2s=(0.1, 0.2))
    assert options == {}
    assert trainer == {"epochs": 3}


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (Grid(("xal", "astrology")), "unknown query strategy 'astrology'"),
        (Grid(("xal", "xal")), "--strategy: xal stands there twice"),
        (Grid(("xal",), seeds=(1, 0, 1)), "--seed: 1 stands there twice"),
        (Grid(("random", "entropy"), lambda1s=(0.1, 0.2)), "--lambda1: none of random, entropy trains with it"),
        (Grid(("xal-no-rank",), lambda2s=(0.1, 0.2)), "--lambda2: none of xal-no-rank trains with it"),
        (Grid(("random",), lambdas=(0.3,)), "--lambda weighs the terms of Eq. 8, which random does not use"),
    ],
)
def test_what_makes_no_sense_is_said(grid: Grid, message: str) -> None:
    with pytest.raises(InputError, match=message):
        grid.cells()


def test_the_directory_of_an_experiment_holds_runs_alone(tmp_path: Path) -> None:
    check_directory(tmp_path / "new")
    (tmp_path / "new").write_text("mine")
    with pytest.raises(InputError, match="new: expected a directory for --output, found a file"):
        check_directory(tmp_path / "new")
    (tmp_path / "new").unlink()
    (tmp_path / "xal-i0-s0").mkdir()
    (tmp_path / "xal-i0-s0" / ".config.yaml.part").write_text("strat")  # what a kill in the very first write leaves
    (tmp_path / ".first-rounds").mkdir()
    check_directory(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds other files"):
        check_directory(tmp_path)
    (tmp_path / "config.yaml").write_text("strategy: xal")
    with pytest.raises(InputError, match="holds a single run"):
        check_directory(tmp_path)
