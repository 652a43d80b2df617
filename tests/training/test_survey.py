"""Asking in more than one role through one cache, and answers that say nothing.

What happens where a server misbehaves, a cap is reached or a process is killed is shown in test_teacher_llm.py.
"""

import logging
import multiprocessing
import sqlite3
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from service.model.errors import InputError
from tests.training.chat_server import OK, ChatServer, Turn
from training.survey import Answers, Surveyor
from training.teacher import TeacherBudgetError, TeacherError, Usage
from training.teacher_api import HIDDEN_PROMPT_TOKENS, TeacherConfig
from training.teacher_cache import TeacherCache

Make = Callable[..., Surveyor]
SILENCE = Turn(content=None)


@pytest.fixture
def surveyor(tmp_path: Path) -> Make:
    """A surveyor of a server, with a cache that lasts as long as the test and pauses made for tests."""

    def make(server: ChatServer, role: str = "classifier", *, takes_silence: bool = False, **options: Any) -> Surveyor:
        settings = {
            "base_url": server.base_url,
            "model": "m",
            "cache_path": tmp_path / "cache.sqlite",
            "max_completion_tokens": 40,
            "backoff_s": 0.01,
            "max_attempts": 3,
        }
        return Surveyor(TeacherConfig(**settings | options), role, takes_silence=takes_silence, progress=False)

    return make


def test_answers_come_as_they_are_by_key_and_in_the_order_asked(surveyor: Make) -> None:
    # The later a question comes, the sooner it is answered.
    with ChatServer(lambda n, prompt: Turn(content=f" {prompt}!\n", delay_s=0.05 * (3 - n))) as server:
        found = surveyor(server).ask({("b", 1): ("b", "who"), ("a", 2): ("a", "why"), ("c", 3): ("c", "who")})
    assert found == Answers({("b", 1): " who!\n", ("a", 2): " why!\n", ("c", 3): " who!\n"}, Usage(2, 1, 20, 10, 0.0))
    assert list(found.answers) == [("b", 1), ("a", 2), ("c", 3)]


def test_a_prompt_is_paid_for_once_whoever_asks_it(surveyor: Make) -> None:
    with ChatServer() as server:
        surveyor(server, "teacher").ask({1: ("one", "who"), 2: ("two", "why")})
        found = surveyor(server, "judge").ask({"x": ("x", "why"), "y": ("y", "when")})
    assert sorted(server.prompts) == ["when", "who", "why"]
    assert found.usage == Usage(1, 1, 10, 5, 0.0)


def test_processes_that_ask_the_same_at_the_same_moment_ask_it_once(surveyor: Make) -> None:
    questions = {number: (str(number), f"prompt {number}") for number in range(12)}
    with ChatServer(Turn(delay_s=0.2)) as server:
        config = surveyor(server)._config
        with ProcessPoolExecutor(3, mp_context=multiprocessing.get_context("spawn")) as pool:
            found = list(pool.map(_ask, [config] * 3, [questions] * 3))
        assert sorted(server.prompts) == sorted(prompt for _, prompt in questions.values())
    assert found[0].answers == found[1].answers == found[2].answers
    assert sum(one.usage.requests for one in found) == 12
    assert all(one.usage.requests + one.usage.cached == 12 for one in found)


def _ask(config: TeacherConfig, questions: dict[int, tuple[str, str]]) -> Answers[int]:
    return Surveyor(config, "teacher", progress=False).ask(questions)


