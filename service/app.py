"""The BentoML service: thin endpoints. Start it with ``XAL_MODEL_DIR=DIR bentoml serve service.app:XalService``."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import bentoml
from bentoml.exceptions import BentoMLException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from service import openapi, startup
from service.errors import InternalError, ServiceError
from service.http import CURRENT, App, Gateway, Service
from service.lanes import LANES
from service.logs import configure_logging
from service.metrics import CONTENT_TYPE, Metrics
from service.model.errors import XalError
from service.model.threads import wait_briefly
from service.schemas import (
    AcquisitionRequest,
    AcquisitionResponse,
    ClassifyRequest,
    ClassifyResponse,
    ExplainRequest,
    ExplainResponse,
)
from service.settings import Settings, SettingsError, read_settings

logger = logging.getLogger("xal.app")

if TYPE_CHECKING:  # torch is imported by the worker's model threads, never by this module
    from service.answers import Answers
    from service.model.predictor import Predictor


class GatedService(bentoml.Service):
    """A BentoML service behind the gateway, with the GET routes that BentoML's API decorator cannot make."""

    running: Service | None = None

    def __call__(self) -> Service:
        self.running = super().__call__()
        return self.running

    def to_asgi(self, is_main: bool = True) -> App:
        app = super().to_asgi(is_main)
        # The gateway sets deadlines; BentoML's time-out keeps a timer for every request until it would have struck.
        app.user_middleware = [entry for entry in app.user_middleware if entry.cls.__name__ != "TimeoutMiddleware"]
        app.add_route("/model", self._model, methods=["GET"])
        app.router.routes.insert(0, Route("/docs.json", self._docs))
        app.add_route("/metrics", self._metrics, methods=["GET"])
        return Gateway(app, lambda: self.running)

    async def _model(self, _: Request) -> Response:
        assert self.running is not None  # no request comes before it is made
        return await _respond(self.running.describe())

    async def _docs(self, _: Request) -> Response:
        return JSONResponse(openapi.complete(self.openapi_spec.asdict(), self.inner.__doc__))

    async def _metrics(self, _: Request) -> Response:
        assert self.running is not None
        return Response(self.running.metrics.exposition(), media_type=CONTENT_TYPE)


@bentoml.service(
    name="xal", service_class=GatedService, metrics={"enabled": False}, logging={"access": {"enabled": False}}
)
class XalService:
    """Classifies texts, explains the labels, and says which texts to have labeled next."""

    def __init__(self) -> None:
        configure_logging()
        self.settings: Settings = read_settings()
        self.metrics = Metrics()
        self._threads = {lane: ThreadPoolExecutor(max_workers=1, thread_name_prefix=lane) for lane in LANES}
        self._answers: Answers | None = None
        self._loading: asyncio.Task[None] | None = None

    @bentoml.on_deployment
    def check_settings() -> None:  # in the server process, before there is an instance
        """End `bentoml serve` with one line for a setting that no worker could start with."""
        try:
            read_settings()
        except SettingsError as error:
            raise BentoMLException(str(error)) from None
        startup.await_failure()

    @bentoml.on_startup
    async def start_loading(self) -> None:
        """Load in the background: /livez answers at once, everything else says 503 until the model is there."""
        self._loading = asyncio.create_task(self._load())

    @bentoml.on_shutdown
    async def close(self) -> None:
        """Answer what waits, then let go of the model."""
        if self._loading is not None:
            self._loading.cancel()
        if self._answers is not None:
            await self._answers.close()
        for thread in self._threads.values():
            thread.shutdown(wait=False, cancel_futures=True)
        self.metrics.close()

    @property
    def ready(self) -> bool:
        return self._answers is not None and self._answers.ready

    @property
    def answers(self) -> Answers:
        assert self._answers is not None  # the gateway lets nobody in before
        return self._answers

    async def __is_ready__(self) -> bool:
        return self.ready

    async def __is_alive__(self) -> bool:
        return self._answers is None or self._answers.ready

    # The endpoints' own parameters only tell BentoML the shapes to document: the gateway has read the request.

    @bentoml.api(output_spec=ClassifyResponse)
    async def classify(self, _: ClassifyRequest, /) -> Response:
        """Label, class probabilities and entropy of each text."""
        exchange = CURRENT.get()
        return await _respond(self.answers.classify(exchange.request, exchange.deadline))

    @bentoml.api(output_spec=ExplainResponse)
    async def explain(self, _: ExplainRequest, /) -> Response:
        """The same, with a generated explanation and its score; candidate explanations are scored too."""
        exchange = CURRENT.get()
        return await _respond(self.answers.explain(exchange.request, exchange.deadline))

    @bentoml.api(output_spec=AcquisitionResponse)
    async def acquisition_score(self, _: AcquisitionRequest, /) -> Response:
        """The same, with the acquisition score and rank of each text: which to have labeled next."""
        exchange = CURRENT.get()
        return await _respond(self.answers.acquisition_score(exchange.request, exchange.deadline))

    async def describe(self) -> dict[str, Any]:
        return self.answers.describe()

    async def _load(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            predictor = await loop.run_in_executor(self._threads["explain"], _load_predictor, self.settings)
            from service.answers import Answers

            self._answers = Answers(predictor, self.settings, self.metrics, self._threads)
            logger.info("model loaded", extra={"fields": {"model_version": predictor.model_version}})
        except XalError as error:
            startup.fail(str(error))
        except Exception as error:
            startup.fail(f"the model cannot be loaded, {type(error).__name__}: {' '.join(str(error).split())}")


def _load_predictor(settings: Settings) -> Predictor:
    wait_briefly()
    from service.answers import load_predictor

    return load_predictor(settings)


async def _respond(body: Awaitable[dict[str, Any]]) -> Response:
    """The response, or the error left where the gateway finds it.

    Raised, BentoML would reword it, and log its message, which may quote a text.
    """
    exchange = CURRENT.get()
    try:
        return Response(json.dumps(await body, allow_nan=False), media_type="application/json")
    except ServiceError as error:
        exchange.error = error
    except Exception as error:
        logger.error("an endpoint failed", exc_info=error, extra={"fields": {"request_id": exchange.id}})
        exchange.error = InternalError()
    return Response(status_code=exchange.error.status)
