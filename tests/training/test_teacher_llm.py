"""The LLM teacher against a real HTTP server that misbehaves on demand and keeps books of its own."""

import asyncio
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pydantic import ValidationError

from service.model.errors import InputError
from service.model.task import Task
from tests.training.chat_server import OK, ChatServer, Turn
from training.teacher import TeacherBudgetError, TeacherError, Usage
from training.teacher_api import HIDDEN_PROMPT_TOKENS, TeacherConfig
from training.teacher_cache import TeacherCache
from training.teacher_llm import LLMTeacher

ROOT = Path(__file__).parents[2]
TASK = Task.from_dict(
    {
        "name": "sentiment",
        "fields": ["text"],
        "label_field": "label",
        "labels": {"neg": "really negative", "pos": "really positive"},
        "input": "{text}",
        "prompt": "{text}: this is {label}, explain why.",
        "max_input_tokens": 32,
        "max_explanation_tokens": 16,
    }
)
TEXTS = {f"t{n}": {"text": f"text number {n}"} for n in range(10, 20)}  # all of one length
COMPLETION_TOKENS = 40
WORST_CASE = len("text number 10: this is really negative, explain why.") + HIDDEN_PROMPT_TOKENS + COMPLETION_TOKENS

Explain = Callable[..., LLMTeacher]


@pytest.fixture
def teacher(tmp_path: Path) -> Explain:
    """A teacher for a server, with a cache that lasts as long as the test and pauses made for tests."""

    def make(
        server: ChatServer | str, transport: httpx2.AsyncBaseTransport | None = None, **options: Any
    ) -> LLMTeacher:
        settings = {
            "base_url": server if isinstance(server, str) else server.base_url,
            "model": "teacher-1",
            "api_key": "sesame",
            "cache_path": tmp_path / "cache.sqlite",
            "max_completion_tokens": COMPLETION_TOKENS,
            "backoff_s": 0.01,
            "max_attempts": 3,
            "timeout_s": 5.0,
        }
        return LLMTeacher(TASK, TeacherConfig(**settings | options), progress=False, transport=transport)

    return make


def cached_answers(tmp_path: Path) -> dict[str, str]:
    with sqlite3.connect(tmp_path / "cache.sqlite") as db:
        return dict(db.execute("SELECT prompt, answer FROM requests WHERE answer IS NOT NULL").fetchall())


def first_then_fine(turn: Turn) -> Callable[[int, str], Turn]:
    return lambda n, _: turn if n == 0 else OK


def test_asks_once_per_text_and_candidate_label_and_returns_them_in_order(teacher: Explain, tmp_path: Path) -> None:
    # The later a question comes, the sooner it is answered: order must come from the request, not from the answers.
    def behave(n: int, prompt: str) -> Turn:
        return Turn(content=f" why:\n {prompt}  ", delay_s=0.05 * (4 - n))

    texts = {"b": {"text": "great"}, "a": {"text": "awful"}}
    with ChatServer(behave) as server:
        explained = teacher(server, concurrency=4).explain(texts)
    prompts = {
        (key, label): f"{word}: this is really {sentiment}, explain why."
        for key, word in (("b", "great"), ("a", "awful"))
        for label, sentiment in (("neg", "negative"), ("pos", "positive"))
    }
    assert sorted(server.prompts) == sorted(prompts.values())
    assert list(explained.explanations) == ["b", "a"]
    assert [list(labels) for labels in explained.explanations.values()] == [["neg", "pos"]] * 2
    for (key, label), prompt in prompts.items():
        assert explained.explanations[key][label] == f"why: {prompt}"
        assert cached_answers(tmp_path)[prompt] == f" why:\n {prompt}  "
    assert explained.usage == Usage(requests=4, cached=0, prompt_tokens=40, completion_tokens=20, cost=0.0)
    assert server.keys == ["Bearer sesame"] * 4
    request = server.requests[0]
    assert request["path"] == "/v1/chat/completions"
    assert (request["model"], request["temperature"], request["max_tokens"]) == ("teacher-1", 0.0, COMPLETION_TOKENS)


