import base64
import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from service.model.errors import InputError
from tests.training.saved_runs import save_experiment, save_run
from training.report import report


class Page(HTMLParser):
    """What a browser would find: the tags, what they point at, the headings."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.targets: list[str] = []
        self.headings: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.targets += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.tags and self.tags[-1] == "h2" and data.strip():
            self.headings.append(data)


def test_a_report_is_a_picture_and_a_page_that_needs_nothing_else(tmp_path: Path) -> None:
    shown = report(
        [save_run(tmp_path / "x", strategy="xal"), save_run(tmp_path / "r", strategy="random")],
        tmp_path / "new" / "report",
    )
    assert sorted(os.listdir(tmp_path / "new" / "report")) == [
        "comparisons.png",
        "learning_curve.png",
        "report.html",
    ]
    html = (tmp_path / "new" / "report" / "report.html").read_text(encoding="utf-8")
    page = Page(html)
    pictures = [target for target in page.targets if not target.startswith("#")]
    files = [(tmp_path / "new" / "report" / name).read_bytes() for name in ("learning_curve.png", "comparisons.png")]
    assert [base64.b64decode(source.removeprefix("data:image/png;base64,")) for source in pictures] == files
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert "url(" not in html
    assert "http" not in html.replace("http-equiv", "")
    assert "macro-F1 on 600 test texts" in shown
    assert "\nxal          1      32     0.600" in shown
    assert "macro-F1 at 32 labels, difference in pairs of runs:" in shown
    assert shown.splitlines()[-1].split(maxsplit=4) == ["xal", "random", "1", "+0.000", "too few pairs to show one"]


EVERYTHING = [
    "Learning curves",
    "Strategies",
    "Comparisons",
    "Labels to target",
    "Beside the paper",
    "LLM as the classifier",
    "Ablation",
    "Sensitivity",
    "Explanations",
    "Selection maps",
    "Redundancy of the selected batches",
    "Time and cost",
    "Runs",
]


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The report of an experiment with something of everything, and what it says in a terminal."""
    directory = tmp_path_factory.mktemp("experiment")
    return directory / "out", report([save_experiment(directory / "grid")], directory / "out")


def test_a_report_on_everything_has_all_sections_and_pictures(experiment: tuple[Path, str]) -> None:
    output, shown = experiment
    page = Page((output / "report.html").read_text(encoding="utf-8"))
    assert page.headings == EVERYTHING
    files = sorted(path.name for path in output.glob("*.png"))
    assert files == sorted([
        "learning_curve.png", "learning_curves_one_by_one.png", "comparisons.png", "labels_to_target.png",
        "sensitivity.png", "selection_maps.png", "redundancy.png",
    ])  # fmt: skip
    assert page.tags.count("img") == len(files)
    assert [target for target in page.targets if target.startswith("#")] == [f"#s{n}" for n in range(len(EVERYTHING))]
    assert "not-started: no round is finished yet; left out." in page.text
    assert "not-started: no round is finished yet; left out." in shown


def test_the_terminal_tells_of_comparisons(experiment: tuple[Path, str]) -> None:
    _, shown = experiment
    lines = shown[shown.index("macro-F1 at 300 labels") :].splitlines()
    (line,) = [line for line in lines[:12] if "xal-no-rank " in line and "random" not in line]
    assert line.split()[-6:] == ["+0.020", "+0.020", "to", "+0.020", "0.031", "better"]


