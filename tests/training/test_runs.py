from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.model.errors import InputError
from tests.training.saved_runs import save_run
from training.runs import Run, find_runs, learning_curves, read_run, share_data


def run(strategy: str = "xal", points: dict[int, float] | None = None, name: str = "r", **config: Any) -> Run:
    rounds = [{"n_labeled": n, "macro_f1": f1, "accuracy": f1 / 2} for n, f1 in (points or {10: 0.5}).items()]
    return Run(Path(name), {"strategy": strategy, "task": {"name": "t"}, **config}, rounds)


def problem(directory: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_run(directory)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_run_is_its_config_and_its_rounds(tmp_path: Path) -> None:
    found = read_run(save_run(tmp_path / "xal-0", strategy="xal", points={16: 0.5, 32: 0.625}))
    assert found.strategy == "xal"
    assert found.task_name == "product-sentiment"
    assert found.n_labeled == [16, 32]
    assert found.rounds[1]["macro_f1"] == 0.625


def test_what_is_no_run_directory_is_named(tmp_path: Path) -> None:
    assert "missing: expected the directory of a run; found no directory" in problem(tmp_path / "missing")
    directory = save_run(tmp_path / "a")
    (directory / "metrics.json").unlink()
    assert "a: no round is finished yet; start the same `xal run` again to go on" in problem(directory)
    (directory / "config.yaml").unlink()
    assert "a: not a run directory, config.yaml is missing" in problem(directory)


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("config.yaml", "a: [", "config.yaml: broken"),
        ("config.yaml", "- a", "config.yaml: expected the strategy and the task's name"),
        ("config.yaml", "task: {name: t}", "config.yaml: expected the strategy and the task's name"),
        ("config.yaml", "strategy: xal\ntask: t", "config.yaml: expected the strategy and the task's name"),
        ("metrics.json", "[{", "metrics.json: broken"),
        ("metrics.json", "\xff", "metrics.json: broken"),
        ("metrics.json", "{}", "metrics.json: expected a list of rounds; found dict"),
        ("metrics.json", "[]", "no round is finished yet"),
        ("metrics.json", "[1]", "metrics.json, entry 0: expected a round; found int"),
        ("metrics.json", '[{"n_labeled": 1, "accuracy": 1}]', "entry 0: expected a number for 'macro_f1'; found None"),
        ("metrics.json", '[{"n_labeled": 1, "macro_f1": NaN}]', "entry 0: expected a number for 'macro_f1'; found nan"),
        (
            "metrics.json",
            '[{"n_labeled": 2, "macro_f1": 0, "accuracy": 0}, {"n_labeled": 2, "macro_f1": 0, "accuracy": 0}]',
            "entry 1: expected more labels than the 2 of the round before",
        ),
    ],
)
def test_broken_files_of_a_run_are_named(tmp_path: Path, file: str, content: str, expected: str) -> None:
    directory = save_run(tmp_path / "a")
    (directory / file).write_bytes(content.encode("latin-1"))
    assert expected in problem(directory)


def test_a_grid_directory_stands_for_the_runs_in_it(tmp_path: Path) -> None:
    grid = tmp_path / "grid"
    for name in ("xal-1", "xal-0", ".first-rounds"):
        save_run(grid / name)
    save_run(grid / "begun", points={})
    (grid / "begun" / "metrics.json").write_text(" [ ]")
    save_run(grid / "not-started")
    (grid / "not-started" / "metrics.json").unlink()
    (grid / "notes").mkdir()
    (grid / "grid.yaml").write_text("strategies: [xal]")
    alone = save_run(tmp_path / "alone")
    runs, left_out = find_runs([alone, grid])
    assert [run.directory for run in runs] == [alone, grid / "xal-0", grid / "xal-1"]
    assert left_out == [f"{grid / name}: no round is finished yet; left out." for name in ("begun", "not-started")]


def test_a_grid_that_holds_no_finished_round_or_a_broken_file_is_refused(tmp_path: Path) -> None:
    broken = save_run(tmp_path / "grid" / "a")
    (broken / "metrics.json").write_text("[{")
    with pytest.raises(InputError, match=r"a/metrics\.json: broken"):
        find_runs([tmp_path / "grid"])
    (broken / "metrics.json").unlink()
    with pytest.raises(InputError, match=r"at least one run directory .* found none; .*a: no round is finished yet"):
        find_runs([tmp_path / "grid"])
    (tmp_path / "other" / "folder").mkdir(parents=True)
    with pytest.raises(InputError, match=r"other: not a run directory, config\.yaml is missing"):
        find_runs([tmp_path / "other"])


