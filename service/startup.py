"""How a service that cannot start ends: with one line and exit code 1, instead of being started again for ever.

BentoML's server restarts a worker that dies. The worker therefore leaves its reason in a file that the server process
made, asks that process to end, and the server process, on its way out, prints the reason and sets the exit code.
"""

from __future__ import annotations

import atexit
import logging
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

REASON_FILE = "XAL_START_FAILURE"  # environment variable, inherited by the workers

logger = logging.getLogger("xal.startup")


def await_failure() -> None:
    """In the server process, before it starts workers: be ready to report that one could not start."""
    handle, name = tempfile.mkstemp(prefix="xal-start-failure-")
    os.close(handle)
    os.environ[REASON_FILE] = name
    atexit.register(_report, Path(name), os.getpid())


def fail(reason: str) -> NoReturn:
    """In a worker: end it and the server that started it, because of ``reason`` (one line)."""
    logger.error("the service cannot start", extra={"fields": {"reason": reason}})
    sys.stdout.flush()
    if name := os.environ.get(REASON_FILE):
        Path(name).write_text(reason, encoding="utf-8")
        os.kill(os.getppid(), signal.SIGTERM)
    os._exit(1)  # SystemExit would only end a task of the event loop


def _report(path: Path, server: int) -> None:
    if os.getpid() != server:  # a forked child runs the same exit handlers
        return
    reason = path.read_text(encoding="utf-8")
    path.unlink()
    if reason:
        print(f"xal: the service cannot start: {reason}", file=sys.stderr, flush=True)
        os._exit(1)
