from pathlib import Path
from typing import Any

import pytest

from training.reporting.compared import columns, comparison_text, comparisons, comparisons_section, contests
from training.reporting.study import Study
from training.runs import Run, learning_curves

PAIRS = [(initial_set, seed) for initial_set in range(3) for seed in range(2)]


def run(strategy: str, initial_set: int, seed: int, *f1: float, **config: Any) -> Run:
    rounds = [{"n_labeled": 100 * (n + 1), "macro_f1": value, "accuracy": value} for n, value in enumerate(f1)]
    content = {"strategy": strategy, "initial_set": initial_set, "seed": seed, "task": {"name": "t"}, **config}
    return Run(Path(f"{strategy}-{initial_set}-{seed}-{config}"), content, rounds)


def test_differences_are_those_of_runs_with_the_same_initial_set_and_seed() -> None:
    runs = [run("random", k, s, 0.5, 0.5 + 0.1 * k) for k, s in PAIRS]
    runs += [run("xal", k, s, 0.5, 0.52 + 0.1 * k + 0.001 * s) for k, s in PAIRS]
    ((last, area),) = comparisons(Study.of(runs))
    assert (last.name, last.measure) == ("xal against random", "macro-F1 at 200 labels")
    assert last.difference.mean == pytest.approx(0.0205)
    assert last.difference.n == 6
    assert last.difference.verdict == "better"  # though the spread over initial sets is ten times as large
    assert area.difference.mean == pytest.approx(0.01025)  # the first round is the same


def test_runs_without_a_partner_do_not_count_and_repeated_ones_count_once() -> None:
    runs = [
        run("xal", 0, 0, 0.6),
        run("xal", 0, 0, 0.8, device="cuda"),
        run("xal", 1, 0, 0.9),
        run("random", 0, 0, 0.5),
    ]
    ((last,),) = comparisons(Study.of(runs))
    assert last.difference.n == 1
    assert last.difference.mean == pytest.approx(0.2)


def test_only_the_labels_that_all_paired_runs_share_are_compared() -> None:
    ((last, area),) = comparisons(Study.of([run("xal", 0, 0, 0.5, 0.7, 0.9), run("random", 0, 0, 0.5, 0.5)]))
    assert last.measure == "macro-F1 at 200 labels"
    assert last.difference.mean == pytest.approx(0.2)
    assert area.difference.mean == pytest.approx(0.1)


def test_xal_meets_everyone_and_everyone_meets_random() -> None:
    def pairs(*strategies: str) -> list[tuple[str, str]]:
        curves = learning_curves([run(strategy, 0, 0, 0.5) for strategy in strategies])
        return [(first.label, second.label) for first, second in contests(curves)]

    assert pairs("random", "entropy", "xal") == [("xal", "random"), ("xal", "entropy"), ("entropy", "random")]
    assert pairs("entropy", "xal", "bald") == [("xal", "entropy"), ("xal", "bald")]
    assert pairs("entropy", "random") == [("entropy", "random")]
    assert pairs("entropy", "bald", "cal") == [("bald", "entropy"), ("cal", "entropy")]
    assert pairs("xal") == []


def test_other_settings_are_not_compared() -> None:
    runs = [run("xal", 0, 0, 0.5, model="large"), run("random", 0, 0, 0.5, model="small")]
    assert comparisons(Study.of(runs)) == []
    assert comparisons_section(Study.of(runs)) is None
    assert comparison_text(Study.of(runs)) == ""


def test_runs_that_never_reach_the_target_are_cut_off_where_the_first_of_them_ends() -> None:
    until = {"until": {"target": 0.6}}
    runs = [
        run("xal", 0, 0, 0.5, 0.7, **until),
        run("xal", 1, 0, 0.6, 0.7, **until),
        run("xal", 2, 0, 0.5, 0.5, 0.7, **until),
    ]
    runs += [run("random", 0, 0, 0.5, 0.55, **until), run("random", 1, 0, 0.5, 0.5, 0.5, **until)]
    runs += [run("random", 2, 0, 0.4, 0.8, **until)]
    ((_, _, labels),) = comparisons(Study.of(runs))
    # xal needs 150, 100 and 250 labels, random more than 200, more than 300, and 150: all end at 200.
    assert labels.difference.mean == pytest.approx(((150 - 200) + (100 - 200) + (200 - 150)) / 3)
    assert labels.missed == (0, 2)
    assert "0 / 2" in comparison_text(Study.of(runs))


def test_fewer_labels_are_better() -> None:
    until = {"until": {"target": 0.6}}
    runs = [run("xal", k, s, 0.5, 0.7, 0.7, **until) for k, s in PAIRS]
    runs += [run("random", k, s, 0.5, 0.55, 0.7, **until) for k, s in PAIRS]
    ((_, _, labels),) = comparisons(Study.of(runs))
    assert labels.difference.verdict == "better"
    assert labels.difference.mean == pytest.approx(150 - (200 + 100 / 3))


def test_every_column_of_the_picture_has_one_kind_of_measure() -> None:
    until = {"until": {"target": 0.55}}
    runs = [run("xal", 0, 0, 0.5, 0.6, **until), run("entropy", 0, 0, 0.4, 0.5, **until)]
    runs += [run("random", 0, 0, 0.4, **until)]
    found = comparisons(Study.of(runs))
    assert [group[0].name for group in found] == ["xal against entropy", "xal against random", "entropy against random"]
    shown = columns(found)
    assert list(shown) == ["macro-F1 at the shared end", "area under the curve", "labels to target"]
    assert [list(rows) for rows in shown.values()] == [[0, 1, 2], [0], [0, 1, 2]]
    for name, rows in shown.items():
        assert all(one.measure == name or one.measure.startswith("macro-F1 at ") for one in rows.values())
    assert list(columns(found[1:])) == ["macro-F1 at 100 labels", "labels to target"]


def test_what_the_page_says_of_method_and_limits() -> None:
    section = comparisons_section(Study.of([run("xal", 0, 0, 0.6), run("random", 0, 0, 0.5)]))
    assert section is not None
    note, picture, grid = section.parts
    assert "not corrected for the number of comparisons" in note.text  # type: ignore[union-attr]
    assert picture.png.startswith(b"\x89PNG")  # type: ignore[union-attr]
    assert grid.rows == [  # type: ignore[union-attr]
        ["strategy", "against", "pairs", "difference", "verdict"],
        ["xal", "random", "1", "+0.100", "too few pairs to show one"],
    ]
