"""A chat API on this machine that answers over real HTTP, keeps its own books, and misbehaves when told to."""

import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any


@dataclass(frozen=True)
class Turn:
    """How one request is answered. body: sent as it is instead of a completion; drop: hang up without any."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    content: str | None = "  Because it\n says so.  "
    finish_reason: str = "stop"
    refusal: str | None = None
    body: str | None = None
    delay_s: float = 0.0
    drop: bool = False
    drip_s: float = 0.0  # pause after each tenth of the answer
    usage: bool = True
    bills: bool | None = None  # None: for answers with status 200 only


OK = Turn()


class ChatServer:
    """Context manager. behave: one turn for all requests, or (n, prompt) -> turn of the n-th request, counted from 0.

    Every request that is billed costs ``prompt_tokens`` + ``completion_tokens``. models: what it lists, None for a
    server that cannot list its models.
    """

    def __init__(
        self,
        behave: Turn | Callable[[int, str], Turn] = OK,
        prompt_tokens: int = 10,
        completion_tokens: int = 5,
        models: Sequence[str] | None = None,
    ) -> None:
        self.prompts: list[str] = []
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.arrived: list[float] = []
        self.billed_tokens = 0
        self.parallel = 0
        self.most_parallel = 0
        self._behave = behave
        self._usage = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
        self._lock = threading.Lock()
        chat = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # head and body in one packet, or the client's kernel delays its acknowledgement by 40 ms

            def do_GET(self) -> None:
                listed = {"object": "list", "data": [{"id": name, "object": "model"} for name in models or ()]}
                body = json.dumps(listed).encode()
                self.send_response(404 if models is None else 200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                chat._answer(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64  # with the usual 5 some of many clients at once wait a second for a second try

        self._http = Server(("127.0.0.1", 0), Handler)
        self.base_url = f"http://127.0.0.1:{self._http.server_port}/v1"

    def __enter__(self) -> "ChatServer":
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.shutdown()
        self._http.server_close()

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        request = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        prompt = request["messages"][-1]["content"]
        with self._lock:
            turn = self._behave if isinstance(self._behave, Turn) else self._behave(len(self.prompts), prompt)
            self.prompts.append(prompt)
            self.requests.append(request | {"path": handler.path})
            self.keys.append(handler.headers["Authorization"])
            self.arrived.append(time.monotonic())
            self.parallel += 1
            self.most_parallel = max(self.most_parallel, self.parallel)
            if turn.bills if turn.bills is not None else turn.status == 200:
                self.billed_tokens += sum(self._usage.values())
        time.sleep(turn.delay_s)
        with self._lock:
            self.parallel -= 1
        try:
            self._send(handler, turn)
        except OSError:  # the client has given up waiting
            handler.close_connection = True

    def _send(self, handler: BaseHTTPRequestHandler, turn: Turn) -> None:
        if turn.drop:
            handler.close_connection = True
            return
        message = {"role": "assistant", "content": turn.content, "refusal": turn.refusal}
        completion: dict[str, Any] = {
            "choices": [{"index": 0, "finish_reason": turn.finish_reason, "message": message}]
        }
        if turn.usage:
            completion["usage"] = self._usage
        body = (turn.body if turn.body is not None else json.dumps(completion)).encode()
        handler.send_response(turn.status)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            **turn.headers,
        }.items():
            handler.send_header(name, value)
        handler.end_headers()
        for start in range(0, len(body), len(body) // 10 + 1):
            handler.wfile.write(body[start : start + len(body) // 10 + 1])
            if turn.drip_s:
                handler.wfile.flush()
                time.sleep(turn.drip_s)
