"""The clients against the real service."""

import asyncio
import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import xal_client
from xal_client import (
    APIStatusError,
    AsyncXalClient,
    Classification,
    ClassifyResponse,
    ConnectionFailed,
    DeadlineExceeded,
    Item,
    ItemFailure,
    ServiceUnavailable,
    TooManyRequests,
    UnprocessableContent,
    XalClient,
)
from xal_client.protocol import status_error

from tests.service_process import started_service

Call = Callable[..., Any]
TEXTS = ["It stopped working after two days.", "Works like a charm.", "Too heavy to carry."]
KEY = "s3cret"


@dataclass(frozen=True)
class Strict:
    """A service that asks for a key and takes very little. refusals: of a client that asked while it was starting."""

    url: str
    refusals: list[APIStatusError]
    first: ClassifyResponse  # what a client got that had asked before the service was even there


@pytest.fixture(scope="module")
def strict(model_dir: Path) -> Iterator[Strict]:
    limits = {
        "XAL_API_KEYS": KEY,
        "XAL_MAX_ITEMS": "4",
        "XAL_MAX_QUEUE_ITEMS": "4",
        "XAL_MAX_BODY_BYTES": "2048",
        "XAL_EXPLAIN_BATCH_TOKENS": "1",  # one text after the other
        "XAL_DEADLINE_SECONDS": "6",
        "XAL_MAX_NEW_TOKENS": "4096",
    }
    refusals: list[APIStatusError] = []
    with started_service({"XAL_MODEL_DIR": str(model_dir), **limits}) as service, ThreadPoolExecutor(1) as thread:
        with (
            XalClient(service.url, api_key=KEY, timeout=90, max_attempts=200) as patient,
            XalClient(service.url, api_key=KEY, timeout=90, max_attempts=1) as hasty,
        ):
            first = thread.submit(patient.classify, TEXTS)
            while not first.done():
                try:
                    hasty.classify(TEXTS)
                except APIStatusError as error:
                    refusals.append(error)
                except ConnectionFailed:  # not listening yet
                    pass
                time.sleep(0.05)
        yield Strict(service.url, refusals, first.result())
        os.killpg(service.process.pid, signal.SIGKILL)  # it may still write explanations that nobody waits for


def test_classify_answers_each_item(service_url: str, call: Call) -> None:
    response = call(service_url, "classify", TEXTS)
    assert response.ok
    for index, result in enumerate(response):
        assert type(result) is Classification
        assert result.id == str(index)
        assert set(result.probabilities) == {"negative", "neutral", "positive"}
        assert math.fsum(result.probabilities.values()) == pytest.approx(1)
        assert result.label == max(result.probabilities, key=result.probabilities.__getitem__)
        entropy = -math.fsum(p * math.log(p) for p in result.probabilities.values() if p)
        assert result.entropy == pytest.approx(entropy, abs=1e-5)


def test_explain_answers_with_reasons_and_scores_candidates(service_url: str, call: Call) -> None:
    items = [Item(id="a", text=TEXTS[0], candidates=("It broke early.", "Nice colour.")), Item(id="b", text=TEXTS[1])]
    first, second = call(service_url, "explain", items, num_beams=2, max_new_tokens=4).answers
    assert first.explanation_score < 0
    assert len(first.candidate_scores) == 2
    assert all(score < 0 for score in first.candidate_scores)
    assert second.candidate_scores == ()


def test_acquisition_scores_rank_and_select(service_url: str, call: Call) -> None:
    response = call(service_url, "acquisition_score", [*TEXTS, ""], lambda_=0.25, normalization="request", top_k=2)
    assert response.normalization == "request"
    by_score = sorted(response.answers, key=lambda answer: -answer.acquisition_score)
    assert [answer.rank for answer in by_score] == [1, 2, 3]
    assert response.ranked == tuple(by_score)
    assert response.selected == tuple(answer.id for answer in by_score[:2])
    # Shares of the request's own sums: they add up to one.
    assert math.fsum(answer.acquisition_score for answer in by_score) == pytest.approx(1)


