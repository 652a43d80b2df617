"""The two clients against a server on this machine that misbehaves as it is told."""

import inspect
import pickle
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from typing import Any

import httpx
import pytest
import xal_client
from xal_client import (
    APIStatusError,
    AsyncXalClient,
    ConnectionFailed,
    Item,
    ItemFailure,
    ServiceUnavailable,
    TimedOut,
    TooManyRequests,
    UnexpectedResponse,
    XalClient,
)

from tests.clients.python.misbehaving import Misbehaving, answer, break_off, drop, hang, problem, reply

Call = Callable[..., Any]


def test_a_call_sends_the_documented_request(server: Misbehaving, call: Call) -> None:
    items = ["too heavy", Item(id="b", text="fine", candidates=("why",)), {"id": "c", "text": ""}]
    response = call(server.url, "acquisition_score", items, lambda_=0.0, normalization="pool", top_k=2)
    (received,) = server.received
    assert (received.method, received.path) == ("POST", "/acquisition_score")
    assert received.headers["Content-Type"] == "application/json"
    assert received.headers["User-Agent"] == f"xal-client/{xal_client.__version__}"
    assert "Authorization" not in received.headers
    assert received.body == {
        "items": [{"text": "too heavy"}, {"id": "b", "text": "fine", "candidates": ["why"]}, {"id": "c", "text": ""}],
        "options": {"lambda": 0.0, "normalization": "pool", "top_k": 2},
    }
    assert [result.id for result in response] == ["0", "b", "c"]
    assert isinstance(response[2], ItemFailure)


def test_options_not_given_are_left_to_the_service(server: Misbehaving, call: Call) -> None:
    call(server.url, "explain", ["a"])
    call(server.url, "explain", ["a"], num_beams=2)
    call(server.url, "explain", ["a"], max_new_tokens=9)
    assert [received.body.get("options") for received in server.received] == [
        None,
        {"num_beams": 2},
        {"max_new_tokens": 9},
    ]


def test_the_api_key_goes_out_as_a_bearer_token(server: Misbehaving, call: Call) -> None:
    call(server.url, "classify", ["a"], client={"api_key": "s3cret"})
    assert server.received[0].headers["Authorization"] == "Bearer s3cret"


def test_a_request_id_is_the_same_in_every_attempt_and_in_the_response(server: Misbehaving, call: Call) -> None:
    server.script.append(problem(503))
    response = call(server.url, "classify", ["a"], request_id="job-7")
    assert [received.headers["X-Request-Id"] for received in server.received] == ["job-7", "job-7"]
    assert response.request_id == "job-7"


def test_a_request_id_that_the_service_would_replace_is_refused(server: Misbehaving, call: Call) -> None:
    with pytest.raises(ValueError, match="request_id"):
        call(server.url, "classify", ["a"], request_id="my job")
    assert server.received == []


def test_a_path_in_the_base_url_is_kept(server: Misbehaving, call: Call) -> None:
    call(f"{server.url}/models/a/", "classify", ["a"])
    assert server.received[0].path == "/models/a/classify"


def test_text_of_any_script_arrives(server: Misbehaving, call: Call) -> None:
    call(server.url, "classify", ["schön", "重い", "\U0001f50b"])
    assert server.received[0].body["items"] == [{"text": "schön"}, {"text": "重い"}, {"text": "\U0001f50b"}]


def test_half_a_surrogate_pair_arrives_as_it_is(server: Misbehaving, call: Call) -> None:
    items = ["重い", "cut \ud83d", Item(text="\\\udc00", candidates=('\ud83d"',))]
    call(server.url, "explain", items)
    assert server.received[0].body["items"] == [
        {"text": "重い"},
        {"text": "cut \ud83d"},
        {"text": "\\\udc00", "candidates": ['\ud83d"']},
    ]


@pytest.mark.parametrize("value", [float("nan"), {"a set"}])
def test_what_json_cannot_hold_is_refused(value: Any, server: Misbehaving, call: Call) -> None:
    with pytest.raises((ValueError, TypeError)):
        call(server.url, "classify", [{"text": value}])
    assert server.received == []


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_passing_refusal_is_tried_again(status: int, server: Misbehaving, call: Call) -> None:
    server.script.append(problem(status))
    assert call(server.url, "classify", ["a"]).ok
    assert [received.body for received in server.received] == [{"items": [{"text": "a"}]}] * 2


def test_retry_after_in_seconds_is_waited_for(server: Misbehaving, call: Call) -> None:
    server.script.append(problem(429, Retry_After="1"))
    assert call(server.url, "classify", ["a"]).ok
    first, second = server.received
    assert 1.0 <= second.at - first.at < 5.0


def test_retry_after_as_a_date_is_waited_for(server: Misbehaving) -> None:
    # Dates have whole seconds, so two seconds ahead is between one and two after the answer's own Date.
    server.script.append(reply(429, Retry_After=formatdate(time.time() + 2, usegmt=True)))
    with XalClient(server.url) as xal:
        assert xal.classify(["a"]).ok
    first, second = server.received
    assert 1.0 <= second.at - first.at < 5.0