def test_runs_that_hold_the_minimum_get_a_report_without_empty_sections(tmp_path: Path) -> None:
    for name, strategy in (("a", "xal"), ("b", "random")):
        directory = tmp_path / name
        directory.mkdir()
        (directory / "config.yaml").write_text(f"strategy: {strategy}\ntask: {{name: t}}\n")
        rounds = [{"n_labeled": 10, "macro_f1": 0.5, "accuracy": 0}, {"n_labeled": 20, "macro_f1": 1, "accuracy": 1}]
        (directory / "metrics.json").write_text(json.dumps(rounds))
    report([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    page = Page((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    assert page.headings == ["Learning curves", "Strategies", "Comparisons", "Runs"]
    report([tmp_path / "a"], tmp_path / "out")
    page = Page((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    assert page.headings == ["Learning curves", "Strategies", "Runs"]
    assert sorted(os.listdir(tmp_path / "out")) == ["learning_curve.png", "report.html"]  # the old comparisons are gone


NONSENSE = [None, "text", 3, [], {}, ["text"], {"text": "text"}, {"most": "text", "ranking": [1], "value": None}]


@pytest.mark.parametrize("nonsense", NONSENSE, ids=str)
def test_a_key_that_holds_something_else_costs_its_section_alone(tmp_path: Path, nonsense: object) -> None:
    keys = ["seconds", "teacher", "selection", "prefilter", "dev", "per_class_f1", "calibration_error", "explanations",
            "explanation_examples", "redundancy", "unparsable", "round", "silver"]  # fmt: skip
    for strategy in ("xal", "random", "llm-silver", "upper-bound"):
        directory = save_run(
            tmp_path / "grid" / strategy, strategy=strategy, settings={"until": nonsense, "trainer": nonsense}
        )
        rounds = json.loads((directory / "metrics.json").read_text())
        (directory / "metrics.json").write_text(
            json.dumps([{**entry, **dict.fromkeys(keys, nonsense)} for entry in rounds])
        )
        (directory / "rounds" / "00").mkdir(parents=True)
        (directory / "rounds" / "00" / "map.npz").write_bytes(b"text")
    report([tmp_path / "grid"], tmp_path / "out")
    assert "Learning curves" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_references_alone_have_a_table_and_no_curve(tmp_path: Path) -> None:
    shown = report([save_run(tmp_path / "llm", strategy="llm-zero-shot", points={0: 0.6})], tmp_path / "out")
    assert os.listdir(tmp_path / "out") == ["report.html"]
    assert shown.splitlines()[-1].split()[:4] == ["llm-zero-shot", "1", "0", "0.600"]


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not on PATH")
def test_a_browser_shows_the_page_and_the_page_asks_for_nothing(experiment: tuple[Path, str], tmp_path: Path) -> None:
    dom, requests = opened(experiment[0] / "report.html", tmp_path)
    page = Page(dom)
    assert page.headings == EVERYTHING
    assert page.tags.count("img") == 7
    assert requests == 0
    (tmp_path / "other.html").write_text('<img src="http://example.invalid/a.png">')
    assert opened(tmp_path / "other.html", tmp_path)[1] >= 1  # so requests are seen


def opened(page: Path, directory: Path) -> tuple[str, int]:
    """The document as Chromium, which reaches no network, has read it, and how many requests the page made."""
    log = directory / "net.json"
    arguments = [
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
        "--disable-background-networking", "--disable-component-update", "--host-resolver-rules=MAP * ~NOTFOUND",
        f"--user-data-dir={directory / 'profile'}", f"--log-net-log={log}", "--dump-dom", page.as_uri(),
    ]  # fmt: skip
    done = subprocess.run([str(CHROMIUM), *arguments], capture_output=True, text=True, timeout=120, check=True)
    # What the browser wants for itself has no origin.
    return done.stdout, len(re.findall(r'"initiator":"(?!not an origin)', log.read_text(encoding="utf-8")))


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


def test_a_path_that_is_not_utf_8_is_shown_as_far_as_it_goes(tmp_path: Path) -> None:
    grid = tmp_path / os.fsdecode(b"caf\xe9")
    begun = save_run(grid / "begun")
    (begun / "metrics.json").write_text("[]")
    save_run(grid / "finished")
    shown = report([grid], tmp_path / "out")
    assert "caf?/begun: no round is finished yet" in shown
    assert "caf?/finished" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


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