def test_a_bad_item_fails_alone(service_url: str, call: Call) -> None:
    items = [TEXTS[0], "", {"id": "x", "fields": {"colour": "red"}}, TEXTS[1]]
    response = call(service_url, "classify", items)
    assert [type(result) for result in response] == [Classification, ItemFailure, ItemFailure, Classification]
    assert [failure.id for failure in response.failures] == ["1", "x"]
    assert response.failures[0].error.code == "empty_text"
    assert response.failures[1].error.code in ("missing_field", "unknown_field")
    assert [response[0], response[3].model_copy(update={"id": "1"})] == list(call(service_url, "classify", TEXTS[:2]))


def test_records_that_are_no_texts_fail_alone(service_url: str, call: Call) -> None:
    items = [TEXTS[0], {"text": None}, Item(fields={"text": None}), "cut \ud83d", Item(), TEXTS[1]]
    response = call(service_url, "score_pool", items, batch_size=4)
    assert [failure.id for failure in response.failures] == ["1", "2", "3", "4"]
    codes = [failure.error.code for failure in response.failures]
    assert codes == ["missing_field", "missing_field", "invalid_text", "missing_field"]
    assert [answer.id for answer in response.answers] == ["0", "5"]


def test_model_and_probes(service_url: str, call: Call) -> None:
    info = call(service_url, "model")
    assert info.labels == ("negative", "neutral", "positive")
    assert info.fields == ("text",)
    assert (info.pool_size, info.conditioning, info.acquisition) == (50, "none", "paper")
    assert info.model_version == call(service_url, "classify", TEXTS).model_version
    assert call(service_url, "is_ready") is True
    assert call(service_url, "is_live") is True


def test_a_request_id_comes_back_and_is_made_up_where_missing(service_url: str, call: Call) -> None:
    assert call(service_url, "classify", TEXTS, request_id="job-7.a_b:c").request_id == "job-7.a_b:c"
    assert len(call(service_url, "classify", TEXTS).request_id) >= 8


def test_a_pool_in_many_requests_scores_as_in_one(service_url: str, call: Call) -> None:
    texts = [f"I bought {number} of these." for number in range(10)] + [""]
    whole = call(service_url, "acquisition_score", texts, normalization="pool", top_k=4)
    pieces = call(service_url, "score_pool", texts, batch_size=3, top_k=4)
    assert pieces.selected == whole.selected
    assert [result.id for result in pieces] == [result.id for result in whole]
    assert [result.rank for result in pieces.answers] == [result.rank for result in whole.answers]
    for piece, one in zip(pieces.answers, whole.answers, strict=True):
        assert piece.acquisition_score == pytest.approx(one.acquisition_score, rel=1e-4)


INVALID: list[tuple[str, list[Any], dict[str, Any], str]] = [
    ("classify", [], {}, "/items"),
    ("classify", [{"text": "a", "colour": "red"}], {}, "/items/0"),
    ("classify", [{"id": "x", "text": "a"}, {"id": "x", "text": "b"}], {}, "/items/1/id"),
    ("classify", [{"text": "a", "fields": {"text": "a"}}], {}, "/items/0"),
    ("explain", ["a"], {"num_beams": 0}, "/options/num_beams"),
    ("explain", ["a"], {"num_beams": 1000}, "/options/num_beams"),
    ("explain", ["a"], {"max_new_tokens": 10**6}, "/options/max_new_tokens"),
    ("acquisition_score", ["a"], {"lambda_": -1.0}, "/options/lambda"),
    ("acquisition_score", ["a"], {"normalization": "none"}, "/options/normalization"),
    ("acquisition_score", ["a"], {"top_k": 0}, "/options/top_k"),
]


@pytest.mark.parametrize(("method", "items", "options", "pointer"), INVALID)
def test_a_request_of_the_wrong_shape_names_its_fault(
    method: str, items: list[Any], options: dict[str, Any], pointer: str, service_url: str
) -> None:
    with XalClient(service_url) as xal, pytest.raises(UnprocessableContent) as caught:
        getattr(xal, method)(items, **options)
    assert [fault.pointer for fault in caught.value.errors] == [pointer]
    assert caught.value.errors[0].detail