def test_what_is_in_the_cache_is_never_asked_again_wherever_the_model_is_served(teacher: Explain) -> None:
    class NoNetwork(httpx2.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            raise AssertionError(f"a request to {request.url} left although everything is in the cache")

    with ChatServer() as server:
        first = teacher(server).explain(TEXTS)
    again = teacher("http://elsewhere.example/v1", transport=NoNetwork()).explain(TEXTS)
    assert again.explanations == first.explanations
    assert again.usage == Usage(cached=20)
    assert first.usage + again.usage == Usage(20, 20, 200, 100, 0.0)


@pytest.mark.parametrize(
    "change", [{"model": "teacher-2"}, {"temperature": 0.7}, {"temperature": None}, {"max_completion_tokens": 41}]
)
def test_another_model_or_way_of_sampling_is_asked_anew(teacher: Explain, change: dict[str, Any]) -> None:
    with ChatServer() as server:
        teacher(server).explain({"a": {"text": "great"}})
        teacher(server, **change).explain({"a": {"text": "great"}})
    assert len(server.prompts) == 4
    assert ("temperature" in server.requests[-1]) == (change.get("temperature", 0) is not None)


def test_identical_prompts_are_asked_once_even_while_in_flight(teacher: Explain) -> None:
    texts = {f"t{n}": {"text": "great player."} for n in range(5)}
    with ChatServer(Turn(delay_s=0.05)) as server:
        explained = teacher(server, concurrency=8).explain(texts)
    assert len(server.prompts) == 2
    assert explained.usage.requests == 2
    assert explained.usage.cached == 8
    assert explained.explanations == {key: dict.fromkeys(("neg", "pos"), "Because it says so.") for key in texts}


@pytest.mark.parametrize(
    ("turn", "counts_as_spent"),
    [
        (Turn(status=429, headers={"Retry-After": "0"}), 0),
        (Turn(status=503), 0),
        (Turn(status=500), WORST_CASE),
        (Turn(status=504, body="<html>gateway</html>"), WORST_CASE),
        (Turn(status=408), WORST_CASE),
        (Turn(delay_s=1.5), WORST_CASE),
        (Turn(drip_s=0.2), WORST_CASE),  # no pause is long, the whole is
        (Turn(drop=True), WORST_CASE),
        (Turn(body='{"choices": [{"message": {"content": "half'), WORST_CASE),
        (Turn(body="<html>hello</html>", headers={"Content-Type": "text/html"}), WORST_CASE),
        (Turn(body='{"error": "out of memory"}'), WORST_CASE),
        (Turn(body='{"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 0}}'), 7),
        (Turn(content=None), 15),
        (Turn(content=" \n "), 15),
    ],
    ids=[
        "429", "503", "500", "504", "408", "time-out", "drip", "hang-up", "half JSON", "no JSON", "other JSON",
        "no choice", "null", "blank",
    ],
)  # fmt: skip
def test_a_failure_that_may_pass_is_asked_again(teacher: Explain, turn: Turn, counts_as_spent: int) -> None:
    with ChatServer(first_then_fine(turn)) as server:
        explained = teacher(server, concurrency=1, timeout_s=0.5).explain({"a": {"text": "text number 10"}})
    assert explained.explanations == {"a": {"neg": "Because it says so.", "pos": "Because it says so."}}
    assert explained.usage.requests == len(server.prompts) == 3
    assert explained.usage.prompt_tokens + explained.usage.completion_tokens == counts_as_spent + 30


@pytest.mark.parametrize(
    ("headers", "at_least_s"),
    [
        ({"Retry-After": "1"}, 1.0),
        ({"Retry-After-Ms": "300"}, 0.3),
        # A date is exact to the second only, so 2 s ahead is more than 1 s ahead.
        ({"Retry-After": lambda: format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)}, 0.9),
    ],
    ids=["seconds", "milliseconds", "date"],
)
def test_retry_after_is_honoured(teacher: Explain, headers: dict[str, Any], at_least_s: float) -> None:
    def behave(n: int, _: str) -> Turn:
        sent = {name: value() if callable(value) else value for name, value in headers.items()}
        return Turn(status=429, headers=sent) if n == 0 else OK

    with ChatServer(behave) as server:
        teacher(server, concurrency=1).explain({"a": {"text": "great"}})
    assert at_least_s <= server.arrived[1] - server.arrived[0] < at_least_s + 2


