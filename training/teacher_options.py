"""The options that name an LLM, as the teacher or as a judge, and the configuration they make with the environment."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.model.errors import InputError
from training.offline_parts import cache_directory

if TYPE_CHECKING:
    from pydantic import ValidationError

TEACHER, JUDGE = "teacher", "judge"

# What follows --teacher- or --judge- -> the field of TeacherConfig that it sets as it stands.
_FIELDS = {
    "model": "model",
    "max_tokens": "max_total_tokens",
    "max_cost": "max_cost",
    "temperature": "temperature",
    "answer_tokens": "max_completion_tokens",
    "length_parameter": "length_parameter",
    "concurrency": "concurrency",
    "cache": "cache_path",
}
_PRICES = ("prompt_price", "completion_price")  # both set by one option
# What a judge has from the teacher where its own option is not given: one wallet, and what is in it.
_SHARED = ("max_tokens", "max_cost", "prices", "cache", "concurrency")


def add_teacher_options(group: argparse._ArgumentGroup) -> None:
    """The teacher of a run: a file, or an LLM."""
    add = group.add_argument
    add("--explanations", type=Path, help="file of recorded explanations (JSONL)")
    add_llm_options(group)
    add("--train-on-explanations", choices=("yes", "no"), help="default: as the strategy does in the paper")
    add("--only-explained", action="store_true", help="keep texts without recorded explanations out of the pool")


def add_judge_options(group: argparse._ArgumentGroup) -> None:
    """An LLM that says which label an explanation argues for."""
    add_llm_options(group, JUDGE)


def add_llm_options(group: argparse._ArgumentGroup, role: str = TEACHER) -> None:
    """Which LLM has this role, how it is asked, and what may be spent."""

    def add(name: str, help: str, default: str, **how: Any) -> None:
        if role != TEACHER and name.replace("-", "_") in _SHARED:
            default = "default: the teacher's"
        group.add_argument(f"--{role}-{name}", help=f"{help} ({default})", **how)

    address = "or the variable XAL_TEACHER_URL" if role == TEACHER else "default: no LLM judges"
    add("url", "base URL of an OpenAI-compatible API", address)
    add("model", "the LLM's name at that API", "default: the one model that it serves")
    add("key-from", "variable that holds the API key", "default OPENAI_API_KEY", metavar="VARIABLE")
    add("max-tokens", "hard cap on tokens ever spent on the cache file", "default 1,000,000", type=int)
    add("max-cost", "hard cap on cost ever spent on the cache file", f"needs --{role}-prices", type=float)
    prices = {"type": float, "nargs": 2, "metavar": ("IN", "OUT")}
    add("prices", "price of a million tokens, in and out", "default 0 0", **prices)
    add("temperature", "sampling temperature; 'default' leaves it to the provider", "default 0")
    add("answer-tokens", "longest answer in tokens, a model's thoughts included", "default 256", type=int)
    add("length-parameter", "max_tokens or max_completion_tokens, as the model wants it", "default max_tokens")
    add("concurrency", "requests at a time", "default 8", type=int)
    add("cache", "SQLite file that keeps every answer", "default in ~/.cache/xal", type=Path)


def teacher_config(options: dict[str, Any]) -> Any:
    """Take the teacher's options out and make its TeacherConfig of them; None where no API is named.

    Raises InputError for options that make no sense, and for a strategy that does not exist.
    """
    given = _taken(options, TEACHER)
    # The variable stands for every run of a shell; a run that learns from labels alone, or from a file, asks nobody.
    from_variable = os.environ.get("XAL_TEACHER_URL") if _asks(options) and "explanations" not in options else None
    url = given.pop("url", from_variable or None)
    if url is None:
        if given:
            raise InputError(f"{_flag(TEACHER, given)} needs --teacher-url (or XAL_TEACHER_URL)")
        return None
    return _config(TEACHER, url, given)


def judge_config(options: dict[str, Any]) -> Any:
    """Take the judge's options out and make its TeacherConfig of them; None where no API is named.

    Call it before ``teacher_config``, which takes out what the two have in common: caps, prices, cache, concurrency.
    Raises InputError for options that make no sense.
    """
    given = _taken(options, JUDGE)
    if "url" not in given:
        if given:
            raise InputError(f"{_flag(JUDGE, given)} needs --judge-url")
        return None
    shared = {name: options[f"{TEACHER}_{name}"] for name in _SHARED if f"{TEACHER}_{name}" in options}
    if not any(given.get("prices", shared.get("prices", ()))):
        shared.pop("max_cost", None)  # a judge that costs nothing needs no cap
    return _config(JUDGE, given.pop("url"), {**shared, **given})


def _asks(options: Mapping[str, Any]) -> bool:
    """Whether the command wants a teacher: always where it has no strategies, else if one of them trains on what the
    teacher says."""
    from training.strategies import query_strategy

    if "strategy" not in options:
        return True
    names = [name.strip() for name in options["strategy"].split(",")]
    explains = [query_strategy(name).uses_explanations for name in names if name]
    return bool(options.get("train_on_explanations", any(explains)))


def _taken(options: dict[str, Any], role: str) -> dict[str, Any]:
    names = [name for name in options if name.startswith(f"{role}_")]
    return {name.removeprefix(f"{role}_"): options.pop(name) for name in names}


def _flag(role: str, given: Mapping[str, Any]) -> str:
    return f"--{role}-{next(iter(given)).replace('_', '-')}"


def _config(role: str, url: str, given: dict[str, Any]) -> Any:
    from pydantic import ValidationError

    from training.teacher import TeacherError
    from training.teacher_api import TeacherConfig, served_model

    variable = given.pop("key_from", None)
    if variable and not os.environ.get(variable):
        raise InputError(f"--{role}-key-from {variable}: no such variable is set; export it with the API key")
    fields: dict[str, Any] = {"base_url": url, "cache_path": cache_directory() / "teacher.sqlite"}
    if key := os.environ.get(variable or "OPENAI_API_KEY"):
        fields["api_key"] = key
    if "prices" in given:
        fields |= dict(zip(_PRICES, given.pop("prices"), strict=True))
    if given.get("temperature") == "default":
        given["temperature"] = None
    unnamed = {"model": "?"} if "model" not in given else {}
    settings = {**fields, **unnamed, **{_FIELDS[name]: value for name, value in given.items()}}
    try:
        config = TeacherConfig(**settings)  # before a server is asked: an address that is none is not out of reach
        return config.model_copy(update={"model": served_model(url, key or "none")}) if unnamed else config
    except ValidationError as error:
        raise InputError(_for_role(role, _first_problem(error, role))) from None
    except (InputError, TeacherError) as error:
        raise type(error)(_for_role(role, str(error))) from None


def _first_problem(error: ValidationError, role: str) -> str:
    """What is wrong with a TeacherConfig, by the option for it; what was found there is not said, it may be secret."""
    problem = error.errors(include_url=False, include_input=False)[0]
    said = problem["msg"].removeprefix("Value error, ")
    if not problem["loc"]:
        return f"{role}: {said}"
    field = str(problem["loc"][0])
    options = {
        **{field: name for name, field in _FIELDS.items()},
        **dict.fromkeys(_PRICES, "prices"),
        "base_url": "url",
    }
    return f"--{role}-{options.get(field, field).replace('_', '-')}: {said[0].lower()}{said[1:]}"


def _for_role(role: str, said: str) -> str:
    """A message about the teacher's options as one about those of a role."""
    return said.replace(f"--{TEACHER}-", f"--{role}-")
