"""Everything that can go wrong, one class for each error that the service's documentation names.

XalClientError
├── ConnectionFailed            no connection, or it broke before the answer was complete
├── TimedOut                    no answer within `timeout`
├── UnexpectedResponse          an answer that is none of the documented ones
├── ModelChanged                the service took another model while a pool was being scored
└── APIStatusError              the service, or a proxy before it, refused: status 400 and above
    ├── BadRequest 400, Unauthorized 401, NotFound 404, MethodNotAllowed 405, ContentTooLarge 413,
    ├── UnsupportedMediaType 415, UnprocessableContent 422, InternalServerError 500, DeadlineExceeded 504
    └── TooManyRequests 429, ServiceUnavailable 503     with retry_after
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class XalClientError(Exception):
    """Anything that this client raises about the service. Wrong arguments are TypeError and ValueError instead."""


class ConnectionFailed(XalClientError):
    """No connection to the service, or it broke before the answer was complete."""


class TimedOut(XalClientError):
    """The time of the whole call, retries included, is over and no answer came."""


class UnexpectedResponse(XalClientError):
    """An answer that the documented API never gives: most often `base_url` is not an XAL service.

    status: HTTP status, None where the answer could not even be read. body: the first 1000 characters of what came,
    kept out of the message, because it may repeat the texts that were sent.
    """

    def __init__(self, reason: str, status: int | None, body: str = "") -> None:
        self.reason = reason
        self.status = status
        self.body = body[:1000]
        super().__init__(reason, status, self.body)

    def __str__(self) -> str:
        return f"unexpected answer (HTTP {self.status or '?'}): {self.reason}"


class ModelChanged(XalClientError):
    """Two requests of one pool were answered by two models, whose scores are not comparable. Score the pool again."""


class Fault(BaseModel):
    """One thing wrong with a request. pointer: JSON Pointer (RFC 6901) into the body; detail: what is wrong there."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    pointer: str
    detail: str


class Problem(BaseModel):
    """The body of an error: problem details of RFC 9457.

    status: HTTP status; title: its short name; type: ``urn:xal:problem:...``; detail: what happened and what to do
    next; instance: the path asked; request_id: as in the service's log; errors: for 422, the faults one by one.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    status: int
    title: str
    type: str = "about:blank"
    detail: str | None = None
    instance: str | None = None
    request_id: str | None = None
    errors: tuple[Fault, ...] = ()


class APIStatusError(XalClientError):
    """The service answered with a status of 400 or above. Raised itself only for statuses that the API does not
    document, such as a proxy's 502."""

    def __init__(self, problem: Problem, retry_after: float | None = None) -> None:
        super().__init__(problem, retry_after)
        self.problem = problem
        self.status = problem.status
        self.title = problem.title
        self.detail = problem.detail
        self.request_id = problem.request_id
        self.errors = problem.errors
        self.retry_after = retry_after

    def __str__(self) -> str:
        parts = [f"{self.status} {self.title}"]
        if self.detail:
            parts.append(f": {self.detail}")
        if self.request_id:
            parts.append(f" (request id {self.request_id})")
        return "".join(parts)


class BadRequest(APIStatusError):
    """400: the body is not JSON."""


class Unauthorized(APIStatusError):
    """401: no API key, or not one that the service knows. Pass `api_key`."""


class NotFound(APIStatusError):
    """404: the service has no such path; look at `base_url`."""


class MethodNotAllowed(APIStatusError):
    """405: the path exists, but not for this method."""


class ContentTooLarge(APIStatusError):
    """413: more bytes or more items than the service takes in one request; `model().limits` states how many."""


class UnsupportedMediaType(APIStatusError):
    """415: the body was not declared as JSON, most often by something between the client and the service."""


class UnprocessableContent(APIStatusError):
    """422: JSON of the wrong shape; `errors` names each fault and where it stands."""


class TooManyRequests(APIStatusError):
    """429: the service's queue is full. retry_after: seconds to wait, or None where the service did not say."""


class InternalServerError(APIStatusError):
    """500: a fault of the service; its log has the details under `request_id`. Not retried."""


class ServiceUnavailable(APIStatusError):
    """503: starting, stopping or overloaded. retry_after: seconds to wait, or None where the service did not say."""


class DeadlineExceeded(APIStatusError):
    """504: the service's own time limit for one request ran out. Send fewer items at a time."""


ERROR_OF_STATUS: dict[int, type[APIStatusError]] = {
    400: BadRequest,
    401: Unauthorized,
    404: NotFound,
    405: MethodNotAllowed,
    413: ContentTooLarge,
    415: UnsupportedMediaType,
    422: UnprocessableContent,
    429: TooManyRequests,
    500: InternalServerError,
    503: ServiceUnavailable,
    504: DeadlineExceeded,
}
