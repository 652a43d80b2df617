"""The options of ``xal run`` that name a teacher, and the configuration that they make with the environment's help."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from service.model.errors import InputError
from training.offline_parts import cache_directory


def add_teacher_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--explanations", type=Path, help="file of recorded explanations (JSONL)")
    add("--teacher-url", help="base URL of an OpenAI-compatible API (or the variable XAL_TEACHER_URL)")
    add("--teacher-model", help="the LLM's name at that API (default: the one model that it serves)")
    add("--teacher-key-from", metavar="VARIABLE", help="variable that holds the API key (default OPENAI_API_KEY)")
    add("--teacher-max-tokens", type=int, help="hard cap on tokens ever spent on the cache file (default 1,000,000)")
    add("--teacher-max-cost", type=float, help="hard cap on cost ever spent on the cache file; needs --teacher-prices")
    add("--teacher-prices", type=float, nargs=2, metavar=("IN", "OUT"), help="price of a million tokens, in and out")
    add("--teacher-temperature", help="sampling temperature (default 0); 'default' leaves it to the provider")
    add("--teacher-length-parameter", help="max_tokens (default) or max_completion_tokens, as the model wants it")
    add("--teacher-concurrency", type=int, help="requests at a time (default 8)")
    add("--teacher-cache", type=Path, help="SQLite file that keeps every answer (default in ~/.cache/xal)")
    add("--train-on-explanations", choices=("yes", "no"), help="default: as the strategy does in the paper")
    add("--only-explained", action="store_true", help="keep texts without recorded explanations out of the pool")


# Those that are fields of TeacherConfig.
_TEACHER_FLAGS = {
    "teacher_model": "model",
    "teacher_max_tokens": "max_total_tokens",
    "teacher_max_cost": "max_cost",
    "teacher_temperature": "temperature",
    "teacher_length_parameter": "length_parameter",
    "teacher_concurrency": "concurrency",
    "teacher_cache": "cache_path",
}


def teacher_config(options: dict[str, Any]) -> Any:
    """Take the teacher's options out and make its configuration of them; None where no API is named."""
    from pydantic import ValidationError

    from training.strategies import query_strategy
    from training.teacher_api import TeacherConfig, served_model

    given = {name: options.pop(name) for name in list(options) if name.startswith("teacher_")}
    # The variable stands for every run of a shell; a run that learns from labels alone, or from a file, asks nobody.
    asks = options.get("train_on_explanations", query_strategy(options["strategy"]).uses_explanations)
    from_variable = os.environ.get("XAL_TEACHER_URL") if asks and "explanations" not in options else None
    url = given.pop("teacher_url", from_variable)
    if url is None:
        if given:
            raise InputError(f"--{next(iter(given)).replace('_', '-')} needs --teacher-url (or XAL_TEACHER_URL)")
        return None
    variable = given.pop("teacher_key_from", None)
    if variable and not os.environ.get(variable):
        raise InputError(f"--teacher-key-from {variable}: no such variable is set; export it with the API key")
    fields = {"base_url": url, "cache_path": cache_directory() / "teacher.sqlite"}
    if key := os.environ.get(variable or "OPENAI_API_KEY"):
        fields["api_key"] = key
    if "teacher_model" not in given:
        given["teacher_model"] = served_model(url, key or "none")
    if "teacher_prices" in given:
        fields["prompt_price"], fields["completion_price"] = given.pop("teacher_prices")
    if given.get("teacher_temperature") == "default":
        given["teacher_temperature"] = None
    try:
        return TeacherConfig(**{**fields, **{_TEACHER_FLAGS[name]: value for name, value in given.items()}})
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        place = "".join(f"{part}: " for part in problem["loc"])
        raise InputError(f"teacher: {place}{problem['msg'].removeprefix('Value error, ')}") from None
