"""Starting and stopping: what is imported, what is answered meanwhile, and how a start that fails ends."""

import json
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.service_process import ROOT, started_service, wait_until_ready


def test_importing_the_service_does_nothing_and_imports_neither_torch_nor_training() -> None:
    code = "import sys, service.app; print([m for m in sys.modules if m.split('.')[0] in sys.argv[1:]])"
    done = subprocess.run(
        [sys.executable, "-c", code, "torch", "transformers", "training", "xal_client"],
        cwd=ROOT,
        env={"XAL_MAX_ITEMS": "not a number", "XAL_MODEL_DIR": "/nowhere"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


def failed_start(env: dict[str, str]) -> str:
    """Log of a service that must end by itself with exit code 1."""
    with started_service(env) as service:
        assert service.process.wait(timeout=60) == 1
        return service.log


def test_without_a_model_directory_the_server_ends_with_one_line() -> None:
    log = failed_start({})
    assert "XAL_MODEL_DIR is not set" in log
    assert len(log.splitlines()) == 1


def test_with_a_damaged_model_the_server_ends_and_names_the_file(model_dir: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "model"
    shutil.copytree(model_dir, damaged)
    with (damaged / "head.safetensors").open("ab") as stream:
        stream.write(b"x")
    log = failed_start({"XAL_MODEL_DIR": str(damaged)})
    last = log.splitlines()[-1]
    assert last.startswith("xal: the service cannot start: ")
    assert "head.safetensors is damaged or altered" in last
    assert log.count("Service xal initialized") == 1
    assert "Traceback" not in log


def test_a_service_says_503_while_it_loads_and_finishes_what_it_began_when_told_to_stop(model_dir: Path) -> None:
    env = {"XAL_MODEL_DIR": str(model_dir), "XAL_EXPLAIN_BATCH_TOKENS": "1"}
    with started_service(env) as service, httpx.Client(base_url=service.url, timeout=60) as client:
        wait_until_alive(client)
        for response in (
            client.get("/readyz"),
            client.get("/model"),
            client.post("/classify", json={"items": [{"text": "a"}]}),
        ):
            assert response.status_code == 503
            assert response.headers["content-type"] == "application/problem+json"
            assert response.headers["retry-after"] == "5"

        wait_until_ready(service)
        slow = {"items": [{"text": "a"}] * 8, "options": {"num_beams": 4, "max_new_tokens": 50}}
        with ThreadPoolExecutor(max_workers=1) as pool:
            answer = pool.submit(httpx.post, f"{service.url}/explain", json=slow, timeout=60)
            while 'xal_batch_items_count{lane="explain"}' not in client.get("/metrics").text:
                time.sleep(0.01)  # until the first of its 8 texts is at work
            assert not answer.done()
            assert service.stop() == 0
            assert len(answer.result().json()["results"]) == 8
        lines = [json.loads(line) for line in service.log.splitlines() if line.startswith("{")]
        assert (lines[-1]["route"], lines[-1]["status"]) == ("/explain", 200)
        with pytest.raises(httpx.ConnectError):
            client.get("/livez")


def wait_until_alive(client: httpx.Client) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            assert client.get("/livez").status_code == 200
            return
        except httpx.ConnectError:
            time.sleep(0.05)
    raise TimeoutError("no connection after 60 s")
