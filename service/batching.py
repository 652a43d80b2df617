"""A bounded queue in front of the model: items of many requests go through it in small batches.

It knows nothing of HTTP. One thread runs the model, so two batches never overlap. While a batch runs, new items gather
and form the next one; an idle model starts at once, so nobody waits for a batch to fill.

Items that only need a label and items that need an explanation queue in two lanes, as the latter take the model many
times longer. When both lanes wait, the one that had less of its share of the model's time goes next: a short request
waits for one batch of explanations at most, and explanations still get a quarter of a model that is asked for labels
without a pause. Within a lane the requests take turns item by item, so one text does not wait behind a thousand.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from service.errors import DeadlineExceeded, InternalError, NotReady, QueueFull

logger = logging.getLogger("xal.batching")

I_contra = TypeVar("I_contra", contravariant=True)
O_co = TypeVar("O_co", covariant=True)
I = TypeVar("I")  # noqa: E741  # item
O = TypeVar("O")  # noqa: E741  # outcome

SHARES = {"classify": 3.0, "explain": 1.0}  # of the model's time, while both lanes wait
SMOOTHING = 0.2  # weight of the latest batch in a lane's seconds per token
LONGEST_RETRY_AFTER = 60.0  # seconds


@dataclass(frozen=True)
class Work:
    """How items are to be answered. Only items with equal Work share a batch. None: the model's own default."""

    explain: bool = False
    num_beams: int | None = None
    max_new_tokens: int | None = None

    @property
    def lane(self) -> str:
        return "explain" if self.explain else "classify"


class Engine(Protocol[I_contra, O_co]):
    """What answers: N items in, N outcomes out. ``predict`` is called by one thread at a time."""

    def predict(
        self, items: Sequence[I_contra], *, explain: bool, num_beams: int | None, max_new_tokens: int | None
    ) -> Sequence[O_co]: ...

    def estimated_tokens(self, item: I_contra) -> int: ...


class Observer(Protocol):
    """Hears what the queue does; metrics.Metrics is one."""

    def queue_changed(self, lane: str, items: int) -> None: ...

    def batch_done(self, lane: str, items: int, tokens: int, seconds: float) -> None: ...


class _Ticket(Generic[I, O]):
    """The items of one request, and their outcomes as they come in."""

    def __init__(self, items: Sequence[I], costs: Sequence[int], work: Work, answered: asyncio.Future[None]) -> None:
        self.items = items
        self.costs = costs  # tokens of each item
        self.work = work
        self.answered = answered
        self.outcomes: dict[int, O] = {}
        self.next = 0  # the first item that is in no batch yet

    @property
    def waiting(self) -> int:
        return len(self.items) - self.next

    def answer(self, index: int, outcome: O) -> None:
        self.outcomes[index] = outcome
        if len(self.outcomes) == len(self.items) and not self.answered.done():
            self.answered.set_result(None)

    def fail(self, error: Exception) -> None:
        if not self.answered.done():
            self.answered.set_exception(error)


class _Lane(Generic[I, O]):
    """Tickets in the order of their turns, and how much of the model's time they have had."""

    def __init__(self, name: str, share: float, batch_tokens: int) -> None:
        self.name = name
        self.share = share
        self.batch_tokens = batch_tokens
        self.tickets: deque[_Ticket[I, O]] = deque()
        self.used = 0.0  # seconds of the model over share
        self.seconds_per_token = 0.0

    @property
    def waiting_items(self) -> int:
        return sum(ticket.waiting for ticket in self.tickets)

    @property
    def waiting_seconds(self) -> float:
        """A guess of the time that the model needs for all that waits here."""
        return self.seconds_per_token * sum(sum(ticket.costs[ticket.next :]) for ticket in self.tickets)

    def take_batch(self) -> list[tuple[_Ticket[I, O], int]]:
        """The next (ticket, item index) pairs: equal Work, one item of each ticket in turn, up to ``batch_tokens``.

        An item above ``batch_tokens`` goes alone. The tickets served go behind those of other Work.
        """
        work = self.tickets[0].work
        turns = deque(ticket for ticket in self.tickets if ticket.work == work)
        others = [ticket for ticket in self.tickets if ticket.work != work]
        batch: list[tuple[_Ticket[I, O], int]] = []
        tokens = 0
        while turns:
            ticket = turns[0]
            tokens += ticket.costs[ticket.next]
            if batch and tokens > self.batch_tokens:
                break
            batch.append((ticket, ticket.next))
            ticket.next += 1
            turns.popleft()
            if ticket.waiting:
                turns.append(ticket)
        self.tickets = deque([*others, *turns])
        return batch

    def drop(self, ticket: _Ticket[I, O]) -> None:
        """Forget what still waits of a ticket, if anything does."""
        if ticket in self.tickets:
            self.tickets.remove(ticket)

    def charge(self, tokens: int, seconds: float) -> None:
        self.used += seconds / self.share
        rate = seconds / tokens
        before = self.seconds_per_token or rate
        self.seconds_per_token = before + SMOOTHING * (rate - before)