def test_back_off_grows_from_attempt_to_attempt(teacher: Explain) -> None:
    with ChatServer(lambda n, _: Turn(status=503) if n < 3 else OK) as server:
        teacher(server, concurrency=1, backoff_s=0.2, max_attempts=4).explain({"a": {"text": "great"}})
    pauses = [later - earlier for earlier, later in zip(server.arrived[:3], server.arrived[1:4], strict=True)]
    for pause, longest in zip(pauses, (0.2, 0.4, 0.8), strict=True):
        assert longest / 2 <= pause < longest + 0.15


def test_too_long_a_pause_ends_the_run_at_once(teacher: Explain) -> None:
    with (
        ChatServer(Turn(status=429, headers={"Retry-After": "3600"})) as server,
        pytest.raises(TeacherError, match="pause of 3600 s"),
    ):
        teacher(server, concurrency=1).explain(TEXTS)
    assert len(server.prompts) == 1


@pytest.mark.parametrize(
    ("turn", "advice"),
    [
        (Turn(status=401, body='{"error": {"message": "bad key sesame"}}'), "API key"),
        (Turn(status=404), "check the model 'teacher-1' and the base URL"),
        (
            Turn(status=400, body='{"error": {"message": "no max_tokens here"}}'),
            "no max_tokens here.*--teacher-length-parameter",
        ),
        (Turn(status=429, body='{"error": {"code": "insufficient_quota"}}'), "out of credit"),
    ],
    ids=["401", "404", "400", "no credit"],
)
def test_a_refusal_that_will_not_pass_fails_at_once_and_says_what_to_do(
    teacher: Explain, turn: Turn, advice: str
) -> None:
    with ChatServer(turn) as server, pytest.raises(TeacherError, match=advice) as caught:
        teacher(server, concurrency=1).explain(TEXTS)
    assert len(server.prompts) == 1
    assert "\n" not in str(caught.value)
    assert "sesame" not in str(caught.value)


def test_attempts_are_bounded(teacher: Explain) -> None:
    with (
        ChatServer(Turn(status=500)) as server,
        pytest.raises(TeacherError, match=r"no answer for text t10, label neg \(attempt 3 of 3\): HTTP 500"),
    ):
        teacher(server, concurrency=1).explain(TEXTS)
    assert len(server.prompts) == 3


def test_a_server_that_is_not_there_is_named_and_costs_nothing(teacher: Explain, tmp_path: Path) -> None:
    with ChatServer() as server:
        pass
    with pytest.raises(TeacherError, match=f"no connection to {server.base_url}; is the server up"):
        teacher(server).explain(TEXTS)
    with TeacherCache(tmp_path / "cache.sqlite") as cache:
        assert cache.spent().tokens == 0


def test_answers_in_flight_are_kept_when_another_request_fails(teacher: Explain, tmp_path: Path) -> None:
    def behave(_: int, prompt: str) -> Turn:
        return Turn(status=401, delay_s=0.1) if "negative" in prompt else Turn(delay_s=0.4)

    with ChatServer(behave) as server, pytest.raises(TeacherError, match=r"1 of 20 answers came and are kept"):
        teacher(server, concurrency=2).explain(TEXTS)
    assert len(server.prompts) == 2
    assert list(cached_answers(tmp_path)) == ["text number 10: this is really positive, explain why."]


