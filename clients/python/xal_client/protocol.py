"""The service's HTTP interface as pure functions: a call becomes a request, an answer becomes a result or an error."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import httpx
from pydantic import ValidationError

from xal_client.errors import ERROR_OF_STATUS, APIStatusError, Problem, UnexpectedResponse, XalClientError
from xal_client.items import AnyItem, as_json, item_id
from xal_client.model_info import ModelInfo
from xal_client.results import AcquisitionResponse, Answer, ClassifyResponse, ExplainResponse, Response
from xal_client.retries import retry_after_seconds

A = TypeVar("A", bound=Answer)
REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


@dataclass(frozen=True)
class Call(Generic[A]):
    """One call of the service. answer: what its 200 holds; body: None for GET; headers: beside the client's own."""

    method: str
    path: str
    answer: type[A]
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def request(self, http: httpx.Client | httpx.AsyncClient, timeout: httpx.Timeout) -> httpx.Request:
        """The request, ready to be sent by `http`, which knows the address and the API key."""
        content = None if self.body is None else encoded(self.body)
        headers = {"Content-Type": "application/json"} if content is not None else {}
        return http.build_request(
            self.method, self.path, content=content, headers={**headers, **self.headers}, timeout=timeout
        )

    def interpret(self, response: httpx.Response) -> A | XalClientError:
        """The typed answer, or the error that the response stands for (returned, so that it may be retried)."""
        if response.status_code >= 400:
            return status_error(response)
        if response.status_code != 200:
            return unexpected("a status that the API does not know; is base_url the service itself?", response)
        try:
            answer = self.answer.model_validate_json(response.content)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            where = "/".join(str(part) for part in first["loc"]) or "the body"
            return unexpected(f"{where}: {first['msg']}", response)
        if isinstance(answer, Response):
            return self._matched(answer, response)
        return answer

    def _matched(self, answer: Any, response: httpx.Response) -> A | XalClientError:
        """The answer with its request id, after a check that each result belongs to its item."""
        asked = [item_id(item, index) for index, item in enumerate((self.body or {}).get("items", ()))]
        came = [result.id for result in answer.results]
        if came != asked:
            return unexpected(f"{len(asked)} items were sent, but the {len(came)} results do not match them", response)
        matched: A = answer.model_copy(update={"request_id": response.headers.get("x-request-id")})
        return matched


def classify(items: Iterable[AnyItem], request_id: str | None = None) -> Call[ClassifyResponse]:
    """`POST /classify`."""
    return _post("/classify", ClassifyResponse, items, {}, request_id)


def explain(
    items: Iterable[AnyItem],
    num_beams: int | None = None,
    max_new_tokens: int | None = None,
    request_id: str | None = None,
) -> Call[ExplainResponse]:
    """`POST /explain`; an option that is None is left to the service."""
    options = {"num_beams": num_beams, "max_new_tokens": max_new_tokens}
    return _post("/explain", ExplainResponse, items, options, request_id)


def acquisition_score(
    items: Iterable[AnyItem],
    lambda_: float | None = None,
    normalization: str | None = None,
    top_k: int | None = None,
    request_id: str | None = None,
) -> Call[AcquisitionResponse]:
    """`POST /acquisition_score`; an option that is None is left to the service."""
    options = {"lambda": lambda_, "normalization": normalization, "top_k": top_k}
    return _post("/acquisition_score", AcquisitionResponse, items, options, request_id)


def model() -> Call[ModelInfo]:
    """`GET /model`."""
    return Call("GET", "/model", ModelInfo)


def _post(
    path: str, answer: type[A], items: Iterable[AnyItem], options: Mapping[str, Any], request_id: str | None
) -> Call[A]:
    body: dict[str, Any] = {"items": as_json(items)}
    given = {name: value for name, value in options.items() if value is not None}
    if given:
        body["options"] = given
    return Call("POST", path, answer, body, {} if request_id is None else {"X-Request-Id": checked(request_id)})


def checked(request_id: str) -> str:
    """Raises ValueError for an id that the service would silently replace by one of its own."""
    if not REQUEST_ID.fullmatch(request_id):
        raise ValueError(f"request_id is 1 to 128 letters, digits and . _ : -, but {request_id!r} came")
    return request_id


def encoded(body: Mapping[str, Any]) -> bytes:
    """JSON in UTF-8. Raises ValueError for NaN and infinity, TypeError for a value of a type that JSON does not have.

    Half a surrogate pair has no UTF-8; it goes as its JSON escape (\\ud83d), and the service fails the item it is in.
    """
    text = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode(errors="backslashreplace")  # a Python escape, and JSON's too


def is_up(response: httpx.Response) -> bool:
    """What a probe of the service's state answered. Raises where it is neither yes nor no."""
    if response.status_code == 200:
        return True
    if response.status_code == 503:
        return False
    raise status_error(response) if response.status_code >= 400 else unexpected("neither 200 nor 503", response)


def status_error(response: httpx.Response) -> APIStatusError:
    """The error of a status of 400 or above. Where a proxy wrote it, only its status and request id are known."""
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError:
        kind = response.headers.get("content-type") or "no content type"
        problem = Problem(
            status=response.status_code,
            title=response.reason_phrase or "Unknown status",
            detail=f"the answer is {kind}, not problem+json, so something between here and the service wrote it",
            request_id=response.headers.get("x-request-id"),
        )
    problem = problem.model_copy(update={"status": response.status_code})
    error = ERROR_OF_STATUS.get(response.status_code, APIStatusError)
    return error(problem, retry_after_seconds(response.headers))


def unexpected(reason: str, response: httpx.Response) -> UnexpectedResponse:
    return UnexpectedResponse(reason, response.status_code, response.text)