class Batcher(Generic[I, O]):
    """The queue. Made and used on one event loop; ``start`` before the first ``submit``, ``close`` at the end.

    executor: one thread, the only one that calls ``engine.predict``. classify_batch_tokens, explain_batch_tokens:
    estimated tokens in one batch of each lane; they bound how long others wait for it. max_queue_items: items that may
    wait, over all requests.
    """

    def __init__(
        self,
        engine: Engine[I, O],
        executor: ThreadPoolExecutor,
        observer: Observer,
        *,
        classify_batch_tokens: int,
        explain_batch_tokens: int,
        max_queue_items: int,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._engine = engine
        self._executor = executor
        self._observer = observer
        self._max_queue_items = max_queue_items
        self._clock = clock
        budgets = {"classify": classify_batch_tokens, "explain": explain_batch_tokens}
        self._lanes: dict[str, _Lane[I, O]] = {name: _Lane(name, SHARES[name], budgets[name]) for name in SHARES}
        self._arrived = asyncio.Event()
        self._level = 0.0  # ``used`` of the lane that ran last, before it ran
        self._closing = False
        self._runner: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._runner = asyncio.create_task(self._run(), name="batcher")

    @property
    def alive(self) -> bool:
        """Whether submitted items will be answered."""
        return self._runner is not None and not self._runner.done() and not self._closing

    async def submit(self, items: Sequence[I], work: Work, *, deadline: float) -> list[O]:
        """Outcomes of the items, in their order.

        deadline: event-loop time. Cancelling drops what is not in a batch yet. Raises QueueFull, NotReady (closing),
        DeadlineExceeded, and InternalError where the engine failed as a whole.
        """
        if not self.alive:
            raise NotReady("the service is shutting down; ask again shortly", retry_after=5)
        waiting = sum(lane.waiting_items for lane in self._lanes.values())
        if waiting + len(items) > self._max_queue_items:
            seconds = min(LONGEST_RETRY_AFTER, sum(lane.waiting_seconds for lane in self._lanes.values()))
            raise QueueFull(f"{waiting} items wait already; ask again in {seconds:.0f} s", retry_after=seconds)
        costs = [self._engine.estimated_tokens(item) for item in items]
        ticket = _Ticket[I, O](items, costs, work, asyncio.get_running_loop().create_future())
        lane = self._enqueue(ticket)
        try:
            async with asyncio.timeout_at(deadline):
                await ticket.answered
        except TimeoutError:
            raise DeadlineExceeded("the service's time limit for one request is over; send fewer items") from None
        finally:
            lane.drop(ticket)
            self._observer.queue_changed(lane.name, lane.waiting_items)
        return [ticket.outcomes[index] for index in range(len(items))]

    async def close(self) -> None:
        """Take nothing new, answer what waits, and return when that is done."""
        self._closing = True
        self._arrived.set()
        if self._runner is not None:
            await self._runner

    def _enqueue(self, ticket: _Ticket[I, O]) -> _Lane[I, O]:
        lane = self._lanes[ticket.work.lane]
        if not lane.tickets:  # time not asked for is not saved up: a lane that comes back starts level
            lane.used = max(lane.used, self._level)
        lane.tickets.append(ticket)
        self._observer.queue_changed(lane.name, lane.waiting_items)
        self._arrived.set()
        return lane

    async def _run(self) -> None:
        while True:
            waiting = [lane for lane in self._lanes.values() if lane.tickets]
            if waiting:
                lane = min(waiting, key=lambda lane: lane.used)  # classify on a tie: it is listed first
                self._level = lane.used
                await self._run_batch(lane)
            elif self._closing:
                return
            else:
                self._arrived.clear()
                await self._arrived.wait()

    async def _run_batch(self, lane: _Lane[I, O]) -> None:
        batch = lane.take_batch()
        self._observer.queue_changed(lane.name, lane.waiting_items)
        work = batch[0][0].work
        items = [ticket.items[index] for ticket, index in batch]
        tokens = sum(ticket.costs[index] for ticket, index in batch)
        started = self._clock()
        try:
            outcomes = await asyncio.get_running_loop().run_in_executor(self._executor, self._predict, items, work)
        except Exception as error:
            logger.error("the engine failed on a batch of %d items", len(items), exc_info=error)
            for ticket, _ in batch:
                ticket.fail(InternalError())
                lane.drop(ticket)
        else:
            for (ticket, index), outcome in zip(batch, outcomes, strict=True):
                ticket.answer(index, outcome)
        seconds = self._clock() - started
        lane.charge(tokens, seconds)
        self._observer.batch_done(lane.name, len(items), tokens, seconds)

    def _predict(self, items: list[I], work: Work) -> Sequence[O]:
        outcomes = self._engine.predict(
            items, explain=work.explain, num_beams=work.num_beams, max_new_tokens=work.max_new_tokens
        )
        if len(outcomes) != len(items):
            raise RuntimeError(f"the engine gave {len(outcomes)} outcomes for {len(items)} items")
        return outcomes
