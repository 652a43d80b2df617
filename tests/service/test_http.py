"""The gateway around an application that misbehaves: what a client sees, what is logged, what is cancelled."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.errors import QueueFull
from service.http import CURRENT, App, Gateway, Message, Receive, Scope, Send
from service.logs import JsonLines
from service.metrics import Metrics
from service.schemas import AcquisitionRequest, AnyRequest, ClassifyRequest, ExplainRequest
from service.settings import Settings

CANARY = "canary-4711"
BODY = json.dumps({"items": [{"text": CANARY}]}).encode()
JSON = {"Content-Type": "application/json"}


@dataclass
class Service:
    """The little that the gateway asks of a service."""

    settings: Settings
    ready: bool = True
    metrics: Metrics = field(default_factory=Metrics)

    async def describe(self) -> dict[str, Any]:
        return {}


@pytest.fixture
def make_service(tmp_path: Path) -> Callable[..., Service]:
    def make(*, ready: bool = True, **settings: Any) -> Service:
        return Service(Settings(model_dir=tmp_path, **settings), ready=ready)

    return make


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Callable[[], list[dict[str, Any]]]:
    """What the service's own log lines say."""
    caplog.set_level(logging.INFO, logger="xal")
    return lambda: [json.loads(JsonLines().format(record)) for record in caplog.records if record.name[:3] == "xal"]


async def read_body(receive: Receive) -> bytes:
    message = await receive()
    assert message["more_body"] is False
    return bytes(message["body"])


async def respond(send: Send, status: int, body: bytes = b"{}") -> None:
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": body})


async def echo(_: Scope, receive: Receive, send: Send) -> None:
    await respond(send, 200, await read_body(receive))


def answering(status: int) -> App:
    async def app(_: Scope, __: Receive, send: Send) -> None:
        await respond(send, status, CANARY.encode())

    return app


def ask(app: App, service: Service, method: str = "POST", path: str = "/classify", **request: Any) -> httpx.Response:
    async def main() -> httpx.Response:
        transport = httpx.ASGITransport(Gateway(app, lambda: service))
        async with httpx.AsyncClient(transport=transport, base_url="http://xal") as client:
            return await client.request(method, path, **request)

    return asyncio.run(main())


def post(app: App, service: Service, **more: Any) -> httpx.Response:
    return ask(app, service, **{"content": BODY, "headers": JSON, **more})


