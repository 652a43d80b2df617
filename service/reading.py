"""Bytes -> a checked request.

Requests are checked here and not by the server framework, whose messages and log lines repeat what the user sent.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Protocol, get_args

from pydantic import BaseModel, ValidationError

from service.errors import Fault, InvalidRequest, NotJson, TooLarge
from service.schemas import (
    AcquisitionOptions,
    AnyRequest,
    CandidateItem,
    ClassifyRequest,
    ExplainOptions,
    ExplainRequest,
    item_id,
)

MAX_FAULTS = 20  # named in one answer; a request with thousands of bad items gets no megabytes back


class Limits(Protocol):
    """What one request may ask for; settings.Settings is one."""

    @property
    def max_items(self) -> int: ...
    @property
    def max_candidates(self) -> int: ...
    @property
    def max_num_beams(self) -> int: ...
    @property
    def max_new_tokens(self) -> int: ...


def read_request(body: bytes, model: type[AnyRequest], limits: Limits) -> AnyRequest:
    """A checked request. Raises NotJson, InvalidRequest or TooLarge; no message holds anything that the user sent."""
    data = _read_json(body)
    if isinstance(data, dict) and isinstance(items := data.get("items"), list) and len(items) > limits.max_items:
        raise TooLarge(f"{len(items)} items came, at most {limits.max_items} are taken in one request; send fewer")
    try:
        # Not model_validate_json: it refuses the body for half a surrogate pair, where only one item's text is bad.
        request = model.model_validate(data)
    except ValidationError as error:
        faults = [_fault(entry, model) for entry in error.errors(include_url=False, include_input=False)[:MAX_FAULTS]]
        raise _invalid(faults, error.error_count()) from None
    if faults := [*_over_limits(request, limits), *_repeated_ids(request)]:
        raise _invalid(faults[:MAX_FAULTS], len(faults))
    return request


def _read_json(body: bytes) -> Any:
    """Strict JSON: UTF-8, no NaN or Infinity, no key twice in one object. Raises NotJson."""
    try:
        return json.loads(body.decode("utf-8"), parse_constant=_no_constant, object_pairs_hook=_no_repeated_key)
    except UnicodeDecodeError as error:
        raise NotJson(f"the body is not UTF-8 from byte {error.start} on; send JSON in UTF-8") from None
    except json.JSONDecodeError as error:
        raise NotJson(f"the body is not JSON: {error.msg}, at character {error.pos}") from None
    except RecursionError:
        raise NotJson("the body is not JSON that can be read: it is nested too deep") from None
    except ValueError:  # an integer of thousands of digits
        raise NotJson("the body is not JSON that can be read: it holds a number out of range") from None


def _no_constant(name: str) -> None:
    raise NotJson(f"the body is not JSON: {name} is no JSON number")


def _no_repeated_key(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = dict(pairs)
    if len(keys) != len(pairs):
        raise NotJson("the body is not JSON that can be read: an object has the same key twice")
    return keys


def _over_limits(request: AnyRequest, limits: Limits) -> list[Fault]:
    faults = []
    if isinstance(request, ExplainRequest):
        for name, limit in (("num_beams", limits.max_num_beams), ("max_new_tokens", limits.max_new_tokens)):
            if (getattr(request.options, name) or 0) > limit:
                faults.append(Fault(f"/options/{name}", f"at most {limit} is allowed here"))
    for index, item in enumerate(request.items):
        if isinstance(item, CandidateItem) and len(item.candidates or ()) > limits.max_candidates:
            faults.append(Fault(f"/items/{index}/candidates", f"at most {limits.max_candidates} are taken"))
    return faults


def _repeated_ids(request: AnyRequest) -> list[Fault]:
    """Results are told apart by their ids, so each may stand once; a missing id counts as the index."""
    first: dict[str, int] = {}
    faults = []
    for index, item in enumerate(request.items):
        before = first.setdefault(item_id(item, index), index)
        if before != index:
            faults.append(Fault(f"/items/{index}/id", f"items {before} and {index} have the same id"))
    return faults


def _invalid(faults: Sequence[Fault], count: int) -> InvalidRequest:
    named = "" if count <= len(faults) else f"; the first {len(faults)} are named"
    return InvalidRequest(f"the body has {count} fault{'s' if count > 1 else ''}{named}", faults=faults)


def _fault(entry: Any, model: type[BaseModel]) -> Fault:
    """A pydantic error without the user's text: keys that only the user knows are left out of pointer and detail."""
    location = list(entry["loc"])
    if entry["type"] == "extra_forbidden":
        location = location[:-1]
        known = ", ".join(_known_keys(model, location))
        return Fault(_pointer(location), f"unknown key; known here: {known}" if known else "no key is known here")
    return Fault(_pointer(location), str(entry["msg"]).removeprefix("Value error, "))


def _known_keys(model: type[BaseModel], location: Sequence[str | int]) -> list[str]:
    """Keys of the object at a location, which is () or (options) or (items, index)."""
    here: Any = model
    if location:
        here = model.model_fields[str(location[0])].annotation
        here = get_args(here)[0] if len(location) == 2 else here
    return [field.alias or name for name, field in here.model_fields.items()]


_OWN_KEYS = {
    field.alias or name
    for model in (ClassifyRequest, CandidateItem, ExplainOptions, AcquisitionOptions)
    for name, field in model.model_fields.items()
}


def _pointer(location: Sequence[str | int]) -> str:
    """JSON Pointer as far as the keys are the API's own; a key of the user's making ends it."""
    pointer = ""
    for key in location:
        if not isinstance(key, int) and key not in _OWN_KEYS:
            break
        pointer += f"/{key}"
    return pointer
