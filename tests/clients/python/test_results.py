import json
from typing import Any

import pytest
from pydantic import ValidationError
from xal_client import AcquisitionResponse, Classification, ClassifyResponse, ExplainResponse, Explanation, ItemFailure

ANSWER: dict[str, Any] = {
    "id": "a",
    "label": "bad",
    "probabilities": {"bad": 0.75, "good": 0.25},
    "entropy": 0.5623,
    "truncated": False,
}
EXPLAINED = ANSWER | {"explanation": "it breaks", "explanation_score": -0.5}
FAILED = {"id": "b", "error": {"code": "empty_text", "message": "the text is empty"}}


def scored(id_: str, score: float, rank: int) -> dict[str, Any]:
    return EXPLAINED | {"id": id_, "acquisition_score": score, "rank": rank}


def body(*rows: dict[str, Any], **more: Any) -> str:
    return json.dumps({"model_version": "5f0c", "results": rows, **more})


def test_answers_and_failures_keep_their_places() -> None:
    response = ClassifyResponse.model_validate_json(body(ANSWER, FAILED, ANSWER))
    assert [type(result) for result in response] == [Classification, ItemFailure, Classification]
    assert (len(response), response.model_version) == (3, "5f0c")
    assert response[0] == response.answers[1]
    assert [(failure.id, failure.error.code) for failure in response.failures] == [("b", "empty_text")]


def test_ok_says_whether_every_item_was_answered() -> None:
    assert ClassifyResponse.model_validate_json(body(ANSWER)).ok
    assert not ClassifyResponse.model_validate_json(body(ANSWER, FAILED)).ok


def test_fields_of_a_newer_service_are_ignored() -> None:
    response = ClassifyResponse.model_validate_json(body(ANSWER | {"energy": 3}, served_by="gpu-7"))
    assert response[0] == ClassifyResponse.model_validate_json(body(ANSWER))[0]


def test_candidate_scores_are_there_only_where_candidates_were_asked_about() -> None:
    rows = EXPLAINED, EXPLAINED | {"candidate_scores": [-1, -2.5]}
    first, second = ExplainResponse.model_validate_json(body(*rows)).answers
    assert isinstance(first, Explanation)
    assert (first.candidate_scores, second.candidate_scores) == ((), (-1.0, -2.5))


def test_ranked_puts_the_item_to_ask_first_in_front() -> None:
    rows = scored("a", 0.1, 2), FAILED, scored("c", 0.3, 1)
    response = AcquisitionResponse.model_validate_json(body(*rows, normalization="pool"))
    assert [answer.id for answer in response.ranked] == ["c", "a"]
    assert response.selected is None


def test_a_service_that_does_not_name_its_acquisition_has_the_papers() -> None:
    older = body(scored("a", 0.1, 1), normalization="pool")
    newer = body(scored("a", -1.1, 1), normalization="pool", acquisition="standardized")
    assert AcquisitionResponse.model_validate_json(older).acquisition == "paper"
    assert AcquisitionResponse.model_validate_json(newer).acquisition == "standardized"


@pytest.mark.parametrize(
    "row",
    [
        {"id": "a"},
        ANSWER | {"entropy": "0.5"},
        ANSWER | {"entropy": float("nan")},
        {"id": "a", "error": "empty"},
    ],
)
def test_rows_that_the_documentation_does_not_know_are_refused(row: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ClassifyResponse.model_validate_json(body(row))


def test_results_cannot_be_changed() -> None:
    response = ClassifyResponse.model_validate_json(body(ANSWER))
    with pytest.raises(ValidationError, match="frozen"):
        response.model_version = "another"  # type: ignore[misc]
