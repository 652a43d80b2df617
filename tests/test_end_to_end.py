"""The whole way on a tiny model: files -> rounds -> export -> service -> client, one set of numbers all along."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from xal_client import XalClient

from service.model.classification import Item, Prediction
from service.model.predictor import Predictor
from service.model.scoring import acquisition_score
from tests.service_process import RunningService
from tests.training_fixtures import SMALL
from training.export import export
from training.loop import Loop
from training.offline_scoring import score_file

# The paper's way, and with everything that the other families brought.
PAPER: dict[str, Any] = {"model": "t5", "strategy": "xal"}
COMPOSED: dict[str, Any] = {
    "model": "composed-gpt2",
    "strategy": "xal-std",
    "trainer": {**SMALL, "conditioning": "label", "decoder_tuning": "lora-2", "explanation_epochs": 1, "epochs": 2},
    "adapt": True,
    "warm_start": True,
}


@pytest.mark.parametrize("options", [PAPER, COMPOSED], ids=["t5", "composed"])
def test_loop_offline_scoring_and_service_give_one_text_one_score(
    make_loop: Callable[..., Loop],
    backbone_dir: Callable[[str], Path],
    start_service: Callable[..., RunningService],
    tmp_path: Path,
    options: dict[str, Any],
) -> None:
    loop = make_loop(tmp_path / "run", **{**options, "model": str(backbone_dir(options["model"]))})
    rounds = list(loop.rounds())
    export(tmp_path / "run", 1, exported := tmp_path / "model", progress=False)
    labeled = {id_ for entry in rounds[:2] for id_ in entry["selected_ids"]}
    waiting = [e for e in loop.splits.train if e.id not in labeled]

    # In process, by the equations.
    predictor = Predictor.load(exported, device="cpu")
    outcomes = predictor.predict([Item(e.fields) for e in waiting], explain=True)
    found = [o for o in outcomes if isinstance(o, Prediction)]
    assert predictor.normaliser is not None
    p = [o.explanation_score or 0.0 for o in found]
    scores = acquisition_score(
        p, [o.entropy for o in found], predictor.normaliser, acquisition=loop.strategy.acquisition
    )
    total = {"paper": 1, "standardized": 0}[loop.strategy.acquisition]
    assert scores.sum() == pytest.approx(total, abs=1e-4)  # over the very pool that it was normalised by

    # From a file.
    pool = tmp_path / "pool.jsonl"
    pool.write_text("".join(json.dumps({"id": e.id, **e.fields}) + "\n" for e in waiting))
    score_file(predictor, pool, tmp_path / "scores.jsonl", progress=False)
    from_file = [json.loads(line) for line in (tmp_path / "scores.jsonl").read_text().splitlines()]

    # Over HTTP.
    with XalClient(start_service(exported).url) as client:
        response = client.acquisition_score(
            [{"id": e.id, "fields": dict(e.fields)} for e in waiting], normalization="pool", top_k=6
        )
        assert client.model().conditioning == predictor.network.conditioning == loop.config.trainer.conditioning
    assert response.model_version == predictor.model_version
    assert response.ok
    for score, row, answer in zip(scores, from_file, response.answers, strict=True):
        assert row["acquisition_score"] == pytest.approx(score, abs=1e-6)
        assert answer.acquisition_score == pytest.approx(score, abs=1e-6)
        assert (answer.id, answer.rank, answer.explanation) == (row["id"], row["rank"], row["explanation"])
    # The service would ask for the very texts that the loop asked for.
    assert list(response.selected or ()) == rounds[1]["queried_ids"]
