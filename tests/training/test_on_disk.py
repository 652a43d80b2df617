"""Orders and ranks worked out in files are those that are worked out in memory."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.model import scoring
from training.on_disk import CHUNK, array_on_disk, order_on_disk, ranks_on_disk, sorted_on_disk


@given(st.lists(st.lists(st.sampled_from([-np.inf, -1.5, -0.0, 0.0, 1e-9, 2.0]), max_size=5), max_size=6))
def test_order_and_ranks_are_those_of_scoring(parts: list[list[float]]) -> None:
    scores = [score for part in parts for score in part]
    assert order_on_disk(parts).tolist() == scoring.order(scores).tolist()
    assert ranks_on_disk(parts).tolist() == scoring.ranks(scores).tolist()


def test_more_numbers_than_are_held_at_a_time_are_ranked_too(tmp_path: Path) -> None:
    scores = np.random.default_rng(0).integers(0, 50_000, 2 * CHUNK + 3).astype(np.float64)  # many ties
    found = ranks_on_disk(np.array_split(scores, 7), tmp_path)
    np.testing.assert_array_equal(found, scoring.ranks(scores))


def test_files_are_nameless_and_what_is_in_them_is_no_less_an_array(tmp_path: Path) -> None:
    found = sorted_on_disk([np.array([3, 1]), np.array([2])], tmp_path)
    zeros = array_on_disk(3, np.int8, tmp_path)
    zeros[1] = 5
    assert found.tolist() == [1, 2, 3]
    assert zeros.tolist() == [0, 5, 0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("parts", [[], [[]]])
def test_nothing_has_an_empty_order(parts: list[list[float]]) -> None:
    assert ranks_on_disk(parts).tolist() == []
    assert array_on_disk(0, np.int8).tolist() == []