def check_problem(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert problem["status"] == status
    assert problem["request_id"] == response.headers["x-request-id"]
    assert CANARY not in response.text
    return problem


@pytest.mark.parametrize(
    ("path", "model"),
    [("/classify", ClassifyRequest), ("/explain", ExplainRequest), ("/acquisition_score", AcquisitionRequest)],
)
def test_the_app_gets_the_request_ready_and_a_body_of_the_same_shape_without_texts(
    make_service: Callable[..., Service], path: str, model: type[AnyRequest]
) -> None:
    requests: list[AnyRequest] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        requests.append(CURRENT.get().request)
        await echo(scope, receive, send)

    response = post(app, make_service(), path=path)
    assert requests == [model.model_validate_json(BODY)]
    assert model.model_validate_json(response.content)
    assert CANARY not in response.text


@pytest.mark.parametrize(("status", "seen"), [(400, 400), (404, 404), (413, 413), (500, 500), (502, 500), (503, 503)])
def test_an_error_of_the_framework_becomes_a_problem_without_its_words(
    make_service: Callable[..., Service], status: int, seen: int
) -> None:
    check_problem(post(answering(status), make_service()), seen)


def test_an_error_left_by_an_endpoint_is_the_answer(make_service: Callable[..., Service]) -> None:
    async def app(_: Scope, __: Receive, send: Send) -> None:
        CURRENT.get().error = QueueFull("9 items wait already", retry_after=2.1)
        await respond(send, 429)

    response = post(app, make_service())
    assert check_problem(response, 429)["detail"] == "9 items wait already"
    assert response.headers["retry-after"] == "3"


def test_an_exception_is_a_500_that_says_nothing_and_a_log_line_without_the_text(
    make_service: Callable[..., Service], log: Callable[[], list[dict[str, Any]]]
) -> None:
    async def app(_: Scope, __: Receive, ___: Send) -> None:
        raise ValueError(f"cannot digest {CANARY}")

    problem = check_problem(post(app, make_service()), 500)
    assert "ValueError" not in str(problem)
    failure, access = log()
    assert (failure["error"], failure["request_id"]) == ("ValueError", problem["request_id"])
    assert any("raise ValueError" in line for line in failure["trace"])
    assert access["status"] == 500
    assert CANARY not in json.dumps(log())


def test_an_app_that_answers_nothing_is_a_500(make_service: Callable[..., Service]) -> None:
    async def app(_: Scope, __: Receive, ___: Send) -> None:
        return None

    check_problem(post(app, make_service()), 500)


@pytest.mark.parametrize(
    ("given", "kept"), [("abc-1.2:3_4", True), ("", False), ("two words", False), ("x" * 129, False), ("{}", False)]
)
def test_a_request_id_is_kept_if_it_is_plain_and_made_otherwise(
    make_service: Callable[..., Service], log: Callable[[], list[dict[str, Any]]], given: str, kept: bool
) -> None:
    response = post(echo, make_service(), headers={**JSON, "X-Request-Id": given})
    seen = response.headers["x-request-id"]
    assert (seen == given) is kept
    assert seen
    assert log()[-1]["request_id"] == seen


def test_the_access_log_is_one_line_with_the_route_and_not_the_path(
    make_service: Callable[..., Service], log: Callable[[], list[dict[str, Any]]]
) -> None:
    service = make_service()
    post(echo, service)
    ask(echo, service, "GET", f"/{CANARY}?q={CANARY}")
    ask(answering(200), service, "GET", "/livez")
    fields = [{key: line[key] for key in ("method", "route", "status", "items")} for line in log()]
    assert fields == [
        {"method": "POST", "route": "/classify", "status": 200, "items": 1},
        {"method": "GET", "route": "other", "status": 404, "items": None},
    ]
    assert CANARY not in str(log())


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/classify", 405, "POST, OPTIONS"),
        ("POST", "/model", 405, "GET, HEAD, OPTIONS"),
        ("DELETE", "/livez", 405, "GET, HEAD, OPTIONS"),
        ("POST", "/classify/", 404, None),
        ("GET", "/classify_batch", 404, None),
    ],
)
def test_wrong_paths_and_methods_do_not_reach_the_app(
    make_service: Callable[..., Service], method: str, path: str, status: int, allow: str | None
) -> None:
    response = ask(answering(200), make_service(), method, path)
    check_problem(response, status)
    assert response.headers.get("allow") == allow


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "application/json; charset=UTF-8"}, 200),
        ({"Content-Type": "Application/JSON"}, 200),
        ({}, 415),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Type": "application/json; charset=latin-1"}, 415),
        ({**JSON, "Content-Encoding": "gzip"}, 415),
    ],
)
def test_only_uncompressed_utf8_json_is_read(
    make_service: Callable[..., Service], headers: dict[str, str], status: int
) -> None:
    assert post(echo, make_service(), headers=headers).status_code == status


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        ("Bearer one", 200),
        ("bearer two", 200),
        ("Bearer three", 401),
        ("Bearer onetwo", 401),
        ("Bearer ", 401),
        ("Basic one", 401),
        ("one", 401),
        ("", 401),
    ],
)
def test_with_api_keys_only_a_bearer_of_one_is_answered(
    make_service: Callable[..., Service], authorization: str, status: int
) -> None:
    response = post(echo, make_service(api_keys="one,two"), headers={**JSON, "Authorization": authorization})
    assert response.status_code == status
    assert ("www-authenticate" in response.headers) is (status == 401)


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/healthz", "/metrics"])
def test_probes_and_metrics_need_no_key(make_service: Callable[..., Service], path: str) -> None:
    service = make_service(api_keys="one", ready=False)
    assert ask(answering(200), service, "GET", path).status_code == 200
    assert ask(answering(200), service, "OPTIONS", "/classify").status_code == 200
    assert ask(answering(200), service, "GET", "/model").status_code == 401
    assert ask(answering(200), service, "GET", "/docs.json").status_code == 401


