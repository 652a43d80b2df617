"""The Bento: built without a network, holding the service and nothing else, served from an empty folder."""

import subprocess
from pathlib import Path

import httpx

from tests.service_process import BENTOML, ROOT, bentoml_environment, started_service, wait_until_ready


def test_the_built_bento_serves_from_an_empty_folder_without_training(model_dir: Path, tmp_path: Path) -> None:
    home, empty = tmp_path / "bentoml", tmp_path / "empty"
    home.mkdir()
    empty.mkdir()
    offline = {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
    build = subprocess.run(
        [BENTOML, "build"], cwd=ROOT, env={**bentoml_environment(home), **offline}, capture_output=True, text=True
    )
    assert build.returncode == 0, build.stdout + build.stderr

    bento = home / "bentos" / "xal" / (home / "bentos" / "xal" / "latest").read_text().strip()
    files = {path.relative_to(bento / "src") for path in (bento / "src").rglob("*") if path.is_file()}
    assert Path("service/model/predictor.py") in files
    assert {path.parts[0] for path in files} == {"service", "bentofile.yaml"}

    # The code in the Bento is changed, so that the answer shows which code was served.
    app = bento / "src" / "service" / "app.py"
    app.write_text(app.read_text().replace('"""Classifies texts', '"""From the Bento: classifies texts'))
    env = {"XAL_MODEL_DIR": str(model_dir)}
    with started_service(env, target="xal:latest", cwd=empty, bentoml_home=home) as service:
        wait_until_ready(service)
        document = httpx.get(f"{service.url}/docs.json").json()
        assert document["info"]["description"].startswith("From the Bento: classifies texts")
        answer = httpx.post(f"{service.url}/classify", json={"items": [{"text": "too heavy"}]}, timeout=60)
        assert answer.json()["results"][0]["label"] in ("negative", "neutral", "positive")
    assert list(empty.iterdir()) == []
