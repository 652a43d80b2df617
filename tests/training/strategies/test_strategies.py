"""What holds for every strategy, those to come included: each one in the registry is tested here."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from service.model.errors import InputError
from training.strategies import STRATEGIES, PoolScores, QueryStrategy, query_strategy


@st.composite
def pools(draw: st.DrawFn) -> tuple[PoolScores, int]:
    """Scores of a pool, ties among them, and a query size that fits."""
    n = draw(st.integers(1, 12))
    weights = draw(arrays.arrays(np.float64, (n, 3), elements=st.sampled_from([0.1, 0.5, 1.0, 4.0])))
    p = draw(arrays.arrays(np.float64, n, elements=st.sampled_from([-5.0, -1.5, -1.0, -0.1, 0.0])))
    embeddings = draw(arrays.arrays(np.float32, (n, 2), elements=st.integers(-2, 2).map(float)))
    return PoolScores(n, weights / weights.sum(axis=1, keepdims=True), p, embeddings), draw(st.integers(1, n))


@pytest.mark.parametrize("name", STRATEGIES)
@given(pools(), st.integers(0, 2**32))
def test_a_choice_is_valid_and_its_seed_repeats_it(name: str, pool: tuple[PoolScores, int], seed: int) -> None:
    scores, size = pool
    chosen = query_strategy(name).select(scores, size, np.random.default_rng(seed))
    assert len(set(chosen.tolist())) == size
    assert set(chosen.tolist()) <= set(range(scores.n))
    assert query_strategy(name).select(scores, size, np.random.default_rng(seed)).tolist() == chosen.tolist()


@pytest.mark.parametrize("name", STRATEGIES)
@given(pools())
def test_the_arrays_are_left_as_they_were(name: str, pool: tuple[PoolScores, int]) -> None:
    scores, size = pool
    assert scores.probabilities is not None
    assert scores.explanation_scores is not None
    before = scores.probabilities.copy(), scores.explanation_scores.copy()
    query_strategy(name).select(scores, size, np.random.default_rng(0))
    assert (scores.probabilities == before[0]).all()
    assert (scores.explanation_scores == before[1]).all()


@pytest.mark.parametrize("name", ["entropy", "xal", "xal-std"])
@given(st.permutations(range(8)), st.integers(1, 8))
def test_another_order_of_the_pool_changes_nothing_where_no_scores_tie(name: str, order: list[int], size: int) -> None:
    rng = np.random.default_rng(3)
    probabilities, p = rng.dirichlet([1.0, 1.0, 1.0], 8), -rng.exponential(1.0, 8)
    straight = query_strategy(name).select(PoolScores(8, probabilities, p), size, rng)
    shuffled = query_strategy(name).select(PoolScores(8, probabilities[order], p[order]), size, rng)
    assert [order[index] for index in shuffled] == straight.tolist()


def test_only_xal_trains_on_explanations() -> None:
    found: dict[str, QueryStrategy] = {name: query_strategy(name) for name in STRATEGIES}
    assert all(strategy.name == name for name, strategy in found.items())
    assert {name for name, strategy in found.items() if strategy.uses_explanations} == {"xal", "xal-std"}
    assert {name for name, strategy in found.items() if strategy.acquisition != "paper"} == {"xal-std"}
    assert found["random"].needs == frozenset()
    assert found["entropy"].needs == {"probabilities"}
    assert found["xal"].needs == found["xal-std"].needs == {"probabilities", "explanation_scores"}


def test_an_unknown_name_or_parameter_lists_what_there_is() -> None:
    with pytest.raises(
        InputError, match="unknown query strategy 'ranodm'; expected one of random, entropy, xal, xal-std"
    ):
        query_strategy("ranodm")
    with pytest.raises(InputError, match="random has no parameter 'lambda_'; it has none"):
        query_strategy("random", lambda_=0.5)
    with pytest.raises(InputError, match="xal has no parameter 'lambda'; it has lambda_"):
        query_strategy("xal", **{"lambda": 0.5})
