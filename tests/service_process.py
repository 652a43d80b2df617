"""The real service in a process of its own, for tests that talk to it over HTTP."""

import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
BENTOML = Path(sys.executable).with_name("bentoml")
START_SECONDS = 120.0
STOP_SECONDS = 30.0


@dataclass(frozen=True)
class RunningService:
    """url: without a slash at its end. log_file: all that the service has written."""

    url: str
    log_file: Path
    process: subprocess.Popen[bytes]

    @property
    def log(self) -> str:
        return self.log_file.read_text(encoding="utf-8")

    def stop(self) -> int:
        """End it as a supervisor would; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=STOP_SECONDS)


@contextmanager
def running_service(model_dir: Path, **env: str) -> Iterator[RunningService]:
    """The service on a free port, ready, with the given environment variables; stopped at the end."""
    with started_service({"XAL_MODEL_DIR": str(model_dir), **env}) as service:
        wait_until_ready(service)
        yield service


@contextmanager
def started_service(
    env: dict[str, str], *, target: str = "service.app:XalService", cwd: Path = ROOT, bentoml_home: Path | None = None
) -> Iterator[RunningService]:
    """The same without waiting, and of whatever ``bentoml serve`` takes; killed at the end if it still runs."""
    with tempfile.TemporaryDirectory(prefix="xal-service-") as name:
        scratch = Path(name)
        port = free_port()
        service = RunningService(
            url=f"http://127.0.0.1:{port}",
            log_file=scratch / "log",
            process=_spawn([target, "--host", "127.0.0.1", "--port", str(port)], env, cwd, scratch, bentoml_home),
        )
        try:
            yield service
        finally:
            if service.process.poll() is None:
                try:
                    service.stop()
                except subprocess.TimeoutExpired:
                    os.killpg(service.process.pid, signal.SIGKILL)
                    service.process.wait()


def bentoml_environment(bentoml_home: Path) -> dict[str, str]:
    """This process's environment without settings of the service, and with a store of its own for BentoML.

    Two servers must not share a store: each empties the other's metrics directory when it starts.
    """
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("XAL_", "BENTOML_"))}
    return {
        **inherited,
        "BENTOML_HOME": str(bentoml_home),
        "BENTOML_DO_NOT_TRACK": "True",
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
    }


def free_port() -> int:
    """A port below those that the system hands out by itself, so that it is still free a second later."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def _spawn(
    arguments: Sequence[str], env: dict[str, str], cwd: Path, scratch: Path, bentoml_home: Path | None
) -> subprocess.Popen[bytes]:
    with (scratch / "log").open("wb") as log:
        return subprocess.Popen(
            [str(BENTOML), "serve", *arguments],
            cwd=cwd,
            env={**bentoml_environment(bentoml_home or scratch / "bentoml"), **env},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def wait_until_ready(service: RunningService) -> None:
    """Return once the service takes requests. Raises with its log where it ended or takes too long."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if service.process.poll() is not None:
            raise RuntimeError(f"the service ended with exit code {service.process.returncode}:\n{service.log}")
        try:
            with urllib.request.urlopen(service.url + "/readyz", timeout=5):
                return
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            time.sleep(0.1)
    raise TimeoutError(f"the service was not ready after {START_SECONDS:.0f} s:\n{service.log}")