def test_retry_after_beyond_the_timeout_raises_at_once(server: Misbehaving, call: Call) -> None:
    server.script.append(problem(503, Retry_After="30"))
    start = time.monotonic()
    with pytest.raises(ServiceUnavailable) as caught:
        call(server.url, "classify", ["a"], client={"timeout": 5})
    assert time.monotonic() - start < 4
    assert caught.value.retry_after == 30
    assert len(server.received) == 1


def test_max_attempts_counts_the_first_attempt_too(server: Misbehaving, call: Call) -> None:
    server.script.extend([problem(429)] * 3)
    with pytest.raises(TooManyRequests) as caught:
        call(server.url, "classify", ["a"], client={"max_attempts": 3})
    assert len(server.received) == 3
    assert "gave up after 3 attempt(s)" in caught.value.__notes__[0]


@pytest.mark.parametrize("behaviour", [drop(), break_off()], ids=["before the answer", "within the answer"])
def test_a_broken_connection_is_tried_again(behaviour: Any, server: Misbehaving, call: Call) -> None:
    server.script.append(behaviour)
    assert call(server.url, "classify", ["a"]).ok
    assert len(server.received) == 2


def test_a_connection_that_keeps_breaking_raises_connection_failed(server: Misbehaving, call: Call) -> None:
    server.script.extend([drop(), drop()])
    with pytest.raises(ConnectionFailed):
        call(server.url, "classify", ["a"], client={"max_attempts": 2})


def test_a_service_that_is_not_there_is_tried_again_and_named(call: Call) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(ConnectionFailed, match=f"POST {url}/classify") as caught:
        call(url, "classify", ["a"], client={"max_attempts": 2})
    assert isinstance(caught.value.__cause__, httpx.ConnectError)
    assert "gave up after 2 attempt(s)" in caught.value.__notes__[0]


def test_a_service_that_never_answers_raises_timed_out_in_time(server: Misbehaving, call: Call) -> None:
    server.script.append(hang())
    start = time.monotonic()
    with pytest.raises(TimedOut):
        call(server.url, "classify", ["a"], client={"timeout": 2.0})
    assert 2.0 <= time.monotonic() - start < 20.0
    assert len(server.received) == 1


def test_the_timeout_spans_all_attempts(server: Misbehaving, call: Call) -> None:
    server.script.extend([problem(503), hang()])
    start = time.monotonic()
    with pytest.raises(TimedOut):
        call(server.url, "classify", ["a"], client={"timeout": 3.0})
    assert 3.0 <= time.monotonic() - start < 20.0
    assert len(server.received) == 2


STATUS_ERRORS = [
    (400, xal_client.BadRequest),
    (401, xal_client.Unauthorized),
    (404, xal_client.NotFound),
    (405, xal_client.MethodNotAllowed),
    (413, xal_client.ContentTooLarge),
    (415, xal_client.UnsupportedMediaType),
    (422, xal_client.UnprocessableContent),
    (500, xal_client.InternalServerError),
]


@pytest.mark.parametrize(("status", "error"), STATUS_ERRORS)
def test_a_lasting_refusal_raises_its_class_at_once(
    status: int, error: type[APIStatusError], server: Misbehaving, call: Call
) -> None:
    server.script.append(problem(status, "Refused"))
    with pytest.raises(error) as caught:
        call(server.url, "classify", ["a"])
    refusal = caught.value
    assert (refusal.status, refusal.title, refusal.detail, refusal.request_id) == (status, "Refused", "why", "r1")
    assert str(refusal) == f"{status} Refused: why (request id r1)"
    assert len(server.received) == 1


def test_the_faults_of_a_422_are_typed(server: Misbehaving, call: Call) -> None:
    body = b'{"title": "T", "status": 422, "errors": [{"pointer": "/items/0/text", "detail": "no string"}]}'
    server.script.append(reply(422, body, Content_Type="application/problem+json"))
    with pytest.raises(xal_client.UnprocessableContent) as caught:
        call(server.url, "classify", ["a"])
    assert caught.value.errors == (xal_client.Fault(pointer="/items/0/text", detail="no string"),)


def test_a_refusal_by_a_proxy_keeps_its_class(server: Misbehaving, call: Call) -> None:
    server.script.append(reply(413, b"<html>no</html>", Content_Type="text/html", X_Request_Id="p9"))
    with pytest.raises(xal_client.ContentTooLarge, match="text/html, not problem") as caught:
        call(server.url, "classify", ["a"])
    assert caught.value.request_id == "p9"


def test_an_undocumented_status_raises_the_base_class(server: Misbehaving, call: Call) -> None:
    server.script.append(reply(418))
    with pytest.raises(APIStatusError) as caught:
        call(server.url, "classify", ["a"])
    assert (type(caught.value), caught.value.status) == (APIStatusError, 418)


def rows(*ids: str) -> bytes:
    row = '{"id": "%s", "label": "bad", "probabilities": {"bad": 1.0}, "entropy": 0.0, "truncated": false}'
    return ('{"model_version": "v", "results": [' + ", ".join(row % id_ for id_ in ids) + "]}").encode()


