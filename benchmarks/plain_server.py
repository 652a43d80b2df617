"""How one would serve explanations without a queue: FastAPI, transformers' ``generate``, one request at a time.

    python -m benchmarks.plain_server MODEL_DIR PORT DEVICE

It reads the model directory that the service reads, in the same number format.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import torch
import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel

from benchmarks.rivals import generated
from service.model import checkpoint
from service.model.hardware import choose_device, choose_dtype

CLIENT_GONE = 499


class Text(BaseModel):
    text: str


class Explain(BaseModel):
    items: list[Text]


class Writer:
    """Label and explanation of a text, as ``generate`` finds it with the model's own decoding."""

    def __init__(self, directory: Path, device: torch.device) -> None:
        dtype = choose_dtype("auto", device, checkpoint.weights_size(directory))
        loaded = checkpoint.load(directory, dtype)
        self.network, self.encoder = loaded.network.to(device), loaded.encoder
        self.task, self.decoding = loaded.settings.task, loaded.settings.decoding

    @torch.inference_mode()
    def explain(self, text: str) -> dict[str, str]:
        network, encoder = self.network, self.encoder
        encoded = encoder.encode_fields({self.task.fields[0]: text})
        memory = network.encode(encoder.inputs([encoded], network.device))
        labels = network.classify(memory).argmax(dim=1)
        [(tokens, _)] = generated(network, memory, labels, self.decoding)
        return {"label": self.task.label_ids[int(labels)], "explanation": encoder.decode(tokens)}


def application(writer: Writer) -> FastAPI:
    """/explain, and /readyz, which answers as soon as anything does."""
    app = FastAPI()
    turn = asyncio.Lock()

    @app.get("/readyz")
    async def ready() -> None: ...

    @app.post("/explain")
    async def explain(body: Explain, request: Request) -> dict[str, list[dict[str, str]]]:
        async with turn:
            if await request.is_disconnected():
                raise HTTPException(CLIENT_GONE)
            return {"results": [await run_in_threadpool(writer.explain, item.text) for item in body.items]}

    return app


if __name__ == "__main__":
    uvicorn.run(
        application(Writer(Path(sys.argv[1]), choose_device(sys.argv[3]))),
        host="127.0.0.1",
        port=int(sys.argv[2]),
        log_level="warning",
    )
