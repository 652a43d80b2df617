"""Checked requests -> responses: the predictor behind its queue. Importing this imports torch."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from transformers.utils import logging

from service.batching import Batcher
from service.errors import Fault, InvalidRequest
from service.lanes import Work
from service.metrics import Metrics
from service.model.classification import Item, Outcome
from service.model.decoding import Decoding
from service.model.predictor import Predictor
from service.model.results import add_acquisition, result_row
from service.schemas import (
    AcquisitionRequest,
    CandidateItem,
    ClassifyRequest,
    ExplainOptions,
    ExplainRequest,
    TextItem,
    item_id,
)
from service.settings import Settings

Rows = list[dict[str, Any]]


def load_predictor(settings: Settings) -> Predictor:
    """Load the model and answer one text with it, so that a request never meets a cold or broken model.

    Raises XalError for a model directory or device that cannot be used. To be called by the thread that explains.
    """
    logging.disable_progress_bar()  # the service's output is a log of its own
    logging.set_verbosity_error()
    predictor = Predictor.load(settings.model_dir, device=settings.device, dtype=settings.dtype)
    text = Item(fields=dict.fromkeys(predictor.task.fields, "warm-up"))
    predictor.predict([text])
    predictor.predict([text], explain=True, max_new_tokens=2)
    gc.collect()
    gc.freeze()  # the model's objects live as long as the process: later collections need not visit them
    return predictor


def explaining(options: ExplainOptions, own: Decoding) -> Work:
    """The Work that is asked for; what the model would do anyway is the same whether asked for or not."""
    return Work(
        explain=True,
        num_beams=None if options.num_beams == own.num_beams else options.num_beams,
        max_new_tokens=None if options.max_new_tokens == own.max_new_tokens else options.max_new_tokens,
    )


class Answers:
    """What the endpoints say. threads: of each lane, the one that runs the model."""

    def __init__(
        self, predictor: Predictor, settings: Settings, metrics: Metrics, threads: Mapping[str, ThreadPoolExecutor]
    ) -> None:
        self._predictor = predictor
        self._settings = settings
        self._metrics = metrics
        self._batcher: Batcher[Item, Outcome] = Batcher(
            predictor,
            threads,
            metrics,
            classify_batch_tokens=settings.classify_batch_tokens,
            explain_batch_tokens=settings.explain_batch_tokens,
            max_queue_items=settings.max_queue_items,
        )
        self._batcher.start()
        metrics.model_loaded(predictor.model_version, predictor.task.name, str(predictor.device))

    @property
    def ready(self) -> bool:
        return self._batcher.alive

    async def close(self) -> None:
        await self._batcher.close()

    async def classify(self, request: ClassifyRequest, deadline: float) -> dict[str, Any]:
        """The body of /classify's response. deadline: event-loop time. Raises ServiceError."""
        return self._response(await self._rows("/classify", request.items, Work(), deadline))

    async def explain(self, request: ExplainRequest, deadline: float) -> dict[str, Any]:
        """The body of /explain's response. deadline: event-loop time. Raises ServiceError."""
        work = explaining(request.options, self._predictor.decoding)
        return self._response(await self._rows("/explain", request.items, work, deadline))

    async def acquisition_score(self, request: AcquisitionRequest, deadline: float) -> dict[str, Any]:
        """The body of /acquisition_score's response. deadline: event-loop time. Raises ServiceError."""
        options = request.options
        normaliser = self._predictor.normaliser
        if options.normalization == "pool" and normaliser is None:
            detail = "this model was exported without the sums of a pool; ask for normalization: request"
            raise InvalidRequest(detail, faults=[Fault("/options/normalization", detail)])
        rows = await self._rows("/acquisition_score", request.items, Work(explain=True), deadline)
        acquisition = self._predictor.acquisition
        add_acquisition(rows, options.lambda_, options.normalization, normaliser, acquisition)
        response = self._response(rows, normalization=options.normalization, acquisition=acquisition)
        if options.top_k is not None:
            ranked = sorted((row for row in rows if "rank" in row), key=lambda row: row["rank"])
            response["selected"] = [row["id"] for row in ranked[: options.top_k]]
        return response

    def describe(self) -> dict[str, Any]:
        """The body of /model's response."""
        predictor, settings = self._predictor, self._settings
        normaliser = predictor.normaliser
        return {
            "model_version": predictor.model_version,
            "task": predictor.task.name,
            "labels": list(predictor.task.label_ids),
            "fields": list(predictor.task.fields),
            "trained_on_explanations": predictor.trained_on_explanations,
            "conditioning": predictor.network.conditioning,
            "acquisition": predictor.acquisition,
            "pool_size": None if normaliser is None else normaliser.size,
            "decoding": {
                "num_beams": predictor.decoding.num_beams,
                "max_new_tokens": predictor.decoding.max_new_tokens,
            },
            "limits": {
                "max_items": settings.max_items,
                "max_body_bytes": settings.max_body_bytes,
                "max_candidates": settings.max_candidates,
                "max_num_beams": settings.max_num_beams,
                "max_new_tokens": settings.max_new_tokens,
                "max_input_tokens": predictor.task.max_input_tokens,
                "deadline_seconds": settings.deadline_seconds,
            },
            "metrics": predictor.manifest["metrics"],
            "lineage": predictor.manifest["lineage"],
            "device": str(predictor.device),
        }

    async def _rows(self, route: str, items: Sequence[TextItem], work: Work, deadline: float) -> Rows:
        outcomes = await self._batcher.submit([self._item(item) for item in items], work, deadline=deadline)
        rows = []
        for index, (item, outcome) in enumerate(zip(items, outcomes, strict=True)):
            with_candidates = isinstance(item, CandidateItem) and bool(item.candidates)
            row = result_row(item_id(item, index), outcome, with_candidates=with_candidates)
            self._metrics.item_done(route, row["error"]["code"] if "error" in row else "ok")
            rows.append(row)
        return rows

    def _item(self, item: TextItem) -> Item:
        candidates = tuple(item.candidates or ()) if isinstance(item, CandidateItem) else ()
        # `text` stands for a task's only field; with more fields the predictor says which one is missing.
        name = self._predictor.task.fields[0] if len(self._predictor.task.fields) == 1 else "text"
        fields = {name: item.text} if item.fields is None else item.fields
        return Item({name: text for name, text in fields.items() if text is not None}, candidates)

    def _response(self, rows: Rows, **more: Any) -> dict[str, Any]:
        return {"model_version": self._predictor.model_version, **more, "results": rows}
