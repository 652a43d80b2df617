"""``xal doctor``: looks at the installation and what it is to work with, and says what to do about each trouble."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from service.model.errors import XalError

PARTS = {
    "train": ("openai", "pyarrow", "sklearn", "matplotlib", "tqdm", "peft", "gguf", "accelerate"),
    "serve": ("bentoml", "pydantic_settings", "prometheus_client"),
}


class DoctorError(XalError):
    """At least one check failed."""


def doctor(
    *, cache: Path, model: Path | None = None, service: str | None = None, teacher_url: str | None = None
) -> None:
    """Print one line a check; raises DoctorError at the end where one of them failed."""
    checks: list[tuple[str, Callable[[], str]]] = [
        ("python", lambda: f"{platform.python_version()}, xal {importlib.metadata.version('xal')}"),
        *((f"extra {extra}", lambda extra=extra: _installed(extra)) for extra in PARTS),
        ("torch", _torch),
        ("cache", lambda: _writable(cache)),
    ]
    if model is not None:
        checks.append(("model", lambda: _model(model)))
    if service is not None:
        checks.append(("service", lambda: _service(service)))
    if teacher_url is not None:
        checks.append(("teacher", lambda: _teacher(teacher_url)))
    failed = 0
    for name, check in checks:
        try:
            print(f"ok    {name}: {check()}")
        except (XalError, httpx.HTTPError, httpx.InvalidURL, OSError, RuntimeError, ValueError, LookupError) as error:
            failed += 1
            reason = " ".join(str(error).split()) if isinstance(error, XalError) else repr(error)
            print(f"FAIL  {name}: {reason}")
    if failed:
        raise DoctorError(f"{failed} of {len(checks)} checks failed; each line above says what to do")


def _installed(extra: str) -> str:
    if missing := [name for name in PARTS[extra] if importlib.util.find_spec(name) is None]:
        raise XalError(
            f"{', '.join(missing)} not installed; run: pip install --constraint constraints.txt '.[{extra}]'"
        )
    return "installed"


def _torch() -> str:
    import torch

    devices = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return f"{torch.__version__}, {', '.join(devices) or f'CPU only, {torch.get_num_threads()} threads'}"


def _writable(cache: Path) -> str:
    cache.mkdir(parents=True, exist_ok=True)
    if not os.access(cache, os.W_OK):
        raise XalError(f"{cache} cannot be written; set XAL_CACHE to a folder that can")
    return f"{cache} is writable"


def _model(directory: Path) -> str:
    from service.model.classification import Item
    from service.model.predictor import Predictor

    predictor = Predictor.load(directory)
    outcome = predictor.predict([Item(dict.fromkeys(predictor.task.fields, "a text to try it on"))], explain=True)[0]
    if isinstance(outcome, XalError):
        raise outcome
    return f"version {predictor.model_version}, task {predictor.task.name}, answers on {predictor.device}"


def _service(url: str) -> str:
    hint = f"start it with: xal serve --model DIR (asked {url})"
    try:
        ready = httpx.get(f"{url.rstrip('/')}/readyz", timeout=5)
        model = httpx.get(f"{url.rstrip('/')}/model", timeout=5, headers=_api_key())
    except httpx.HTTPError as error:
        raise XalError(f"no answer ({error}); {hint}") from None
    if not ready.is_success:
        raise XalError(f"not ready, status {ready.status_code}; wait for the model to load, or read its log")
    if model.status_code == 401:
        raise XalError("it wants an API key; put one of its XAL_API_KEYS into the variable XAL_API_KEY")
    if not model.is_success:
        raise XalError(f"GET /model gave status {model.status_code}; is this an xal service?")
    return f"ready, model version {_json(model, url)['model_version']}"


def _json(answer: httpx.Response, url: str) -> Any:
    try:
        return answer.json()
    except ValueError:
        kind = answer.headers.get("content-type", "nothing")
        raise XalError(f"{url} answered with {kind}, not JSON; is another server, or a proxy, there?") from None


def _api_key() -> dict[str, str]:
    key = os.environ.get("XAL_API_KEY")
    return {"Authorization": f"Bearer {key}"} if key else {}


def _teacher(url: str) -> str:
    key = os.environ.get("OPENAI_API_KEY", "none")
    try:
        answer = httpx.get(f"{url.rstrip('/')}/models", timeout=10, headers={"Authorization": f"Bearer {key}"})
    except httpx.HTTPError as error:
        raise XalError(f"no answer ({error}); give the base URL of an OpenAI-compatible API, with its /v1") from None
    if not answer.is_success:
        raise XalError(f"GET {url}/models gave status {answer.status_code}; check the URL and OPENAI_API_KEY")
    names = [str(entry["id"]) for entry in _json(answer, url)["data"]]
    return f"{len(names)} models: {', '.join(names[:5])}"
