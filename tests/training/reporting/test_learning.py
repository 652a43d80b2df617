from pathlib import Path

from tests.training.saved_runs import save_run
from training.reporting.learning import class_table, levels, rounds_tables, summary_table
from training.reporting.study import Study
from training.runs import learning_curves, read_run


def test_the_summary_holds_means_extremes_areas_and_sums(tmp_path: Path) -> None:
    teacher = {"requests": 6, "cached": 0, "prompt_tokens": 1000, "completion_tokens": 500, "cost": 0.125}
    seconds = {"train": 60.0, "score": 30.0}
    runs = [
        save_run(tmp_path / "a", strategy="xal", seed=0, points={16: 0.5, 32: 0.6}, teacher=teacher, seconds=seconds),
        save_run(tmp_path / "b", strategy="xal", seed=1, points={16: 0.3, 32: 0.7}, teacher=teacher, seconds=seconds),
        save_run(tmp_path / "c", strategy="random", points={16: 0.4}),
    ]
    table = summary_table(learning_curves([read_run(directory) for directory in runs]))
    assert dict(zip(table[0], table[1], strict=True)) == {
        "strategy": "xal",
        "runs": "2",
        "labels": "32",
        "macro-F1": "0.650",
        "lowest-highest": "0.600-0.700",
        "accuracy": "0.750",  # accuracies stand 0.1 above macro-F1 in these runs
        "mean over curve": "0.525",  # of 0.55 and 0.50
        "minutes": "6.0",  # 2 runs of 2 rounds of 90 seconds
        "teacher tokens": "6,000",
        "cost": "0.5000",
    }
    assert table[2] == ["random", "1", "16", "0.400", "", "0.500", "0.400", "", "", ""]


def test_columns_that_no_run_fills_are_left_out(tmp_path: Path) -> None:
    run = read_run(save_run(tmp_path / "a", strategy="random", points={16: 0.4}))
    assert summary_table(learning_curves([run]))[0] == [
        "strategy", "runs", "labels", "macro-F1", "accuracy", "mean over curve",
    ]  # fmt: skip
    assert [table[0] for table in rounds_tables(run).values()] == [
        ["labels", "macro-F1", "accuracy"],
        ["labels"],
        ["labels"],
    ]


def test_the_rounds_of_a_run_are_shown_in_full(tmp_path: Path) -> None:
    selection = {"explanation_score": {"std": 0.21}, "entropy": {"std": 0.3}, "correlation": None,
                 "explanation_share": -0.01, "explanation_share_in_paper": 0.25,
                 "overlap_with_entropy": 0.9375, "overlap_with_random": 0.08}  # fmt: skip
    teacher = {"requests": 48, "cached": 12, "prompt_tokens": 9000, "completion_tokens": 1000, "cost": 0.0}
    directory = save_run(
        tmp_path / "a",
        points={16: 0.4},
        seconds={"teach": 1.5, "train": 1234.56, "select": 0.0},
        teacher=teacher,
        selection=selection,
        prefilter={"explained": 300, "of": 1700, "kept_share": 0.97},
        dev={"macro_f1": 0.41, "accuracy": 0.5},
        per_class_f1={"negative": 0.8, "neutral": 0.0},
    )
    metrics, bill, choice = rounds_tables(read_run(directory)).values()
    assert metrics[0][3:] == ["dev macro-F1", "dev accuracy", "F1 negative", "F1 neutral"]
    assert metrics[1] == ["16", "0.400", "0.500", "0.410", "0.500", "0.800", "0.000"]
    assert bill == [
        ["labels", "teach", "train", "requests", "cached", "tokens"],
        ["16", "1.5", "1,234.6", "48", "12", "10,000"],
    ]
    assert choice[0][-3:] == ["explained", "of", "kept by the prefilter"]
    assert choice[1][-3:] == ["300", "1,700", "0.970"]
    assert choice[0][1:-3] == [
        "explanation score, std",
        "entropy, std",
        "explanation's share",
        "as in the paper",
        "overlap with entropy",
        "with random",
    ]
    assert choice[1][:-3] == ["16", "0.210", "0.300", "-0.010", "0.250", "0.938", "0.080"]


def test_shares_in_the_acquisition_score_are_shown_of_strategies_that_rank_by_it(tmp_path: Path) -> None:
    selection = {"entropy": {"std": 0.3}, "explanation_share": 0.25, "explanation_share_in_paper": 0.1}

    def columns(strategy: str, found: dict[str, object]) -> list[str]:
        run = read_run(save_run(tmp_path / f"{strategy}-{len(found)}", strategy=strategy, selection=found))
        return rounds_tables(run)["Selection"][0]

    assert columns("xal-std", selection) == ["labels", "entropy, std", "explanation's share", "as in the paper"]
    assert columns("xal-no-me", selection) == ["labels", "entropy, std"]
    assert columns("xal", {"entropy": {"std": 0.3}}) == ["labels", "entropy, std"]


def test_classes_and_calibration_are_means_over_the_runs_at_the_last_shared_point(tmp_path: Path) -> None:
    entries = [(0.1, {"a": 0.2, "b": 0.8}), (0.3, {"a": 0.4})]
    runs = [
        read_run(save_run(tmp_path / str(seed), seed=seed, calibration_error=error, per_class_f1=classes))
        for seed, (error, classes) in enumerate(entries)
    ]
    (curve,) = learning_curves(runs)
    assert class_table([curve]) == [["strategy", "F1 a", "F1 b"], ["xal", "0.300", "0.800"]]
    header, row = summary_table([curve])
    assert row[header.index("calibration error")] == "0.200"


def test_a_class_may_be_called_as_a_column_is(tmp_path: Path) -> None:
    run = read_run(save_run(tmp_path / "a", per_class_f1={"strategy": 0.5, "labels": 0.25}))
    assert class_table(learning_curves([run])) == [["strategy", "F1 strategy", "F1 labels"], ["xal", "0.500", "0.250"]]


def test_levels_are_the_references_and_the_target(tmp_path: Path) -> None:
    runs = [save_run(tmp_path / "a"), save_run(tmp_path / "b", strategy="llm-zero-shot", points={0: 0.5})]
    runs += [
        save_run(tmp_path / f"u{n}", strategy="upper-bound", points={900: f1}, seed=n) for n, f1 in ((0, 0.7), (1, 0.8))
    ]
    found = levels(Study.of([read_run(directory) for directory in runs]))
    assert [(level.name, round(level.value, 4)) for level in found] == [
        ("llm-zero-shot (1 run)", 0.5),
        ("upper-bound (2 runs)", 0.75),
        ("target", 0.675),
    ]
