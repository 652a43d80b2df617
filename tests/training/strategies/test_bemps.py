import math
from collections.abc import Callable

import numpy as np
import pytest

from training.strategies import PoolScores, QueryStrategy, bemps, query_strategy
from training.strategies.bemps import (
    _brier_gain,
    _expected_gains,
    _logarithmic_gain,
    corelog_sampling,
    coremse_sampling,
)

BOTH = pytest.mark.parametrize("sampling", [coremse_sampling, corelog_sampling])


def brier(p: list[float]) -> float:
    """Expected Brier score of a prediction that is right, up to a constant: sum_y p_y²."""
    return sum(value**2 for value in p)


def logarithmic(p: list[float]) -> float:
    """Expected logarithmic score of a prediction that is right: sum_y p_y log p_y."""
    return sum(value * math.log(value) for value in p if value)


def expected_improvement(own: list, other: list, score: Callable[[list[float]], float]) -> float:
    """E_y|x G(p(.|L+(x,y),x')) - G(p(.|L,x')), by Bayes' rule over the passes; own, other: p_t, (T, C) each."""
    passes, classes = len(own), len(own[0])
    prior = [1 / passes] * passes

    def predicted(weights: list[float]) -> list[float]:
        return [
            sum(weight * row[label] for weight, row in zip(weights, other, strict=True)) for label in range(classes)
        ]

    improvement = -score(predicted(prior))
    for label in range(classes):
        joint = [weight * row[label] for weight, row in zip(prior, own, strict=True)]
        if sum(joint) > 0:
            improvement += sum(joint) * score(predicted([value / sum(joint) for value in joint]))
    return improvement


@pytest.mark.parametrize(("gain", "score"), [(_brier_gain, brier), (_logarithmic_gain, logarithmic)])
@pytest.mark.parametrize(("passes", "classes"), [(1, 2), (4, 2), (3, 3), (5, 4)])
def test_the_gain_is_the_expected_improvement_of_the_score(
    gain: bemps.Gain, score: Callable, passes: int, classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.strategies.clustering.BLOCK", 100)  # several blocks
    probabilities = np.random.default_rng(passes).dirichlet([0.5] * classes, (7, passes))
    probabilities[0] = np.eye(classes)[0]  # sure, in all passes: no other label can come
    probabilities[1] = np.eye(classes)[np.arange(passes) % classes]
    found = _expected_gains(probabilities, probabilities[2:], gain)
    expected = [
        [expected_improvement(own, other, score) for other in probabilities[2:].tolist()]
        for own in probabilities.tolist()
    ]
    assert found == pytest.approx(np.array(expected), abs=1e-7)


def test_by_hand() -> None:
    at_odds, unsure, leaning = [[1.0, 0.0], [0.0, 1.0]], [[0.5, 0.5]] * 2, [[0.75, 0.25], [0.25, 0.75]]
    passes = np.array([at_odds, unsure, leaning])
    # The label of the first text tells which pass is right; that of the third makes one three times as likely.
    # On the first text: from 1/2 to 1, 2 (1/2)², and to 3/4, 2 (1/4)²; on the third to 3/4 and to 10/16, 2 (1/8)².
    by_hand = [[1 / 2, 0, 1 / 8], [0, 0, 0], [1 / 8, 0, 1 / 32]]
    assert _expected_gains(passes, passes, _brier_gain) == pytest.approx(np.array(by_hand))
    for name in ("bemps", "bemps-corelog"):
        scores = PoolScores(3, dropout_probabilities=passes)
        assert query_strategy(name).select(scores, 3, np.random.default_rng(0)).tolist() == [0, 2, 1]
        assert query_strategy(name).select(scores, 1, np.random.default_rng(0)).tolist() == [0]


@BOTH
def test_a_query_has_texts_that_tell_of_different_texts(sampling: Callable[[], QueryStrategy]) -> None:
    # Of four passes the labels of the first kind tell {0, 1} from {2, 3}, those of the second {0, 2} from {1, 3}.
    def text(kind: int, sure: float) -> list[list[float]]:
        firsts = [(0, 0, 1, 1), (0, 1, 0, 1)][kind]
        return [[sure, 1 - sure] if first else [1 - sure, sure] for first in firsts]

    first_kind = [text(0, 0.9 + 0.01 * index) for index in range(5)]
    second_kind = [text(1, 0.8 + 0.01 * index) for index in range(3)]
    passes = np.array([*first_kind, *second_kind, *[[[0.5, 0.5]] * 4] * 8])
    for seed in range(5):
        chosen = sampling().select(PoolScores(16, dropout_probabilities=passes), 2, np.random.default_rng(seed))
        assert chosen[0] < 5
        assert 5 <= chosen[1] < 8


@BOTH
def test_only_the_better_half_is_clustered(sampling: Callable[[], QueryStrategy]) -> None:
    passes = np.random.default_rng(0).dirichlet([0.5, 0.5], (40, 4))
    gain = _brier_gain if sampling is coremse_sampling else _logarithmic_gain
    best = np.argsort(-_expected_gains(passes, passes, gain).mean(axis=1))[:20]
    scores = PoolScores(40, dropout_probabilities=passes)
    chosen = sampling().select(scores, 6, np.random.default_rng(0))
    assert set(chosen.tolist()) <= set(best.tolist())
    assert chosen.tolist() == sorted(chosen.tolist(), key=best.tolist().index)


@BOTH
def test_passes_that_agree_leave_the_pools_order(sampling: Callable[[], QueryStrategy]) -> None:
    passes = np.repeat(np.random.default_rng(0).dirichlet([1.0, 1.0, 1.0], (9, 1)), 7, axis=1)
    scores = PoolScores(9, dropout_probabilities=passes)
    assert sampling().select(scores, 4, np.random.default_rng(0)).tolist() == [0, 1, 2, 3]


@BOTH
def test_a_larger_pool_is_judged_by_a_sample(
    sampling: Callable[[], QueryStrategy], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bemps, "ESTIMATION", 3)
    scores = PoolScores(20, dropout_probabilities=np.random.default_rng(0).dirichlet([0.5, 0.5], (20, 4)))
    queries = {tuple(sampling().select(scores, 3, np.random.default_rng(seed)).tolist()) for seed in range(10)}
    assert len(queries) > 1
