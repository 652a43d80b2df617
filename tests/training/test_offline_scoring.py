"""Scoring a pool file: rows as the service would answer, in the file's order, all or nothing, in flat memory."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import zscore

from service.model import checkpoint
from service.model.checkpoint import Provenance, read_settings
from service.model.classification import Item
from service.model.errors import InputError
from service.model.predictor import Predictor
from service.model.results import add_acquisition, result_row
from service.model.scoring import Normaliser
from tests import tiny
from training.offline_scoring import CHUNK, score_file

POOL = Normaliser(log_z_p=9.5, log_z_c=4.5, size=50, std_p=0.004, std_c=0.003)


@pytest.fixture(scope="module")
def predictor(model_dir: Path) -> Predictor:
    return Predictor.load(model_dir, device="cpu")


@pytest.fixture(scope="module")
def standardising(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    """The same model with the standardized acquisition, and a pool to standardise over."""
    directory = tmp_path_factory.mktemp("standardising") / "model"
    settings = replace(read_settings(model_dir), acquisition="standardized", normaliser=POOL)
    checkpoint.resave(model_dir, directory, settings, Provenance())
    return Predictor.load(directory, device="cpu")


def write(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(json.dumps({"id": f"t{i}", "text": text}) + "\n" for i, text in enumerate(texts)))
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("normalisation", ["pool", "request"])
def test_rows_are_those_of_one_request_with_all_texts(predictor: Predictor, tmp_path: Path, normalisation: Any) -> None:
    texts = [*tiny.sentences(3), "", *tiny.sentences(2)]  # an empty one, and repeats, whose scores are equal
    done = score_file(
        predictor,
        write(tmp_path / "in.jsonl", texts),
        tmp_path / "out.jsonl",
        normalisation=normalisation,
        progress=False,
    )
    outcomes = predictor.predict([Item({"text": text}) for text in texts], explain=True)
    expected = [result_row(f"t{i}", outcome) for i, outcome in enumerate(outcomes)]
    add_acquisition(expected, 0.5, normalisation, predictor.normaliser)
    assert read(tmp_path / "out.jsonl") == expected
    assert (done.rows, done.errors, done.normalisation) == (16, 1, normalisation)
    assert expected[9]["error"]["code"] == "empty_text"
    assert sorted(row["rank"] for row in expected if "rank" in row) == list(range(1, 16))
    if normalisation == "request":
        assert sum(row.get("acquisition_score", 0) for row in expected) == pytest.approx(1)


@pytest.mark.parametrize("normalisation", ["pool", "request"])
def test_a_model_with_the_standardized_acquisition_scores_by_it(
    standardising: Predictor, tmp_path: Path, normalisation: Any
) -> None:
    source = write(tmp_path / "in.jsonl", tiny.sentences(4))
    output = tmp_path / "out.jsonl"
    done = score_file(standardising, source, output, lambda_=2.0, normalisation=normalisation, progress=False)
    assert done.acquisition == "standardized"
    rows = read(output)
    terms = [np.exp([-row["explanation_score"] for row in rows]), np.exp([row["entropy"] for row in rows])]
    if normalisation == "request":
        z_p, z_c = (zscore(term) for term in terms)
    else:
        z_p = (terms[0] / math.exp(POOL.log_z_p) - 1 / 50) / 0.004
        z_c = (terms[1] / math.exp(POOL.log_z_c) - 1 / 50) / 0.003
    assert [row["acquisition_score"] for row in rows] == pytest.approx((2 * z_p + z_c) / 3, rel=1e-6, abs=1e-6)
    assert min(row["acquisition_score"] for row in rows) < 0


def test_scores_do_not_depend_on_how_a_file_is_cut_into_chunks(predictor: Predictor, tmp_path: Path) -> None:
    texts = (tiny.sentences(100) * 2)[: CHUNK + 20]
    score_file(predictor, write(tmp_path / "all.jsonl", texts), tmp_path / "all.out.jsonl", progress=False)
    some = [0, 1, CHUNK - 1, CHUNK, CHUNK + 19]
    part = write(tmp_path / "some.jsonl", [texts[i] for i in some])
    score_file(predictor, part, tmp_path / "some.out.jsonl", progress=False)
    whole = read(tmp_path / "all.out.jsonl")
    for found, index in zip(read(tmp_path / "some.out.jsonl"), some, strict=True):
        assert found["explanation"] == whole[index]["explanation"]
        assert found["acquisition_score"] == pytest.approx(whole[index]["acquisition_score"], abs=1e-6)


def test_lambda_weighs_the_two_terms(predictor: Predictor, tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", tiny.sentences(2))
    score_file(predictor, source, tmp_path / "zero.jsonl", lambda_=0.0, progress=False)
    assert predictor.normaliser is not None
    for row in read(tmp_path / "zero.jsonl"):  # the entropy's term alone
        assert row["acquisition_score"] == pytest.approx(math.exp(row["entropy"] - predictor.normaliser.log_z_c))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"id": "a", "text": "x"}\n{"id": "a", "text": "y"}\n', "'a'"),
        ('{"id": "a", "review": "x"}\n', "text"),
        ('{"id": "a", "text": "x"}\n{"id": \n', "JSON"),
        ("", "at least one row"),
    ],
)
def test_an_unsound_file_is_refused_and_an_older_result_kept(
    predictor: Predictor, tmp_path: Path, content: str, message: str
) -> None:
    (tmp_path / "in.jsonl").write_text(content)
    (tmp_path / "out.jsonl").write_text("older\n")
    with pytest.raises(InputError, match=message) as caught:
        score_file(predictor, tmp_path / "in.jsonl", tmp_path / "out.jsonl", progress=False)
    assert "in.jsonl" in str(caught.value)
    assert (tmp_path / "out.jsonl").read_text() == "older\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


def test_the_input_is_never_overwritten(predictor: Predictor, tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", ["x"])
    (tmp_path / "link.jsonl").symlink_to(source)
    before = source.read_bytes()
    with pytest.raises(InputError, match="is the input"):
        score_file(predictor, source, tmp_path / "link.jsonl", progress=False)
    assert source.read_bytes() == before
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(InputError, match="is a directory"):
        score_file(predictor, source, tmp_path / "folder.jsonl", progress=False)


def test_other_beams_than_the_pools_need_sums_of_their_own(predictor: Predictor, tmp_path: Path) -> None:
    source, output = write(tmp_path / "in.jsonl", ["x", "y"]), tmp_path / "out.jsonl"
    with pytest.raises(InputError, match="--normalization request"):
        score_file(predictor, source, output, num_beams=1, progress=False)
    done = score_file(predictor, source, output, num_beams=1, normalisation="request", progress=False)
    assert done.rows == 2


def test_results_go_to_json_lines_only(predictor: Predictor, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ends in \.jsonl"):
        score_file(predictor, write(tmp_path / "in.jsonl", ["x"]), tmp_path / "out.csv", progress=False)


MEASURE = """
import resource, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from service.model.predictor import Predictor
from training.offline_scoring import score_file
model, source, output = sys.argv[1:]
predictor = Predictor.load(model, device="cpu")
options = {"num_beams": 1, "max_new_tokens": 2, "normalisation": "request"}
score_file(predictor, Path(source), Path(output), progress=False, **options)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_pool(model_dir: Path, tmp_path: Path) -> None:
    def peak_megabytes(n: int) -> float:
        source = write(tmp_path / f"{n}.jsonl", [f"short text number {i}" for i in range(n)])
        arguments = [sys.executable, "-c", MEASURE, str(model_dir), str(source), str(tmp_path / f"{n}.out.jsonl")]
        root = Path(__file__).parents[2]
        done = subprocess.run(arguments, capture_output=True, text=True, check=True, cwd=root)
        return int(done.stdout) / 1024

    assert peak_megabytes(18_000) < peak_megabytes(2_000) + 15  # held in memory, these rows would take over 40 MB
