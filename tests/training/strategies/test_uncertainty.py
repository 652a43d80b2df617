import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.strategies import PoolScores, query_strategy
from training.strategies.uncertainty import breaking_ties_sampling, entropy_sampling, least_confidence_sampling

RNG = np.random.default_rng(0)


def test_entropy_asks_for_the_least_certain_first() -> None:
    # in nats: 0.33, 0.69, 1.10, 0.69
    probabilities = np.array([[0.9, 0.1, 0.0], [0.5, 0.5, 0.0], [1 / 3, 1 / 3, 1 / 3], [0.0, 0.5, 0.5]])
    assert entropy_sampling().select(PoolScores(4, probabilities), 4, RNG).tolist() == [2, 1, 3, 0]
    assert entropy_sampling().select(PoolScores(4, probabilities), 2, RNG).tolist() == [2, 1]


def test_entropy_is_not_least_confidence() -> None:
    # The first text is surer of its best label (0.50 against 0.48), yet its other labels are wide open.
    probabilities = np.array([[0.50, 0.25, 0.25], [0.48, 0.48, 0.04]])
    assert entropy_sampling().select(PoolScores(2, probabilities), 1, RNG).tolist() == [0]
    assert least_confidence_sampling().select(PoolScores(2, probabilities), 1, RNG).tolist() == [1]


def test_least_confidence_looks_at_the_best_label_and_breaking_ties_at_the_next_too() -> None:
    # best 0.50, 0.45, 0.60, 0.45; margin 0.02, 0.15, 0.20, 0.00
    probabilities = np.array([[0.48, 0.50, 0.02], [0.30, 0.25, 0.45], [0.60, 0.40, 0.0], [0.45, 0.10, 0.45]])
    assert least_confidence_sampling().select(PoolScores(4, probabilities), 4, RNG).tolist() == [1, 3, 0, 2]
    assert breaking_ties_sampling().select(PoolScores(4, probabilities), 4, RNG).tolist() == [3, 0, 1, 2]


@pytest.mark.parametrize("name", ["entropy", "least-confidence", "breaking-ties"])
def test_with_two_labels_all_three_ask_for_the_same(name: str) -> None:
    first = np.array([0.9, 0.55, 0.2, 0.51, 0.99, 0.3])
    scores = PoolScores(6, np.stack([first, 1 - first], axis=1))
    assert query_strategy(name).select(scores, 6, RNG).tolist() == [3, 1, 5, 2, 0, 4]


@given(st.integers(0, 2**32), st.integers(2, 5), st.integers(1, 12))
def test_both_follow_their_formulas(seed: int, classes: int, n: int) -> None:
    # Quarters, exact in binary, so that ties are ties for every way to compute them.
    probabilities = np.random.default_rng(seed).multinomial(4, [1 / classes] * classes, n) / 4
    confidence, margin = [], []
    for row in probabilities.tolist():
        best, *others = sorted(row, reverse=True)
        confidence.append(best)
        margin.append(best - others[0])
    scores = PoolScores(n, probabilities)
    expected = sorted(range(n), key=lambda index: confidence[index])
    assert least_confidence_sampling().select(scores, n, RNG).tolist() == expected
    expected = sorted(range(n), key=lambda index: margin[index])
    assert breaking_ties_sampling().select(scores, n, RNG).tolist() == expected
