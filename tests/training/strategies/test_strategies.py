"""What holds for every strategy, those to come included: each one in the registry is tested here."""

import inspect

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from service.model.errors import InputError
from training.strategies import STRATEGIES, LabeledScores, PoolScores, QueryStrategy, query_strategy
from training.strategies.interface import Floats

WEIGHTS = st.sampled_from([0.1, 0.5, 1.0, 4.0])


@st.composite
def pools(draw: st.DrawFn) -> tuple[PoolScores, int]:
    """Scores of a pool, ties and texts without direction among them, and a query size that fits.

    Two or three labels, one pass or several, none labeled or some.
    """
    n, m, classes = draw(st.integers(1, 12)), draw(st.integers(0, 4)), draw(st.integers(2, 3))

    def probabilities(*shape: int) -> Floats:
        weights = draw(arrays.arrays(np.float64, (*shape, classes), elements=WEIGHTS))
        return weights / weights.sum(axis=-1, keepdims=True)

    def embeddings(rows: int) -> NDArray[np.float32]:
        return draw(arrays.arrays(np.float32, (rows, 2), elements=st.integers(-2, 2).map(float)))

    scores = PoolScores(
        n,
        probabilities(n),
        draw(arrays.arrays(np.float64, n, elements=st.sampled_from([-5.0, -1.5, -1.0, -0.1, 0.0]))),
        embeddings(n),
        probabilities(n, draw(st.integers(1, 3))),
        LabeledScores(
            probabilities(m), embeddings(m), draw(arrays.arrays(np.int64, m, elements=st.integers(0, classes - 1)))
        ),
    )
    return scores, draw(st.integers(1, n))


def all_arrays(scores: PoolScores) -> list[NDArray]:
    """Every array that a strategy gets to see."""
    found = []
    for part in (scores, scores.labeled):
        found += [value for value in vars(part).values() if isinstance(value, np.ndarray)]
    return found


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.filterwarnings("error")
@settings(max_examples=50)
@given(pools(), st.integers(0, 2**32))
def test_a_choice_is_valid_and_its_seed_repeats_it(name: str, pool: tuple[PoolScores, int], seed: int) -> None:
    scores, size = pool
    chosen = query_strategy(name).select(scores, size, np.random.default_rng(seed))
    assert len(set(chosen.tolist())) == size
    assert set(chosen.tolist()) <= set(range(scores.n))
    assert query_strategy(name).select(scores, size, np.random.default_rng(seed)).tolist() == chosen.tolist()


@pytest.mark.parametrize("name", STRATEGIES)
@settings(max_examples=25)
@given(pools())
def test_the_arrays_are_left_as_they_were(name: str, pool: tuple[PoolScores, int]) -> None:
    scores, size = pool
    given_arrays = all_arrays(scores)
    assert len(given_arrays) == 7
    before = [array.copy() for array in given_arrays]
    query_strategy(name).select(scores, size, np.random.default_rng(0))
    assert all((array == copy).all() for array, copy in zip(given_arrays, before, strict=True))


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategy_reads_what_it_says_that_it_needs(name: str) -> None:
    rng = np.random.default_rng(4)
    strategy = query_strategy(name)
    arrays_of_pool = {
        "probabilities": rng.dirichlet([1.0, 1.0], 9),
        "explanation_scores": -rng.exponential(1.0, 9),
        "embeddings": rng.normal(size=(9, 4)).astype(np.float32),
        "dropout_probabilities": rng.dirichlet([1.0, 1.0], (9, 3)),
        "labeled": LabeledScores(rng.dirichlet([1.0, 1.0], 2), rng.normal(size=(2, 4)), np.array([0, 1])),
    }
    only = {need: arrays_of_pool[need] for need in strategy.needs}
    chosen = strategy.select(PoolScores(9, **only), 4, np.random.default_rng(0))
    assert chosen.tolist() == strategy.select(PoolScores(9, **arrays_of_pool), 4, np.random.default_rng(0)).tolist()
    for need in strategy.needs:
        with pytest.raises(ValueError, match=f"{name} needs {need} of the pool"):
            strategy.select(PoolScores(9, **{**only, need: None}), 4, rng)


@pytest.mark.parametrize("name", ["entropy", "least-confidence", "breaking-ties", "xal", "xal-std", "xal-no-me"])
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
    xal = {name for name in found if name.startswith("xal")} | {"me-exp"}
    assert {name for name, strategy in found.items() if strategy.uses_explanations} == xal
    assert {name for name, strategy in found.items() if strategy.acquisition != "paper"} == {"xal-std"}
    assert {name for name, strategy in found.items() if not strategy.ranks} == {"xal-no-rank"}


