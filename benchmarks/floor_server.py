"""BentoML alone: /classify reads the request as ours does and answers with a file's content."""

from __future__ import annotations

import os
from pathlib import Path

import bentoml
from starlette.responses import Response

from benchmarks.servers import FLOOR_BODY
from service.schemas import ClassifyRequest, ClassifyResponse


@bentoml.service(name="floor", metrics={"enabled": False}, logging={"access": {"enabled": False}})
class Floor:
    """The most that any service could do behind this framework."""

    def __init__(self) -> None:
        self.body = Path(os.environ[FLOOR_BODY]).read_bytes()

    @bentoml.api(output_spec=ClassifyResponse)
    async def classify(self, _: ClassifyRequest, /) -> Response:
        return Response(self.body, media_type="application/json")