@pytest.mark.parametrize(
    "behaviour",
    [
        reply(200, b"<html>welcome</html>", Content_Type="text/html"),
        reply(200, b"[]"),
        reply(200, b'{"results": []}'),
        reply(200, rows("0")),
        reply(200, rows("0", "1", "2")),
        reply(200, rows("1", "0")),
        reply(200, b"not gzip", Content_Encoding="gzip"),
        reply(204),
        reply(302, Location="http://localhost/login"),
    ],
    ids=["html", "a list", "no version", "too few", "too many", "other order", "bad gzip", "204", "redirect"],
)
def test_an_answer_that_is_not_documented_is_unexpected(behaviour: Any, server: Misbehaving, call: Call) -> None:
    server.script.append(behaviour)
    with pytest.raises(UnexpectedResponse):
        call(server.url, "classify", ["a", "b"])
    assert len(server.received) == 1


def test_an_unexpected_answer_is_kept_out_of_the_message(server: Misbehaving, call: Call) -> None:
    server.script.append(reply(200, b'{"echo": "my secret text"}'))
    with pytest.raises(UnexpectedResponse) as caught:
        call(server.url, "classify", ["my secret text"])
    assert "secret" not in str(caught.value)
    assert caught.value.body == '{"echo": "my secret text"}'


def test_model_tells_the_limits(server: Misbehaving, call: Call) -> None:
    info = call(server.url, "model")
    assert (info.model_version, info.labels, info.fields) == ("5f0c", ("bad", "good"), ("text",))
    assert (info.limits.max_items, info.decoding.num_beams, info.metrics) == (3, 4, {"macro_f1": 0.5})


@pytest.mark.parametrize(("method", "path"), [("is_ready", "/readyz"), ("is_live", "/livez")])
def test_probes_say_yes_no_or_what_is_wrong(method: str, path: str, server: Misbehaving, call: Call) -> None:
    server.script.extend([reply(200), problem(503), drop(), problem(404), reply(204)])
    assert call(server.url, method) is True
    assert call(server.url, method) is False
    assert call(server.url, method) is False
    with pytest.raises(xal_client.NotFound):
        call(server.url, method)
    with pytest.raises(UnexpectedResponse):
        call(server.url, method)
    assert [received.path for received in server.received] == [path] * 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"base_url": "localhost:3000"}, "http://localhost:3000"),
        ({"base_url": "http://"}, "http://localhost:3000"),
        ({"timeout": 0}, "timeout"),
        ({"max_attempts": 0}, "max_attempts"),
        ({"api_key": "two\nlines"}, "api_key"),
        ({"api_key": ""}, "api_key"),
    ],
)
def test_a_client_that_cannot_work_is_not_made(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        XalClient(**({"base_url": "http://localhost:3000"} | arguments))
    assert "two" not in str(caught.value)


def test_a_transport_can_be_put_in() -> None:
    transport = httpx.HTTPTransport(retries=0)
    with XalClient("http://127.0.0.1:9", transport=transport, max_attempts=1) as xal:
        assert xal.is_live() is False


@pytest.mark.parametrize("behaviour", [problem(429, Retry_After="9"), reply(200, b"[]")])
def test_errors_survive_pickling(behaviour: Any, server: Misbehaving) -> None:
    server.script.append(behaviour)
    with XalClient(server.url, max_attempts=1) as xal, pytest.raises(xal_client.XalClientError) as caught:
        xal.classify(["a"])
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (type(copy), str(copy), vars(copy)) == (type(caught.value), str(caught.value), vars(caught.value))


def test_a_retry_is_logged_without_the_text(server: Misbehaving, call: Call, caplog: pytest.LogCaptureFixture) -> None:
    server.script.append(problem(503))
    with caplog.at_level("DEBUG", logger="xal_client"):
        call(server.url, "classify", ["my secret text"], client={"api_key": "s3cret"})
    assert "attempt 1 failed (ServiceUnavailable)" in caplog.text
    assert "secret" not in caplog.text
    assert "s3cret" not in caplog.text


def test_both_clients_have_the_same_methods_and_arguments() -> None:
    def methods(client: type) -> dict[str, list[str]]:
        public = {name: member for name, member in vars(client).items() if callable(member) and name[0] != "_"}
        public["__init__"] = client.__init__  # type: ignore[misc]
        return {name: list(inspect.signature(member).parameters) for name, member in public.items()}

    expected = methods(XalClient)
    expected["score_pool"].append("concurrency")
    assert methods(AsyncXalClient) == expected


def test_one_client_serves_many_threads(server: Misbehaving) -> None:
    server.script.extend([answer()] * 3 + [problem(503)] * 2)
    with XalClient(server.url) as xal, ThreadPoolExecutor(8) as threads:
        responses = list(threads.map(lambda number: xal.classify([{"id": str(number), "text": "a"}]), range(24)))
    assert [response[0].id for response in responses] == [str(number) for number in range(24)]
