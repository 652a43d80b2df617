"""Who waits for the model and in what order: a lane for labels, and one for explanations.

Within a lane the requests take turns item by item, so one text does not wait behind a thousand. Items of different Work
cannot share a batch: they take turns as a whole.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

I = TypeVar("I")  # noqa: E741  # item
O = TypeVar("O")  # noqa: E741  # outcome

LANES = ("classify", "explain")
SMOOTHING = 0.2  # weight of what was answered last in a lane's seconds per token


@dataclass(frozen=True)
class Work:
    """How items are to be answered. Only items with equal Work share a batch. None: the model's own default."""

    explain: bool = False
    num_beams: int | None = None
    max_new_tokens: int | None = None

    @property
    def lane(self) -> str:
        return "explain" if self.explain else "classify"


class Observer(Protocol):
    """Hears what the lanes do; metrics.Metrics is one."""

    def queue_changed(self, lane: str, items: int) -> None: ...

    def batch_done(self, lane: str, items: int, tokens: int, seconds: float) -> None: ...


class Ticket(Generic[I, O]):
    """The items of one request, and their outcomes as they come in."""

    def __init__(self, items: Sequence[I], costs: Sequence[int], work: Work, answered: asyncio.Future[None]) -> None:
        self.items = items
        self.costs = costs  # tokens of each item
        self.work = work
        self.answered = answered
        self.outcomes: dict[int, O] = {}
        self.next = 0  # the first item that still waits

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


Place = tuple[Ticket[I, O], int]  # an item: its ticket, and which of the ticket's it is


def tokens_of(places: Collection[Place[I, O]]) -> int:
    return sum(ticket.costs[index] for ticket, index in places)


class Lane(Generic[I, O]):
    """Tickets of which items wait, in the order of their turns, and how fast the model answers them."""

    def __init__(self, name: str, observer: Observer) -> None:
        self.name = name
        self._observer = observer
        self._tickets: dict[Work, deque[Ticket[I, O]]] = {}  # Work and tickets, each in the order of their turns
        self._arrived = asyncio.Event()
        self._seconds = self._tokens = 0.0  # of the model, and answered in them; the latest count most

    @property
    def work(self) -> Work | None:
        """Whose turn it is; None where nothing waits."""
        return next(iter(self._tickets), None)

    @property
    def waiting_items(self) -> int:
        return sum(map(self.waiting, self._tickets))

    @property
    def waiting_seconds(self) -> float:
        """A guess of the time that the model needs for all that waits here."""
        if not self._tokens:
            return 0.0
        tickets = (ticket for tickets in self._tickets.values() for ticket in tickets)
        return self._seconds / self._tokens * sum(sum(ticket.costs[ticket.next :]) for ticket in tickets)

    def waiting(self, work: Work) -> int:
        """How many items of a Work wait."""
        return sum(ticket.waiting for ticket in self._tickets.get(work, ()))

    def others_wait(self, work: Work) -> bool:
        return any(other != work for other in self._tickets)

    def add(self, ticket: Ticket[I, O]) -> None:
        self._tickets.setdefault(ticket.work, deque()).append(ticket)
        self._changed()
        self.wake()

    def take(self, work: Work, *, items: float = math.inf, tokens: float = math.inf) -> list[Place[I, O]]:
        """The next items of a Work, one of each ticket in turn: so many at most, with so many tokens at most.

        An item above ``tokens`` goes alone.
        """
        turns = self._tickets.get(work, deque())
        taken: list[Place[I, O]] = []
        used = 0
        while turns and len(taken) < items:
            ticket = turns[0]
            used += ticket.costs[ticket.next]
            if taken and used > tokens:
                break
            taken.append((turns.popleft(), ticket.next))
            ticket.next += 1
            if ticket.waiting:
                turns.append(ticket)
        if taken:
            self._changed()
        return taken

    def pass_on(self, work: Work) -> None:
        """Let other Work have the next turn."""
        if work in self._tickets:
            self._tickets[work] = self._tickets.pop(work)

    def drop(self, ticket: Ticket[I, O]) -> None:
        """Forget what still waits of a ticket, if anything does."""
        if ticket in self._tickets.get(ticket.work, ()):
            self._tickets[ticket.work].remove(ticket)
            self._changed()

    def ran(self, batch: Collection[Place[I, O]], answered: Collection[Place[I, O]], seconds: float) -> None:
        """Hear what was in the model, what of it was answered, and how long that took."""
        self._seconds += seconds
        if answered:
            self._tokens += tokens_of(answered)
            self._seconds, self._tokens = self._seconds * (1 - SMOOTHING), self._tokens * (1 - SMOOTHING)
        self._observer.batch_done(self.name, len(batch), tokens_of(batch), seconds)

    async def arrival(self) -> None:
        """Return when something has arrived here, or ``wake`` was called."""
        self._arrived.clear()
        await self._arrived.wait()

    def wake(self) -> None:
        self._arrived.set()

    def _changed(self) -> None:
        self._tickets = {work: tickets for work, tickets in self._tickets.items() if tickets}
        self._observer.queue_changed(self.name, self.waiting_items)
