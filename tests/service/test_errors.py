"""Errors as problem details (RFC 9457)."""

import json

import pytest

from service.errors import (
    Fault,
    InternalError,
    InvalidRequest,
    MethodNotAllowed,
    NotReady,
    QueueFull,
    Unauthorized,
    error_of_status,
    problem,
)


def test_a_problem_has_the_members_of_rfc_9457_and_the_request_id() -> None:
    error = InvalidRequest("the body has 1 fault", faults=[Fault("/items/0/text", "Input should be a valid string")])
    assert json.loads(problem(error, instance="/classify", request_id="r1")) == {
        "type": "urn:xal:problem:invalid_request",
        "title": "Unprocessable Entity",
        "status": 422,
        "detail": "the body has 1 fault",
        "instance": "/classify",
        "request_id": "r1",
        "errors": [{"pointer": "/items/0/text", "detail": "Input should be a valid string"}],
    }


def test_errors_stand_only_where_faults_are_known() -> None:
    assert "errors" not in json.loads(problem(InternalError(), instance="/", request_id="r"))


@pytest.mark.parametrize(("seconds", "header"), [(0.0, "1"), (0.2, "1"), (3.2, "4"), (60.0, "60")])
def test_retry_after_is_whole_seconds_rounded_up_and_at_least_one(seconds: float, header: str) -> None:
    assert QueueFull("full", retry_after=seconds).headers == {"Retry-After": header}


def test_each_error_brings_the_headers_that_its_status_asks_for() -> None:
    assert MethodNotAllowed(["POST", "OPTIONS"]).headers == {"Allow": "POST, OPTIONS"}
    assert Unauthorized("key").headers["WWW-Authenticate"].startswith("Bearer")
    assert NotReady("starting").headers == {}


@pytest.mark.parametrize(("status", "becomes"), [(400, 400), (418, 418), (500, 500), (502, 500), (503, 503)])
def test_an_answer_of_the_framework_keeps_its_status_unless_it_tells_of_the_inside(status: int, becomes: int) -> None:
    assert error_of_status(status).status == becomes


def test_a_framework_503_says_when_to_come_back() -> None:
    assert error_of_status(503).headers == {"Retry-After": "5"}
