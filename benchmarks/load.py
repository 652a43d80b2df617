"""Clients over HTTP: as many as are wanted at once, or one that asks at a fixed rate.

The connection is written by hand, for servers that say how long each answer is: a client library takes about a
millisecond a request of the cores on which the server is measured.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import cycle
from time import perf_counter
from urllib.parse import urlsplit

TICK = 0.01  # seconds between two looks at whether anything is answered yet


class NotAnswered(Exception):
    """The server refused what it should have answered."""


class Connection:
    """Keeps a connection open, for one request at a time."""

    def __init__(self, host: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._host, self._reader, self._writer = host, reader, writer

    async def ask(self, path: str, body: bytes | None = None) -> bytes:
        """The answer's body. Without a body it is a GET. Raises NotAnswered where the status is not 200."""
        head = f"{'GET' if body is None else 'POST'} {path} HTTP/1.1\r\nHost: {self._host}\r\n"
        if body is not None:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        self._writer.write(f"{head}\r\n".encode() + (body or b""))
        status, *lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").splitlines()
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        answer = await self._reader.readexactly(int(headers["content-length"]))
        if status.split()[1] != "200":
            raise NotAnswered(f"{path}: expected status 200, found {status}: {answer[:300].decode(errors='replace')}")
        return answer


@asynccontextmanager
async def connection(url: str) -> AsyncIterator[Connection]:
    """A connection to ``http://host:port``, closed at the end."""
    place = urlsplit(url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    try:
        yield Connection(place.netloc, reader, writer)
    finally:
        writer.close()


@dataclass
class Crowd:
    """Clients at work. answered: ``perf_counter`` of every answer so far. sending: false lets each stop after the
    answer that it waits for."""

    tasks: list[asyncio.Task[None]]
    answered: list[float] = field(default_factory=list)
    sending: bool = True


@asynccontextmanager
async def crowd(url: str, path: str, bodies: Iterable[bytes], clients: int) -> AsyncIterator[Crowd]:
    """Clients in a closed loop, each with one request in flight; they send the bodies in turn, and hang up on what is
    not answered when the context ends. Raises an ExceptionGroup of NotAnswered as soon as one request is refused."""
    found, turns = Crowd([]), cycle(bodies)

    async def client() -> None:
        async with connection(url) as server:
            while found.sending:
                await server.ask(path, next(turns))
                found.answered.append(perf_counter())

    async with asyncio.TaskGroup() as group:
        found.tasks += [group.create_task(client()) for _ in range(clients)]
        try:
            yield found
        finally:
            for task in found.tasks:
                task.cancel()


async def throughput(
    url: str, path: str, bodies: Iterable[bytes], *, clients: int, seconds: float, hang_up: bool = False
) -> float:
    """Answers per second to so many clients in a closed loop, from the first request to the last answer.

    After so many seconds they send nothing more, and wait for what is in flight: texts that are worked on together are
    answered together, and a count that ends a moment before or after would be wrong by all of them. hang_up: do not
    wait, for a server that answers one at a time.
    """
    started = perf_counter()
    async with crowd(url, path, bodies, clients) as found:
        await asyncio.sleep(seconds)
        found.sending = False
        while not found.answered:
            await asyncio.sleep(TICK)
        if not hang_up:
            await asyncio.wait(found.tasks)
    return len(found.answered) / (found.answered[-1] - started)


async def latencies(url: str, path: str, bodies: Iterable[bytes], *, rate: float, seconds: float) -> list[float]:
    """Seconds that requests take which are sent one after another, ``rate`` a second at most: where an answer takes
    longer than that leaves time for, the next request goes out with the answer."""
    taken: list[float] = []
    due = started = perf_counter()
    async with connection(url) as server:
        for body in cycle(bodies):
            await asyncio.sleep(due - perf_counter())
            sent = perf_counter()
            if sent - started > seconds:
                break
            await server.ask(path, body)
            taken.append(perf_counter() - sent)
            due = max(due + 1 / rate, perf_counter())
    return taken


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest of the values that so many percent of them do not exceed (nearest rank)."""
    return sorted(values)[max(1, math.ceil(len(values) * percent / 100)) - 1]


def bodies(texts: Sequence[str], size: int) -> list[bytes]:
    """Requests of ``size`` texts each; what is left over at the end is left out."""
    full = len(texts) // size * size
    requests = ([{"text": text} for text in texts[first : first + size]] for first in range(0, full, size))
    return [json.dumps({"items": items}).encode() for items in requests]
