from pathlib import Path

import pytest

from tests.training.saved_runs import save_run
from training.reporting.beside_paper import paper_section, paper_task, table7
from training.reporting.study import Study
from training.runs import read_run


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("rte", "rte"), ("MAMS", "mams"), ("mams-acsa", "mams"), ("CLEF (small)", "clef"), ("Covid-19", "covid19"),
        ("covid19_stance", "covid19"), ("deba.2", "deba"), ("mrpc", "mrpc"), ("rtext", None), ("clef2019", None),
        ("my-rte", None), ("product-sentiment", None), ("covid", None), ("", None),
    ],
)  # fmt: skip
def test_the_papers_tasks_are_known_by_the_beginning_of_a_name(name: str, task: str | None) -> None:
    assert paper_task(name) == task


def test_the_papers_numbers_are_all_there() -> None:
    paper = table7()
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


def test_other_tasks_and_other_numbers_of_labels_have_no_such_section(tmp_path: Path) -> None:
    assert paper_section(Study.of([read_run(save_run(tmp_path / "a", points={100: 0.5}))])) is None
    assert paper_section(Study.of([read_run(save_run(tmp_path / "b", task_name="rte", points={16: 0.5}))])) is None
