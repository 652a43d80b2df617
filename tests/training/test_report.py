import base64
import json
import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from service.model.errors import InputError
from tests.training.saved_runs import save_run
from training.report import report, rounds_tables, summary_table, text_table
from training.runs import learning_curves, read_run


class Page(HTMLParser):
    """What a browser would find: the tags, what they point at, the cells of the tables."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.targets: list[str] = []
        self.cells: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.targets += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.tags and self.tags[-1] == "td":
            self.cells.append(data.strip())


def test_a_report_is_a_picture_and_a_page_that_needs_nothing_else(tmp_path: Path) -> None:
    shown = report(
        [save_run(tmp_path / "x", strategy="xal"), save_run(tmp_path / "r", strategy="random")],
        tmp_path / "new" / "report",
    )
    assert sorted(os.listdir(tmp_path / "new" / "report")) == ["learning_curve.png", "report.html"]
    html = (tmp_path / "new" / "report" / "report.html").read_text(encoding="utf-8")
    page = Page(html)
    (source,) = page.targets
    assert source.startswith("data:image/png;base64,")
    picture = (tmp_path / "new" / "report" / "learning_curve.png").read_bytes()
    assert base64.b64decode(source.split(",")[1]) == picture
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert "url(" not in html
    assert "http" not in html.replace("http-equiv", "")
    assert "macro-F1 on 600 test texts" in shown
    assert shown.splitlines()[-2].startswith("xal")


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


def test_names_are_escaped(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>&amp;"
    directory = save_run(
        tmp_path / "a<b>", strategy=evil, task_name=evil, model='"><img src=x>', per_class_f1={evil: 0.5}
    )
    report([directory], tmp_path / "out")
    page = Page((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    assert "script" not in page.tags
    assert page.tags.count("img") == 1
    assert page.text.count(evil) >= 4
    assert "a<b>" in page.text


def test_runs_on_other_data_come_with_a_warning(tmp_path: Path) -> None:
    one, two = (
        save_run(tmp_path / "a", strategy="xal"),
        save_run(tmp_path / "b", strategy="random", data={"file": "x", "sha256": "other"}),
    )
    assert "do not share their data" in report([one, two], tmp_path / "out")
    assert "do not share their data" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "do not share their data" not in report([one], tmp_path / "out")


def test_a_wrong_run_leaves_the_old_report_as_it_was(tmp_path: Path) -> None:
    good = save_run(tmp_path / "a")
    report([good], tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    broken = save_run(tmp_path / "b")
    (broken / "metrics.json").write_text("[")
    with pytest.raises(InputError, match=r"b/metrics\.json: broken"):
        report([good, broken], tmp_path / "out")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    with pytest.raises(InputError, match="at least one run directory"):
        report([], tmp_path / "never")
    assert not (tmp_path / "never").exists()


def test_an_output_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(InputError, match="out: cannot write the report"):
        report([save_run(tmp_path / "a")], tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"


def test_a_text_table_is_aligned() -> None:
    assert text_table([["name", "n"], ["a", "10"], ["longer", ""]]).splitlines() == [
        "name     n",
        "------  --",
        "a       10",
        "longer",
    ]


def test_reports_touch_no_global_state_of_matplotlib(tmp_path: Path) -> None:
    program = (
        "import sys, json; from training.report import report; before = 'matplotlib' in sys.modules; "
        "report(sys.argv[1:2], sys.argv[2]); print(json.dumps([before, 'matplotlib.pyplot' in sys.modules]))"
    )
    finished = subprocess.run(
        [sys.executable, "-c", program, str(save_run(tmp_path / "a")), str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1", "DISPLAY": ""},
    )
    assert json.loads(finished.stdout) == [False, False]
