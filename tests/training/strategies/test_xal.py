import math

import numpy as np
import pytest

from training.strategies import PoolScores
from training.strategies.uncertainty import entropy_sampling
from training.strategies.xal import xal_sampling

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


def test_without_weight_on_explanations_the_choice_is_entropys() -> None:
    rng = np.random.default_rng(5)
    scores = PoolScores(50, rng.dirichlet([1.0, 1.0, 1.0], 50), -rng.exponential(1.0, 50))
    assert xal_sampling(0.0).select(scores, 20, RNG).tolist() == entropy_sampling().select(scores, 20, RNG).tolist()


def test_equal_scores_keep_the_pools_order() -> None:
    scores = PoolScores(5, np.full((5, 2), 0.5), np.full(5, -1.0))
    assert xal_sampling().select(scores, 3, RNG).tolist() == [0, 1, 2]


def test_very_unnatural_explanations_do_not_overflow() -> None:
    scores = PoolScores(3, np.full((3, 2), 0.5), np.array([-1.0, -900.0, -901.0]))
    assert xal_sampling().select(scores, 3, RNG).tolist() == [2, 1, 0]
