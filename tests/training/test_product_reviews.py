import json
import os
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from service.model.errors import InputError
from training.offline_parts import cache_directory, fetch
from training.product_reviews import Row, main, product_reviews, write_product_reviews

ROOT = Path(__file__).parents[2]
EXPLANATIONS = ROOT / "examples" / "product-reviews" / "explanations.jsonl"


@pytest.fixture(scope="module")
def sentences() -> Path:
    """The real sentences, fetched once and kept in the usual cache."""
    return fetch("rated-sentences", cache_directory()) / "amazonReviewSnippets_GroundTruth.txt"


@pytest.fixture(scope="module")
def rows(sentences: Path) -> list[Row]:
    return product_reviews(sentences, EXPLANATIONS)


def review(row: Row) -> str:
    return row["id"].split("_")[0]


def test_the_pool_is_the_600_explained_sentences(rows: list[Row]) -> None:
    pool = [row for row in rows if row["split"] == "train"]
    explained = {json.loads(line)["id"] for line in EXPLANATIONS.read_text(encoding="utf-8").splitlines()}
    assert {row["id"] for row in pool} == explained
    assert Counter(row["label"] for row in pool) == {"positive": 255, "negative": 181, "neutral": 164}
    assert len({review(row) for row in pool}) == 169


def test_the_sentences_of_the_other_131_reviews_are_dev_and_test_halved_by_review(rows: list[Row]) -> None:
    rest = [row for row in rows if row["split"] != "train"]
    assert Counter(row["label"] for row in rest) == {"positive": 593, "negative": 408, "neutral": 399}
    reviews = defaultdict(set)
    for row in rows:
        reviews[row["split"]].add(review(row))
    assert {split: len(ids) for split, ids in reviews.items()} == {"train": 169, "dev": 65, "test": 66}
    assert len(set.union(*reviews.values())) == 300
    assert Counter(row["split"] for row in rest) == {"dev": 625, "test": 775}


def test_no_text_stands_in_two_splits_and_no_id_twice(rows: list[Row]) -> None:
    splits = defaultdict(set)
    for row in rows:
        splits[row["text"]].add(row["split"])
        assert row["text"] == row["text"].strip() != ""
    assert {text for text, found in splits.items() if len(found) > 1} == set()
    assert len({row["id"] for row in rows}) == len(rows) == 2000


def test_single_rows_are_as_in_the_source(rows: list[Row]) -> None:
    by_id = {row["id"]: row for row in rows}
    assert by_id["1_3"] == {  # rated -0.2
        "id": "1_3",
        "text": "does your apex dvd player only play dvd audio without video?",
        "label": "neutral",
        "split": "train",
    }
    assert "1_1" not in by_id  # a review of the pool, a sentence without explanations


def test_labels_come_from_the_mean_rating_and_its_two_borders(tmp_path: Path) -> None:
    ratings = {"1_1": "-0.81", "1_2": "-0.8", "1_3": "0", "1_4": "0.8", "1_5": "0.81", "2_1": "-4", "2_2": "1"}
    source = tmp_path / "sentences.txt"
    source.write_bytes("".join(f"{key}\t{rating}\t text {key} \r\n" for key, rating in ratings.items()).encode())
    explained = tmp_path / "e.jsonl"
    explained.write_text("".join(json.dumps({"id": key}) + "\n" for key in ratings if key[0] == "1"))
    rows = product_reviews(source, explained)
    assert [row["label"] for row in rows if row["split"] == "train"] == [
        "negative",
        "neutral",
        "neutral",
        "neutral",
        "positive",
    ]
    assert rows[0]["text"] == "text 1_1"
    assert {row["split"] for row in rows if row["id"][0] == "2"} == {"test"}  # one review: the larger half gets it


def test_explanations_of_unknown_sentences_are_refused(sentences: Path, tmp_path: Path) -> None:
    explained = tmp_path / "e.jsonl"
    for key in ("999_1", 3, None, []):
        explained.write_text(json.dumps({"id": "1_3"}) + "\n" + json.dumps({"id": key}) + "\n")
        with pytest.raises(InputError, match=r"e\.jsonl, line 2: .* is no id of a review sentence"):
            product_reviews(sentences, explained)


def test_the_file_is_written_whole_and_the_same_every_time(rows: list[Row], tmp_path: Path) -> None:
    output = tmp_path / "new" / "reviews.jsonl"
    counts = write_product_reviews(output, EXPLANATIONS, cache_directory())
    assert [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()] == rows
    assert counts == {
        "train": {"negative": 181, "neutral": 164, "positive": 255},
        "dev": {"negative": 168, "neutral": 167, "positive": 290},
        "test": {"negative": 240, "neutral": 232, "positive": 303},
    }
    first = output.read_bytes()
    write_product_reviews(output, EXPLANATIONS, cache_directory())
    assert output.read_bytes() == first
    assert [path.name for path in output.parent.iterdir()] == ["reviews.jsonl"]


def test_the_command_prints_what_the_examples_readme_shows(sentences: Path, tmp_path: Path) -> None:
    assert sentences.is_file()
    command = [sys.executable, "-m", "training.product_reviews", "--output", str(tmp_path / "reviews.jsonl")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == 3
    assert done.stdout in (EXPLANATIONS.parent / "README.md").read_text(encoding="utf-8")


def test_the_command_refuses_wrong_input_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "e.jsonl").write_text('{"id": "0_0"}\n')
    output = tmp_path / "reviews.jsonl"
    monkeypatch.setattr(sys, "argv", ["", "--output", str(output), "--explanations", str(tmp_path / "e.jsonl")])
    assert main() == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not output.exists()
