"""The outermost layer: every request passes here before and after the server framework.

It gives each request an id and a deadline, turns away what is not worth forwarding (unknown path, missing key, too
large, not JSON, wrong shape), drops the work of clients that hang up, gives every error the form of problem details,
also those that the framework makes by itself, and writes one log line per request.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol

from pydantic import SecretStr

from service import errors
from service.errors import ServiceError
from service.metrics import Metrics
from service.reading import read_request
from service.schemas import AcquisitionRequest, AnyRequest, ClassifyRequest, ExplainRequest
from service.settings import Settings

access = logging.getLogger("xal.access")

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
CLIENT_GONE = 499  # what the log says where nobody was left to answer
READ_ALREADY = b'{"items": [{}]}'  # forwarded for a body: the endpoints take Exchange.request, nothing is parsed twice


@dataclass(frozen=True)
class Route:
    """A path that is answered. model: of its body. probe: open without a key, and not in the access log."""

    method: str
    model: type[AnyRequest] | None = None
    probe: bool = False

    @property
    def methods(self) -> tuple[str, ...]:
        return ("GET", "HEAD", "OPTIONS") if self.method == "GET" else (self.method, "OPTIONS")


ROUTES = {
    "/classify": Route("POST", ClassifyRequest),
    "/explain": Route("POST", ExplainRequest),
    "/acquisition_score": Route("POST", AcquisitionRequest),
    "/model": Route("GET"),
    "/metrics": Route("GET", probe=True),
    "/livez": Route("GET", probe=True),
    "/readyz": Route("GET", probe=True),
    "/healthz": Route("GET", probe=True),
    "/": Route("GET"),
    "/docs.json": Route("GET"),
}
STATIC = "/static_content/"  # of the documentation page


class Service(Protocol):
    """What the gateway needs to know of the service behind it."""

    settings: Settings
    metrics: Metrics

    @property
    def ready(self) -> bool: ...

    async def describe(self) -> dict[str, Any]: ...


@dataclass
class Exchange:
    """One request. deadline: event-loop time. request: the checked body. error: the answer, if not by the app."""

    id: str
    path: str
    route: str
    method: str
    deadline: float
    arrived: float = field(default_factory=time.perf_counter)
    request: Any = None
    status: int | None = None
    error: ServiceError | None = None

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.arrived


CURRENT: ContextVar[Exchange] = ContextVar("exchange")


class Gateway:
    """ASGI application around ``app``. service: gives the running service, None before it starts and after it ends."""

    def __init__(self, app: App, service: Callable[[], Service | None]) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        service = self._service()
        if scope["type"] != "http" or service is None:
            await self._app(scope, receive, send)
            return
        exchange = _begin(scope, service.settings)
        outgoing = _Outgoing(send, exchange)
        token = CURRENT.set(exchange)
        try:
            await self._serve(service, exchange, scope, receive, outgoing)
        except ServiceError as error:
            exchange.error = error
        except ClientGone:
            exchange.status = exchange.status or CLIENT_GONE
        except Exception as error:
            access.error("a request failed", exc_info=error, extra={"fields": {"request_id": exchange.id}})
            exchange.error = errors.InternalError()
        finally:
            CURRENT.reset(token)
        if exchange.status is None:
            await outgoing.problem(exchange.error or errors.InternalError())
        _record(exchange, service.metrics)

    async def _serve(
        self, service: Service, exchange: Exchange, scope: Scope, receive: Receive, outgoing: _Outgoing
    ) -> None:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        route = _admit(exchange, headers, service)
        if route.model is None or exchange.method == "OPTIONS":
            await self._app(scope, receive, outgoing)
            return
        _check_content_type(headers)
        body = await _read_body(receive, headers, service.settings.max_body_bytes, exchange.deadline)
        exchange.request = read_request(body, route.model, service.settings)
        await _forward(self._app, scope, receive, outgoing)


class ClientGone(Exception):
    """The client closed the connection before it had its answer."""


class _Outgoing:
    """The ``send`` that the app gets: adds the request id, and holds error answers back: they become problems."""

    def __init__(self, send: Send, exchange: Exchange) -> None:
        self._send = send
        self._exchange = exchange

    async def __call__(self, message: Message) -> None:
        exchange = self._exchange
        if message["type"] == "http.response.start":
            if message["status"] >= 400:
                exchange.error = exchange.error or _framework_error(message["status"], exchange)
                return
            exchange.status = message["status"]
            message["headers"] = [*message["headers"], (b"x-request-id", exchange.id.encode())]
        if exchange.error is None:
            await self._send(message)

    async def problem(self, error: ServiceError) -> None:
        exchange = self._exchange
        exchange.status = error.status
        body = errors.problem(error, instance=exchange.path, request_id=exchange.id)
        headers = {
            "Content-Type": errors.PROBLEM_JSON,
            "Content-Length": str(len(body)),
            "X-Request-Id": exchange.id,
            **error.headers,
        }
        encoded = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await self._send({"type": "http.response.start", "status": error.status, "headers": encoded})
        await self._send({"type": "http.response.body", "body": body})


def _begin(scope: Scope, settings: Settings) -> Exchange:
    given = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"x-request-id"), "")
    path = scope["path"]
    return Exchange(
        id=given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex,
        path=path,
        route=path if path in ROUTES else "other",
        method=scope["method"],
        deadline=asyncio.get_running_loop().time() + settings.deadline_seconds,
    )


def _admit(exchange: Exchange, headers: dict[str, str], service: Service) -> Route:
    """The route of a request that may go on. Raises what it is turned away with, the cheapest check first."""
    route = ROUTES.get(exchange.path) or (Route("GET") if exchange.path.startswith(STATIC) else None)
    if route is None:
        raise errors.UnknownPath(f"there is no such path; the service has {', '.join(ROUTES)}")
    if exchange.method not in route.methods:
        raise errors.MethodNotAllowed(route.methods)
    if route.probe or exchange.method == "OPTIONS":
        return route
    if not _has_key(headers.get("authorization", ""), service.settings.api_keys):
        raise errors.Unauthorized("send a valid API key: `Authorization: Bearer KEY`")
    if (route.model is not None or exchange.path == "/model") and not service.ready:
        raise errors.NotReady("the service is starting or shutting down; ask again shortly", retry_after=5)
    return route


def _has_key(authorization: str, keys: Iterable[SecretStr]) -> bool:
    """Whether the header holds one of the keys, or none is asked for. Compares with all of them in constant time."""
    scheme, _, given = authorization.partition(" ")
    expected = [key.get_secret_value().encode() for key in keys]
    matches = [hmac.compare_digest(given.strip().encode(), key) for key in expected]
    return not expected or (scheme.lower() == "bearer" and any(matches))


def _check_content_type(headers: dict[str, str]) -> None:
    media_type, _, parameters = headers.get("content-type", "").lower().partition(";")
    charset = parameters.partition("charset=")[2].strip().strip('"') or "utf-8"
    if media_type.strip() != "application/json" or charset not in ("utf-8", "utf8"):
        raise errors.UnsupportedMediaType("send the body as UTF-8 with `Content-Type: application/json`")
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise errors.UnsupportedMediaType("send the body uncompressed, without `Content-Encoding`")


async def _read_body(receive: Receive, headers: dict[str, str], limit: int, deadline: float) -> bytes:
    """The whole body. Raises TooLarge as soon as it is known to be, DeadlineExceeded, ClientGone."""
    too_large = errors.TooLarge(f"the body is larger than {limit} bytes; send fewer items in one request")
    if headers.get("content-length", "").isdecimal() and int(headers["content-length"]) > limit:
        raise too_large
    parts: list[bytes] = []
    try:
        async with asyncio.timeout_at(deadline):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                parts.append(message.get("body", b""))
                if sum(map(len, parts)) > limit:
                    raise too_large
                if not message.get("more_body", False):
                    return b"".join(parts)
    except TimeoutError:
        raise errors.DeadlineExceeded("the body did not arrive within the time limit for one request") from None


async def _forward(app: App, scope: Scope, receive: Receive, send: Send) -> None:
    """Run the app on a request that was read before; cancel it when the client hangs up. Raises ClientGone then."""
    unread = [READ_ALREADY]

    async def replayed() -> Message:
        if unread:
            return {"type": "http.request", "body": unread.pop(), "more_body": False}
        await gone
        return {"type": "http.disconnect"}

    async def until_gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    gone = asyncio.ensure_future(until_gone())
    work = asyncio.ensure_future(app(scope, replayed, send))
    try:
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise ClientGone
        await work
    finally:
        gone.cancel()
        work.cancel()


def _framework_error(status: int, exchange: Exchange) -> ServiceError:
    """The error for an answer that the framework made by itself; nothing but its status is kept."""
    if status == 405 and exchange.path in ROUTES:
        return errors.MethodNotAllowed(ROUTES[exchange.path].methods)
    return errors.error_of_status(status)


def _record(exchange: Exchange, metrics: Metrics) -> None:
    status = exchange.status or 500
    metrics.request_done(exchange.route, status, exchange.seconds)
    route = ROUTES.get(exchange.path)
    if route is not None and route.probe:
        return
    fields = {
        "request_id": exchange.id,
        "method": exchange.method,
        "route": exchange.route,
        "status": status,
        "ms": round(exchange.seconds * 1000, 1),
        "items": None if exchange.request is None else len(exchange.request.items),
    }
    access.info("request", extra={"fields": fields})
