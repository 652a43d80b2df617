"""Questions to an LLM: each asked at most once for all who use the cache, by a few workers at a time, within a cap."""

from __future__ import annotations

import asyncio
import logging
import random
import sqlite3
import time
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

import httpx2
from openai import AsyncOpenAI
from tqdm import tqdm

from training.teacher import TeacherBudgetError, TeacherError, Usage
from training.teacher_api import AttemptError, TeacherConfig, ask
from training.teacher_cache import Bill, Question, TeacherCache

CLAIM_PAUSE_S = 0.1  # between two looks at a question that another process is asking

JUDGE = "judge"  # the role whose options are not the teacher's
# What to do about a text that the model says nothing to. Its row decides what the pool is, so the run is another one.
_WITHOUT_IT = "to go without it, leave this text's row out of the data, or ask another model, with another --output"

logger = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class Answers(Generic[K]):
    """answers: what came to each question, as it came, in the order asked. usage: what that took."""

    answers: dict[K, str]
    usage: Usage


class Surveyor:
    """Asks any chat API that speaks OpenAI's protocol, and remembers every answer.

    Answers are kept in ``config.cache_path``, each the moment it comes. Teachers, classifiers and judges may share the
    file: a prompt that one of them has asked is not asked again by another. The cap counts everything ever spent
    through that file, so a run that is started again goes on within the same cap. Several processes may share it: the
    cap holds for all of them together, each finds the others' answers, and waits for one that another is asking for.

    role: what messages and the progress bar call the one who is asked. takes_silence: an answer without a text (it is
    empty, the model refuses, a content filter holds it back) is an answer, "", where otherwise it is asked for again
    and then an error: one text of thousands is not to end the rest. transport: replaces the network below the client,
    for tests.

    Raises InputError where the cache cannot be used: now, not after hours of training.
    """

    def __init__(
        self,
        config: TeacherConfig,
        role: str,
        *,
        takes_silence: bool = False,
        progress: bool = True,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self._config = config
        self._role = role
        self._takes_silence = takes_silence
        self._progress = progress
        self._transport = transport
        with TeacherCache(config.cache_path):
            pass

    def ask(self, questions: Mapping[K, tuple[str, str]]) -> Answers[K]:
        """Ask for what the cache does not hold yet, identical prompts once.

        questions: key -> (how messages name the question, prompt). The name must hold nothing of a text: it is logged.

        Runs an event loop of its own (``asyncio.run``): call it from any thread that is not running one already; from
        a coroutine or a notebook, use ``await asyncio.to_thread(surveyor.ask, questions)``.

        Raises TeacherBudgetError before a request that could exceed the cap, TeacherError where the server refuses or
        keeps failing, where the model says nothing to a text, unless that is an answer, or where the cache can no
        longer be written. Requests in flight are waited for, and every answer that can be kept is kept.
        """
        try:
            return self._ask(questions)
        except sqlite3.Error as error:
            raise TeacherError(
                f"{self._role}: {self._config.cache_path} cannot be used ({error}); check the disk's free space and "
                "the file's permissions, and start again: what it holds is not asked for again"
            ) from error

    def _ask(self, questions: Mapping[K, tuple[str, str]]) -> Answers[K]:
        asked = {key: (name, self._config.question(prompt)) for key, (name, prompt) in questions.items()}
        with TeacherCache(self._config.cache_path) as cache:
            different = {question.key: (name, question) for name, question in asked.values()}
            new = [entry for key, entry in different.items() if cache.answer(key) is None]
            survey = _Survey(self._config, cache, self._role, self._takes_silence, new)
            if new:
                asyncio.run(survey.run(self._transport, self._progress))
            answers: dict[K, str] = {}
            for key, (_, question) in asked.items():
                answer = cache.answer(question.key)
                assert answer is not None, "a survey that ends without an error has answered every question"
                answers[key] = answer
        bill, cached = survey.bill, len(asked) - len(new) + survey.found
        return Answers(answers, Usage(survey.requests, cached, bill.prompt_tokens, bill.completion_tokens, bill.cost))


class _Survey:
    """What the cache leaves open: a few workers, each taking the next question, until all are answered or one fails."""

    def __init__(
        self,
        config: TeacherConfig,
        cache: TeacherCache,
        role: str,
        takes_silence: bool,
        questions: Sequence[tuple[str, Question]],
    ) -> None:
        self.requests = 0
        self.bill = Bill()
        self.found = 0  # answers that another process has asked for meanwhile
        self._config = config
        self._cache = cache
        self._role = role
        self._takes_silence = takes_silence
        self._questions = questions  # (how messages name it, question)
        self._answered = 0
        self._in_flight = 0
        self._settled = asyncio.Event()  # set whenever a request's bill becomes known
        self._stop = asyncio.Event()  # set at the first failure
        self._failure: TeacherError | sqlite3.Error | None = None
        self._jitter = random.Random()  # its own: waiting must not move a generator that results depend on

    async def run(self, transport: httpx2.AsyncBaseTransport | None, progress: bool) -> None:
        queue = iter(self._questions)
        disable = None if progress else True  # None: off where there is no terminal
        with tqdm(total=len(self._questions), desc=f"asking the {self._role}", unit=" answers", disable=disable) as bar:
            async with self._config.client(transport) as client:
                workers = min(self._config.concurrency, len(self._questions))
                await asyncio.gather(*(self._work(client, queue, bar) for _ in range(workers)))
        if isinstance(self._failure, sqlite3.Error):
            raise self._failure
        if self._failure is not None:
            said = str(self._failure)
            if self._role == JUDGE:  # which has options of its own
                said = said.replace("--teacher-", "--judge-")
            raise type(self._failure)(
                f"{self._role}: {said}. {self._answered} of {len(self._questions)} answers came and are "
                f"kept in {self._cache.path}: a new run asks only for the rest"
            )

    async def _work(self, client: AsyncOpenAI, queue: Iterator[tuple[str, Question]], bar: tqdm) -> None:
        for name, question in queue:
            try:
                await self._answer(client, name, question)
            except (TeacherError, sqlite3.Error) as error:
                self._failure = self._failure or error
                self._stop.set()
            if self._stop.is_set():
                return
            bar.update(self._answered - bar.n)

    async def _answer(self, client: AsyncOpenAI, name: str, question: Question) -> None:
        """Ask until the cache holds an answer, or another worker has failed. Raises TeacherError where none comes."""
        while not self._cache.claim(question.key):  # another process is asking this very question
            if await self._stopped_within(CLAIM_PAUSE_S):
                return
        try:
            if self._cache.answer(question.key) is None:
                await self._ask_until_answered(client, name, question)
            else:
                self.found += 1
                self._answered += 1
        finally:
            self._cache.unclaim(question.key)

    async def _ask_until_answered(self, client: AsyncOpenAI, name: str, question: Question) -> None:
        for attempt in range(1, self._config.max_attempts + 1):
            try:
                await self._attempt(client, question)
                return
            except AttemptError as error:
                failure = error
            pause = self._pause(failure, attempt)
            if attempt == self._config.max_attempts or pause is None:
                break
            logger.info("%s: %s; %s again in %.1f s (attempt %d)", self._role, failure, name, pause, attempt + 1)
            if await self._stopped_within(pause):
                return
        found = f"no answer for {name} (attempt {attempt} of {self._config.max_attempts}): {failure}"
        raise TeacherError(found + (f"; {_WITHOUT_IT}" if failure.silent else ""))

    async def _stopped_within(self, seconds: float) -> bool:
        """Wait, unless another worker fails meanwhile; returns whether one has."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)
        return self._stop.is_set()

    def _pause(self, failure: AttemptError, attempt: int) -> float | None:
        """Seconds until the next attempt; None where another one is useless or the server wants too long a pause."""
        if not failure.retriable:
            return None
        doubled = min(self._config.max_backoff_s, self._config.backoff_s * 2 ** (attempt - 1))
        pause = doubled * self._jitter.uniform(0.5, 1.0)  # workers that failed together do not come back together
        if failure.retry_after_s is None:
            return pause
        return None if failure.retry_after_s > self._config.max_retry_after_s else failure.retry_after_s + pause

    async def _attempt(self, client: AsyncOpenAI, question: Question) -> None:
        """One request, from its reservation to its bill."""
        worst = self._config.worst_case(question.prompt)
        request = await self._reserve(question, worst)
        self.requests += 1
        started = time.monotonic()
        answer, bill = None, None
        try:
            reply = await ask(client, self._config, question.prompt)
            answer, bill = reply.text, reply.bill
            self._answered += 1
        except AttemptError as error:
            bill = error.bill
            if not (self._takes_silence and error.silent):
                raise
            answer = ""
            self._answered += 1
        finally:  # also where the program is being stopped: a request whose bill is not known stays at its worst case
            bill = worst if bill is None else bill
            self.bill += bill
            self._cache.settle(request, bill, answer, time.monotonic() - started)
            self._in_flight -= 1
            self._settled.set()

    async def _reserve(self, question: Question, worst: Bill) -> int:
        """Enter a request's worst case into the books, if need be when others have turned out cheaper than theirs."""
        while (request := self._cache.reserve(question, worst, self._config.cap)) is None:
            if self._failure is not None:
                raise self._failure
            if not self._in_flight:
                raise self._over_budget()
            self._settled.clear()
            await self._settled.wait()
        self._in_flight += 1
        return request

    def _over_budget(self) -> TeacherBudgetError:
        spent, config = self._cache.spent(), self._config
        caps = {"max-tokens": ("max_total_tokens", config.max_total_tokens), "max-cost": ("max_cost", config.max_cost)}
        named = " or ".join(
            f"--teacher-{option} {cap:,.12g} ({name})" for option, (name, cap) in caps.items() if cap is not None
        )
        money = f" for {spent.cost:,.4g}" if config.prompt_price or config.completion_price else ""
        return TeacherBudgetError(
            f"the next request could exceed {named}: {spent.tokens:,} tokens{money} are spent through this cache, "
            f"{len(self._questions) - self._answered} answers are missing; raise the cap to go on"
        )
