from pathlib import Path
from typing import Any

from tests.training.saved_runs import save_run
from training.reporting.costs import costs_section, costs_table
from training.reporting.study import Study
from training.runs import Run, learning_curves, read_run


def run(*rounds: dict[str, Any], strategy: str = "xal") -> Run:
    entries = [{"n_labeled": 10 * (n + 1), "macro_f1": 0.5, "accuracy": 0.5, **entry} for n, entry in enumerate(rounds)]
    return Run(Path(strategy), {"strategy": strategy, "task": {"name": "t"}}, entries)


def shown(*rounds: dict[str, Any]) -> dict[str, str]:
    header, row = costs_table(learning_curves([run(*rounds)]))
    return dict(zip(header, row, strict=True))


def test_seconds_are_of_a_round_and_bills_of_a_run(tmp_path: Path) -> None:
    teacher = {"requests": 6, "cached": 0, "prompt_tokens": 1000, "completion_tokens": 500, "cost": 0.125}
    seconds = {"teach": 1.0, "train": 60.0, "score": 30.0, "select": 3.0, "evaluate": 26.0}
    runs = [read_run(save_run(tmp_path / str(seed), seed=seed, teacher=teacher, seconds=seconds)) for seed in range(3)]
    assert costs_table(learning_curves(runs)) == [
        ["strategy", "runs", "rounds", "training, s", "selection, s", "evaluation, s", "teacher, s", "minutes in all",
         "requests", "tokens", "cost"],
        ["xal", "3", "2", "60.0", "33.0", "26.0", "1.0", "4.0", "12", "3,000", "0.2500"],
    ]  # fmt: skip


def test_the_last_round_which_selects_nothing_does_not_make_selection_cheaper() -> None:
    selecting = {"seconds": {"train": 60.0, "score": 30.0, "select": 3.0}}
    last = {"seconds": {"train": 90.0, "score": 0.0, "select": 0.0}}
    found = shown(selecting, selecting, last)
    assert (found["rounds"], found["training, s"], found["selection, s"]) == ("3", "70.0", "33.0")


def test_a_choice_that_took_no_time_counts_as_one() -> None:
    def round_of(seconds: float, queried: list[str]) -> dict[str, Any]:
        return {"seconds": {"select": seconds}, "queried_ids": queried}

    assert shown(round_of(1.0, ["a"]), round_of(0.0, ["b"]), round_of(0.0, []))["selection, s"] == "0.5"


def test_seconds_that_would_show_as_none_are_left_out() -> None:
    assert "teacher, s" not in shown({"seconds": {"train": 1.0, "teach": 0.004}})


def test_runs_without_times_and_bills_have_no_such_section(tmp_path: Path) -> None:
    assert costs_section(Study.of([read_run(save_run(tmp_path / "a"))])) is None