EXPLAINED = {"probabilities", "explanation_scores"}
NEEDS = {
    "random": set(),
    "random-balanced": {"probabilities", "labeled"},
    "entropy": {"probabilities"},
    "entropy-balanced": {"probabilities", "labeled"},
    "least-confidence": {"probabilities"},
    "breaking-ties": {"probabilities"},
    "bald": {"dropout_probabilities"},
    "coreset": {"embeddings", "labeled"},
    "badge": {"probabilities", "embeddings"},
    "bemps": {"dropout_probabilities"},
    "bemps-corelog": {"dropout_probabilities"},
    "cal": {"probabilities", "embeddings", "labeled"},
    "xal": EXPLAINED,
    "xal-std": EXPLAINED,
    "xal-diverse": EXPLAINED | {"embeddings"},
    "xal-balanced": EXPLAINED | {"labeled"},
    "me-exp": {"probabilities"},
    "xal-no-rank": EXPLAINED,
    "xal-no-me": {"explanation_scores"},
}


def test_what_each_strategy_needs() -> None:
    assert {name: set(query_strategy(name).needs) for name in STRATEGIES} == NEEDS


@pytest.mark.parametrize("name", [name for name in STRATEGIES if query_strategy(name).score])
@settings(max_examples=25)
@given(pools())
def test_the_first_has_the_highest_score_of_those_that_rank(name: str, pool: tuple[PoolScores, int]) -> None:
    scores, size = pool
    strategy = query_strategy(name)
    ranked = strategy.score(scores)  # type: ignore[misc]
    assert ranked.shape == (scores.n,)
    chosen = ranked[strategy.select(scores, size, np.random.default_rng(0))]
    if not name.endswith("balanced"):
        assert chosen[0] == ranked.max()
        assert (np.diff(chosen) <= 0).all()


def test_what_ranks_by_eq_8_knows_its_lambda_and_what_reads_explanations_has_a_score() -> None:
    found = {name: query_strategy(name) for name in STRATEGIES}
    by_eq_8 = {name for name, strategy in found.items() if strategy.lambda_ is not None}
    assert by_eq_8 == {"xal", "xal-std", "xal-no-rank", "xal-diverse", "xal-balanced"}
    for name in by_eq_8:
        strategy, scores = query_strategy(name, lambda_=2.0), pools_of_three()
        assert strategy.lambda_ == 2.0
        assert strategy.score is not None
        expected = scores.acquisition_scores(2.0, strategy.acquisition)
        assert strategy.score(scores).tolist() == expected.tolist()
    assert all(strategy.score for strategy in found.values() if "explanation_scores" in strategy.needs)


def pools_of_three() -> PoolScores:
    return PoolScores(3, np.array([[0.9, 0.1], [0.5, 0.5], [0.7, 0.3]]), np.array([-3.0, -1.0, -2.0]))


def test_lambda_is_a_parameter_of_those_that_use_eq_8() -> None:
    with_lambda = {name for name, make in STRATEGIES.items() if "lambda_" in inspect.signature(make).parameters}
    assert with_lambda == {"xal", "xal-std", "xal-no-rank", "xal-diverse", "xal-balanced"}
    for name in with_lambda:
        # The second text is the less certain one, the first the worse explained.
        scores = PoolScores(
            2,
            np.array([[0.6, 0.4], [0.5, 0.5]]),
            np.array([-3.0, -1.0]),
            np.eye(2, dtype=np.float32),
            labeled=LabeledScores(np.empty((0, 2)), np.empty((0, 2), dtype=np.float32), np.empty(0, dtype=np.int64)),
        )
        for lambda_, first in ((0.0, 1), (10.0, 0)):
            assert query_strategy(name, lambda_=lambda_).select(scores, 1, np.random.default_rng(0)).tolist() == [first]


def test_an_unknown_name_or_parameter_lists_what_there_is() -> None:
    with pytest.raises(
        InputError, match=r"unknown query strategy 'ranodm'; expected one of random, .*entropy"
    ) as raised:
        query_strategy("ranodm")
    assert str(raised.value).endswith(f"expected one of {', '.join(STRATEGIES)}")
    with pytest.raises(InputError, match="random has no parameter 'lambda_'; it has none"):
        query_strategy("random", lambda_=0.5)
    with pytest.raises(InputError, match="xal has no parameter 'lambda'; it has lambda_"):
        query_strategy("xal", **{"lambda": 0.5})
