import math

import numpy as np
import pytest

from service.model.errors import XalError
from training.strategies.interface import PoolScores, QueryStrategy, highest

RNG = np.random.default_rng(0)


def strategy(chosen: list[int], needs: frozenset[str] = frozenset()) -> QueryStrategy:
    return QueryStrategy("fixed", "none", False, needs, lambda scores, size, rng: np.array(chosen))  # noqa: ARG005


def test_entropy_comes_from_the_probabilities() -> None:
    scores = PoolScores(2, probabilities=np.array([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0]]))
    assert scores.entropy == pytest.approx([math.log(2), 0.0])
    with pytest.raises(ValueError, match="needs the probabilities"):
        _ = PoolScores(2).entropy


@pytest.mark.parametrize(
    "arrays",
    [
        {"probabilities": np.full((3, 2), 0.5)},
        {"probabilities": np.full(2, 0.5)},
        {"explanation_scores": np.zeros((2, 1))},
        {"explanation_scores": np.zeros(1)},
        {"embeddings": np.zeros(2)},
    ],
)
def test_arrays_have_one_row_for_each_text(arrays: dict) -> None:
    with pytest.raises(ValueError, match="and 2 rows"):
        PoolScores(2, **arrays)


def test_scores_that_are_not_finite_name_the_first_text() -> None:
    with pytest.raises(XalError, match=r"probabilities are not finite, first for unlabeled text 1: .* learning rate"):
        PoolScores(3, probabilities=np.array([[0.5, 0.5], [0.5, np.nan], [np.nan, 1.0]]))
    with pytest.raises(XalError, match="explanation scores are not finite, first for unlabeled text 2"):
        PoolScores(3, explanation_scores=np.array([-1.0, -2.0, -np.inf]))


@pytest.mark.parametrize("size", [0, -1, 4])
def test_a_query_has_to_fit_the_pool(size: int) -> None:
    with pytest.raises(ValueError, match="from 1 to 3"):
        strategy([0]).select(PoolScores(3), size, RNG)


def test_a_strategy_gets_what_it_needs_or_fails() -> None:
    needy = strategy([0], needs=frozenset({"probabilities", "embeddings"}))
    with pytest.raises(ValueError, match="fixed needs embeddings of the pool"):
        needy.select(PoolScores(1, probabilities=np.ones((1, 1))), 1, RNG)
    with pytest.raises(ValueError, match=r"needs \['logits'\]"):
        strategy([0], needs=frozenset({"logits"}))


def test_a_strategy_without_a_rule_of_its_own_chooses_the_highest_scores() -> None:
    ranking = QueryStrategy("ranking", "none", False, frozenset(), score=lambda scores: np.arange(scores.n) % 3.0)
    assert ranking.select(PoolScores(5), 4, RNG).tolist() == [2, 1, 4, 0]
    with pytest.raises(ValueError, match="idle has neither a score to rank by nor a rule to choose by"):
        QueryStrategy("idle", "none", False, frozenset())


@pytest.mark.parametrize("chosen", [[0, 0], [0], [0, 3], [-1, 0], [0, 1, 2]])
def test_a_strategy_that_chooses_wrongly_is_found_out(chosen: list[int]) -> None:
    with pytest.raises(ValueError, match="expected 2 different indices below 3"):
        strategy(chosen).select(PoolScores(3), 2, RNG)


def test_the_highest_come_first_and_ties_keep_the_pools_order() -> None:
    assert highest(np.array([1.0, 3.0, 2.0, 3.0, 1.0]), 4).tolist() == [1, 3, 2, 0]
