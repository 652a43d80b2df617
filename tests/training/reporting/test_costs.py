from pathlib import Path

from tests.training.saved_runs import save_run
from training.reporting.costs import costs_section, costs_table
from training.reporting.study import Study
from training.runs import learning_curves, read_run


def test_seconds_are_of_a_round_and_bills_of_a_run(tmp_path: Path) -> None:
    teacher = {"requests": 6, "cached": 0, "prompt_tokens": 1000, "completion_tokens": 500, "cost": 0.125}
    seconds = {"teach": 1.0, "train": 60.0, "score": 30.0, "select": 3.0, "evaluate": 26.0}
    runs = [read_run(save_run(tmp_path / str(seed), seed=seed, teacher=teacher, seconds=seconds)) for seed in range(3)]
    assert costs_table(learning_curves(runs)) == [
        ["strategy", "runs", "rounds", "training, s", "selection, s", "evaluation, s", "teacher, s", "minutes in all",
         "requests", "tokens", "cost"],
        ["xal", "3", "2", "60.0", "33.0", "26.0", "1.0", "4.0", "12", "3,000", "0.2500"],
    ]  # fmt: skip


def test_runs_without_times_and_bills_have_no_such_section(tmp_path: Path) -> None:
    assert costs_section(Study.of([read_run(save_run(tmp_path / "a"))])) is None
