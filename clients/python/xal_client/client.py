"""The client for ordinary code. `async_client` holds its twin for asyncio; the two differ in sending and waiting."""

from __future__ import annotations

import random
import time
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


class XalClient:
    """Talks to one XAL service. Safe to share between threads; close it, or use it in a `with` statement.

    base_url: where the service is, e.g. ``http://localhost:3000``; a path in it is kept.
    api_key: sent as a bearer token, where the service asks for one.
    timeout: seconds for one call with all its attempts and pauses. Within an attempt it limits each wait for the
    service, so an answer that trickles in piece by piece may end up to one `timeout` later.
    max_attempts: how often a call is sent at most, where 429, 502, 503, 504 or a broken connection ask for another try.
    transport: an `httpx.BaseTransport` to send with: proxies, own certificates, tests.

    Every call raises a subclass of `XalClientError` when it gets no answer. An item without an answer raises nothing:
    an `ItemFailure` stands in its place among the results.

    Example::

        with XalClient("http://localhost:3000") as xal:
            for result in xal.classify(["too heavy to carry", "works like a charm"]):
                print(result)
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout: float = TIMEOUT,
        max_attempts: int = MAX_ATTEMPTS,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._configuration = Configuration(base_url, api_key, timeout, max_attempts)
        self._http = httpx.Client(transport=transport, **self._configuration.http_arguments())
        self._random = random.Random()

    def classify(self, items: Iterable[AnyItem], *, request_id: str | None = None) -> ClassifyResponse:
        """The label of each item, with the probability of every label.

        items: strings, dicts or `Item`s. request_id: goes into the service's log, which otherwise makes
        one up: 1 to 128 letters, digits and ``. _ : -``.
        """
        return self._call(protocol.classify(items, request_id))

    def explain(
        self,
        items: Iterable[AnyItem],
        *,
        num_beams: int | None = None,
        max_new_tokens: int | None = None,
        request_id: str | None = None,
    ) -> ExplainResponse:
        """The label of each item and the model's written reason, with the score of the reason and of each candidate.

        num_beams, max_new_tokens: how wide and how long the beam search is; by default as the model was exported.
        """
        return self._call(protocol.explain(items, num_beams, max_new_tokens, request_id))

    def acquisition_score(
        self,
        items: Iterable[AnyItem],
        *,
        lambda_: float | None = None,
        normalization: Literal["pool", "request"] | None = None,
        top_k: int | None = None,
        request_id: str | None = None,
    ) -> AcquisitionResponse:
        """How much a human label of each item would teach the model; higher = ask for this one first.

        lambda_: weight of the explanation's score against the label's entropy, >= 0 (the service's default is 0.5).
        normalization: "pool" (the service's default): comparable with the other scores of this model version;
        "request": shares among the items of this request. top_k: also answer with the ids of the k items to ask first.
        """
        return self._call(protocol.acquisition_score(items, lambda_, normalization, top_k, request_id))

    def score_pool(
        self,
        items: Iterable[AnyItem],
        *,
        lambda_: float | None = None,
        top_k: int | None = None,
        batch_size: int = BATCH_SIZE,
    ) -> AcquisitionResponse:
        """`acquisition_score` of more items than fit into one request, one request of `batch_size` after the other.

        Scores are normalised over the model's pool, which alone makes those of different requests comparable; ranks
        and `selected` go over all items. All or nothing: a request that fails for good fails the call.

        Raises ValueError for an empty pool or an id that stands twice, ModelChanged where the model was replaced
        meanwhile.
        """
        pool = Pool.of(items, batch_size, top_k)
        batches = pool.batches(self.model().limits)
        return pool.merge([self.acquisition_score(batch, lambda_=lambda_, normalization="pool") for batch in batches])

    def model(self) -> ModelInfo:
        """The served model: version, labels, fields, metrics, and the limits of one request."""
        return self._call(protocol.model())

    def is_ready(self) -> bool:
        """Whether the service takes requests now. False where it cannot be reached within 5 seconds."""
        return self._probe("/readyz")

    def is_live(self) -> bool:
        """Whether the service's process is well. False where it cannot be reached within 5 seconds."""
        return self._probe("/livez")

    def close(self) -> None:
        """Close the connections; the client cannot be used afterwards."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, call: Call[A]) -> A:
        attempts = self._configuration.attempts(self._random)
        while True:
            request = call.request(self._http, attempts.start_next())
            try:
                outcome = call.interpret(self._http.send(request))
            except httpx.RequestError as cause:
                outcome = transport_failure(cause)
            if not isinstance(outcome, XalClientError):
                return outcome
            time.sleep(attempts.pause_after(outcome))

    def _probe(self, path: str) -> bool:
        try:
            return protocol.is_up(self._http.get(path, timeout=PROBE_TIMEOUT))
        except httpx.RequestError:
            return False
