"""Pools larger than one request: the misbehaving server takes 3 items at a time and scores a text by its length."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
import xal_client
from xal_client import AcquisitionResponse, AsyncXalClient, ItemFailure, ModelChanged, ServiceUnavailable
from xal_client.pool import Pool

from tests.clients.python.misbehaving import Behaviour, Handler, Misbehaving, Received, answer, hang, problem

Call = Callable[..., Any]


def test_ranks_and_selection_go_over_the_whole_pool(server: Misbehaving, call: Call) -> None:
    texts = ["bb", "a", "dddd", "", "ccc", "dddd", "eeeeee", "a"]
    response = call(server.url, "score_pool", texts, top_k=3)
    assert [result.id for result in response] == ["0", "1", "2", "3", "4", "5", "6", "7"]
    assert isinstance(response[3], ItemFailure)
    # Longest first; equal lengths in the pool's order.
    assert [answer.id for answer in response.ranked] == ["6", "2", "5", "4", "0", "1", "7"]
    assert [answer.rank for answer in response.ranked] == [1, 2, 3, 4, 5, 6, 7]
    assert response.selected == ("6", "2", "5")
    assert (response.normalization, response.model_version) == ("pool", "5f0c")


def test_a_pools_response_names_the_acquisition_of_its_parts() -> None:
    part = AcquisitionResponse(model_version="5f0c", results=(), normalization="pool", acquisition="standardized")
    assert Pool.of(["a", "b"], 1, None).merge([part, part]).acquisition == "standardized"


def test_requests_keep_the_services_limit_and_ask_for_comparable_scores(server: Misbehaving, call: Call) -> None:
    call(server.url, "score_pool", ["a"] * 7, lambda_=0.25, batch_size=1000)
    posts = [received for received in server.received if received.path == "/acquisition_score"]
    assert sorted(len(received.body["items"]) for received in posts) == [1, 3, 3]
    assert [received.body["options"] for received in posts] == [{"lambda": 0.25, "normalization": "pool"}] * 3


def test_smaller_batches_can_be_asked_for(server: Misbehaving, call: Call) -> None:
    call(server.url, "score_pool", (text for text in "abcde"), batch_size=2)
    posts = [received for received in server.received if received.path == "/acquisition_score"]
    assert sorted(len(received.body["items"]) for received in posts) == [1, 2, 2]


def test_a_model_that_changes_meanwhile_is_an_error(server: Misbehaving, call: Call) -> None:
    server.script.extend([answer("old"), answer("old"), answer("new")])
    with pytest.raises(ModelChanged, match="new, old"):
        call(server.url, "score_pool", ["a"] * 6)


@pytest.mark.parametrize(
    ("items", "options", "message"),
    [
        ([], {}, "empty"),
        (["a", {"id": "0", "text": "b"}], {}, "items 0 and 1 of the pool have the same id '0'"),
        (["a"], {"batch_size": 0}, "batch_size"),
        (["a"], {"top_k": 0}, "top_k"),
    ],
)
def test_a_wrong_pool_is_refused_before_anything_is_sent(
    items: list[Any], options: dict[str, Any], message: str, server: Misbehaving, call: Call
) -> None:
    with pytest.raises(ValueError, match=message):
        call(server.url, "score_pool", items, **options)
    assert server.received == []


def test_a_batch_that_fails_for_good_fails_the_call(server: Misbehaving, call: Call) -> None:
    server.script.extend([answer(), answer(), problem(503, Retry_After="500")])
    with pytest.raises(ServiceUnavailable):
        call(server.url, "score_pool", ["a"] * 6)


def test_a_failed_async_pool_leaves_no_request_under_way(server: Misbehaving) -> None:
    async def score() -> int:
        async with AsyncXalClient(server.url, timeout=20) as xal:
            with pytest.raises(xal_client.BadRequest):
                await xal.score_pool(["a"] * 9, concurrency=2)
            return len(asyncio.all_tasks())

    server.script.extend([answer(), hang(), problem(400)])
    assert asyncio.run(score()) == 1  # this one
    assert len(server.received) == 3  # the third batch was never sent


def test_the_async_pool_keeps_its_concurrency(server: Misbehaving) -> None:
    under_way = 0
    most = 0
    lock = threading.Lock()
    pair = threading.Barrier(2, timeout=10)  # opens only when two requests are under way together

    def counted() -> Behaviour:
        def behave(handler: Handler, received: Received) -> None:
            nonlocal under_way, most
            with lock:
                under_way += 1
                most = max(most, under_way)
            pair.wait()
            with lock:
                under_way -= 1
            answer()(handler, received)

        return behave

    async def score() -> Any:
        async with AsyncXalClient(server.url) as xal:
            return await xal.score_pool(["x" * n for n in range(1, 19)], concurrency=2)

    server.script.extend([answer(), *(counted() for _ in range(6))])
    response = asyncio.run(score())
    assert most == 2
    assert [result.id for result in response] == [str(n) for n in range(18)]
    assert [result.rank for result in response.answers] == list(range(18, 0, -1))