@pytest.mark.parametrize("concurrency", [1, 3, 8])
def test_so_many_requests_run_at_a_time_and_no_more(teacher: Explain, concurrency: int) -> None:
    with ChatServer(Turn(delay_s=0.03 * concurrency)) as server:
        teacher(server, concurrency=concurrency).explain(TEXTS)
    assert server.most_parallel == concurrency


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("spare", [0, 14, 15, 100])
def test_the_cap_on_tokens_stops_before_it_could_be_exceeded(
    teacher: Explain, tmp_path: Path, concurrency: int, spare: int
) -> None:
    # 15 tokens are billed for an answer, but WORST_CASE must be free for each request: one fits while
    # 15 * answered + WORST_CASE <= cap. Waiting for those in flight makes this hold for any concurrency.
    cap = WORST_CASE + spare
    fit = spare // 15 + 1
    with ChatServer(Turn(delay_s=0.01)) as server:
        with pytest.raises(
            TeacherBudgetError,
            match=f"--teacher-max-tokens {cap} .max_total_tokens.: {fit * 15} tokens.*{20 - fit} answers",
        ):
            teacher(server, concurrency=concurrency, max_total_tokens=cap).explain(TEXTS)
        assert server.billed_tokens == fit * 15 <= cap
        assert len(server.prompts) == len(cached_answers(tmp_path)) == fit

        with pytest.raises(TeacherBudgetError):  # the cap counts what earlier runs spent
            teacher(server, concurrency=concurrency, max_total_tokens=cap).explain(TEXTS)
        assert len(server.prompts) == fit

        explained = teacher(server, concurrency=concurrency, max_total_tokens=10_000).explain(TEXTS)
        assert len(server.prompts) == 20
        assert explained.usage == Usage(20 - fit, fit, 10 * (20 - fit), 5 * (20 - fit), 0.0)


def test_the_cap_holds_where_the_server_bills_what_never_arrives(teacher: Explain) -> None:
    # The dearest server there can be: every prompt at its worst case, and every other answer is lost on the way.
    def behave(n: int, _: str) -> Turn:
        return (OK, Turn(status=500, bills=True), OK, Turn(drop=True), OK, Turn(delay_s=0.6))[n % 6]

    prompt_tokens = WORST_CASE - COMPLETION_TOKENS
    cap = 9 * WORST_CASE + 1
    with ChatServer(behave, prompt_tokens, COMPLETION_TOKENS) as server, pytest.raises(TeacherBudgetError):
        teacher(server, concurrency=4, timeout_s=0.3, max_attempts=9, max_total_tokens=cap).explain(TEXTS)
    assert server.billed_tokens == 9 * WORST_CASE


def test_the_cap_on_cost_stops_before_it_could_be_exceeded(teacher: Explain) -> None:
    prices = {"prompt_price": 2.0, "completion_price": 10.0}
    worst = ((WORST_CASE - COMPLETION_TOKENS) * 2 + COMPLETION_TOKENS * 10) / 1e6
    answer = (10 * 2 + 5 * 10) / 1e6
    with ChatServer() as server:
        with pytest.raises(TeacherBudgetError, match=r"-max-cost 0\.001077 \(max_cost\): 75 tokens for 0\.00035"):
            teacher(server, max_cost=worst + 4.5 * answer, **prices).explain(TEXTS)
        assert len(server.prompts) == 5
        explained = teacher(server, max_cost=1.0, **prices).explain(TEXTS)
    assert explained.usage.cost == pytest.approx(15 * answer)


def test_a_server_that_does_not_tell_its_bill_counts_at_the_worst_case(teacher: Explain) -> None:
    with ChatServer(Turn(usage=False)) as server:
        usage = teacher(server).explain({"a": {"text": "text number 10"}}).usage
    assert usage.prompt_tokens + usage.completion_tokens == 2 * WORST_CASE


CHILD = """
import sys
from tests.training.test_teacher_llm import TASK, TEXTS
from training.teacher_api import TeacherConfig
from training.teacher_llm import LLMTeacher
config = TeacherConfig(base_url=sys.argv[1], model="teacher-1", cache_path=sys.argv[2], max_completion_tokens=40,
                       concurrency=3, max_total_tokens=int(sys.argv[3]))
LLMTeacher(TASK, config, progress=False).explain(TEXTS)
"""


def child(server: ChatServer, cache: Path, cap: int = 1_000_000) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", CHILD, server.base_url, str(cache), str(cap)]
    return subprocess.Popen(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE)


