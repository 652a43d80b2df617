import random
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest
from xal_client.errors import APIStatusError, ConnectionFailed, Problem, TimedOut, UnexpectedResponse, XalClientError
from xal_client.retries import Attempts, retry_after_seconds


class Clock:
    """Seconds that only pass when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Highest(random.Random):
    """Always draws the upper end, so that a pause is the whole back-off."""

    def uniform(self, _a: float, b: float) -> float:
        return b


def attempts(max_attempts: int = 9, budget: float = 60.0, clock: Clock | None = None) -> Attempts:
    return Attempts(max_attempts, budget, Highest(), clock or Clock())


def refused(status: int, retry_after: float | None = None) -> APIStatusError:
    return APIStatusError(Problem(status=status, title="refused"), retry_after)


def test_pauses_double_up_to_eight_seconds() -> None:
    tried = attempts()
    pauses = []
    for _ in range(7):
        tried.start_next()
        pauses.append(tried.pause_after(ConnectionFailed("no")))
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0]


def test_pauses_are_spread_at_random_from_zero_to_the_backoff() -> None:
    tried = Attempts(1000, 1e9, random.Random(3), Clock())
    pauses = []
    for _ in range(400):
        tried.start_next()
        pauses.append(tried.pause_after(ConnectionFailed("no")))
    later = pauses[4:]  # all drawn from 0 to 8
    assert 0 <= min(later) < 0.5
    assert 7.5 < max(later) <= 8
    assert 3.5 < sum(later) / len(later) < 4.5


def test_retry_after_is_the_least_pause() -> None:
    tried = attempts()
    tried.start_next()
    assert tried.pause_after(refused(429, 7.0)) == 7.5


def test_retry_after_beyond_the_budget_raises_at_once() -> None:
    tried = attempts(budget=10)
    tried.start_next()
    with pytest.raises(APIStatusError) as caught:
        tried.pause_after(refused(503, 11.0))
    assert caught.value.retry_after == 11.0


def test_the_last_attempt_raises_and_says_how_many_there_were() -> None:
    clock = Clock()
    tried = attempts(max_attempts=2, clock=clock)
    tried.start_next()
    tried.pause_after(refused(503))
    clock.now += 3.0
    tried.start_next()
    with pytest.raises(APIStatusError) as caught:
        tried.pause_after(refused(503))
    assert caught.value.__notes__ == ["gave up after 2 attempt(s) in 3.0 s"]


@pytest.mark.parametrize("failure", [refused(429), refused(502), refused(503), refused(504), ConnectionFailed("no")])
def test_passing_failures_are_tried_again(failure: XalClientError) -> None:
    tried = attempts()
    tried.start_next()
    assert tried.pause_after(failure) == 0.5


@pytest.mark.parametrize(
    "failure",
    [*map(refused, (400, 401, 404, 405, 413, 415, 422, 500)), TimedOut("late"), UnexpectedResponse("what", 200)],
)
def test_lasting_failures_are_raised_at_once(failure: XalClientError) -> None:
    tried = attempts()
    tried.start_next()
    with pytest.raises(type(failure)):
        tried.pause_after(failure)


def test_each_attempt_gets_the_time_that_is_left() -> None:
    clock = Clock()
    tried = attempts(budget=60, clock=clock)
    assert tried.start_next() == httpx.Timeout(60, connect=5)
    clock.now += 58
    assert tried.start_next() == httpx.Timeout(2, connect=2)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("0", 0.0), ("17", 17.0), (" 3 ", 3.0), ("-1", None), ("1.5", None), ("soon", None), ("٣", None), ("", None)],
)
def test_retry_after_in_seconds(header: str, seconds: float | None) -> None:
    assert retry_after_seconds(httpx.Headers({"Retry-After": header.encode()})) == seconds  # type: ignore[dict-item]


def test_retry_after_as_a_date_counts_from_the_answers_own_date() -> None:
    headers = {"Retry-After": "Wed, 21 Oct 2015 07:28:30 GMT", "Date": "Wed, 21 Oct 2015 07:28:00 GMT"}
    assert retry_after_seconds(httpx.Headers(headers)) == 30.0


def test_retry_after_as_a_date_counts_from_now_where_the_answer_has_none() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    seconds = retry_after_seconds(httpx.Headers({"Retry-After": soon}))
    assert seconds == pytest.approx(90, abs=5)


def test_retry_after_in_the_past_means_now() -> None:
    assert retry_after_seconds(httpx.Headers({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"})) == 0.0
