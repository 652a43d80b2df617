"""A round becomes a model directory: same answers, the pool's sums, its lineage; and what cannot be exported."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import zscore

from service.model.classification import Item, Prediction
from service.model.errors import InputError
from service.model.predictor import Predictor
from service.model.results import add_acquisition, result_row
from service.model.scoring import pool_normaliser
from tests import tiny
from training.export import export
from training.loop import Loop, read_rounds
from training.round_model import model_directory

ITEMS = [Item({"text": text}) for text in ("a great camera", "it broke on the second day", "the box holds a cable")]


def answers(directory: Path) -> list[Prediction]:
    outcomes = Predictor.load(directory, device="cpu").predict(ITEMS, explain=True)
    return [outcome for outcome in outcomes if isinstance(outcome, Prediction)]


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_trained_model_answers_the_same_after_export(
    family: str, make_loop: Callable[..., Loop], backbone_dir: Callable[[str], Path], tmp_path: Path
) -> None:
    list(make_loop(tmp_path / "run", model=str(backbone_dir(family)), budget=6).rounds())
    export(tmp_path / "run", 0, tmp_path / "model", progress=False)
    before, after = answers(model_directory(tmp_path / "run", 0)), answers(tmp_path / "model")
    assert len(before) == len(ITEMS)
    for one, other in zip(before, after, strict=True):
        assert one.explanation == other.explanation
        assert one.probabilities == other.probabilities
        assert one.explanation_score == other.explanation_score


def test_an_export_carries_the_sums_of_its_rounds_pool(finished_run: Path, tmp_path: Path) -> None:
    version = export(finished_run, 1, tmp_path / "model", progress=False)
    predictor = Predictor.load(tmp_path / "model")
    assert predictor.model_version == version
    assert predictor.normaliser is not None
    assert predictor.normaliser.__dict__ == read_rounds(finished_run)[1]["normaliser"]
    assert predictor.normaliser.size == 12
    assert predictor.acquisition == "paper"


def test_a_model_of_an_xal_std_run_goes_on_scoring_by_the_standardised_acquisition(
    make_loop: Callable[..., Loop], tmp_path: Path
) -> None:
    loop = make_loop(tmp_path / "run", strategy="xal-std", lambda_=2.0, budget=12)
    rounds = list(loop.rounds())
    export(tmp_path / "run", 0, tmp_path / "model", progress=False)
    predictor = Predictor.load(tmp_path / "model", device="cpu")
    assert predictor.acquisition == "standardized"
    assert "- acquisition score: `standardized`" in (tmp_path / "model" / "README.md").read_text()
    waiting = [e for e in loop.splits.train if e.id not in rounds[0]["selected_ids"]]
    found = [o for o in predictor.predict([Item(e.fields) for e in waiting], explain=True) if isinstance(o, Prediction)]
    p, c = np.array([o.explanation_score for o in found]), np.array([o.entropy for o in found])
    rows = [result_row(example.id, outcome) for example, outcome in zip(waiting, found, strict=True)]
    add_acquisition(rows, 2.0, "pool", predictor.normaliser, predictor.acquisition)
    expected = (2 * zscore(np.exp(-p)) + zscore(np.exp(c))) / 3
    assert [row["acquisition_score"] for row in rows] == pytest.approx(expected, abs=1e-2)
    # What the loop asked for next is what the exported model ranks first.
    best = sorted(rows, key=lambda row: row["rank"])[:6]
    assert [row["id"] for row in best] == rounds[0]["queried_ids"]
    assert rounds[0]["selection"]["acquisition"] == "standardized"


def test_an_export_says_where_it_comes_from(finished_run: Path, tmp_path: Path) -> None:
    export(finished_run, 2, tmp_path / "model", progress=False)
    manifest = json.loads((tmp_path / "model" / "manifest.json").read_text())
    entry = read_rounds(finished_run)[2]
    assert manifest["metrics"]["macro_f1"] == entry["macro_f1"]
    assert manifest["metrics"]["n_labeled"] == 18
    lineage = manifest["lineage"]
    assert {lineage[key] for key in ("run", "strategy", "teacher")} == {
        "finished",
        "xal",
        "recorded:explanations.jsonl",
    }
    assert (lineage["round"], lineage["seed"]) == (2, 0)
    assert len(lineage["data_hash"]) == 64
    assert (lineage["adapted"], lineage["adaptation_corpus_hash"]) == (False, None)
    assert "xal serve" in (tmp_path / "model" / "README.md").read_text()


def test_a_pool_that_was_not_scored_with_explanations_is_scored_at_export(
    make_loop: Callable[..., Loop], tmp_path: Path
) -> None:
    loop = make_loop(tmp_path / "run", strategy="random", train_on_explanations=True, budget=12)
    rounds = list(loop.rounds())
    assert rounds[0]["normaliser"] is None
    export(tmp_path / "run", 0, tmp_path / "model", progress=False)
    predictor = Predictor.load(tmp_path / "model")
    waiting = [Item(e.fields) for e in loop.splits.train if e.id not in rounds[0]["selected_ids"]]
    found = [o for o in predictor.predict(waiting, explain=True) if isinstance(o, Prediction)]
    expected = pool_normaliser(np.array([o.explanation_score for o in found]), [o.entropy for o in found])
    assert predictor.normaliser is not None
    assert predictor.normaliser.log_z_p == pytest.approx(expected.log_z_p, abs=1e-5)
    assert predictor.normaliser.log_z_c == pytest.approx(expected.log_z_c, abs=1e-5)


def test_the_pool_that_is_scored_at_export_is_without_the_texts_that_explanations_were_measured_on(
    make_loop: Callable[..., Loop], tmp_path: Path
) -> None:
    loop = make_loop(
        tmp_path / "run", strategy="random", train_on_explanations=True, measure_explanations=4, only_explained=True,
        budget=6,
    )  # fmt: skip
    (entry,) = loop.rounds()
    export(tmp_path / "run", 0, tmp_path / "model", progress=False)
    predictor = Predictor.load(tmp_path / "model")
    assert predictor.normaliser is not None
    assert predictor.normaliser.size == 24 - 4 - 6
    waiting = [Item(e.fields) for e in loop.splits.train if e.id not in entry["selected_ids"]]
    found = [o for o in predictor.predict(waiting, explain=True) if isinstance(o, Prediction)]
    expected = pool_normaliser(np.array([o.explanation_score for o in found]), [o.entropy for o in found])
    assert predictor.normaliser.log_z_p == pytest.approx(expected.log_z_p, abs=1e-5)


def test_a_run_that_kept_no_models_says_so(make_loop: Callable[..., Loop], tmp_path: Path) -> None:
    list(make_loop(tmp_path / "run", keep_models="none", budget=6).rounds())
    with pytest.raises(InputError, match=r"round 0 was not kept \(keep_models: none\); run again with"):
        export(tmp_path / "run", 0, tmp_path / "model", progress=False)


def test_a_model_that_never_learned_to_explain_has_no_sums_and_says_so(
    make_loop: Callable[..., Loop], tmp_path: Path
) -> None:
    list(make_loop(tmp_path / "run", strategy="entropy", budget=6).rounds())
    export(tmp_path / "run", 0, tmp_path / "model", progress=False)
    predictor = Predictor.load(tmp_path / "model")
    assert predictor.normaliser is None
    assert not predictor.trained_on_explanations
    assert "WITHOUT explanations" in (tmp_path / "model" / "README.md").read_text()


def test_what_cannot_be_exported_is_said_and_leaves_nothing(finished_run: Path, tmp_path: Path) -> None:
    output = tmp_path / "model"
    for number in (-1, 3):
        with pytest.raises(InputError, match=r"no finished round .*; finished are 0 to 2"):
            export(finished_run, number, output, progress=False)
    with pytest.raises(InputError, match=r"config\.yaml is missing"):
        export(tmp_path, 0, output, progress=False)
    shutil.copytree(finished_run, tmp_path / "run")
    shutil.rmtree(model_directory(tmp_path / "run", 1))
    with pytest.raises(InputError, match=r"round 1 was not kept \(keep_models: all\); export round 2"):
        export(tmp_path / "run", 1, output, progress=False)
    weights = model_directory(tmp_path / "run", 2) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    with pytest.raises(InputError, match=r"model\.safetensors is damaged"):
        export(tmp_path / "run", 2, output, progress=False)
    assert not output.exists()
    output.mkdir()
    with pytest.raises(InputError, match="exists"):
        export(finished_run, 0, output, progress=False)
