import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.strategies import PoolScores
from training.strategies.bayesian import bald_sampling

RNG = np.random.default_rng(0)


def test_bald_asks_for_what_sure_passes_disagree_on_not_for_what_all_are_unsure_of() -> None:
    unsure = [[0.5, 0.5], [0.5, 0.5]]  # log 2 - log 2 = 0
    at_odds = [[1.0, 0.0], [0.0, 1.0]]  # log 2 - 0
    sure = [[1.0, 0.0], [1.0, 0.0]]  # 0 - 0
    leaning = [[0.5, 0.5], [0.0, 1.0]]  # H(1/4) - log(2)/2 = 0.56 - 0.35
    scores = PoolScores(4, dropout_probabilities=np.array([unsure, at_odds, sure, leaning]))
    assert bald_sampling().select(scores, 4, RNG).tolist() == [1, 3, 0, 2]


@given(st.integers(0, 2**32), st.integers(1, 8), st.integers(2, 6), st.integers(2, 4))
def test_bald_is_the_mutual_information_of_label_and_pass(seed: int, n: int, passes: int, classes: int) -> None:
    probabilities = np.random.default_rng(seed).dirichlet([0.7] * classes, (n, passes))
    information = []
    for text in probabilities.tolist():
        # sum over passes and labels of P(t, y) log P(t, y) / (P(t) P(y)), with P(t) = 1/T
        total = 0.0
        for row in text:
            for label, p in enumerate(row):
                mean = sum(other[label] for other in text) / passes
                total += p / passes * math.log(p / mean) if p else 0.0
        information.append(total)
    chosen = bald_sampling().select(PoolScores(n, dropout_probabilities=probabilities), n, RNG).tolist()
    assert [information[index] for index in chosen] == pytest.approx(sorted(information, reverse=True), abs=1e-12)


@pytest.mark.parametrize("classes", [2, 3, 77])
def test_passes_that_agree_leave_the_pools_order(classes: int) -> None:
    passes = np.repeat(np.random.default_rng(0).dirichlet([1.0] * classes, (50, 1)), 10, axis=1)
    scores = PoolScores(50, dropout_probabilities=passes)
    assert bald_sampling().select(scores, 50, RNG).tolist() == list(range(50))


def test_passes_that_differ_a_little_are_told_from_those_that_agree() -> None:
    passes = np.full((2, 2, 2), 0.5)
    passes[1] += np.array([[1e-6, -1e-6], [-1e-6, 1e-6]])  # 2e-12 nats
    assert bald_sampling().select(PoolScores(2, dropout_probabilities=passes), 2, RNG).tolist() == [1, 0]
