"""The one error tree of the service, and the one place that turns any of it into problem details (RFC 9457)."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

PROBLEM_JSON = "application/problem+json"


@dataclass(frozen=True)
class Fault:
    """One fault of a request. pointer: JSON Pointer (RFC 6901) into the body. detail: without the user's text."""

    pointer: str
    detail: str


class ServiceError(Exception):
    """A request that gets an error for an answer. detail: what was expected, what came, what to do next.

    status: of the answer. code: a stable word for programs, last part of the problem's ``type``.
    retry_after: seconds after which it makes sense to ask again, None if it does not by itself.
    """

    status: int
    code: str

    def __init__(self, detail: str, *, faults: Sequence[Fault] = (), retry_after: float | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.faults = tuple(faults)
        self.retry_after = retry_after

    @property
    def headers(self) -> dict[str, str]:
        """Header fields that belong to the answer beside its body."""
        return {} if self.retry_after is None else {"Retry-After": str(max(1, math.ceil(self.retry_after)))}


class NotJson(ServiceError):
    status, code = 400, "not_json"


class Unauthorized(ServiceError):
    status, code = 401, "unauthorized"

    @property
    def headers(self) -> dict[str, str]:
        return {"WWW-Authenticate": 'Bearer realm="xal"'}


class UnknownPath(ServiceError):
    status, code = 404, "unknown_path"


class MethodNotAllowed(ServiceError):
    status, code = 405, "method_not_allowed"

    def __init__(self, allowed: Sequence[str]) -> None:
        self.allowed = ", ".join(allowed)
        super().__init__(f"this path answers {self.allowed}")

    @property
    def headers(self) -> dict[str, str]:
        return {"Allow": self.allowed}


class TooLarge(ServiceError):
    status, code = 413, "too_large"


class UnsupportedMediaType(ServiceError):
    status, code = 415, "unsupported_media_type"


class InvalidRequest(ServiceError):
    """JSON of the wrong shape, or options that this model cannot follow."""

    status, code = 422, "invalid_request"


class QueueFull(ServiceError):
    status, code = 429, "queue_full"


class InternalError(ServiceError):
    """Says nothing of the inside: that stands in the log, under the request id."""

    status, code = 500, "internal_error"

    def __init__(self) -> None:
        super().__init__("the service failed on this request; its log has the reason under the request id")


class NotReady(ServiceError):
    """Starting, or shutting down."""

    status, code = 503, "not_ready"


class DeadlineExceeded(ServiceError):
    status, code = 504, "deadline_exceeded"


class Refused(ServiceError):
    """An error status that the server framework chose by itself, where none of the classes above says more."""

    code = "refused"

    def __init__(self, status: int) -> None:
        super().__init__(HTTPStatus(status).description or HTTPStatus(status).phrase)
        self.status = status


def error_of_status(status: int) -> ServiceError:
    """The error for an answer of the framework's own, of which nothing but the status is kept."""
    if status == 503:
        return NotReady("the service is not ready; ask again shortly", retry_after=5)
    if 400 <= status < 500:
        return Refused(status)
    return InternalError()


def problem(error: ServiceError, *, instance: str, request_id: str) -> bytes:
    """The JSON body of ``application/problem+json``. instance: the path asked; request_id: as in the log."""
    body: dict[str, Any] = {
        "type": f"urn:xal:problem:{error.code}",
        "title": HTTPStatus(error.status).phrase,
        "status": error.status,
        "detail": error.detail,
        "instance": instance,
        "request_id": request_id,
    }
    if error.faults:
        body["errors"] = [{"pointer": fault.pointer, "detail": fault.detail} for fault in error.faults]
    return json.dumps(body).encode()
