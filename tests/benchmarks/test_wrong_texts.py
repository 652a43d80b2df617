"""Scores that may tell wrong predictions are taken of dev texts, and split into wording and what the text adds."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import evidence_data
from benchmarks.results import read_cells
from benchmarks.tables import END
from benchmarks.wrong_texts import MARK, OTHERS, describe, main, render, score_with_others
from service.model.classification import Item
from service.model.decoding import Decoding
from service.model.predictor import Predictor
from tests import tiny
from tests.training_fixtures import SMALL
from training.data import Example
from training.fitted import fitted_predictor
from training.trainer import TrainerConfig

TEXTS = [Example(str(n), {"text": f"text {n} is so"}, tiny.TASK.label_ids[n % 3], "dev") for n in range(9)]


@pytest.fixture
def predictor(backbone_dir: Callable[[str], Path]) -> Predictor:
    explanations = {text.id: {label: f"{label} as {text.id}" for label in tiny.TASK.label_ids} for text in TEXTS}
    return fitted_predictor(
        TEXTS,
        explanations,
        task=tiny.TASK,
        source=backbone_dir("t5"),
        config=TrainerConfig(**SMALL | {"learning_rate": 1e-2}),
        seed=0,
        device="cpu",
        decoding=Decoding(2, 6),
        precision="float32",
        progress=False,
    )


def test_each_explanation_is_scored_by_its_own_text_and_by_others(predictor: Predictor) -> None:
    wrong, entropy, own, by_others = score_with_others(predictor, TEXTS, seed=5, progress=False)
    # The same by hand: every text scores every explanation; which are the others, only the order of the draw says.
    found = predictor.predict([Item(text.fields) for text in TEXTS], explain=True)
    written = [str(prediction.explanation) for prediction in found]
    rows = predictor.predict([Item(text.fields, tuple(written)) for text in TEXTS], explain=True)
    scores = np.array([row.candidate_scores for row in rows])  # (text, explanation)
    order = np.random.default_rng([9, 5]).permutation(len(TEXTS))
    assert len(wrong) == len(order) == 9
    for place, text in enumerate(order):
        others = [order[(place - k) % len(order)] for k in range(1, OTHERS + 1)]
        assert own[place] == pytest.approx(scores[text, text], abs=1e-4)
        assert by_others[place] == pytest.approx(scores[others, text].mean(), abs=1e-4)
        assert wrong[place] == (found[text].label != TEXTS[text].label)
        assert entropy[place] == pytest.approx(found[text].entropy, abs=1e-5)


def test_how_often_a_wrong_text_stands_out_is_counted_over_pairs() -> None:
    wrong = np.array([True, False, True, False])
    entropy = np.array([0.9, 0.1, 0.2, 0.3])  # 3 of 4 pairs
    own = np.array([-3.0, -1.0, -2.0, -2.5])  # lower where wrong in 3 of 4
    by_others = np.array([-1.0, -1.0, -1.0, -1.0])
    found = describe(wrong, entropy, own, by_others)
    assert found["wrong"] == 0.5
    assert found["finds"] == {"entropy": 0.75, "explanation": 0.75, "wording": 0.5, "added": 0.75}
    assert found["wording_share"] == 0
    assert found["std"]["wording"] == 0
    assert describe(wrong, entropy, own, 2 * own)["wording_share"] == pytest.approx(2)
    assert describe(np.array([True] * 4), entropy, own, by_others)["finds"]["entropy"] is None


def test_rows_are_means_over_seeds_and_the_last_measurement_counts() -> None:
    def cell(seed: int, area: float, **place: Any) -> dict[str, Any]:
        finds = {"entropy": area, "explanation": 0.5, "wording": 0.5, "added": None}
        std = {"explanation": 0.1, "wording": 0.1, "added": 0.1}
        shared = {"data": "mams", "model": "m", "labels": 100, "texts": 300, "wrong": 0.4, "wording_share": 0.9}
        return {**shared, "seed": seed, "finds": finds, "std": std, **place}

    table = render([cell(0, 0.1), cell(0, 0.6), cell(1, 0.8), cell(0, 0.7, labels=50)])
    rows = [[entry.strip() for entry in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    assert [row[:7] for row in rows] == [
        ["mams", "m", "100", "2", "300", "0.400 ± 0.000", "0.700 ± 0.100"],
        ["mams", "m", "50", "1", "300", "0.400", "0.700"],
    ]
    assert rows[0][9] == "-"
    assert render([]) == "Nothing has been measured yet.\n"


def test_a_run_is_kept_and_stands_in_the_page(
    backbone_dir: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence_data, "ESNLI_PARTS", {"train": 8, "dev": 70, "test": 3})
    labels = ("entailment", "neutral", "contradiction")
    rows = [
        {
            "id": f"{split}-{number}",
            "sentence1": f"The camera {number} of {split} is great.",
            "sentence2": f"It takes {number} pictures.",
            "label": labels[number % 3],
            "split": split,
            "explanations": {label: f"The pictures are {label}, number {number}." for label in labels},
        }
        for split, count in (("train", 80), ("test", 4))
        for number in range(count)
    ]
    source, page, results = tmp_path / "esnli.jsonl", tmp_path / "page.md", tmp_path / "w.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    page.write_text(f"before\n{MARK}\n{END}\nafter\n")
    common = ["--results", str(results), "--page", str(page)]
    arguments = ["--data", "e-snli", "--esnli", str(source), "--labels", "4", "--runs", str(tmp_path / "runs")]
    arguments += ["--model", str(backbone_dir("t5")), "--device", "cpu", *common]
    assert main([*arguments, "--texts", str(OTHERS)]) == 2
    assert not results.exists()
    assert main(arguments) == 0
    (cell,) = read_cells(results)
    assert (cell["data"], cell["labels"], cell["seed"]) == ("e-snli", 4, 0)
    assert 0 < cell["texts"] <= 10  # 70 of dev, less the 60 whose recorded explanations are measured elsewhere
    assert str(tmp_path) not in results.read_text()
    assert main(["--table", *common]) == 0
    assert "| e-snli | " in page.read_text()
    assert page.read_text().startswith("before")
