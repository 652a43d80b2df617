"""Prometheus metrics of the service. Every label has a small fixed set of values: never a path, never an id.

Worker processes write their values to files in PROMETHEUS_MULTIPROC_DIR (the server sets it) and any of them answers
/metrics with the sum over all.
"""

from __future__ import annotations

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess
from prometheus_client.exposition import CONTENT_TYPE_LATEST

CONTENT_TYPE = CONTENT_TYPE_LATEST

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
ITEMS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)
TOKENS = (16.0, 64.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0)


class Metrics:
    """All metrics of one worker process. Hears the gateway, the queue and the answers."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        r = self._registry
        self._requests = Counter("xal_requests", "Requests answered", ["route", "status"], registry=r)
        self._seconds = Histogram("xal_request_seconds", "First byte to answer", ["route"], registry=r, buckets=SECONDS)
        self._items = Counter("xal_items", "Items by outcome: ok or code", ["route", "outcome"], registry=r)
        self._queue = Gauge(
            "xal_queue_items", "Items waiting for the model", ["lane"], registry=r, multiprocess_mode="livesum"
        )
        # Of labels a run of the model is a batch; of explanations a slice, which many texts have a part in.
        self._batch_items = Histogram("xal_batch_items", "Items in one run", ["lane"], registry=r, buckets=ITEMS)
        self._batch_tokens = Histogram(
            "xal_batch_tokens", "Input tokens in one run", ["lane"], registry=r, buckets=TOKENS
        )
        self._model = Histogram(
            "xal_model_seconds", "Time of one run of the model", ["lane"], registry=r, buckets=SECONDS
        )
        self._info = Gauge(
            "xal_model_info",
            "1 for the model that is served",
            ["model_version", "task", "device"],
            registry=r,
            multiprocess_mode="livemax",
        )

    def request_done(self, route: str, status: int, seconds: float) -> None:
        """route: as documented, or ``other``; status: of the answer, kept as its class, e.g. ``2xx``."""
        self._requests.labels(route, f"{status // 100}xx").inc()
        self._seconds.labels(route).observe(seconds)

    def item_done(self, route: str, outcome: str) -> None:
        """outcome: ``ok`` or an item error's code."""
        self._items.labels(route, outcome).inc()

    def queue_changed(self, lane: str, items: int) -> None:
        self._queue.labels(lane).set(items)

    def batch_done(self, lane: str, items: int, tokens: int, seconds: float) -> None:
        self._batch_items.labels(lane).observe(items)
        self._batch_tokens.labels(lane).observe(tokens)
        self._model.labels(lane).observe(seconds)

    def model_loaded(self, model_version: str, task: str, device: str) -> None:
        self._info.labels(model_version, task, device).set(1)

    def exposition(self) -> bytes:
        """The text that Prometheus reads: over all workers where there are several, else of this process."""
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return generate_latest(self._registry)
        everyone = CollectorRegistry()
        multiprocess.MultiProcessCollector(everyone)
        return generate_latest(everyone)

    def close(self) -> None:
        """Take this process's gauges out of the sums."""
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            multiprocess.mark_process_dead(os.getpid())
