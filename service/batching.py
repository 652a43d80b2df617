"""The model behind a bounded queue, where items of many requests share its time.

It knows nothing of HTTP. Items that only need a label wait in one lane, items that need an explanation in another, and
each lane has a thread of its own that runs the model: a label never waits for an explanation, and the operating system
shares the cores between the two.

Labels go in batches: while one runs, the next gathers, and an idle model starts at once. Explanations are written by an
explainer, which new items join while others are at work, and which each leaves as soon as it is done. An explainer does
one Work at a time. Where other Work waits nothing more joins; when those at work are done, the other has its turn.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Generic, Protocol, TypeVar

from service.errors import DeadlineExceeded, InternalError, NotReady, QueueFull
from service.lanes import LANES, I, Lane, O, Observer, Place, Ticket, Work

logger = logging.getLogger("xal.batching")

I_contra = TypeVar("I_contra", contravariant=True)
O_co = TypeVar("O_co", covariant=True)
R = TypeVar("R")

SLICE = 0.01  # seconds of explaining between two looks at what has arrived
LONGEST_RETRY_AFTER = 60.0  # seconds


class Explainer(Protocol[I_contra, O_co]):
    """Explains items as they come; used by one thread at a time."""

    @property
    def busy(self) -> bool:
        """Whether any item waits or is at work."""

    def wanted(self, waiting: int) -> int:
        """How many of so many items that wait had better join now; some, where none is at work."""

    def add(self, items: Iterable[tuple[int, I_contra]]) -> None:
        """Let items join, each with a number to know it by."""

    def advance(self) -> Sequence[tuple[int, O_co]]:
        """Go on by a step. -> the items that are done, by their numbers."""


class Engine(Protocol[I_contra, O_co]):
    """What answers. ``predict`` gives N items N labels, in a thread that may be another than an explainer's; one
    explainer is at work at a time."""

    def predict(self, items: Sequence[I_contra]) -> Sequence[O_co]: ...

    def explainer(
        self, *, num_beams: int | None, max_new_tokens: int | None, budget: int | None
    ) -> Explainer[I_contra, O_co]: ...

    def estimated_tokens(self, item: I_contra) -> int: ...


class Batcher(Generic[I, O]):
    """The queue. Made and used on one event loop; ``start`` before the first ``submit``, ``close`` at the end.

    threads: of each lane, the one that runs the model. classify_batch_tokens: estimated tokens in one batch of labels;
    they bound how long other labels wait for it. explain_batch_tokens: the explainer's budget, None for the engine's
    own. max_queue_items: items that may wait, over all requests.
    """

    def __init__(
        self,
        engine: Engine[I, O],
        threads: Mapping[str, ThreadPoolExecutor],
        observer: Observer,
        *,
        classify_batch_tokens: int,
        explain_batch_tokens: int | None,
        max_queue_items: int,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._engine = engine
        self._threads = threads
        self._classify_batch_tokens = classify_batch_tokens
        self._explain_batch_tokens = explain_batch_tokens
        self._max_queue_items = max_queue_items
        self._clock = clock
        self._lanes: dict[str, Lane[I, O]] = {name: Lane(name, observer) for name in LANES}
        self._runners: list[asyncio.Task[None]] = []
        self._closing = False

    def start(self) -> None:
        turns = {"classify": self._classify, "explain": self._explain}
        self._runners = [asyncio.create_task(self._run(self._lanes[name], turns[name]), name=name) for name in LANES]

    @property
    def alive(self) -> bool:
        """Whether submitted items will be answered."""
        return bool(self._runners) and not self._closing and not any(runner.done() for runner in self._runners)

    async def submit(self, items: Sequence[I], work: Work, *, deadline: float) -> list[O]:
        """Outcomes of the items, in their order.

        deadline: event-loop time. Cancelling drops what is not in the model yet. Raises QueueFull, NotReady (closing),
        DeadlineExceeded, and InternalError where the engine failed as a whole.
        """
        if not self.alive:
            raise NotReady("the service is shutting down; ask again shortly", retry_after=5)
        waiting = sum(lane.waiting_items for lane in self._lanes.values())
        if waiting + len(items) > self._max_queue_items:
            # The lanes run side by side.
            seconds = min(LONGEST_RETRY_AFTER, max(lane.waiting_seconds for lane in self._lanes.values()))
            raise QueueFull(f"{waiting} items wait already; ask again in {seconds:.0f} s", retry_after=seconds)
        costs = [self._engine.estimated_tokens(item) for item in items]
        ticket = Ticket[I, O](items, costs, work, asyncio.get_running_loop().create_future())
        lane = self._lanes[work.lane]
        lane.add(ticket)
        try:
            async with asyncio.timeout_at(deadline):
                await ticket.answered
        except TimeoutError:
            raise DeadlineExceeded("the service's time limit for one request is over; send fewer items") from None
        finally:
            lane.drop(ticket)
        return [ticket.outcomes[index] for index in range(len(items))]

    async def close(self) -> None:
        """Take nothing new, answer what waits, and return when that is done."""
        self._closing = True
        for lane in self._lanes.values():
            lane.wake()
        await asyncio.gather(*self._runners)

    async def _run(self, lane: Lane[I, O], turn: Callable[[Lane[I, O], Work], Awaitable[None]]) -> None:
        while True:
            if (work := lane.work) is not None:
                await turn(lane, work)
                lane.pass_on(work)
            elif self._closing:
                return
            else:
                await lane.arrival()

    async def _classify(self, lane: Lane[I, O], work: Work) -> None:
        """One batch of labels."""
        batch = lane.take(work, tokens=self._classify_batch_tokens)
        started = self._clock()
        try:
            outcomes = await self._in_thread(lane, self._predict, [ticket.items[index] for ticket, index in batch])
        except Exception as error:
            self._fail(lane, batch, error)
        else:
            for (ticket, index), outcome in zip(batch, outcomes, strict=True):
                ticket.answer(index, outcome)
        lane.ran(batch, batch, self._clock() - started)

    def _predict(self, items: list[I]) -> Sequence[O]:
        outcomes = self._engine.predict(items)
        if len(outcomes) != len(items):
            raise RuntimeError(f"the engine gave {len(outcomes)} outcomes for {len(items)} items")
        return outcomes

    async def _explain(self, lane: Lane[I, O], work: Work) -> None:
        """A turn of a Work: one explainer, until nothing is at work and nothing more may join."""
        at_work: dict[int, Place[I, O]] = {}
        batch: list[Place[I, O]] = []
        numbers = count()
        try:
            explainer = self._engine.explainer(
                num_beams=work.num_beams, max_new_tokens=work.max_new_tokens, budget=self._explain_batch_tokens
            )
            joining = lane.take(work, items=explainer.wanted(lane.waiting(work)))
            while joining or at_work:
                entering = dict(zip(numbers, joining, strict=False))
                at_work |= entering
                batch = list(at_work.values())
                items = [(number, ticket.items[index]) for number, (ticket, index) in entering.items()]
                started = self._clock()
                done = await self._in_thread(lane, self._advance, explainer, items)
                answered = [at_work.pop(number) for number, _ in done]
                for (ticket, index), (_, outcome) in zip(answered, done, strict=True):
                    ticket.answer(index, outcome)
                lane.ran(batch, answered, self._clock() - started)
                if at_work and not explainer.busy:
                    raise RuntimeError(f"the engine gave no outcome for {len(at_work)} of its items")
                wanted = 0 if lane.others_wait(work) else explainer.wanted(lane.waiting(work))
                joining = lane.take(work, items=wanted)
        except Exception as error:
            self._fail(lane, batch or lane.take(work), error)  # all that wait, where there is no explainer for them

    def _advance(self, explainer: Explainer[I, O], items: list[tuple[int, I]]) -> Sequence[tuple[int, O]]:
        """A slice of explaining, which ends early when something is done."""
        explainer.add(items)
        end = self._clock() + SLICE
        while explainer.busy:
            done = explainer.advance()
            if done or self._clock() >= end:
                return done
        return []

    async def _in_thread(self, lane: Lane[I, O], function: Callable[..., R], *arguments: object) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._threads[lane.name], function, *arguments)

    def _fail(self, lane: Lane[I, O], places: Collection[Place[I, O]], error: Exception) -> None:
        logger.error("the engine failed on a batch of %d items", len(places), exc_info=error)
        for ticket, _ in places:
            ticket.fail(InternalError())
            lane.drop(ticket)
