from pathlib import Path
from typing import Any

from training.reporting.study import Study, alike, representatives
from training.runs import Run, learning_curves


def run(strategy: str = "xal", points: dict[int, float] | None = None, seed: int = 0, **config: Any) -> Run:
    rounds = [{"n_labeled": n, "macro_f1": f1, "accuracy": f1} for n, f1 in (points or {10: 0.5, 20: 0.6}).items()]
    name = f"{strategy}-{seed}-{sorted(config.items())}"
    return Run(Path(name), {"strategy": strategy, "seed": seed, "task": {"name": "t"}, **config}, rounds)


def are_alike(one: Run, other: Run) -> bool:
    first, second = learning_curves([one, other])
    return alike(first, second)


def test_upper_bounds_and_llms_are_no_curves() -> None:
    study = Study.of([run("upper-bound"), run("xal"), run("llm-zero-shot", {0: 0.4}), run("llm-silver", {0: 0.5})])
    assert [curve.label for curve in study.curves] == ["xal"]
    assert [curve.label for curve in study.upper_bounds] == ["upper-bound"]
    assert [curve.label for curve in study.llms] == ["llm-zero-shot", "llm-silver"]


def test_the_target_is_what_the_runs_state_or_ninety_percent_of_the_upper_bound() -> None:
    stated = Study.of([run(until={"target": 0.64}), run(seed=1, until={"target": 0.62}), run(seed=2)]).target
    assert stated is not None
    assert (stated.macro_f1, stated.source) == (0.62, "the lowest of the targets that the runs were given")
    bound = Study.of([run(), run("upper-bound", {99: 0.7}), run("upper-bound", {99: 0.8}, seed=1)]).target
    assert bound is not None
    assert round(bound.macro_f1, 6) == 0.675
    assert bound.source == "90% of the upper bound's 0.750"
    assert Study.of([run()]).target is None


def test_a_curve_that_ends_early_is_said_unless_runs_stop_at_a_target() -> None:
    short = {10: 0.5}
    assert Study.of([run(), run(points=short, seed=1)]).warnings == [
        "xal: a run reached 20 labels, but its curve ends at the 10 that all its runs share."
    ]
    assert Study.of([run(until={"target": 1}), run(points=short, seed=1, until={"target": 0.5})]).warnings == []
    assert Study.of([run()], ["b: left out."]).warnings == ["b: left out."]


def test_curves_are_alike_where_the_strategy_is_all_that_differs() -> None:
    trainer = {"epochs": 6, "lambda2": 0.1}
    explaining = {"teacher": "recorded", "num_beams": 5, "trainer": trainer, "lambda": 0.5, "adaptation": {"epochs": 1}}
    from_labels = {"teacher": None, "num_beams": 1, "trainer": {"epochs": 6, "lambda2": 0.01}, "lambda": 0.9}
    assert are_alike(run("xal", **explaining), run("random", **from_labels))
    assert not are_alike(run("xal", **explaining), run("random", **from_labels, model="larger"))
    assert not are_alike(run("xal", **explaining), run("random", **{**from_labels, "trainer": {"epochs": 7}}))
    assert not are_alike(
        run("xal", data={"file": "a", "sha256": "1"}), run("random", data={"file": "a", "sha256": "2"})
    )
    assert are_alike(run("xal", data={"file": "a", "sha256": "1"}), run("random", data={"file": "b", "sha256": "1"}))


def test_two_models_that_both_explain_are_alike_in_all_that_both_use() -> None:
    def explaining(strategy: str, lambda_: float = 0.5, lambda2: float = 0.1) -> Run:
        return run(strategy, teacher="recorded", trainer={"lambda2": lambda2}, **{"lambda": lambda_})

    assert are_alike(explaining("xal"), explaining("me-exp"))
    assert are_alike(explaining("xal", lambda_=0.9), explaining("me-exp"))  # which weighs no terms
    assert not are_alike(explaining("xal", lambda2=0.2), explaining("me-exp"))
    assert are_alike(explaining("xal", lambda2=0.2), explaining("xal-no-rank", lambda2=0.0))
    assert not are_alike(explaining("xal", lambda_=0.9), explaining("xal-std"))


def test_of_curves_with_other_weights_the_one_with_the_most_runs_stands_for_all() -> None:
    runs = [run(seed=seed, **{"lambda": weight}) for weight, seed in ((0.1, 0), (0.5, 0), (0.5, 1))]
    curves = learning_curves([*runs, run(model="larger"), run("random")])
    assert [curve.label for curve in representatives(curves)] == [
        "xal, lambda 0.5, model unset", "xal, lambda unset, model larger", "random",
    ]  # fmt: skip
