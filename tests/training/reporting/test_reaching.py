from pathlib import Path

from training.reporting.reaching import median, target_section, target_table, whole_ticks
from training.reporting.study import Study
from training.runs import Run, learning_curves


def run(strategy: str, seed: int, *f1: float, target: float | None = None) -> Run:
    rounds = [{"n_labeled": 100 * (n + 1), "macro_f1": value, "accuracy": value} for n, value in enumerate(f1)]
    config = {"strategy": strategy, "seed": seed, "task": {"name": "t"}, "until": target and {"target": target}}
    return Run(Path(f"{strategy}-{seed}"), config, rounds)


def test_the_median_counts_runs_without_the_target_as_the_last() -> None:
    assert median([100, 300, 200]) == 200
    assert median([100, 300, 200, 400]) == 250
    assert median([100, None, 200]) == 200
    assert median([None, 100]) is None
    assert median([None, 100, None]) is None
    assert median([None]) is None


def test_the_table_tells_how_many_runs_never_got_there() -> None:
    curves = learning_curves([run("xal", seed, 0.5) for seed in range(3)] + [run("random", 0, 0.5)])
    assert target_table(curves, [[150.4, 100.0, None], [None]]) == [
        ["strategy", "runs", "median labels", "fewest", "not reached in"],
        ["xal", "3", "150", "100", "1 of 3 runs"],
        ["random", "1", "not reached", "", "1 of 1 runs"],
    ]


def test_the_section_needs_a_target_and_draws_whatever_was_reached() -> None:
    assert target_section(Study.of([run("xal", 0, 0.5, 0.7)])) is None
    for target in (0.4, 0.6, 0.9):
        study = Study.of([run("xal", seed, 0.5, 0.6 + seed / 20, target=target) for seed in range(4)])
        section = target_section(study)
        assert section is not None
        assert section.pictures[0].png.startswith(b"\x89PNG")


def test_an_axis_of_labels_has_whole_numbers_each_once() -> None:
    assert whole_ticks([48.0, 49.99, 50.0, 50.01, 52.0], 50, 50) == [50]
    assert whole_ticks([0.0, 2.5, 5.0, 7.5], 1, 6) == [2, 5]
    assert whole_ticks([0.0, 20.0], 7, 9) == [7]
