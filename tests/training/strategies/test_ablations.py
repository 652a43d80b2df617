"""Each ablation of Table 9 takes one part away and leaves the rest as it is."""

import numpy as np

from training.strategies import PoolScores, query_strategy
from training.strategies.ablations import entropy_with_explanations, xal_without_entropy, xal_without_ranking

RNG = np.random.default_rng(0)
PROBABILITIES = np.array([[0.9, 0.1], [0.5, 0.5], [0.7, 0.3]])
SCORES = PoolScores(3, PROBABILITIES, np.array([-3.0, -1.0, -2.0]))


def test_me_exp_trains_on_explanations_and_chooses_as_entropy_does() -> None:
    strategy = entropy_with_explanations()
    assert strategy.uses_explanations
    assert strategy.ranks
    assert strategy.needs == {"probabilities"}
    assert strategy.select(SCORES, 3, RNG).tolist() == [1, 2, 0]


def test_without_entropy_the_least_natural_explanation_comes_first() -> None:
    strategy = xal_without_entropy()
    assert strategy.uses_explanations
    assert strategy.needs == {"explanation_scores"}
    assert strategy.select(SCORES, 3, RNG).tolist() == [0, 2, 1]
    tied = PoolScores(4, explanation_scores=np.array([-1.0, -2.0, -1.0, -2.0]))
    assert strategy.select(tied, 4, RNG).tolist() == [1, 3, 0, 2]


def test_without_entropy_the_score_is_the_explanations_and_not_that_of_eq_8() -> None:
    strategy = xal_without_entropy()
    assert strategy.lambda_ is None
    assert strategy.score is not None
    assert strategy.score(SCORES).tolist() == [3.0, 1.0, 2.0]


def test_without_ranking_the_choice_is_xals_for_every_lambda() -> None:
    rng = np.random.default_rng(1)
    scores = PoolScores(30, rng.dirichlet([1.0, 1.0], 30), -rng.exponential(1.0, 30))
    assert query_strategy("xal").ranks
    assert not xal_without_ranking().ranks
    for lambda_ in (0.0, 0.5, 3.0):
        expected = query_strategy("xal", lambda_=lambda_).select(scores, 30, RNG).tolist()
        assert xal_without_ranking(lambda_).select(scores, 30, RNG).tolist() == expected
