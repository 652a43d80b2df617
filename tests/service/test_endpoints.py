"""Endpoints in this process: what becomes of an exception that nobody foresaw."""

import asyncio
import json
import logging

import pytest

from service.app import _respond
from service.errors import InternalError
from service.http import CURRENT, Exchange
from service.logs import JsonLines

CANARY = "canary-4711"


@pytest.mark.parametrize("body", [{"score": float("nan")}, ValueError(CANARY)])
def test_an_answer_that_fails_or_is_no_json_is_a_500_logged_without_its_message(
    body: dict[str, float] | Exception, caplog: pytest.LogCaptureFixture
) -> None:
    exchange = Exchange(id="r1", path="/classify", route="/classify", method="POST", deadline=0.0)

    async def answer() -> dict[str, float]:
        if isinstance(body, Exception):
            raise body
        return body

    async def main() -> int:
        CURRENT.set(exchange)
        return (await _respond(answer())).status_code

    with caplog.at_level(logging.ERROR, logger="xal"):
        assert asyncio.run(main()) == 500
    assert isinstance(exchange.error, InternalError)
    line = json.loads(JsonLines().format(caplog.records[0]))
    assert (line["request_id"], line["error"]) == ("r1", "ValueError")
    assert CANARY not in str(line)
