"""Votes are read as they stand, and agreement with them is what counting pair by pair gives."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.agreement import (
    JudgedText,
    agreement,
    difference,
    pairs_in_order,
    read_judged,
    shorter_first,
    word_overlap,
)
from service.model.errors import InputError


def judged(*votes: int, texts: tuple[str, ...] | None = None, premise: str = "A dog runs.") -> JudgedText:
    return JudgedText(
        {"sentence1": premise, "sentence2": "It sleeps."},
        "contradiction",
        texts or tuple(f"reason {place}" for place in range(len(votes))),
        votes,
        (3,) * len(votes),
    )


def row(**changed: Any) -> dict[str, Any]:
    explanations = [{"text": "So.", "votes": 2, "n_annotators": 3}, {"text": "No.", "votes": 0, "n_annotators": 3}]
    whole = {"sentence1": "A dog runs.", "sentence2": "It sleeps.", "label": "FALSE", "explanations": explanations}
    return whole | changed


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_agreement_by_hand_ties_counting_half() -> None:
    # votes 3, 0, 1: the pairs (3, 0) and (1, 0) right, (3, 1) tied, which is 2.5 of 3; votes 2, 2, 0: 2 of 2
    texts = [judged(3, 0, 1), judged(2, 2, 0), judged(1, 1, 1)]
    scores = [[-1.0, -1.5, -1.0], [-1.0, -2.0, -3.0], [0.0, 0.0, 0.0]]
    found = agreement(scores, texts)
    assert found is not None
    right, pairs = pairs_in_order(scores, texts)
    assert (right.tolist(), pairs.tolist()) == ([2.5, 2.0, 0.0], [3.0, 2.0, 0.0])
    assert found.pairwise == pytest.approx(4.5 / 5)
    assert (found.texts, found.pairs) == (2, 5)
    # residuals 2.5 - 0.9 * 3 = -0.2 and 2 - 0.9 * 2 = 0.2
    assert found.standard_error == pytest.approx(math.sqrt(2 / 1 * 0.08) / 5)
    # first of text 0 is one of two that tie, of which one is accepted; of text 1 an accepted one; of text 2 none
    assert found.top_accepted == pytest.approx((0.5 + 1 + 0) / 3)
    assert found.random_accepted == pytest.approx((1 / 3 + 2 / 3 + 0) / 3)
    # differences 1/6, 1/3, 0 about 1/6
    assert found.top_standard_error == pytest.approx(math.sqrt((1 / 36 + 1 / 36) / 2 / 3))


def test_agreement_is_that_of_counting_pair_by_pair() -> None:
    rng = np.random.default_rng(0)
    texts = [judged(*rng.integers(0, 4, 5).tolist()) for _ in range(30)]
    scores = rng.integers(-3, 0, (30, 5)).astype(float).tolist()
    right = pairs = 0.0
    for own, text in zip(scores, texts, strict=True):
        for i in range(5):
            for j in range(i):
                if text.votes[i] != text.votes[j]:
                    better, worse = (i, j) if text.votes[i] > text.votes[j] else (j, i)
                    right += 1.0 if own[better] > own[worse] else 0.5 if own[better] == own[worse] else 0.0
                    pairs += 1
    found = agreement(scores, texts)
    assert found is not None
    assert found.pairwise == pytest.approx(right / pairs)
    assert found.pairs == pairs


def test_the_standard_error_is_about_the_spread_of_resampled_texts() -> None:
    rng = np.random.default_rng(1)
    texts = [judged(*rng.integers(0, 4, 5).tolist()) for _ in range(300)]
    scores = [(0.5 * np.array(text.votes) + rng.normal(size=5)).tolist() for text in texts]
    right, pairs = pairs_in_order(scores, texts)
    draws = [rng.integers(300, size=300) for _ in range(2000)]
    spread = np.std([right[draw].sum() / pairs[draw].sum() for draw in draws])
    found = agreement(scores, texts)
    assert found is not None
    assert found.standard_error == pytest.approx(spread, rel=0.1)


def test_the_standard_error_is_that_of_texts_not_of_pairs() -> None:
    # two pairs of a text that always agree carry no more than one
    texts = [judged(3, 0), judged(3, 0)]
    found = agreement([[1.0, 0.0], [0.0, 1.0]], texts)
    many = agreement([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]], [judged(3, 0, 0), judged(3, 0, 0)])
    assert found is not None
    assert many is not None
    assert found.standard_error == many.standard_error == pytest.approx(0.5)


def test_a_difference_is_over_the_same_pairs() -> None:
    texts = [judged(3, 0), judged(0, 3), judged(2, 2)]
    one, other = [[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]], [[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]]
    assert difference(one, other, texts) == (0.5, pytest.approx(0.5))  # 0 and 1 about 1/2
    assert difference(one, one, texts) == (0.0, 0.0)


def test_where_all_votes_are_the_same_there_is_no_agreement() -> None:
    assert agreement([[0.0, 1.0]], [judged(1, 1)]) is None
    assert agreement([], []) is None
    assert difference([[0.0, 1.0]], [[0.0, 1.0]], [judged(1, 1)]) is None
    found = agreement([[0.0, 1.0]], [judged(0, 3)])
    assert found is not None
    assert (found.pairwise, found.standard_error, found.top_standard_error) == (1.0, None, None)


def test_scores_have_to_be_as_many_as_the_explanations() -> None:
    with pytest.raises(ValueError, match="expected 2 scores, one per explanation, found 3"):
        agreement([[0.0, 1.0, 2.0]], [judged(0, 1)])


def test_the_scores_that_need_no_model_by_hand() -> None:
    text = judged(3, 0, 1, texts=("A dog that runs, runs.", "It is awake!", "..."))
    assert shorter_first([text]) == [[-5.0, -3.0, -1.0]]
    # a, dog, that, runs: three of four stand in the sentences; it of it, is, awake; no word at all
    assert word_overlap([text]) == [[0.75, pytest.approx(1 / 3), 0.0]]


def test_rows_are_read_with_the_labels_of_the_task(tmp_path: Path) -> None:
    path = write(tmp_path / "votes.jsonl", [row(), row(label="TRUE"), row(label="neither")])
    found = read_judged(path)
    assert [text.label for text in found] == ["contradiction", "entailment", "neutral"]
    assert found[0].explanations == ("So.", "No.")
    assert (found[0].votes, found[0].annotators) == ((2, 0), (3, 3))
    assert found[0].fields == {"sentence1": "A dog runs.", "sentence2": "It sleeps."}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"label": "true"}, "line 2: the label 'true' is unknown; expected TRUE, FALSE, neither"),
        ({"label": ["TRUE"]}, "is unknown"),
        ({"sentence2": None}, "line 2: expected texts in sentence1 and sentence2"),
        ({"explanations": []}, "line 2: expected two explanations or more"),
        ({"explanations": ["So.", "No."]}, "line 2: expected 0 to n_annotators votes .* found None of None"),
        ({"explanations": [{"text": "So.", "votes": 4, "n_annotators": 3}] * 2}, "found 4 of 3"),
        ({"explanations": [{"text": "So.", "votes": 0, "n_annotators": 0}] * 2}, "found 0 of 0"),
        ({"explanations": [{"text": " ", "votes": 0, "n_annotators": 3}] * 2}, "the text of every explanation"),
    ],
)
def test_a_row_of_another_form_is_named(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_judged(write(tmp_path / "votes.jsonl", [row(), row(**changed)]))


def test_a_file_without_rows_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected explanations with votes, found no row"):
        read_judged(write(tmp_path / "votes.jsonl", []))
