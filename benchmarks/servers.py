"""The servers that are measured, each in processes of its own that end with the measurement."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from service.model.errors import XalError
from training.serving import command, environment

ROOT = Path(__file__).parents[1]
FLOOR_BODY = "FLOOR_BODY"  # environment variable: file of what the floor answers
START_SECONDS, STOP_SECONDS = 180.0, 20.0
QUIET_SECONDS = 0.3  # of no work, after which a server is taken to have none
QUIET_SHARE = 0.1  # of one core; below it a server only looks after itself


@dataclass(frozen=True)
class Server:
    """url: without a slash at its end. log: all that its processes have written."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def wait_until_ready(self) -> None:
        """Return once it takes requests. Raises XalError with its log where it ended or takes too long."""
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and self.process.poll() is None:
            try:
                if httpx.get(f"{self.url}/readyz", timeout=5, trust_env=False).is_success:  # no proxy leads here
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.1)
        raise XalError(f"{self.url} did not start within {START_SECONDS:.0f} s:\n{self.log.read_text()}")

    def wait_until_quiet(self) -> None:
        """Return once nothing is worked on: what was begun for clients that hung up is over."""
        before = self._processor_seconds()
        while True:
            time.sleep(QUIET_SECONDS)
            now = self._processor_seconds()
            if now - before < QUIET_SHARE * QUIET_SECONDS:
                return
            before = now

    def _processor_seconds(self) -> float:
        process = psutil.Process(self.process.pid)
        times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
        return sum(each.user + each.system for each in times)


@contextmanager
def our_service(model: Path, device: str, scratch: Path) -> Iterator[Server]:
    """The service, as ``xal serve`` starts it. scratch: a folder for its working files and its log."""
    home = scratch / "service"
    env = {**environment(model, home), "BENTOML_HOME": str(home), "XAL_DEVICE": device}
    with _server(lambda port: command("127.0.0.1", port), env, home) as server:
        yield server


@contextmanager
def floor_service(body: bytes, scratch: Path) -> Iterator[Server]:
    """The same framework with nothing behind it: whatever /classify is asked, ``body`` is the answer."""
    home = scratch / "floor"
    home.mkdir()
    file = home / "body.json"
    file.write_bytes(body)

    def start(port: int) -> list[str]:
        options = ["--host", "127.0.0.1", "--port", str(port), "--working-dir", str(ROOT)]
        return [sys.executable, "-m", "bentoml", "serve", "benchmarks.floor_server:Floor", *options]

    with _server(start, {"BENTOML_HOME": str(home), FLOOR_BODY: str(file)}, home) as server:
        yield server


@contextmanager
def plain_service(model: Path, device: str, scratch: Path) -> Iterator[Server]:
    """FastAPI and ``generate``, one request at a time."""

    def start(port: int) -> list[str]:
        return [sys.executable, "-m", "benchmarks.plain_server", str(model), str(port), device]

    with _server(start, {}, scratch / "plain") as server:
        yield server


@contextmanager
def _server(start: Callable[[int], list[str]], env: Mapping[str, str], home: Path) -> Iterator[Server]:
    """start: port -> command. The processes get a session of their own, so that an interrupt from the keyboard reaches
    them through here, and the whole session ends with this context."""
    home.mkdir(exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = home / "log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            start(port),
            env={**os.environ, "BENTOML_DO_NOT_TRACK": "True", **env},
            cwd=ROOT,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield Server(f"http://127.0.0.1:{port}", process, log)
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # whoever of the session is left
        process.wait()
