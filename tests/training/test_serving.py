"""``xal serve`` turns into the service and stops as one."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx

from tests.service_process import free_port

XAL = Path(sys.executable).with_name("xal")


def test_xal_serve_answers_and_ends_well_on_sigterm(model_dir: Path, tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [str(XAL), "serve", "--model", str(model_dir), "--port", str(port)],
            stdout=log,
            stderr=log,
            cwd=tmp_path,  # anywhere, not only in a checkout
            env={**os.environ, "XAL_CACHE": str(tmp_path / "cache")},
        )
    try:
        deadline = time.monotonic() + 90
        while not _ready(url):
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.1)
        answer = httpx.post(f"{url}/classify", json={"items": [{"text": "a fine thing"}]}).json()
        assert answer["results"][0]["label"] in ("negative", "neutral", "positive")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
        process.wait()


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=2).is_success
    except httpx.HTTPError:
        return False
