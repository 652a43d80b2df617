"""A real HTTP server on this machine that answers as it is told: well, badly, late, or not at all."""

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL_VERSION = "5f0c"
MODEL: dict[str, Any] = {
    "model_version": MODEL_VERSION,
    "task": "durability",
    "labels": ["bad", "good"],
    "fields": ["text"],
    "trained_on_explanations": True,
    "pool_size": 50,
    "decoding": {"num_beams": 4, "max_new_tokens": 60},
    "limits": {
        "max_items": 3,
        "max_body_bytes": 10_000,
        "max_candidates": 16,
        "max_num_beams": 8,
        "max_new_tokens": 256,
        "max_input_tokens": 128,
        "deadline_seconds": 60.0,
    },
    "metrics": {"macro_f1": 0.5},
    "lineage": {"round": 3},
    "device": "cpu",
}


@dataclass(frozen=True)
class Received:
    """One request as it arrived; at: seconds of time.monotonic()."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any
    at: float


Behaviour = Callable[["Handler", Received], None]


@dataclass
class Misbehaving:
    """url: where it listens. script: what to do with the next requests; afterwards it behaves."""

    url: str
    script: deque[Behaviour] = field(default_factory=deque)
    received: list[Received] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)  # ends every `hang`


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: Misbehaving

    def do_GET(self) -> None:
        self._serve(None)

    def do_POST(self) -> None:
        self._serve(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def _serve(self, body: Any) -> None:
        received = Received(self.command, self.path, dict(self.headers), body, time.monotonic())
        self.state.received.append(received)
        behave = self.state.script.popleft() if self.state.script else answer()
        behave(self, received)

    def reply(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def misbehaving_server() -> Iterator[Misbehaving]:
    handler = type("BoundHandler", (Handler,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    state = Misbehaving(f"http://127.0.0.1:{server.server_address[1]}")
    handler.state = state  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield state
    finally:
        state.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


def answer(version: str = MODEL_VERSION) -> Behaviour:
    """What the documented API answers. A text's acquisition score is its length; an empty text is a failed item."""

    def row(item: Mapping[str, Any], index: int, path: str) -> dict[str, Any]:
        id_ = item.get("id", str(index))
        if not item["text"]:
            return {"id": id_, "error": {"code": "empty_text", "message": "the text is empty"}}
        result = {"id": id_, "label": "bad", "probabilities": {"bad": 0.75, "good": 0.25}, "entropy": 0.5623}
        result |= {"truncated": False}
        if path != "/classify":
            result |= {"explanation": "it breaks", "explanation_score": -0.5}
        if path == "/acquisition_score":
            result |= {"acquisition_score": float(len(item["text"])), "rank": index + 1}
        return result

    def behave(handler: Handler, received: Received) -> None:
        if received.path == "/model":
            body: dict[str, Any] = MODEL | {"model_version": version}
        else:
            rows = [row(item, index, received.path) for index, item in enumerate(received.body["items"])]
            body = {"model_version": version, "results": rows}
            if received.path == "/acquisition_score":
                body |= {"normalization": "pool"}
        headers = {"Content-Type": "application/json", "X-Request-Id": received.headers.get("X-Request-Id", "made-up")}
        handler.reply(200, json.dumps(body).encode(), headers)

    return behave


def reply(status: int, body: bytes = b"", **headers: str) -> Behaviour:
    """Answer this; header names are given with _ for -."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler, _: handler.reply(status, body, named)


def problem(status: int, title: str = "Refused", **headers: str) -> Behaviour:
    """Answer with problem details."""
    body = {"type": "urn:xal:problem:x", "title": title, "status": status, "detail": "why", "instance": "/classify"}
    body["request_id"] = "r1"
    return reply(status, json.dumps(body).encode(), Content_Type="application/problem+json", **headers)


def hang() -> Behaviour:
    """Never answer."""

    def behave(handler: Handler, _received: Received) -> None:
        handler.state.released.wait(30)
        handler.close_connection = True

    return behave


def drop() -> Behaviour:
    """Close the connection without an answer."""

    def behave(handler: Handler, _received: Received) -> None:
        handler.close_connection = True

    return behave


def break_off() -> Behaviour:
    """Close the connection in the middle of the answer."""

    def behave(handler: Handler, _received: Received) -> None:
        handler.reply(200, b'{"model_version": ', {"Content-Length": "500", "Content-Type": "application/json"})
        handler.close_connection = True

    return behave
