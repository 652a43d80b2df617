"""The service's own error tree, in its own bytes, read by the client: neither may know an error the other does not."""

import httpx
import pytest
from xal_client.errors import ERROR_OF_STATUS, Fault
from xal_client.protocol import status_error

from service import errors as service_errors
from service.errors import ServiceError

REFUSED_BY_THE_FRAMEWORK = service_errors.Refused


def error_classes() -> list[type[ServiceError]]:
    return [kind for kind in ServiceError.__subclasses__() if kind is not REFUSED_BY_THE_FRAMEWORK]


def made(kind: type[ServiceError]) -> ServiceError:
    if kind is service_errors.MethodNotAllowed:
        return kind(["POST"])
    return kind() if kind is service_errors.InternalError else kind("what to do next")


def answered(error: ServiceError) -> httpx.Response:
    headers = {"Content-Type": service_errors.PROBLEM_JSON, **error.headers}
    body = service_errors.problem(error, instance="/classify", request_id="r1")
    return httpx.Response(error.status, headers=headers, content=body)


def test_both_sides_know_the_same_statuses() -> None:
    assert {kind.status for kind in error_classes()} == set(ERROR_OF_STATUS)


@pytest.mark.parametrize("kind", error_classes(), ids=lambda kind: kind.__name__)
def test_every_error_of_the_service_is_read_whole(kind: type[ServiceError]) -> None:
    sent = made(kind)
    read = status_error(answered(sent))
    assert type(read) is ERROR_OF_STATUS[sent.status]
    assert (read.status, read.detail, read.request_id, read.errors) == (sent.status, sent.detail, "r1", ())
    assert read.problem.type == f"urn:xal:problem:{sent.code}"
    assert read.problem.instance == "/classify"


def test_faults_and_retry_after_arrive() -> None:
    fault = service_errors.Fault("/items/3/text", "expected a string")
    invalid = status_error(answered(service_errors.InvalidRequest("one fault", faults=[fault])))
    assert invalid.errors == (Fault(pointer="/items/3/text", detail="expected a string"),)
    full = status_error(answered(service_errors.QueueFull("full", retry_after=2.2)))
    assert full.retry_after == 3.0  # the header has whole seconds, and the service never promises too early
