"""Agreement with people's votes is measured on texts that no model has seen, with the product's own way to a score."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import acceptability, evidence_data
from benchmarks.acceptability import MARK, NOT_RANKED, OVERLAP, RANKED, SHORTER, compare, main, render, unseen
from benchmarks.agreement import JudgedText, agreement, read_judged
from benchmarks.evidence_data import EXAMPLES
from benchmarks.results import read_cells
from benchmarks.tables import END
from service.model.decoding import score_explanations
from service.model.task import Task
from training.backbones import Backbone
from training.data import Example
from training.trainer import TrainerConfig, fit

TASK = Task.from_yaml(EXAMPLES / "e-snli" / "task.yaml")
LABELS = TASK.label_ids
CONFIG = TrainerConfig(epochs=1, batch_size=4, learning_rate=1e-3, lambda2=0.1)


def esnli_rows(premises: int) -> list[dict[str, Any]]:
    return [
        {
            "id": f"{split}-{number}",
            "sentence1": f"The camera {number} of {split} is great.",
            "sentence2": f"It takes {number} pictures.",
            "label": LABELS[number % 3],
            "split": split,
            "explanations": {label: f"The pictures are {label}, number {number}." for label in LABELS},
        }
        for split in ("train", "test")
        for number in range(premises)
    ]


def judged_rows(count: int) -> list[dict[str, Any]]:
    """Three explanations each; the premise of the first stands in e-SNLI's rows, in other letters."""
    return [
        {
            "sentence1": "the CAMERA 0  of train is great." if number == 0 else f"A phone rings {number} times.",
            "sentence2": "It is loud.",
            "label": ("TRUE", "FALSE", "neither")[number % 3],
            "explanations": [
                {"text": f"A phone that rings {number} times is loud.", "votes": 3, "n_annotators": 3},
                {"text": "Good price.", "votes": number % 3, "n_annotators": 3},
                {"text": "So it is, and so on and on.", "votes": 0, "n_annotators": 3},
            ],
        }
        for number in range(count)
    ]


