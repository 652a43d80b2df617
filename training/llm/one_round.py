"""The directory of a run that is measured once, in a single round: as reports read it, and not measured again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from service.model.errors import InputError
from training.config import git_hash, versions
from training.records import write_atomically
from training.runs import CONFIG_FILE, METRICS_FILE, PLACES, read_run


def measured(directory: Path, config: Mapping[str, Any]) -> dict[str, Any] | None:
    """The round that an earlier start with these settings has finished, None where there is none yet.

    Raises InputError where the directory holds what other settings have measured, or other files.
    """
    if not (directory / METRICS_FILE).exists():
        present = directory.iterdir() if directory.exists() else ()
        if any(not path.name.startswith(".") and path.name != CONFIG_FILE for path in present):
            raise InputError(f"{directory} holds other files; give an --output that is empty or not there yet")
        return None
    run = read_run(directory)
    before, now = _flat(run.config), _flat(config)
    if differing := [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]:
        changes = "; ".join(f"{key} was {before.get(key)!r}, is {now.get(key)!r}" for key in differing)
        raise InputError(
            f"{directory} was measured with other settings ({changes}); give the same ones, or another --output"
        )
    return dict(run.rounds[0])


def begin(directory: Path, config: Mapping[str, Any]) -> None:
    """Write config.yaml, versions and git hash beside the settings."""
    directory.mkdir(parents=True, exist_ok=True)
    content = {**config, "versions": versions(), "git_hash": git_hash()}
    write_atomically(directory / CONFIG_FILE, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def finish(directory: Path, entry: Mapping[str, Any]) -> None:
    """Write metrics.json with this one round; from now on it counts as measured."""
    text = json.dumps([entry], indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(directory / METRICS_FILE, f"{text}\n")


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """What decides a result, each setting under its path; where things lie and what they run on does not."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if key not in PLACES:
            flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
