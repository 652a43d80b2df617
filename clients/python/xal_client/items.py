"""What the caller asks about: plain strings, dicts or typed items, turned into the JSON that the service reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, model_validator


class Item(BaseModel):
    """One text, or one set of named fields, to be answered.

    id: comes back with the result; the service uses the item's index where it is missing.
    text: shorthand for a task with one field. fields: field name -> text, for any task. Not both.
    A text of None is sent all the same: a record without one gets an `ItemFailure`, `missing_field`.
    candidates: explanations to score besides the generated one; their scores come back in `candidate_scores`.

    Example: ``Item(id="a1", text="too heavy to carry", candidates=("The reviewer complains about its weight.",))``
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)  # errors never quote a text

    id: str | None = None
    text: str | None = None
    fields: Mapping[str, str | None] | None = None
    candidates: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _text_or_fields(self) -> Self:
        if self.text is not None and self.fields is not None:
            raise ValueError("an item takes either text=... (a task with one field) or fields={...}, not both")
        return self


AnyItem: TypeAlias = str | Item | Mapping[str, Any]


def as_json(items: Iterable[AnyItem]) -> list[dict[str, Any]]:
    """Items as the service reads them, in their order.

    Dicts pass unchanged: what may stand in them is the service's to say (422 `UnprocessableContent`).

    Raises TypeError for a bare string or dict in place of a list of items, and for an item of another type.
    """
    if isinstance(items, (str, bytes, Mapping, BaseModel)):
        raise TypeError(f"items is a list of items, but a single {type(items).__name__} came; put it in a list")
    return [_item_as_json(item, index) for index, item in enumerate(items)]


def item_id(item: Mapping[str, Any], index: int) -> str:
    """The id under which the service answers an item of a request: its own, or its index where it has none."""
    own = item.get("id")
    return str(index if own is None else own)


def _item_as_json(item: AnyItem, index: int) -> dict[str, Any]:
    if isinstance(item, str):
        return {"text": item}
    if isinstance(item, Item):
        return item.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    if isinstance(item, Mapping):
        return dict(item)
    raise TypeError(f"items[{index}] is a {type(item).__name__}; an item is a string, a dict or an xal_client.Item")