def test_seeds_of_one_setting_make_one_curve_over_the_labels_they_share() -> None:
    (curve,) = learning_curves(
        [
            run(points={10: 0.1, 20: 0.2, 30: 0.3}, name="a", seed=0, budget=30, data={"file": "x", "sha256": "1"}),
            run(points={10: 0.3, 30: 0.5, 40: 0.9}, name="b", seed=1, budget=40, data={"file": "y", "sha256": "1"}),
        ]
    )
    assert curve.title == "xal (2 runs)"
    assert curve.n_labeled == [10, 30]
    assert np.array_equal(curve.values("macro_f1"), [[0.1, 0.3], [0.3, 0.5]])
    assert np.array_equal(curve.values("accuracy"), [[0.05, 0.15], [0.15, 0.25]])


def test_other_settings_of_a_strategy_make_curves_of_their_own() -> None:
    long = "a-rather-long-name-of-a-model"
    curves = learning_curves(
        [
            run(name="a", trainer={"lambda2": 0.01, "epochs": 6}, model="m"),
            run(name="b", trainer={"lambda2": 0.0, "epochs": 6}, model="m"),
            run(name="c", trainer={"lambda2": 0.0, "epochs": 6}, model="m", seed=1),
            run(name="d", trainer={"epochs": 6}, model=long),
            run("random", name="e", trainer={"epochs": 99}),
        ]
    )
    assert [curve.title for curve in curves] == [
        "xal, model m, trainer.lambda2 0.01 (1 run)",
        "xal, model m, trainer.lambda2 0.0 (2 runs)",
        "xal, model ...g-name-of-a-model, trainer.lambda2 unset (1 run)",
        "random (1 run)",
    ]


def test_long_values_that_end_alike_are_told_apart() -> None:
    models = ["/models/english/flan-t5-base-tuned", "/models/german/flan-t5-base-tuned", "a-rather-long-model-name"]
    curves = learning_curves([run(name=model, model=model) for model in models])
    assert [curve.label for curve in curves] == [
        "xal, model /models/english/flan-t5-base-tuned",
        "xal, model /models/german/flan-t5-base-tuned",
        "xal, model ...r-long-model-name",
    ]


def test_a_setting_that_older_runs_do_not_have_is_none() -> None:
    assert len(learning_curves([run(name="old"), run(name="new", prefilter=None)])) == 1


def test_targets_and_what_is_measured_make_no_curve_of_their_own() -> None:
    runs = [run(name="old"), run(name="new", until={"target": 0.6}, measure_explanations=200, judge="llm", budget=9)]
    assert len(learning_curves([*runs, run(name="first", initial="random")])) == 1
    curves = learning_curves([*runs, run(name="varied", initial="diverse")])
    assert [curve.label for curve in curves] == ["xal, initial random", "xal, initial diverse"]


def test_what_a_run_from_labels_alone_never_read_makes_no_curve_of_its_own() -> None:
    weights = [{"lambda": 0.5, "trainer": {"lambda2": 0.1, "epochs": 6}}, {"lambda": 0.9, "trainer": {"epochs": 6}}]
    assert len(learning_curves([run(name=str(w), teacher=None, **w) for w in weights])) == 1
    assert len(learning_curves([run(name=str(w), teacher="recorded", **w) for w in weights])) == 2


def test_a_group_of_settings_that_a_run_lacks_is_one_difference() -> None:
    runs = [run(name="plain", adaptation=None)]
    runs += [run(name=way, adaptation={"conditioning": way, "epochs": 1}) for way in ("none", "label")]
    assert [curve.label for curve in learning_curves(runs[:2])] == ["xal, adaptation unset", "xal, adaptation given"]
    assert [curve.label for curve in learning_curves(runs)] == [
        "xal, adaptation unset",
        "xal, adaptation given, adaptation.conditioning none",
        "xal, adaptation given, adaptation.conditioning label",
    ]


def test_runs_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(InputError, match="at least one run"):
        learning_curves([])
    with pytest.raises(InputError, match="different tasks: a is t, b is other"):
        learning_curves([run(name="a"), run(name="b", task={"name": "other"})])
    with pytest.raises(InputError, match="given twice"):
        learning_curves([run(name="a"), run(name="x/../a")])
    with pytest.raises(InputError, match=r"runs of xal share no number of labels \(a, b\)"):
        learning_curves([run(name="a", points={10: 0.1}), run(name="b", points={20: 0.1})])


def test_runs_share_their_data_if_the_hashes_do() -> None:
    same = [run(data={"file": name, "sha256": "1"}, test_data=None) for name in "ab"]
    assert share_data(same)
    assert not share_data([*same, run(data={"file": "a", "sha256": "2"}, test_data=None)])
    assert not share_data([*same, run(data={"file": "a", "sha256": "1"}, test_data={"sha256": "3"})])
    assert not share_data([*same, run(data={"file": "a", "sha256": ["no", "hash"]}, test_data=None)])