TEXT = {"Content-Type": "text/plain"}
JSON = {"Content-Type": "application/json"}
RAW: list[tuple[type[APIStatusError], str, str, dict[str, Any]]] = [
    (xal_client.BadRequest, "POST", "/classify", {"content": "{", "headers": JSON}),
    (xal_client.NotFound, "POST", "/clasify", {"content": "{}", "headers": JSON}),
    (xal_client.MethodNotAllowed, "GET", "/classify", {}),
    (xal_client.UnsupportedMediaType, "POST", "/classify", {"content": "{}", "headers": TEXT}),
]


@pytest.mark.parametrize(("error", "method", "path", "request_"), RAW, ids=lambda value: getattr(value, "__name__", ""))
def test_errors_that_only_others_clients_cause(
    error: type[APIStatusError], method: str, path: str, request_: dict[str, Any], service_url: str
) -> None:
    response = httpx.request(method, service_url + path, **request_)
    assert response.headers["Content-Type"] == "application/problem+json"
    read = status_error(response)
    assert type(read) is error
    assert read.detail
    assert read.problem.instance == path
    assert read.request_id == response.headers["X-Request-Id"]


def test_a_wrong_base_url_is_not_found(service_url: str, call: Call) -> None:
    with pytest.raises(xal_client.NotFound):
        call(f"{service_url}/v2", "classify", TEXTS)


def test_a_starting_service_says_so_and_is_waited_for(strict: Strict) -> None:
    assert {(type(refusal), refusal.retry_after) for refusal in strict.refusals} == {(ServiceUnavailable, 5.0)}
    assert strict.first.ok


@pytest.mark.parametrize("key", [None, "wrong"])
def test_without_the_key_nothing_is_answered_but_probes(key: str | None, strict: Strict, call: Call) -> None:
    for method, arguments in (("classify", [TEXTS]), ("model", [])):
        with pytest.raises(xal_client.Unauthorized):
            call(strict.url, method, *arguments, client={"api_key": key})
    assert call(strict.url, "is_ready", client={"api_key": key}) is True


@pytest.mark.parametrize("items", [TEXTS * 2, ["long " * 100_000]], ids=["items", "bytes"])
def test_too_much_in_one_request_is_refused(items: list[str], strict: Strict, call: Call) -> None:
    with pytest.raises(xal_client.ContentTooLarge):
        call(strict.url, "classify", items, client={"api_key": KEY})


def test_a_pool_keeps_to_the_limit_of_the_service(strict: Strict, call: Call) -> None:
    texts = [*TEXTS, "I use it daily.", "The manual is missing.", "It is blue."]
    response = call(strict.url, "score_pool", texts, client={"api_key": KEY}, top_k=1)
    scores = [answer.acquisition_score for answer in response.answers]
    assert len(scores) == 6
    assert response.selected == (str(scores.index(max(scores))),)


def test_a_full_queue_refuses_and_patience_gets_through(strict: Strict) -> None:
    def explain(xal: XalClient) -> str:
        try:
            return f"{len(xal.explain(TEXTS).answers)} answers"
        except TooManyRequests as error:
            return "ask later" if (error.retry_after or 0) >= 1 else "no Retry-After"

    with ThreadPoolExecutor(8) as threads:
        with XalClient(strict.url, api_key=KEY, max_attempts=1) as hasty:
            outcomes = list(threads.map(explain, [hasty] * 16))
        assert set(outcomes) == {"3 answers", "ask later"}
        with XalClient(strict.url, api_key=KEY, max_attempts=50) as patient:
            assert list(threads.map(explain, [patient] * 8)) == ["3 answers"] * 8


def test_a_request_that_takes_too_long_is_a_deadline_exceeded(strict: Strict) -> None:
    with XalClient(strict.url, api_key=KEY, max_attempts=1) as xal, pytest.raises(DeadlineExceeded):
        xal.explain([*TEXTS, TEXTS[0]], num_beams=8, max_new_tokens=4096)  # minutes


def test_many_calls_at_once_from_one_event_loop(service_url: str) -> None:
    async def ask() -> list[Any]:
        async with AsyncXalClient(service_url) as xal:
            calls = (xal.classify([{"id": str(number), "text": TEXTS[number % 3]}]) for number in range(64))
            return await asyncio.gather(*calls)

    responses = asyncio.run(ask())
    assert [response[0].id for response in responses] == [str(number) for number in range(64)]
