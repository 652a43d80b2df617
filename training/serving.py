"""Starts the service on a model directory: ``xal serve`` becomes it, the demo runs it beside itself."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def command(host: str, port: int) -> list[str]:
    """The command that serves; it reads the model directory from its environment."""
    # This installation's service, whatever package of that name the current folder may hold.
    place = ["--working-dir", str(Path(__file__).parents[1])]
    options = ["--host", host, "--port", str(port), *place]
    return [sys.executable, "-P", "-m", "bentoml", "serve", "service.app:XalService", *options]


def environment(model: Path, home: Path) -> dict[str, str]:
    """This process's environment with the model directory in it, and nothing sent to anybody.

    home: a folder for BentoML's working files, taken where the user names none. Two servers must not share it: each
    empties the other's metrics when it starts.
    """
    mine = {"XAL_MODEL_DIR": str(model.resolve()), "BENTOML_DO_NOT_TRACK": "True"}
    return {"BENTOML_HOME": str(home.resolve()), **os.environ, **mine}


def replace_with_service(model: Path, host: str, port: int, cache: Path) -> None:
    """Turn this process into the service, so that signals and exit codes are the service's own."""
    arguments = command(host, port)
    os.execve(arguments[0], arguments, environment(model, cache / "bentoml" / str(port)))
