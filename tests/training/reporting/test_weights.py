from pathlib import Path
from typing import Any

import pytest

from training.reporting.study import Study
from training.reporting.weights import ablation_section, heights, sensitivity_section, series_names, varied
from training.runs import Run, learning_curves


def run(strategy: str, *f1: float, seed: int = 0, lambda2: float = 0.01, **config: Any) -> Run:
    rounds = [{"n_labeled": 100 * (n + 1), "macro_f1": value, "accuracy": value} for n, value in enumerate(f1)]
    content = {"strategy": strategy, "seed": seed, "task": {"name": "t"}, "trainer": {"lambda2": lambda2}, **config}
    return Run(Path(f"{strategy}-{seed}-{lambda2}-{config}"), content, rounds)


def test_the_ablation_has_the_papers_order_and_needs_two_of_them() -> None:
    assert ablation_section(Study.of([run("xal", 0.5), run("random", 0.4)])) is None
    section = ablation_section(Study.of([run("xal", 0.5, 0.7), run("xal", 0.6, 0.8, seed=1), run("entropy", 0.4)]))
    assert section is not None
    assert section.parts[0].rows == [  # type: ignore[union-attr]
        ["strategy", "", "runs", "100", "200"],
        ["entropy", "ME: labels alone, entropy", "1", "0.400", ""],
        ["xal", "XAL", "2", "0.550", "0.750"],
    ]


def test_runs_that_differ_in_one_weight_alone_make_a_series() -> None:
    curves = learning_curves([
        run("xal", 0.5, lambda2=0.1), run("xal", 0.6), run("xal", 0.7, seed=1), run("xal", 0.4, model="m"),
        run("me-exp", 0.3), run("xal", 0.8, lambda2=1.0),
    ])  # fmt: skip
    (series,) = varied(curves, "trainer.lambda2")
    assert [[dict(run.config["trainer"])["lambda2"] for run in curve.runs] for curve in series] == [
        [0.01] * 2,
        [0.1],
        [1.0],
    ]
    assert varied(curves, "lambda") == []


def test_series_of_one_strategy_are_called_by_what_else_they_differ_in() -> None:
    curves = learning_curves([
        *(run("xal", 0.5, lambda2=lambda2, **{"lambda": lambda_}) for lambda2 in (0.01, 0.1) for lambda_ in (0.3, 0.5)),
        *(run("xal-diverse", 0.5, **{"lambda": lambda_}) for lambda_ in (0.3, 0.5)),
    ])  # fmt: skip
    series = varied(curves, "lambda")
    assert series_names(series, "lambda") == ["xal, lambda2 0.01", "xal, lambda2 0.1", "xal-diverse"]
    assert series_names(series[1:], "lambda") == ["xal", "xal-diverse"]


def test_weights_that_a_run_never_read_make_no_series() -> None:
    curves = learning_curves([run("random", 0.5, lambda2=weight, teacher=None) for weight in (0.1, 0.2)])
    assert varied(curves, "trainer.lambda2") == []


def test_heights_are_taken_at_the_labels_that_a_series_shares() -> None:
    (curve,) = learning_curves([run("xal", 0.5, 0.7, 0.9)])
    last, area = heights(curve, [100, 200])
    assert last == [0.7]
    assert area == pytest.approx([0.6])


def test_the_section_has_a_row_for_each_value() -> None:
    assert sensitivity_section(Study.of([run("xal", 0.5)])) is None
    runs = [run("xal", 0.5 + seed / 10, 0.6, lambda2=weight, seed=seed) for weight in (0.1, 0.2) for seed in (0, 1)]
    section = sensitivity_section(Study.of(runs))
    assert section is not None
    assert section.parts[-1].rows == [  # type: ignore[union-attr]
        ["weight", "value", "curve", "runs", "labels", "macro-F1", "mean over curve"],
        ["lambda2", "0.1", "xal, trainer.lambda2 0.1", "2", "200", "0.600", "0.575"],
        ["lambda2", "0.2", "xal, trainer.lambda2 0.2", "2", "200", "0.600", "0.575"],
    ]
    assert section.pictures[0].png.startswith(b"\x89PNG")
