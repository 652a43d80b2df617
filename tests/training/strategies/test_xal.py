import math
from collections.abc import Callable

import numpy as np
import pytest

from training.strategies import PoolScores, QueryStrategy
from training.strategies.uncertainty import entropy_sampling
from training.strategies.xal import standardised_xal_sampling, xal_sampling

RNG = np.random.default_rng(0)

# exp(-p) is e times 1, 2, 4 and exp(c) is 4, 2, 1, so the parts of Eq. 8's sums are 1/7, 2/7, 4/7 and 4/7, 2/7, 1/7.
P = np.array([-1.0, -1 - math.log(2), -1 - math.log(4)])
PROBABILITIES = np.array([[0.25, 0.25, 0.25, 0.25], [0.5, 0.5, 0, 0], [1, 0, 0, 0]])
SCORES = PoolScores(3, PROBABILITIES, P)


@pytest.mark.parametrize(
    ("lambda_", "order"),
    [
        (0.25, [0, 1, 2]),  # weights 1/5 and 4/5: 17/35, 10/35, 8/35
        (0.8, [0, 2, 1]),  # weights 4/9 and 5/9: 24/63, 18/63, 21/63
        (3.0, [2, 1, 0]),  # weights 3/4 and 1/4: 7/28, 8/28, 13/28
    ],
)
def test_the_acquisition_score_weighs_explanation_and_entropy(lambda_: float, order: list[int]) -> None:
    assert xal_sampling(lambda_).select(SCORES, 3, RNG).tolist() == order


def test_lambda_is_the_papers_unless_said_otherwise() -> None:
    # s = 9/21, 6/21, 6/21 at 0.5: a little less for the third text's explanation, and it comes last
    assert xal_sampling().select(SCORES, 1, RNG).tolist() == [0]
    for shift, order in ((0.01, [0, 1, 2]), (-0.01, [0, 2, 1])):
        shifted = PoolScores(3, PROBABILITIES, P + np.array([0, 0, shift]))
        assert xal_sampling().select(shifted, 3, RNG).tolist() == order


@pytest.mark.parametrize(
    ("lambda_", "paper", "standardised"),
    [
        (0.5, [3, 2, 1, 0], [3, 2, 1, 0]),
        (1.5, [3, 2, 1, 0], [3, 1, 2, 0]),
        (2.5, [3, 1, 2, 0], [3, 1, 2, 0]),
    ],
)
def test_standardised_lambda_weighs_one_spread_against_the_other(
    lambda_: float, paper: list[int], standardised: list[int]
) -> None:
    # exp(-p) is 3, 5, 3, 5 of 16 and exp(c) 1, 1, 3, 3 of 8: 1/16 and 1/8 from their means. Text 1, certain and badly
    # explained, comes before text 2, its opposite, where lambda/16 > 1/8; with terms of one spread where lambda > 1.
    probabilities = np.array([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1 / 3] * 3, [1 / 3] * 3])
    scores = PoolScores(4, probabilities, -np.log([3.0, 5.0, 3.0, 5.0]))
    assert xal_sampling(lambda_).select(scores, 4, RNG).tolist() == paper
    assert standardised_xal_sampling(lambda_).select(scores, 4, RNG).tolist() == standardised


BOTH = pytest.mark.parametrize("sampling", [xal_sampling, standardised_xal_sampling])


@BOTH
def test_without_weight_on_explanations_the_choice_is_entropys(sampling: Callable[..., QueryStrategy]) -> None:
    rng = np.random.default_rng(5)
    scores = PoolScores(50, rng.dirichlet([1.0, 1.0, 1.0], 50), -rng.exponential(1.0, 50))
    assert sampling(0.0).select(scores, 20, RNG).tolist() == entropy_sampling().select(scores, 20, RNG).tolist()


@BOTH
def test_equal_scores_keep_the_pools_order(sampling: Callable[..., QueryStrategy]) -> None:
    scores = PoolScores(5, np.full((5, 2), 0.5), np.full(5, -1.0))
    assert sampling().select(scores, 3, RNG).tolist() == [0, 1, 2]


@BOTH
def test_very_unnatural_explanations_do_not_overflow(sampling: Callable[..., QueryStrategy]) -> None:
    scores = PoolScores(3, np.full((3, 2), 0.5), np.array([-1.0, -900.0, -901.0]))
    assert sampling().select(scores, 3, RNG).tolist() == [2, 1, 0]


def test_where_one_term_is_the_same_for_all_texts_the_other_chooses() -> None:
    equal = PoolScores(3, PROBABILITIES[[2, 0, 1]], np.full(3, -1.0))
    assert standardised_xal_sampling().select(equal, 3, RNG).tolist() == [1, 2, 0]
    certain = PoolScores(3, PROBABILITIES[[2, 2, 2]], P)
    assert standardised_xal_sampling().select(certain, 3, RNG).tolist() == [2, 1, 0]
