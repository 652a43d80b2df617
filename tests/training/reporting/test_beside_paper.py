from pathlib import Path
from typing import Any

import pytest

from tests.training.saved_runs import save_run
from training.reporting.beside_paper import PAPER, paper_section, paper_task, published
from training.reporting.study import Study
from training.runs import read_run
from training.trainer import TrainerConfig


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("rte", "rte"), ("MAMS", "mams"), ("mams-acsa", "mams"), ("CLEF (small)", "clef"), ("Covid-19", "covid19"),
        ("covid19_stance", "covid19"), ("deba.2", "deba"), ("mrpc", "mrpc"), ("rtext", None), ("clef2019", "clef"),
        ("Covid 19", "covid19"), ("COVID_19", "covid19"), ("DEBAgreement", "deba"), ("CLEF 2017 TAR", "clef"),
        ("my-rte", None), ("stance-covid19", None), ("rte3", None), ("clef7", None), ("product-sentiment", None),
        ("covid", None), ("covid190", None), ("", None),
    ],
)  # fmt: skip
def test_the_papers_tasks_are_known_by_the_beginning_of_a_name(name: str, task: str | None) -> None:
    assert paper_task(name) == task


def test_the_papers_numbers_are_all_there() -> None:
    paper = published()
    assert paper["n_labeled"] == [100, 200, 300, 400, 500]
    assert sorted(paper["macro_f1"]) == ["clef", "covid19", "deba", "mams", "mrpc", "rte"]
    for columns in paper["macro_f1"].values():
        assert len(columns) == 10
        assert all(len(values) == 5 and all(40 < value < 90 for value in values) for values in columns.values())
    assert paper["macro_f1"]["rte"]["xal"] == [73.4, 78.22, 80.51, 81.5, 83.02]
    assert paper["macro_f1"]["clef"]["least-confidence"][-1] == 65.16
    assert paper["macro_f1"]["deba"]["bemps"][2] == 55.22
    assert paper["macro_f1"]["mams"]["entropy"][1] == 63.01


def test_ours_and_theirs_stand_below_each_other_where_both_have_a_number(tmp_path: Path) -> None:
    points, lower = {100: 0.7, 150: 0.72, 300: 0.8}, {100: 0.6, 150: 0.62, 300: 0.7}
    teacher = {"teacher": "gpt-x"}
    runs = [
        save_run(tmp_path / "a", task_name="RTE", points=points, settings=teacher),
        save_run(tmp_path / "b", task_name="RTE", points=lower, settings=teacher, seed=1),
        save_run(tmp_path / "c", task_name="RTE", points=points, strategy="xal-std"),
    ]
    section = paper_section(Study.of([read_run(directory) for directory in runs]))
    assert section is not None
    table, note = section.parts
    assert table.rows == [  # type: ignore[union-attr]
        ["strategy", "of", "100", "300"],
        ["xal", "2 runs", "0.650", "0.750"],
        ["", "the paper", "0.734", "0.805"],
    ]
    for said in ("FLAN-T5-large", "ChatGPT", "Here: minilm", "by gpt-x", "1 initial set x 2 seeds", "600 test texts"):
        assert said in note.text  # type: ignore[union-attr]


def said_of(*runs: Path) -> str:
    section = paper_section(Study.of([read_run(directory) for directory in runs]))
    assert section is not None
    return section.parts[-1].text  # type: ignore[union-attr]


def test_settings_that_are_not_the_papers_are_named(tmp_path: Path) -> None:
    theirs = {"query_size": 100, "initial": "random", "prefilter": None, "warm_start": False, "lambda": 0.5,
              "teacher": "gpt-x", "trainer": TrainerConfig().model_dump()}  # fmt: skip
    ours = {**theirs, "query_size": 50, "initial": "diverse", "prefilter": {"ratio": 4.0, "sample": 9}, "lambda": 0.9,
            "trainer": {**theirs["trainer"], "epochs": 6, "explanation_epochs": 3}}  # fmt: skip
    shared: dict[str, Any] = {"task_name": "rte", "points": {100: 0.5}}
    as_theirs = save_run(tmp_path / "a", **shared, settings=theirs)
    assert "not the paper's" not in said_of(as_theirs)
    said = said_of(as_theirs, save_run(tmp_path / "b", **shared, settings=ours))
    assert (
        "texts in the first set and in each round 50 (100), first set diverse (random), prefilter 4.0 (none), "
        "lambda 0.9 (0.5), epochs 6 (10), epochs with explanations 3 (all). "
    ) in said


def test_the_papers_training_is_the_trainers_own() -> None:
    of_trainer = {f"trainer.{name}": value for name, value in TrainerConfig().model_dump().items()}
    for name, (_, in_paper) in PAPER.items():
        if name.startswith("trainer."):
            assert of_trainer[name] is None or str(of_trainer[name]) == in_paper


