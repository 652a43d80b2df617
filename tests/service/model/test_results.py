"""Result rows exactly as the HTTP API documents them."""

import json
import math

import numpy as np
import pytest

from service.model.classification import Prediction
from service.model.errors import ItemError
from service.model.results import add_acquisition, result_row
from service.model.scoring import Normaliser

CLASSIFIED = Prediction(
    label="negative",
    probabilities={"negative": 0.91, "neutral": 0.06, "positive": 0.03},
    entropy=0.36,
    truncated=False,
    h0=np.zeros(4, dtype=np.float32),
)
EXPLAINED = Prediction(
    label="negative",
    probabilities={"negative": 0.91, "neutral": 0.06, "positive": 0.03},
    entropy=0.36,
    truncated=True,
    h0=np.zeros(4, dtype=np.float32),
    explanation="too heavy",
    explanation_score=-0.71,
    candidate_scores=(-1.5, -2.5),
)
FAULT = ItemError("empty_text", "the field 'text' is empty")


def scored(id: str, p: float, c: float) -> dict[str, object]:
    return {"id": id, "explanation_score": p, "entropy": c}


def test_a_classification_is_this_row_and_nothing_more() -> None:
    assert list(result_row("a1", CLASSIFIED).items()) == [
        ("id", "a1"),
        ("label", "negative"),
        ("probabilities", {"negative": 0.91, "neutral": 0.06, "positive": 0.03}),
        ("entropy", 0.36),
        ("truncated", False),
    ]


def test_an_explanation_adds_its_text_and_score() -> None:
    row = result_row("a1", EXPLAINED)
    assert list(row)[5:] == ["explanation", "explanation_score"]
    assert (row["explanation"], row["explanation_score"], row["truncated"]) == ("too heavy", -0.71, True)


def test_candidate_scores_are_there_only_if_wanted() -> None:
    assert result_row("a1", EXPLAINED, with_candidates=True)["candidate_scores"] == [-1.5, -2.5]
    assert "candidate_scores" not in result_row("a1", EXPLAINED)


def test_an_empty_explanation_is_still_an_explanation() -> None:
    empty = Prediction("a", {"a": 1.0, "b": 0.0}, 0.0, False, np.zeros(1, np.float32), "", -0.1)
    assert result_row("1", empty)["explanation"] == ""


def test_an_error_is_a_row_of_its_id_code_and_message() -> None:
    for with_candidates in (False, True):
        assert result_row("1", FAULT, with_candidates=with_candidates) == {
            "id": "1",
            "error": {"code": "empty_text", "message": "the field 'text' is empty"},
        }


def test_rows_are_plain_json() -> None:
    rows = [result_row("0", EXPLAINED, with_candidates=True), result_row("1", FAULT)]
    add_acquisition(rows, 0.5, "pool", Normaliser(1.0, 1.0, 10))
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    assert type(rows[0]["rank"]) is int
    assert type(rows[0]["acquisition_score"]) is float


def test_acquisition_over_the_request_is_eq_8_over_the_rows_without_errors() -> None:
    # As in the scoring tests: s = .31187 and .68813 for p = -1, -2 and c = 0, ln 2.
    rows = [scored("a", -1.0, 0.0), result_row("b", FAULT), scored("c", -2.0, math.log(2))]
    add_acquisition(rows, 0.5, "request", None)
    assert rows[0]["acquisition_score"] == pytest.approx(0.31187, abs=1e-5)
    assert rows[2]["acquisition_score"] == pytest.approx(0.68813, abs=1e-5)
    assert [row.get("rank") for row in rows] == [2, None, 1]
    assert rows[1] == result_row("b", FAULT)
    assert list(rows[0])[-2:] == ["acquisition_score", "rank"]


def test_acquisition_over_the_pool_uses_the_pools_sums() -> None:
    # log Z_p = ln 8, log Z_c = ln 4, lambda = 1: 1/2 * e^(ln 2)/8 + 1/2 * e^(ln 3)/4 = 1/8 + 3/8.
    rows = [scored("a", -math.log(2), math.log(3))]
    add_acquisition(rows, 1.0, "pool", Normaliser(math.log(8), math.log(4), 100))
    assert rows[0]["acquisition_score"] == pytest.approx(0.5)
    assert rows[0]["rank"] == 1


def test_over_the_request_the_pools_sums_are_not_used() -> None:
    rows = [scored("a", -1.0, 0.5)]
    add_acquisition(rows, 0.5, "request", Normaliser(99.0, 99.0, 100))
    assert rows[0]["acquisition_score"] == pytest.approx(1.0)


def test_standardised_terms_are_those_of_the_request_or_of_the_pool() -> None:
    # Over two rows the lower term is a std below the mean and the higher one above: a has the better explanation (-1)
    # and is the less certain (+1), so at lambda = 1/2 it gets -1/3 + 2/3.
    rows = [scored("a", -1.0, 0.9), result_row("b", FAULT), scored("c", -2.0, 0.1)]
    add_acquisition(rows, 0.5, "request", None, "standardized")
    assert [row.get("acquisition_score") for row in rows] == [pytest.approx(1 / 3), None, pytest.approx(-1 / 3)]
    assert [row.get("rank") for row in rows] == [1, None, 2]
    # Over a pool of 4 with Z_p = 8, Z_c = 4: exp(-p)/Z_p = 2/8, its mean; exp(c)/Z_c = 3/4, 1/2 above it, 5 stds.
    rows = [scored("a", -math.log(2), math.log(3))]
    add_acquisition(rows, 1.0, "pool", Normaliser(math.log(8), math.log(4), 4, 0.2, 0.1), "standardized")
    assert rows[0]["acquisition_score"] == pytest.approx(5 / 2)


def test_a_single_item_has_nothing_to_differ_from() -> None:
    rows = [scored("a", -1.0, 0.9)]
    add_acquisition(rows, 0.5, "request", None, "standardized")
    assert (rows[0]["acquisition_score"], rows[0]["rank"]) == (0.0, 1)


def test_ties_are_ranked_in_the_order_of_the_request() -> None:
    rows = [scored("a", -1.0, 0.5), result_row("x", FAULT), scored("b", -2.0, 0.9), scored("c", -1.0, 0.5)]
    add_acquisition(rows, 0.5, "request", None)
    assert [row.get("rank") for row in rows] == [2, None, 1, 3]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("normalisation", ["pool", "request"])
def test_rows_that_are_all_errors_or_none_stay_as_they_are(normalisation: str) -> None:
    for rows in ([], [result_row("0", FAULT), result_row("1", FAULT)]):
        before = json.dumps(rows)
        add_acquisition(rows, 0.5, normalisation, Normaliser(1.0, 1.0, 5))
        assert json.dumps(rows) == before


def test_the_pools_sums_cannot_be_used_where_there_are_none() -> None:
    with pytest.raises(ValueError, match="exported with a pool's sums"):
        add_acquisition([scored("a", -1.0, 0.5)], 0.5, "pool", None)
