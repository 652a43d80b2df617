"""A small LLM served on this machine over OpenAI's protocol: a live teacher without a network or an account.

The server is llama.cpp's, out of xllamacpp, in a process of its own. That process is this module run as a program: it
prints its address and lives until its standard input ends, so it cannot outlive the one that started it, even killed.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.model.errors import InputError, XalError
from training.offline_parts import fetch

MODEL_NAME = "SmolLM2-135M-Instruct-Q4_1"
STARTS_WITHIN_S = 120.0
STOPS_WITHIN_S = 10.0


@contextmanager
def serve_local_llm(cache_dir: str | Path) -> Iterator[tuple[str, str]]:
    """Serve SmolLM2-135M-Instruct on a free port of the loopback interface; yields (base URL, model name).

    The model's file (98 MB) is fetched into the cache the first time. Raises InputError where xllamacpp is not
    installed, PartError where the model cannot be fetched, XalError where the server does not start.
    """
    if importlib.util.find_spec("xllamacpp") is None:
        raise InputError("the local LLM needs xllamacpp: pip install --constraint constraints.txt '.[live-teacher]'")
    with _server_process(fetch("smollm2-135m-instruct", cache_dir)) as address:
        yield f"{address}/v1", MODEL_NAME


@contextmanager
def _server_process(model: Path) -> Iterator[str]:
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "training.local_llm", str(model)],
            cwd=Path(__file__).parents[1],  # where "training" is found, installed or not
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        patience = threading.Timer(STARTS_WITHIN_S, process.kill)
        patience.start()
        try:
            address = process.stdout.readline().decode().strip()
            patience.cancel()
            if not address.startswith("http://"):
                log.seek(0)
                last = (log.read().decode(errors="replace").strip().splitlines() or ["nothing"])[-1]
                raise XalError(f"the local LLM did not start within {STARTS_WITHIN_S:.0f} s; at last it said: {last}")
            yield address
        finally:
            patience.cancel()
            process.stdin.close()
            try:
                process.wait(STOPS_WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()


def _serve(model: str) -> None:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = model
    params.model_alias = {MODEL_NAME}
    params.hostnames = ["127.0.0.1"]
    params.port = 0  # a free one
    params.ui = False
    # Its threads wait for each other by spinning: where the cores are busy, two of them are ten times slower than one.
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.read()
    del server


if __name__ == "__main__":
    _serve(sys.argv[1])