def test_settings_that_a_run_from_labels_alone_never_read_are_not_named(tmp_path: Path) -> None:
    shared: dict[str, Any] = {"task_name": "rte", "points": {100: 0.5}, "strategy": "random"}
    settings = {"lambda": 0.9, "trainer": {"conditioning": "label"}}
    assert "conditioning" not in said_of(save_run(tmp_path / "a", **shared, settings={**settings, "teacher": None}))
    said = said_of(save_run(tmp_path / "b", **shared, settings={**settings, "teacher": "gpt-x"}))
    assert "conditioning label (none)" in said
    assert "Learned from explanations here, from labels alone in the paper: random. " in said


def test_other_tasks_and_other_numbers_of_labels_have_no_such_section(tmp_path: Path) -> None:
    assert paper_section(Study.of([read_run(save_run(tmp_path / "a", points={100: 0.5}))])) is None
    assert paper_section(Study.of([read_run(save_run(tmp_path / "b", task_name="rte", points={16: 0.5}))])) is None


def explained(value: float) -> dict[str, Any]:
    return {"explanations": {"texts": 60, "ranking": {"value": value, "standard_error": 0.05}}}


def grids_of(*runs: Path) -> dict[str, list[list[str]]]:
    """The first words of a table's title -> its rows."""
    section = paper_section(Study.of([read_run(directory) for directory in runs]))
    return {grid.title.partition(",")[0]: grid.rows for grid in section.parts[:-1]} if section else {}  # type: ignore[union-attr]


def test_ranking_accuracy_stands_beside_the_papers_with_and_without_the_ranking_loss(tmp_path: Path) -> None:
    shared: dict[str, Any] = {"task_name": "mams", "points": {50: 0.5}}
    runs = [
        save_run(tmp_path / "a", **shared, **explained(0.6)),
        save_run(tmp_path / "b", **shared, **explained(0.7), seed=1),
        save_run(tmp_path / "c", **shared, **explained(0.55), strategy="xal-no-rank"),
        save_run(tmp_path / "d", **shared, **explained(0.58), strategy="me-exp"),  # the paper has no number of it
    ]
    assert grids_of(*runs) == {
        "Ranking accuracy": [
            ["strategy", "of", "ranking accuracy"],
            ["xal", "2 runs", "0.650"],
            ["", "the paper", "0.686"],
            ["xal-no-rank", "1 run", "0.550"],
            ["", "the paper", "0.620"],
        ]
    }


@pytest.mark.parametrize(("share", "shown"), [(0.9, True), (0.8, False)])
def test_labels_to_the_papers_target_stand_beside_its_own(tmp_path: Path, share: float, shown: bool) -> None:
    until = {"until": {"share": share, "upper_bound": 0.8, "target": 0.7}}
    explains = {"settings": {**until, "teacher": "gpt-x"}}
    labels_alone = {"settings": {**until, "teacher": None}}
    runs = [
        save_run(tmp_path / "a", task_name="RTE", points={50: 0.6, 150: 0.8}, **explains),
        save_run(tmp_path / "b", task_name="RTE", points={50: 0.6, 150: 0.7}, strategy="entropy", **labels_alone),
        save_run(tmp_path / "c", task_name="RTE", points={50: 0.6, 150: 0.65}, strategy="random", **labels_alone),
        save_run(tmp_path / "d", task_name="RTE", points={50: 0.8}, strategy="badge", **explains),  # not the paper's
    ]
    expected = [
        ["strategy", "of", "labels"],
        ["xal", "1 run", "100"],
        ["", "the paper", "133"],
        ["best baseline: entropy", "1 run", "150"],
        ["", "the paper", "256"],
    ]
    found = grids_of(*runs)
    assert [rows for title, rows in found.items() if title.startswith("Labels")] == ([expected] if shown else [])


def test_a_target_that_nobody_reaches_is_said_to_be_so(tmp_path: Path) -> None:
    until = {"until": {"share": 0.9, "upper_bound": 0.8, "target": 0.7}}
    shared: dict[str, Any] = {"task_name": "deba", "points": {50: 0.6, 150: 0.65}}
    runs = [
        save_run(tmp_path / "a", **shared, settings=until),
        save_run(tmp_path / "b", **shared, strategy="random", settings={**until, "teacher": None}),
    ]
    assert [
        ["xal", "1 run", "not reached"],
        ["", "the paper", "461"],
        ["best baseline", "1 run", "not reached"],
        ["", "the paper", "517"],
    ] in [rows[1:] for rows in grids_of(*runs).values()]
