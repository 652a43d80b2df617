"""Bytes -> requests: what is taken, what is turned away and how, and that no message repeats what the user sent."""

import json
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import Fault, InvalidRequest, NotJson, ServiceError, TooLarge
from service.reading import MAX_FAULTS, read_request
from service.schemas import AcquisitionRequest, AnyRequest, ClassifyRequest, ExplainRequest, item_id

CANARY = "canary-4711"


@dataclass(frozen=True)
class Limits:
    max_items: int = 5
    max_candidates: int = 2
    max_num_beams: int = 4
    max_new_tokens: int = 10


def read(data: Any, model: type[AnyRequest] = ClassifyRequest) -> AnyRequest:
    return read_request(data if isinstance(data, bytes) else json.dumps(data).encode(), model, Limits())


def faults(data: Any, model: type[AnyRequest] = ClassifyRequest) -> list[Fault]:
    with pytest.raises(InvalidRequest) as refusal:
        read(data, model)
    return list(refusal.value.faults)


def test_a_request_without_options_has_the_documented_defaults() -> None:
    request = read({"items": [{"text": "a"}]}, AcquisitionRequest)
    assert isinstance(request, AcquisitionRequest)
    assert (request.options.lambda_, request.options.normalization, request.options.top_k) == (0.5, "pool", None)


def test_a_missing_id_is_the_index() -> None:
    request = read({"items": [{"id": "x", "text": "a"}, {"text": "b"}, {"fields": {"f": "c"}}]})
    assert [item_id(item, index) for index, item in enumerate(request.items)] == ["x", "1", "2"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"items=1",
        b"\xff\xfe",
        '{"items": [{"text": "a"}]}'.encode("utf-16"),
        b'\xef\xbb\xbf{"items": [{"text": "a"}]}',
        b'{"items": [{"text": "a"}], "options": {"lambda": NaN}}',
        b'{"items": [{"text": "a"}], "options": {"lambda": -Infinity}}',
        b'{"items": [{"text": "a", "text": "b"}]}',
        b'{"items": [{"text": "\xed\xa0\xbd"}]}',
        b"[" * 100_000,
        b"9" * 10_000,
    ],
)
def test_what_is_not_strict_json_is_turned_away(body: bytes) -> None:
    with pytest.raises(NotJson):
        read(body)


@pytest.mark.parametrize(
    ("data", "model", "pointer"),
    [
        ([], ClassifyRequest, ""),
        ({}, ClassifyRequest, "/items"),
        ({"items": []}, ClassifyRequest, "/items"),
        ({"items": {}}, ClassifyRequest, "/items"),
        ({"items": ["a"]}, ClassifyRequest, "/items/0"),
        ({"items": [{"text": "a"}, None]}, ClassifyRequest, "/items/1"),
        ({"items": [{"text": "a", "fields": {"text": "a"}}]}, ClassifyRequest, "/items/0"),
        ({"items": [{"text": 5}]}, ClassifyRequest, "/items/0/text"),
        ({"items": [{"fields": {CANARY: 5}}]}, ClassifyRequest, "/items/0/fields"),
        ({"items": [{"fields": []}]}, ClassifyRequest, "/items/0/fields"),
        ({"items": [{"fields": {"\ud83d": 5}}]}, ClassifyRequest, "/items/0/fields"),
        ({"items": [{"id": 5, "text": "a"}]}, ClassifyRequest, "/items/0/id"),
        ({"items": [{"id": "\ud83d", "text": "a"}]}, ClassifyRequest, "/items/0/id"),
        ({"items": [{"text": "a", "\ud83d": 1}]}, ClassifyRequest, "/items/0"),
        ({"items": [{"id": "", "text": "a"}]}, ClassifyRequest, "/items/0/id"),
        ({"items": [{"id": "x" * 257, "text": "a"}]}, ClassifyRequest, "/items/0/id"),
        ({"items": [{"text": "a", "candidates": ["b"]}]}, ClassifyRequest, "/items/0"),
        ({"items": [{"text": "a", CANARY: 1}]}, ClassifyRequest, "/items/0"),
        ({"items": [{"text": "a"}], CANARY: 1}, ClassifyRequest, ""),
        ({"items": [{"text": "a"}], "options": {"num_beams": 2}}, ClassifyRequest, "/options"),
        ({"items": [{"text": "a"}], "options": None}, ClassifyRequest, "/options"),
        ({"items": [{"text": "a", "candidates": []}]}, ExplainRequest, "/items/0/candidates"),
        ({"items": [{"text": "a", "candidates": ["b", 1]}]}, ExplainRequest, "/items/0/candidates/1"),
        ({"items": [{"text": "a", "candidates": [None]}]}, ExplainRequest, "/items/0/candidates/0"),
        ({"items": [{"text": "a", "candidates": ["b"] * 3}]}, ExplainRequest, "/items/0/candidates"),
        ({"items": [{"text": "a"}], "options": {"num_beams": 0}}, ExplainRequest, "/options/num_beams"),
        ({"items": [{"text": "a"}], "options": {"num_beams": "2"}}, ExplainRequest, "/options/num_beams"),
        ({"items": [{"text": "a"}], "options": {"num_beams": 2.5}}, ExplainRequest, "/options/num_beams"),
        ({"items": [{"text": "a"}], "options": {"lambda": 1}}, ExplainRequest, "/options"),
        ({"items": [{"text": "a"}], "options": {"lambda": -0.1}}, AcquisitionRequest, "/options/lambda"),
        ({"items": [{"text": "a"}], "options": {"lambda_": 0.1}}, AcquisitionRequest, "/options"),
        ({"items": [{"text": "a"}], "options": {"lambda": True}}, AcquisitionRequest, "/options/lambda"),
        ({"items": [{"text": "a"}], "options": {"lambda": 10**400}}, AcquisitionRequest, "/options/lambda"),
        ({"items": [{"text": "a"}], "options": {"normalization": ""}}, AcquisitionRequest, "/options/normalization"),
        (
            {"items": [{"text": "a"}], "options": {"normalization": "\ud83d"}},
            AcquisitionRequest,
            "/options/normalization",
        ),
        ({"items": [{"text": "a"}], "options": {"top_k": 0}}, AcquisitionRequest, "/options/top_k"),
    ],
)
def test_a_wrong_shape_is_named_by_a_pointer(data: Any, model: type[AnyRequest], pointer: str) -> None:
    found = faults(data, model)
    assert [fault.pointer for fault in found] == [pointer]
    assert CANARY not in str(found)