def test_a_service_that_is_not_ready_says_503_and_when_to_come_back(make_service: Callable[..., Service]) -> None:
    response = post(echo, make_service(ready=False))
    check_problem(response, 503)
    assert response.headers["retry-after"] == "5"


def exchange(gateway: Gateway, messages: AsyncIterator[Message], headers: dict[str, str]) -> list[Message]:
    """One POST /classify by hand, with the messages that a server would deliver; what is sent back."""

    async def main() -> list[Message]:
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/classify",
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        }
        receive: Callable[[], Awaitable[Message]] = messages.__anext__
        await asyncio.wait_for(gateway(scope, receive, send), timeout=5)
        return sent

    return asyncio.run(main())


def test_a_body_without_a_length_is_cut_off_at_the_limit(make_service: Callable[..., Service]) -> None:
    taken = 0

    async def endless() -> AsyncIterator[Message]:
        nonlocal taken
        while True:
            taken += 1
            yield {"type": "http.request", "body": b"x" * 1000, "more_body": True}

    sent = exchange(Gateway(echo, lambda: make_service(max_body_bytes=5000)), endless(), JSON)
    assert sent[0]["status"] == 413
    assert taken == 6


def test_a_declared_length_over_the_limit_is_refused_unread(make_service: Callable[..., Service]) -> None:
    async def unread() -> AsyncIterator[Message]:
        raise AssertionError("the body was read")
        yield {}

    headers = {**JSON, "Content-Length": "5001"}
    sent = exchange(Gateway(echo, lambda: make_service(max_body_bytes=5000)), unread(), headers)
    assert sent[0]["status"] == 413


def test_a_body_that_does_not_arrive_in_time_is_a_504(make_service: Callable[..., Service]) -> None:
    async def slow() -> AsyncIterator[Message]:
        yield {"type": "http.request", "body": b"{", "more_body": True}
        await asyncio.sleep(60)

    sent = exchange(Gateway(echo, lambda: make_service(deadline_seconds=0.05)), slow(), JSON)
    assert sent[0]["status"] == 504


def test_the_app_is_cancelled_when_the_client_hangs_up(
    make_service: Callable[..., Service], log: Callable[[], list[dict[str, Any]]]
) -> None:
    cancelled = False
    running = asyncio.Event()

    async def app(_: Scope, receive: Receive, __: Send) -> None:
        nonlocal cancelled
        await read_body(receive)
        running.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled = True
            raise

    async def leaving() -> AsyncIterator[Message]:
        yield {"type": "http.request", "body": BODY, "more_body": False}
        await running.wait()
        yield {"type": "http.disconnect"}

    sent = exchange(Gateway(app, lambda: make_service()), leaving(), JSON)
    assert (sent, cancelled) == ([], True)
    assert log()[-1]["status"] == 499


def test_paths_of_the_users_making_do_not_grow_the_metrics(make_service: Callable[..., Service]) -> None:
    service = make_service()
    for number in range(20):
        ask(echo, service, "GET", f"/{number}")
    post(echo, service)
    text = service.metrics.exposition().decode()
    totals = [line for line in text.splitlines() if line.startswith("xal_requests_total")]
    assert sorted(totals) == [
        'xal_requests_total{route="/classify",status="2xx"} 1.0',
        'xal_requests_total{route="other",status="4xx"} 20.0',
    ]
