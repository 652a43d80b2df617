import pytest
from pydantic import ValidationError
from xal_client import Item
from xal_client.items import as_json


def test_strings_dicts_and_items_become_the_json_of_the_service() -> None:
    items = ["a", {"id": "b", "fields": {"s1": "x", "s2": "y"}}, Item(id="c", text="z", candidates=("why",))]
    assert as_json(items) == [
        {"text": "a"},
        {"id": "b", "fields": {"s1": "x", "s2": "y"}},
        {"id": "c", "text": "z", "candidates": ["why"]},
    ]


def test_an_item_sends_nothing_that_was_not_given() -> None:
    assert as_json([Item(text=""), Item(fields={"s1": "x"})]) == [{"text": ""}, {"fields": {"s1": "x"}}]


def test_a_record_without_a_text_is_left_to_the_service() -> None:
    items = [{"id": "a", "text": None}, {}, Item(id="b", text=None), Item(), Item(fields={"s1": "x", "s2": None})]
    assert as_json(items) == [
        {"id": "a", "text": None},
        {},
        {"id": "b"},
        {},
        {"fields": {"s1": "x", "s2": None}},
    ]


def test_any_iterable_of_items_is_taken() -> None:
    assert as_json(text for text in ("a", "b")) == [{"text": "a"}, {"text": "b"}]


@pytest.mark.parametrize("single", ["too heavy", {"text": "too heavy"}, Item(text="too heavy")])
def test_a_single_item_in_place_of_a_list_is_refused(single: object) -> None:
    with pytest.raises(TypeError, match="put it in a list"):
        as_json(single)  # type: ignore[arg-type]


def test_an_item_of_another_type_is_refused_with_its_place() -> None:
    with pytest.raises(TypeError, match=r"items\[1\] is a int"):
        as_json(["a", 7])  # type: ignore[list-item]


@pytest.mark.parametrize(
    "arguments",
    [{"text": "secret", "fields": {"s": "secret"}}, {"text": "secret", "label": "secret"}, {"text": ["secret"]}],
)
def test_an_item_takes_text_or_fields_and_knows_nothing_else(arguments: dict[str, object]) -> None:
    with pytest.raises(ValidationError) as caught:
        Item(**arguments)  # type: ignore[arg-type]
    assert "secret" not in str(caught.value)


def test_an_item_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Item(text="a").text = "b"  # type: ignore[misc]
