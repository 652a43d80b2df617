"""Scoring a pool file: rows as the service would answer, in the file's order, all or nothing, in flat memory."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import zscore

from service.model import checkpoint
from service.model.checkpoint import Provenance, read_settings
from service.model.classification import Item, Outcome
from service.model.errors import InputError
from service.model.predictor import Predictor
from service.model.results import add_acquisition, result_row
from service.model.scoring import Normaliser
from tests import tiny
from training.offline_scoring import BLOCK, score_file
from training.prefilter import Kept, Prefilter

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
    found = read(tmp_path / "out.jsonl")
    for row, other in zip(found, expected, strict=True):
        if "error" not in row:  # sums over a file that is streamed differ from these in the last digit
            assert row["acquisition_score"] == pytest.approx(other["acquisition_score"], rel=1e-12)
            other["acquisition_score"] = row["acquisition_score"]
    assert found == expected
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


def test_scores_do_not_depend_on_how_a_file_is_cut_into_blocks(predictor: Predictor, tmp_path: Path) -> None:
    texts = (tiny.sentences(100) * 3)[: BLOCK["cpu"] + 20]
    score_file(predictor, write(tmp_path / "all.jsonl", texts), tmp_path / "all.out.jsonl", progress=False)
    some = [0, 1, BLOCK["cpu"] - 1, BLOCK["cpu"], BLOCK["cpu"] + 19]
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


MANY = [
    f"{i} {text}" for i in range(8) for text in tiny.sentences(23)
]  # 552 different texts: a block and a part of one


def test_a_call_that_failed_is_gone_on_with_to_the_same_bytes(
    predictor: Predictor, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, output = write(tmp_path / "in.jsonl", MANY), tmp_path / "out.jsonl"
    score_file(predictor, source, tmp_path / "whole.jsonl", progress=False)
    asked: list[int] = []
    explanations = predictor.explanations

    def failing(items: Iterable[Item], **options: Any) -> Iterator[Outcome]:
        asked.append(len(asked))
        for number, outcome in enumerate(explanations(items, **options)):
            if asked == [0, 1] and number == 20:
                raise KeyboardInterrupt
            yield outcome

    monkeypatch.setattr(predictor, "explanations", failing)
    with pytest.raises(KeyboardInterrupt):
        score_file(predictor, source, output, progress=False)
    assert not output.exists()
    capsys.readouterr()
    score_file(predictor, source, output, progress=False)
    assert asked == [0, 1, 2]
    assert capsys.readouterr().err == f"{output}: going on after 512 texts (explained)\n"
    assert output.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl", "whole.jsonl"]


def test_a_kill_after_all_is_explained_costs_no_explanation(
    predictor: Predictor, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, output = write(tmp_path / "in.jsonl", tiny.sentences(4)), tmp_path / "out.jsonl"
    monkeypatch.setattr("training.offline_scoring.write_ranked", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        score_file(predictor, source, output, progress=False)
    monkeypatch.undo()
    monkeypatch.setattr(predictor, "explanations", None)
    score_file(predictor, source, output, lambda_=1.0, progress=False)  # lambda decides nothing of what is kept
    assert "going on after 12 texts" in capsys.readouterr().err
    assert [row["id"] for row in read(output)] == [f"t{i}" for i in range(12)]


@pytest.mark.parametrize("change", ["model version", "input", "decoding", "prefilter"])
def test_parts_of_something_else_are_not_gone_on_with(
    predictor: Predictor,
    standardising: Predictor,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    change: str,
) -> None:
    texts = tiny.sentences(2)
    source, output = write(tmp_path / "in.jsonl", texts), tmp_path / "out.jsonl"
    monkeypatch.setattr("training.offline_scoring.write_ranked", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        score_file(predictor, source, output, normalisation="request", progress=False)
    monkeypatch.undo()
    if change == "input":
        write(source, [*texts[:-1], texts[-1].upper()])
    arguments: dict[str, Any] = {"normalisation": "request", "progress": False}
    arguments |= {"num_beams": 1} if change == "decoding" else {}
    arguments |= {"prefilter": Prefilter(ratio=1), "query_size": 2} if change == "prefilter" else {}
    model = standardising if change == "model version" else predictor
    score_file(model, source, output, **arguments)
    assert capsys.readouterr().err == f"{output}: beginning anew, not as before: {change}\n"
    score_file(model, source, tmp_path / "whole.jsonl", **arguments)
    assert output.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_an_input_that_changes_meanwhile_is_said(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, output = write(tmp_path / "in.jsonl", tiny.sentences(2)), tmp_path / "out.jsonl"
    explanations = predictor.explanations

    def changing(items: Iterable[Item], **options: Any) -> Iterator[Outcome]:
        yield from explanations(items, **options)
        write(source, ["other"])

    monkeypatch.setattr(predictor, "explanations", changing)
    with pytest.raises(InputError, match=r"in\.jsonl was changed while it was scored"):
        score_file(predictor, source, output, progress=False)
    assert not output.exists()


def start(model: Path, source: Path, output: Path, *more: str) -> subprocess.Popen[str]:
    arguments = ["score", "--model", str(model), "--input", str(source), "--output", str(output), "--device", "cpu"]
    return subprocess.Popen(
        [sys.executable, "-c", "import sys; from training.cli import main; sys.exit(main())", *arguments, *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["--prefilter", "6", "--query-size", "120", "--prefilter-sample", "60"]])
def test_kills_at_any_moment_leave_the_bytes_of_an_undisturbed_run(
    model_dir: Path, tmp_path: Path, more: list[str]
) -> None:
    texts = [f"{i} {text}" for i in range(20) for text in tiny.sentences(30)]  # 1800
    source, output = write(tmp_path / "in.jsonl", texts), tmp_path / "out.jsonl"
    _, said = (process := start(model_dir, source, tmp_path / "whole.jsonl", *more)).communicate(timeout=300)
    assert process.returncode == 0, said
    resumed = 0
    for delay in (0.0, 0.4, 1.1, 2.3):  # seconds after parts are seen to grow
        process = start(model_dir, source, output, *more)
        part = tmp_path / ".out.jsonl.explained"
        size, deadline = part.stat().st_size if part.exists() else 0, time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            if part.exists() and part.stat().st_size != size:
                time.sleep(delay)
                break
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        resumed += "going on after" in process.communicate()[1]
    _, said = (process := start(model_dir, source, output, *more)).communicate(timeout=300)
    assert process.returncode == 0, said
    assert resumed or "going on after" in said
    assert output.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl", "whole.jsonl"]


@pytest.mark.parametrize("normalisation", ["pool", "request"])
def test_a_prefilter_that_leaves_nothing_out_changes_nothing(
    predictor: Predictor, tmp_path: Path, normalisation: Any
) -> None:
    source = write(tmp_path / "in.jsonl", [*tiny.sentences(5), ""])
    options: dict[str, Any] = {"normalisation": normalisation, "progress": False}
    score_file(predictor, source, tmp_path / "all.jsonl", **options)
    done = score_file(predictor, source, tmp_path / "some.jsonl", prefilter=Prefilter(ratio=4), query_size=4, **options)
    assert (tmp_path / "some.jsonl").read_bytes() == (tmp_path / "all.jsonl").read_bytes()
    assert done.kept == Kept(explained=15, of=15, candidates=15, sampled=0, size=4, kept_share=1.0)


@pytest.mark.parametrize("normalisation", ["pool", "request"])
def test_with_all_others_sampled_the_kept_share_is_that_of_a_full_scoring(
    standardising: Predictor, tmp_path: Path, normalisation: Any
) -> None:
    texts = [*tiny.sentences(13), ""]
    source = write(tmp_path / "in.jsonl", texts)
    options: dict[str, Any] = {"normalisation": normalisation, "lambda_": 1000.0, "progress": False}
    score_file(standardising, source, tmp_path / "all.jsonl", **options)
    prefilter = Prefilter(ratio=1.5, sample=len(texts))
    done = score_file(standardising, source, tmp_path / "some.jsonl", prefilter=prefilter, query_size=8, **options)
    rows = [row for row in read(tmp_path / "all.jsonl") if "error" not in row]
    top = {row["id"] for row in rows if row["rank"] <= 8}
    candidates = {row["id"] for row in sorted(rows, key=lambda row: -row["entropy"])[:12]}
    assert done.kept is not None
    assert done.kept.kept_share == pytest.approx(len(top & candidates) / 8)
    assert 0 < done.kept.kept_share < 1  # or this test says little
    for found, full in zip(read(tmp_path / "some.jsonl"), read(tmp_path / "all.jsonl"), strict=True):
        if "error" not in full:
            assert found["rank"] == full["rank"]
            assert found["acquisition_score"] == pytest.approx(full["acquisition_score"], rel=1e-9, abs=1e-9)


def test_texts_without_explanation_keep_label_and_entropy_and_have_no_score(
    predictor: Predictor, tmp_path: Path
) -> None:
    texts = [*tiny.sentences(20), ""]
    source = write(tmp_path / "in.jsonl", texts)
    options: dict[str, Any] = {"normalisation": "request", "progress": False}
    score_file(predictor, source, tmp_path / "all.jsonl", **options)
    prefilter = Prefilter(ratio=2, sample=15)
    done = score_file(predictor, source, tmp_path / "some.jsonl", prefilter=prefilter, query_size=5, **options)
    full, found = read(tmp_path / "all.jsonl"), read(tmp_path / "some.jsonl")
    assert [row["id"] for row in found] == [f"t{i}" for i in range(61)]
    assert done.kept is not None
    assert (done.errors, done.kept.explained, done.kept.of) == (1, 25, 60)
    explained = [row for row in found if "explanation" in row]
    by_entropy = sorted(full[:-1], key=lambda row: -row["entropy"])
    assert {row["id"] for row in by_entropy[:10]} <= {row["id"] for row in explained}
    assert sorted(row["rank"] for row in explained) == list(range(1, 26))
    for row, whole in zip(found[:-1], full[:-1], strict=True):
        assert row["label"] == whole["label"]
        assert row["entropy"] == pytest.approx(whole["entropy"], abs=1e-5)
        if "explanation" not in row:
            assert set(row) == {"id", "label", "probabilities", "entropy", "truncated"}
    # Z_c is exact, Z_p estimated: each of the 15 sampled stands for 50 / 15 texts.
    candidates = {row["id"] for row in by_entropy[:10]}
    weights = [1.0 if row["id"] in candidates else 50 / 15 for row in explained]
    z_p = sum(w * math.exp(-row["explanation_score"]) for w, row in zip(weights, explained, strict=True))
    z_c = sum(math.exp(row["entropy"]) for row in full[:-1])
    for row in explained:
        expected = math.exp(-row["explanation_score"]) / z_p / 3 + math.exp(row["entropy"]) / z_c * 2 / 3
        assert row["acquisition_score"] == pytest.approx(expected, rel=1e-5)


def test_a_pool_of_errors_has_nothing_to_keep(predictor: Predictor, tmp_path: Path) -> None:
    source, output = write(tmp_path / "in.jsonl", ["", " "]), tmp_path / "out.jsonl"
    done = score_file(predictor, source, output, prefilter=Prefilter(ratio=1), progress=False)
    assert (done.errors, done.kept and done.kept.kept_share) == (2, None)
    assert [row["error"]["code"] for row in read(output)] == ["empty_text"] * 2


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
