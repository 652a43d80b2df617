"""Requests -> work for the model."""

import pytest

from service.answers import explaining
from service.lanes import Work
from service.model.decoding import Decoding
from service.schemas import ExplainOptions


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, Work(True)),
        ({"num_beams": 3}, Work(True)),
        ({"num_beams": 3, "max_new_tokens": 12}, Work(True)),
        ({"num_beams": 12, "max_new_tokens": 3}, Work(True, 12, 3)),
        ({"num_beams": 1}, Work(True, num_beams=1)),
    ],
)
def test_asking_for_what_is_the_models_own_is_the_same_work_as_asking_for_nothing(
    options: dict[str, int], expected: Work
) -> None:
    assert explaining(ExplainOptions(**options), Decoding(num_beams=3, max_new_tokens=12)) == expected