def test_a_run_killed_midway_keeps_every_answer_and_goes_on_with_the_rest(teacher: Explain, tmp_path: Path) -> None:
    with ChatServer(Turn(delay_s=0.1)) as server:
        process = child(server, tmp_path / "cache.sqlite")
        while len(server.prompts) < 9:
            assert process.poll() is None, process.communicate()[1].decode()
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kept, asked = cached_answers(tmp_path), len(server.prompts)
        assert asked - 3 <= len(kept) <= asked  # all but the three in flight
        assert len(kept) >= 6
        with TeacherCache(tmp_path / "cache.sqlite") as cache:
            # Those in flight may be billed: they stay in the books at their worst case.
            assert cache.spent().tokens == 15 * len(kept) + WORST_CASE * (asked - len(kept))

        explained = teacher(server).explain(TEXTS)
    assert explained.usage.requests == 20 - len(kept)
    assert explained.usage.cached == len(kept)
    assert sorted(server.prompts[asked:]) == sorted(set(cached_answers(tmp_path)) - set(kept))


def test_two_processes_share_a_cache_and_its_cap(tmp_path: Path) -> None:
    cap = WORST_CASE * 9 + 60
    with ChatServer(Turn(delay_s=0.02), WORST_CASE - COMPLETION_TOKENS, COMPLETION_TOKENS) as server:
        processes = [child(server, tmp_path / "cache.sqlite", cap) for _ in range(2)]
        errors = [process.communicate()[1].decode() for process in processes]
    assert all("TeacherBudgetError" in error for error in errors), errors
    assert server.billed_tokens == WORST_CASE * 9
    with TeacherCache(tmp_path / "cache.sqlite") as cache:
        assert cache.spent().tokens == WORST_CASE * 9


def test_can_be_called_from_a_thread_beside_a_running_event_loop(teacher: Explain) -> None:
    with ChatServer() as server:
        explained = asyncio.run(asyncio.to_thread(teacher(server).explain, {"a": {"text": "great"}}))
    assert explained.explanations["a"]["neg"] == "Because it says so."


def test_neither_texts_nor_the_key_reach_a_log(teacher: Explain, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), ChatServer(first_then_fine(Turn(status=503))) as server:
        teacher(server, concurrency=1).explain({"a": {"text": "secret words"}})
    assert "text a, label neg again in" in caplog.text
    assert "secret" not in caplog.text
    assert "sesame" not in caplog.text


def test_nothing_to_explain_asks_nothing(teacher: Explain) -> None:
    with ChatServer() as server:
        explained = teacher(server).explain({})
    assert (explained.explanations, explained.usage, server.prompts) == ({}, Usage(), [])


def test_a_cache_that_is_none_is_refused_when_the_teacher_is_made(teacher: Explain, tmp_path: Path) -> None:
    (tmp_path / "cache.sqlite").write_text("these are my notes, not a database, and they are precious " * 9)
    with pytest.raises(InputError, match=r"cache\.sqlite: cannot be used as a teacher cache"):
        teacher("http://127.0.0.1:1/v1")


def test_openais_newer_models_get_the_length_under_its_newer_name(teacher: Explain) -> None:
    with ChatServer() as server:
        teacher(server, length_parameter="max_completion_tokens").explain({"a": {"text": "great"}})
    assert server.requests[0]["max_completion_tokens"] == COMPLETION_TOKENS
    assert "max_tokens" not in server.requests[0]


@pytest.mark.parametrize(
    "wrong",
    [
        {"base_url": "localhost:8080"},
        {"base_url": "http://host:port/v1"},
        {"model": ""},
        {"concurrency": 0},
        {"max_total_tokens": 0},
        {"max_cost": 1.0},  # without prices it would cap nothing
        {"temprature": 0.5},
    ],
)
def test_a_config_that_makes_no_sense_is_refused_without_repeating_the_key(
    tmp_path: Path, wrong: dict[str, Any]
) -> None:
    right = {"base_url": "http://127.0.0.1/v1", "model": "m", "api_key": "sesame", "cache_path": tmp_path / "c"}
    assert TeacherConfig(**right).max_total_tokens == 1_000_000
    with pytest.raises(ValidationError) as caught:
        TeacherConfig(**right | wrong)
    assert "sesame" not in str(caught.value)
