"""The whole way on a tiny model: files -> rounds -> export -> service -> client, one set of numbers all along."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from xal_client import XalClient

from service.model.predictor import Item, Prediction, Predictor
from service.model.scoring import acquisition_score
from tests.service_process import RunningService
from training.export import export
from training.loop import Loop, read_rounds
from training.offline_scoring import score_file


@pytest.fixture(scope="module")
def exported(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("end-to-end") / "model"
    export(finished_run, 1, directory, progress=False)
    return directory


def test_loop_offline_scoring_and_service_give_one_text_one_score(
    exported: Path,
    finished_run: Path,
    make_loop: Callable[..., Loop],
    start_service: Callable[..., RunningService],
    tmp_path: Path,
) -> None:
    rounds = read_rounds(finished_run)
    labeled = {id_ for entry in rounds[:2] for id_ in entry["selected_ids"]}
    waiting = [e for e in make_loop(tmp_path / "unused").splits.train if e.id not in labeled]

    # In process, by the equations.
    predictor = Predictor.load(exported, device="cpu")
    outcomes = predictor.predict([Item(e.fields) for e in waiting], explain=True)
    found = [o for o in outcomes if isinstance(o, Prediction)]
    assert predictor.normaliser is not None
    p = [o.explanation_score or 0.0 for o in found]
    scores = acquisition_score(p, [o.entropy for o in found], predictor.normaliser)
    assert scores.sum() == pytest.approx(1, abs=1e-5)  # the very pool that made the sums

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
    assert response.model_version == predictor.model_version
    assert response.ok
    for score, row, answer in zip(scores, from_file, response.answers, strict=True):
        assert row["acquisition_score"] == pytest.approx(score, abs=1e-6)
        assert answer.acquisition_score == pytest.approx(score, abs=1e-6)
        assert (answer.id, answer.rank, answer.explanation) == (row["id"], row["rank"], row["explanation"])
    # The service would ask for the very texts that the loop asked for.
    assert list(response.selected or ()) == rounds[1]["queried_ids"]
