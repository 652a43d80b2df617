"""The client for asyncio code: `XalClient` with `await`, and pools scored by several requests at a time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from types import TracebackType
from typing import Literal, Self

import httpx

from xal_client import protocol
from xal_client.configuration import MAX_ATTEMPTS, TIMEOUT, Configuration
from xal_client.errors import XalClientError
from xal_client.items import AnyItem
from xal_client.model_info import ModelInfo
from xal_client.pool import BATCH_SIZE, Pool
from xal_client.protocol import A, Call
from xal_client.results import AcquisitionResponse, ClassifyResponse, ExplainResponse
from xal_client.retries import PROBE_TIMEOUT, transport_failure


class AsyncXalClient:
    """Talks to one XAL service from one event loop. Arguments and errors are those of `XalClient`.

    Example::

        async with AsyncXalClient("http://localhost:3000") as xal:
            response = await xal.explain(["too heavy to carry"])
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout: float = TIMEOUT,
        max_attempts: int = MAX_ATTEMPTS,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._configuration = Configuration(base_url, api_key, timeout, max_attempts)
        self._http = httpx.AsyncClient(transport=transport, **self._configuration.http_arguments())
        self._random = random.Random()

    async def classify(self, items: Iterable[AnyItem], *, request_id: str | None = None) -> ClassifyResponse:
        """As `XalClient.classify`."""
        return await self._call(protocol.classify(items, request_id))

    async def explain(
        self,
        items: Iterable[AnyItem],
        *,
        num_beams: int | None = None,
        max_new_tokens: int | None = None,
        request_id: str | None = None,
    ) -> ExplainResponse:
        """As `XalClient.explain`."""
        return await self._call(protocol.explain(items, num_beams, max_new_tokens, request_id))

    async def acquisition_score(
        self,
        items: Iterable[AnyItem],
        *,
        lambda_: float | None = None,
        normalization: Literal["pool", "request"] | None = None,
        top_k: int | None = None,
        request_id: str | None = None,
    ) -> AcquisitionResponse:
        """As `XalClient.acquisition_score`."""
        return await self._call(protocol.acquisition_score(items, lambda_, normalization, top_k, request_id))

    async def score_pool(
        self,
        items: Iterable[AnyItem],
        *,
        lambda_: float | None = None,
        top_k: int | None = None,
        batch_size: int = BATCH_SIZE,
        concurrency: int = 4,
    ) -> AcquisitionResponse:
        """As `XalClient.score_pool`, with at most `concurrency` requests under way at a time."""
        if concurrency < 1:
            raise ValueError(f"concurrency is at least 1, but {concurrency} came")
        pool = Pool.of(items, batch_size, top_k)
        batches = pool.batches((await self.model()).limits)
        responses: dict[int, AcquisitionResponse] = {}
        waiting = iter(enumerate(batches))  # shared: each worker takes the next batch that no other has taken

        async def work() -> None:
            for place, batch in waiting:
                responses[place] = await self.acquisition_score(batch, lambda_=lambda_, normalization="pool")

        workers = [asyncio.create_task(work()) for _ in range(min(concurrency, len(batches)))]
        try:
            await asyncio.gather(*workers)
        finally:  # after a failure the other requests are for nothing
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        return pool.merge([responses[place] for place in range(len(batches))])

    async def model(self) -> ModelInfo:
        """As `XalClient.model`."""
        return await self._call(protocol.model())

    async def is_ready(self) -> bool:
        """As `XalClient.is_ready`."""
        return await self._probe("/readyz")

    async def is_live(self) -> bool:
        """As `XalClient.is_live`."""
        return await self._probe("/livez")

    async def close(self) -> None:
        """Close the connections; the client cannot be used afterwards."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _call(self, call: Call[A]) -> A:
        attempts = self._configuration.attempts(self._random)
        while True:
            request = call.request(self._http, attempts.start_next())
            try:
                outcome = call.interpret(await self._http.send(request))
            except httpx.RequestError as cause:
                outcome = transport_failure(cause)
            if not isinstance(outcome, XalClientError):
                return outcome
            await asyncio.sleep(attempts.pause_after(outcome))

    async def _probe(self, path: str) -> bool:
        try:
            return protocol.is_up(await self._http.get(path, timeout=PROBE_TIMEOUT))
        except httpx.RequestError:
            return False