def write(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def judged(tmp_path: Path) -> list[JudgedText]:
    return read_judged(write(tmp_path / "votes.jsonl", judged_rows(7)))


@pytest.fixture
def labeled() -> list[Example]:
    fields = ("sentence1", "sentence2")
    rows = [row for row in esnli_rows(6) if row["split"] == "train"]
    return [Example(row["id"], {name: row[name] for name in fields}, row["label"], "train") for row in rows]


@pytest.fixture
def explanations() -> dict[str, dict[str, str]]:
    return {row["id"]: row["explanations"] for row in esnli_rows(6)}


def test_premises_that_are_trained_on_are_left_out_whatever_their_letters(
    judged: list[JudgedText], labeled: list[Example]
) -> None:
    assert unseen(judged, labeled) == judged[1:]
    assert unseen(judged, labeled[1:]) == judged


def test_both_models_and_what_needs_none_are_measured_beside_each_other(
    judged: list[JudgedText],
    labeled: list[Example],
    explanations: dict[str, dict[str, str]],
    backbone_dir: Callable[[str], Path],
) -> None:
    source = str(backbone_dir("t5"))
    kept = judged[1:]
    found = compare(
        kept, labeled, explanations, backbone=Backbone("t5", source), trainer=CONFIG, seed=3, device="cpu",
        progress=False,
    )  # fmt: skip
    assert found["texts"] == 6
    assert list(found["scores"]) == [SHORTER, OVERLAP, RANKED, NOT_RANKED]
    for name, lambda2 in ((RANKED, 0.1), (NOT_RANKED, 0.0)):
        # The same model by hand: trained without a word of the benchmark's, each text scored by itself.
        network, encoder = fit(
            labeled,
            explanations,
            task=TASK,
            source=source,
            config=CONFIG.model_copy(update={"lambda2": lambda2}),
            seed=3,
            device=torch.device("cpu"),
            progress=False,
        )
        scores, right = [], []
        for text in kept:
            with torch.inference_mode():
                memory = network.encode(encoder.inputs([encoder.encode_fields(text.fields)]))
                tokens = [encoder.encode_explanation(explanation) for explanation in text.explanations]
                right.append(LABELS[int(network.classify(memory).argmax())] == text.label)
                scores.append(score_explanations(network, memory, [0] * 3, tokens, None))
        expected = agreement(scores, kept)
        assert expected is not None
        own = found["scores"][name]
        assert own["all"]["pairwise"] == pytest.approx(expected.pairwise)
        assert own["all"]["standard_error"] == pytest.approx(expected.standard_error)
        assert found["accuracy"][name] == pytest.approx(sum(right) / 6)
        pairs = [own[part]["pairs"] if own[part] else 0 for part in ("where_right", "where_wrong")]
        assert sum(pairs) == expected.pairs == sum(part["pairs"] for part in own["by_label"].values())
        assert own["by_label"].keys() == set(LABELS)
    of_ours, of_shorter = (found["scores"][name]["all"]["pairwise"] for name in (RANKED, SHORTER))
    assert found["differences"][SHORTER][0] == pytest.approx(of_ours - of_shorter)
    assert set(found["differences"]) == {SHORTER, OVERLAP, NOT_RANKED}
    json.dumps(found, allow_nan=False)


def test_a_run_is_a_line_without_texts_and_a_table(
    tmp_path: Path,
    backbone_dir: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(evidence_data, "ESNLI_PARTS", {"train": 8, "dev": 2, "test": 3})
    monkeypatch.setenv("XAL_CACHE", str(tmp_path / "cache"))
    model, results, page = backbone_dir("t5"), tmp_path / "results.jsonl", tmp_path / "page.md"
    monkeypatch.setitem(acceptability.TRAINER, str(model), {"epochs": 1, "batch_size": 4})
    files = ["--esnli", str(write(tmp_path / "esnli.jsonl", esnli_rows(12)))]
    files += ["--acceptability", str(write(tmp_path / "votes.jsonl", judged_rows(9)))]
    common = ["--results", str(results), "--page", str(page)]
    assert main([*files, *common, "--labels", "8", "--items", "4", "--model", str(model), "--device", "cpu"]) == 0
    line = results.read_text()
    [cell] = read_cells(results)
    assert (cell["model"], cell["labels"], cell["seed"]) == ("t5", 8, 0)
    assert cell["texts"] + cell["dropped"] == 4
    assert cell["trainer"]["epochs"] == 1
    assert cell["versions"]["torch"]
    assert "git_hash" in cell
    assert len(cell["data"]["acceptability"]) == 64
    for text in ("phone", "price", "camera", str(tmp_path)):
        assert text not in line
    page.write_text(f"before\n{MARK}\nold\n{END}\nafter\n")
    capsys.readouterr()
    assert main(["--table", *common]) == 0
    printed = capsys.readouterr().out
    assert printed.rstrip("\n") in page.read_text()
    assert "old" not in page.read_text()
    rows = [row.split(" | ")[0] for row in printed.splitlines() if row.startswith("| ")]
    assert rows == ["| score", "| ---", f"| {RANKED}", f"| {NOT_RANKED}", f"| {SHORTER}", f"| {OVERLAP}"]


def shown(pairwise: float) -> dict[str, Any]:
    part = {"pairwise": pairwise, "standard_error": 0.01, "texts": 900, "pairs": 4321}
    part |= {"top_accepted": 0.5, "random_accepted": 0.25, "top_standard_error": 0.02}
    by_label = {"entailment": part, "contradiction": part | {"standard_error": None}, "neutral": None}
    return {"all": part, "by_label": by_label, "where_right": None, "where_wrong": None}


def test_a_row_of_the_table_and_the_last_measurement_counts() -> None:
    cell = {
        "model": "m",
        "labels": 300,
        "seed": 0,
        "texts": 1000,
        "accuracy": {RANKED: 0.6, NOT_RANKED: 0.5},
        "scores": {RANKED: shown(0.7), NOT_RANKED: shown(0.6), SHORTER: shown(0.55), OVERLAP: shown(0.5)},
        "differences": {NOT_RANKED: [0.1, 0.02], SHORTER: [0.15, 0.02], OVERLAP: [0.2, None]},
    }
    old = cell | {"scores": {name: shown(0.123) for name in cell["scores"]}}
    found = render([old, cell, cell | {"seed": 1}])
    assert "0.123" not in found
    assert found.count("#### m, 300 labels of e-SNLI, seed") == 2
    assert "| Eq. 6 | 0.700 ± 0.010 | 0.700 ± 0.010 | 0.700 | - | - | - | - | 50.0% |" in found
    assert "| shorter first | 0.550 ± 0.010 | 0.550 ± 0.010 | 0.550 | - | - | - | 0.150 ± 0.020 | 50.0% |" in found
    assert "4,321 pairs of explanations of 900 texts; with those whose votes are all the same, 1,000 texts" in found
    assert "right for 60.0% (Eq. 6), 50.0% (Eq. 6, no ranking loss)" in found
    assert "at random 25.0% are accepted" in found
    assert render([]) == "Nothing has been measured yet.\n"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "name it with --esnli FILE"),
        (["--esnli", "rows.jsonl"], "name it with --acceptability FILE"),
        (["--esnli", "rows.jsonl", "--acceptability", "none.jsonl"], "none.jsonl: expected a data file"),
        (["--esnli", "rows.jsonl", "--acceptability", "votes.jsonl"], "rows.jsonl: expected rows for 600 train texts"),
        (["--esnli", "rows.jsonl", "--acceptability", "votes.jsonl", "--items", "0"], "--labels and --items of 1"),
        (["--table", "--page", "none.md"], "none.md: cannot be read"),
    ],
)
def test_what_is_missing_is_one_line_and_exit_code_2(
    arguments: list[str],
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "votes.jsonl", judged_rows(2))
    write(tmp_path / "rows.jsonl", esnli_rows(3))
    assert main([*arguments, "--results", "results.jsonl"]) == 2
    said = capsys.readouterr().err
    assert named in said
    assert said.count("\n") == 1
    assert not Path("results.jsonl").exists()


def test_texts_whose_votes_say_nothing_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(evidence_data, "ESNLI_PARTS", {"train": 8, "dev": 2, "test": 3})
    rows = judged_rows(2)
    for row in rows:
        row["explanations"] = row["explanations"][2:] * 2
    arguments = ["--esnli", str(write(tmp_path / "esnli.jsonl", esnli_rows(12))), "--labels", "3"]
    assert main([*arguments, "--acceptability", str(write(tmp_path / "votes.jsonl", rows))]) == 2
    assert "none of these has explanations with different numbers of votes" in capsys.readouterr().err