def test_a_cache_that_can_no_longer_be_written_is_the_survey_s_failure(
    surveyor: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.teacher_cache.LOCK_TIMEOUT_S", 0.1)
    with closing(sqlite3.connect(tmp_path / "cache.sqlite", isolation_level=None, check_same_thread=False)) as other:

        def answer(_: int, __: str) -> Turn:
            other.execute("BEGIN IMMEDIATE")  # and nobody else can write any more
            return OK

        with (
            ChatServer(answer) as server,
            pytest.raises(TeacherError, match=r"^judge: .*cache\.sqlite cannot be used \(database is locked\)"),
        ):
            surveyor(server, "judge").ask({1: ("one", "who")})


def test_a_cap_counts_what_other_roles_have_spent(surveyor: Make, tmp_path: Path) -> None:
    worst = len("why") + HIDDEN_PROMPT_TOKENS + 40
    with ChatServer() as server:
        surveyor(server, "teacher").ask({1: ("one", "who")})  # 15 tokens
        spent = r"--judge-max-tokens \d+ \(max_total_tokens\): 15 tokens are spent .* 1 answers are missing"
        with pytest.raises(TeacherBudgetError, match=f"^judge: .*{spent}"):
            surveyor(server, "judge", max_total_tokens=worst + 14).ask({1: ("one", "why")})
        assert server.prompts == ["who"]
        surveyor(server, "judge", max_total_tokens=worst + 15).ask({1: ("one", "why")})
    with TeacherCache(tmp_path / "cache.sqlite") as cache:
        assert cache.spent().tokens == server.billed_tokens == 30


def test_silence_is_asked_for_again_unless_it_is_an_answer(surveyor: Make, tmp_path: Path) -> None:
    with ChatServer(lambda _, prompt: SILENCE if prompt == "hush" else OK) as server:
        with pytest.raises(TeacherError, match=r"no answer for h \(attempt 3 of 3\): the answer is empty"):
            surveyor(server).ask({1: ("h", "hush")})
        assert server.prompts == ["hush"] * 3
        found = surveyor(server, takes_silence=True).ask({1: ("h", "hush"), 2: ("s", "speak")})
        assert found.answers == {1: "", 2: OK.content}
        assert found.usage == Usage(2, 0, 20, 10, 0.0)
        again = surveyor(server, takes_silence=True).ask({1: ("h", "hush")})
    assert again == Answers({1: ""}, Usage(cached=1))
    assert len(server.prompts) == 5
    with TeacherCache(tmp_path / "cache.sqlite") as cache:
        assert cache.spent().tokens == server.billed_tokens == 75  # all five were billed


FILTERED = Turn(status=400, body='{"error": {"code": "content_filter", "message": "The response was filtered"}}')


@pytest.mark.parametrize(
    ("silence", "reason", "requests"),
    [
        (Turn(content=" \n", usage=False), r"the answer is empty; .* --teacher-answer-tokens \(max_completion", 3),
        (Turn(content=None, refusal="I can't help with that."), "the model refuses to answer", 3),
        (Turn(content=None, finish_reason="content_filter"), "a content filter holds the answer back", 3),
        (FILTERED, "HTTP 400 from .*: a content filter holds this prompt back", 1),
    ],
    ids=["empty", "refusal", "filtered answer", "filtered prompt"],
)
def test_one_text_without_an_answer_ends_a_teachers_survey_alone(
    surveyor: Make, silence: Turn, reason: str, requests: int
) -> None:
    with ChatServer(lambda _, prompt: silence if prompt == "hush" else OK) as server:
        with pytest.raises(TeacherError, match=reason) as caught:
            surveyor(server, "teacher").ask({1: ("text 7, label neg", "hush")})
        assert len(server.prompts) == requests
        found = surveyor(server, takes_silence=True).ask({1: ("h", "hush"), 2: ("s", "speak")})
        assert found.answers == {1: "", 2: OK.content}
        again = surveyor(server, takes_silence=True).ask({1: ("h", "hush")})
        assert again == Answers({1: ""}, Usage(cached=1))
    assert "no answer for text 7, label neg" in str(caught.value)
    assert "leave this text's row out of the data, or ask another model, with another --output" in str(caught.value)
    assert "temperature" not in str(caught.value)


@pytest.mark.parametrize(
    "body",
    [
        '{"choices": []}',
        '{"choices": [], "usage": {"prompt_tokens": 0, "completion_tokens": 0}}',
        '{"choices": [{"message": {"content": ""}, "finish_reason": "error"}]}',
        '{"choices": [{"message": {"content": null}, "finish_reason": null}]}',
    ],
)
def test_a_server_that_failed_with_status_200_is_asked_again(surveyor: Make, body: str) -> None:
    turns = iter((Turn(body=body), OK))
    with ChatServer(lambda *_: next(turns)) as server:
        assert surveyor(server, takes_silence=True).ask({1: ("one", "who")}).answers == {1: OK.content}


def test_a_prompt_that_a_filter_holds_back_counts_at_its_worst_case(surveyor: Make) -> None:
    with ChatServer(FILTERED) as server:  # Azure bills what its filter has read
        usage = surveyor(server, takes_silence=True).ask({1: ("h", "hush")}).usage
    assert usage == Usage(1, 0, len("hush") + HIDDEN_PROMPT_TOKENS, 40, 0.0)


def test_messages_to_a_judge_name_its_options(surveyor: Make) -> None:
    with ChatServer(Turn(delay_s=0.5)) as server:
        with pytest.raises(TeacherError, match=r"^judge: .* within 0\.1 s \(timeout_s\); .*--judge-concurrency"):
            surveyor(server, "judge", timeout_s=0.1, max_attempts=1).ask({1: ("one", "who")})
        with pytest.raises(TeacherError, match=r"^classifier: .*--teacher-concurrency"):
            surveyor(server, timeout_s=0.1, max_attempts=1).ask({1: ("one", "who")})


@pytest.mark.parametrize(
    "turn",
    [
        Turn(status=400, body='{"error": {"code": "unknown_parameter", "message": "no max_tokens here"}}'),
        Turn(status=500),
        Turn(status=503),
        Turn(drop=True),
        Turn(body="<html>no</html>"),
        Turn(status=401),
    ],
)
def test_a_failure_is_no_silence(surveyor: Make, turn: Turn) -> None:
    with ChatServer(turn) as server, pytest.raises(TeacherError, match=r"^classifier: no answer for one"):
        surveyor(server, takes_silence=True).ask({1: ("one", "who")})


def test_logs_name_the_role_and_the_question_and_hold_nothing_of_it(
    surveyor: Make, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO), ChatServer(lambda n, _: Turn(status=503) if n == 0 else OK) as server:
        surveyor(server, "judge").ask({1: ("explanation 1", "secret words")})
    assert "judge: HTTP 503" in caplog.text
    assert "explanation 1 again in" in caplog.text
    assert "secret" not in caplog.text


def test_a_cache_that_is_none_is_refused_when_the_surveyor_is_made(surveyor: Make, tmp_path: Path) -> None:
    (tmp_path / "cache.sqlite").write_text("these are my notes, not a database, and they are precious " * 9)
    with ChatServer() as server, pytest.raises(InputError, match=r"cannot be used as a teacher cache"):
        surveyor(server)
