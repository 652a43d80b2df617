"""When to try again, and after how long: arithmetic only, nothing here sends or sleeps."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

from xal_client.errors import APIStatusError, ConnectionFailed, TimedOut, UnexpectedResponse, XalClientError

# Every call only reads, so sending it twice does no harm. 500 is left out: the same request would fail the same way.
RETRIED_STATUSES = frozenset({429, 502, 503, 504})
FIRST_BACKOFF = 0.5  # seconds; doubles with every attempt
LONGEST_BACKOFF = 8.0  # seconds
CONNECT_TIMEOUT = 5.0  # seconds: a host that is there accepts a connection long before, so a lost packet is retried
PROBE_TIMEOUT = 5.0  # seconds for is_ready and is_live, which never retry

logger = logging.getLogger(__name__)


class Attempts:
    """The attempts of one call: how many are left, how much time, and the pause before the next.

    max_attempts: how often the request may be sent, at least 1. budget: seconds for all attempts and pauses together.
    """

    def __init__(
        self, max_attempts: int, budget: float, random_: random.Random, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_attempts = max_attempts
        self._budget = budget
        self._random = random_
        self._clock = clock
        self._start = clock()
        self._made = 0

    def start_next(self) -> httpx.Timeout:
        """Count one more attempt; the time limits that it has to keep."""
        self._made += 1
        left = max(self._left(), 0.001)
        return httpx.Timeout(left, connect=min(left, CONNECT_TIMEOUT))

    def pause_after(self, failure: XalClientError) -> float:
        """Seconds to wait before the next attempt.

        At least what the service asked for with Retry-After; above it a random part of an exponential back-off, which
        keeps clients that failed together from coming back together.

        Raises `failure` itself where another attempt cannot help, is not allowed, or would come after the budget.
        """
        if not is_passing(failure) or self._made >= self._max_attempts:
            raise self._annotated(failure)
        backoff = min(FIRST_BACKOFF * 2 ** (self._made - 1), LONGEST_BACKOFF)
        asked = failure.retry_after if isinstance(failure, APIStatusError) else None
        pause = (asked or 0.0) + self._random.uniform(0.0, backoff)
        if pause >= self._left():
            raise self._annotated(failure)
        logger.info("attempt %d failed (%s), the next in %.2f s", self._made, type(failure).__name__, pause)
        return pause

    def _left(self) -> float:
        return self._start + self._budget - self._clock()

    def _annotated(self, failure: XalClientError) -> XalClientError:
        if self._made > 1 or is_passing(failure):
            failure.add_note(f"gave up after {self._made} attempt(s) in {self._clock() - self._start:.1f} s")
        return failure


def is_passing(failure: XalClientError) -> bool:
    """Whether the same request may well succeed a little later."""
    if isinstance(failure, APIStatusError):
        return failure.status in RETRIED_STATUSES
    return isinstance(failure, ConnectionFailed)


def transport_failure(cause: httpx.RequestError) -> XalClientError:
    """What httpx met on the way, as one of this client's errors; never quotes the request's content."""
    where = f"{cause.request.method} {cause.request.url.copy_with(username=None, password=None)}"
    failure: XalClientError
    if isinstance(cause, httpx.DecodingError):
        failure = UnexpectedResponse(f"the answer to {where} cannot be decompressed: {cause}", status=None)
    # A connection that takes too long counts as failed, and is tried again; a slow answer used up the whole budget.
    elif isinstance(cause, httpx.TimeoutException) and not isinstance(cause, httpx.ConnectTimeout):
        failure = TimedOut(f"no answer to {where} in time ({type(cause).__name__})")
    else:
        reason = str(cause) or type(cause).__name__
        failure = ConnectionFailed(f"{where} failed: {reason}; is the service running there?")
    failure.__cause__ = cause
    return failure


def retry_after_seconds(headers: httpx.Headers) -> float | None:
    """Seconds that a Retry-After header asks to wait: a number, or an HTTP date. None where it is missing or neither.

    A date is measured against the answer's own Date header where there is one, so that clocks may differ.
    """
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    until = _http_date(value)
    if until is None:
        return None
    now = _http_date(headers.get("date", "")) or datetime.now(UTC)
    return max((until - now).total_seconds(), 0.0)


def _http_date(value: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)
