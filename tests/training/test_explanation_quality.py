import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.explanation_quality import consistency, distinct, ranking_accuracy


def test_ranking_accuracy_by_hand_ties_counting_half() -> None:
    # right pairs of each text: 2 of 2, 1 of 2, 1.5 of 2, 0 of 2
    found = ranking_accuracy([[-1.0, -2.0, -3.0], [-1.0, -2.0, -0.5], [-1.0, -1.0, -2.0], [-3.0, -1.0, -2.0]])
    assert found.value == pytest.approx(4.5 / 8)
    assert (found.texts, found.pairs) == (4, 8)
    # shares 1, 1/2, 3/4, 0 about 9/16: squares of 7, -1, 3, -9 sixteenths add up to 140/256
    assert found.standard_error == pytest.approx(math.sqrt(140 / 256 / 3 / 4))


def test_the_standard_error_is_that_of_texts_not_of_pairs() -> None:
    # two pairs that always agree carry no more than one: counting pairs would give 0.5/sqrt(7)
    doubled = ranking_accuracy([[0.0, -1.0, -1.0], [0.0, 1.0, 1.0]] * 2)
    single = ranking_accuracy([[0.0, -1.0], [0.0, 1.0]] * 2)
    assert doubled.standard_error == single.standard_error == pytest.approx(0.5 / math.sqrt(3))


def test_a_single_text_has_no_standard_error() -> None:
    assert ranking_accuracy([[-1.0, -2.0]]).standard_error is None


@given(st.lists(st.lists(st.integers(-3, 0), min_size=3, max_size=3), min_size=1, max_size=20))
def test_ranking_accuracy_is_the_mann_whitney_count_over_pairs(rows: list[list[int]]) -> None:
    wins = sum((row[0] > other) + (row[0] == other) / 2 for row in rows for other in row[1:])
    assert ranking_accuracy(rows).value == pytest.approx(wins / (2 * len(rows)))


@pytest.mark.parametrize("scores", [np.zeros((0, 2)), np.zeros((2, 1)), np.zeros(3), [[0.0, math.nan]]])
def test_ranking_accuracy_refuses_what_has_no_pairs(scores: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected"):
        ranking_accuracy(scores)


def test_consistency_and_distinct_by_hand() -> None:
    assert consistency(["a", "b", "b"], ["a", "b", "a"]) == pytest.approx(2 / 3)
    assert distinct(["so", "so", "good", "bad"]) == 0.75
    for wrong in ([], ["a", "b"]):
        with pytest.raises(ValueError, match="judged"):
            consistency(["a"] if wrong else [], wrong)
    with pytest.raises(ValueError, match="at least one"):
        distinct([])