@pytest.mark.parametrize("item", [{}, {"text": None}, {"text": None, "fields": None}, {"fields": {"text": None}}])
def test_an_item_without_a_text_is_not_the_requests_fault(item: dict[str, Any]) -> None:
    assert read({"items": [item]}).items[0].model_dump(exclude_unset=True) == item


@pytest.mark.parametrize(
    "item", [{"text": "\ud83d"}, {"fields": {"\ud83d": "\udc00"}}, {"candidates": ["a", "\ud83d"]}]
)
def test_half_a_surrogate_pair_in_an_item_is_not_the_requests_fault(item: dict[str, Any]) -> None:
    assert read({"items": [item]}, ExplainRequest).items[0].model_dump(exclude_unset=True) == item


def test_an_infinite_lambda_is_no_lambda() -> None:
    body = b'{"items": [{"text": "a"}], "options": {"lambda": 1e999}}'
    assert [fault.pointer for fault in faults(body, AcquisitionRequest)] == ["/options/lambda"]


def test_an_option_over_its_limit_names_the_limit() -> None:
    data = {"items": [{"text": "a"}], "options": {"num_beams": 5, "max_new_tokens": 11}}
    assert faults(data, ExplainRequest) == [
        Fault("/options/num_beams", "at most 4 is allowed here"),
        Fault("/options/max_new_tokens", "at most 10 is allowed here"),
    ]


@pytest.mark.parametrize("second", [{"id": "x"}, {}])
def test_a_repeated_id_names_both_items_also_where_one_is_an_index(second: dict[str, str]) -> None:
    data = {"items": [{"id": "1" if not second else "x", "text": "a"}, {"text": "b", **second}]}
    assert faults(data) == [Fault("/items/1/id", "items 0 and 1 have the same id")]


def test_an_unknown_key_is_answered_with_the_known_ones() -> None:
    data = {"items": [{"text": "a"}], "options": {"topk": 1}}
    assert faults(data, AcquisitionRequest)[0].detail == "unknown key; known here: lambda, normalization, top_k"


def test_too_many_items_are_refused_before_they_are_looked_at() -> None:
    with pytest.raises(TooLarge, match="6 items came, at most 5"):
        read({"items": [None] * 6})


def test_a_thousand_faults_are_not_all_named() -> None:
    limits = Limits(max_items=2000)
    with pytest.raises(InvalidRequest, match="1000 faults; the first 20") as refusal:
        read_request(json.dumps({"items": [0] * 1000}).encode(), ClassifyRequest, limits)
    assert len(refusal.value.faults) == MAX_FAULTS


json_values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.integers() | st.sampled_from([CANARY, "\ud83d"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([CANARY, "\ud83d", "items", "options", "id", "text", "fields", "candidates", "num_beams"]),
            inner,
        )
    ),
    max_leaves=12,
)


@given(json_values, st.sampled_from([ClassifyRequest, ExplainRequest, AcquisitionRequest]))
def test_no_body_is_answered_with_anything_but_a_service_error_or_with_its_own_text(
    data: Any, model: type[AnyRequest]
) -> None:
    told = ""
    try:
        read({"items": [data], "options": data} if isinstance(data, dict) else data, model)
    except ServiceError as error:
        told = f"{error.detail} {error.faults}"
    assert CANARY not in told
