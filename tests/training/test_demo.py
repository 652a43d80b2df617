"""The demo to its end, as a newcomer runs it: real reviews, the real offline backbone, the real service."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

XAL = Path(sys.executable).with_name("xal")


def form(line: str) -> str:
    """A printed line without its numbers, version and texts."""
    if line.startswith('  {"id"'):
        return str(list(json.loads(line)))
    return re.sub(r"version \w+|-?\d+(\.\d+)?", "#", line)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_demo_goes_the_whole_way_and_prints_where_to_look(tmp_path: Path) -> None:
    done = subprocess.run([str(XAL), "demo", "--output", str(tmp_path / "demo")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = done.stdout
    for strategy in ("xal", "random"):
        rounds = json.loads((tmp_path / "demo" / strategy / "metrics.json").read_text())
        assert [entry["n_labeled"] for entry in rounds] == [16, 32, 48]
        assert all(f"{entry['n_labeled']} labels, test macro-F1 {entry['macro_f1']:.3f}" in said for entry in rounds)
        assert rounds[-1]["macro_f1"] > 0.35  # three classes: guessing gives a third, and always the same one a sixth
    assert len(re.findall(r"explanation score -.* of the next 16 texts are not entropy's choice", said)) == 3
    assert (tmp_path / "demo" / "report" / "learning_curve.png").read_bytes().startswith(b"\x89PNG")
    assert "labeled texts" in said  # the curve's axis
    answers = [json.loads(line) for line in said.splitlines() if line.startswith('  {"id"')]
    assert len(answers) == 4
    assert {"acquisition_score", "rank", "explanation", "label"} <= answers[3].keys()
    manifest = json.loads((tmp_path / "demo" / "model" / "manifest.json").read_text())
    assert manifest["model_version"] in said
    assert "xal serve --model" in said
    # The README shows such an output: the same lines, whatever the numbers and the model's words are.
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    shown = readme.partition("```text\n")[2].partition("```")[0].replace("build/demo", str(tmp_path / "demo"))
    assert {form(line) for line in shown.splitlines()} <= {form(line) for line in said.splitlines()}
    # Started again, it repeats no round.
    before = (tmp_path / "demo" / "xal" / "metrics.json").read_bytes()
    again = subprocess.run(
        [str(XAL), "demo", "--output", str(tmp_path / "demo")], capture_output=True, text=True, env={**os.environ}
    )
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "demo" / "xal" / "metrics.json").read_bytes() == before
