from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.strategies import LabeledScores, PoolScores, query_strategy
from training.strategies.balanced import balanced, entropy_balanced_sampling
from training.strategies.uncertainty import least_confidence_sampling

RNG = np.random.default_rng(0)


def scores_of(predicted: list[int], sure: list[float], labels: list[int], classes: int = 2) -> PoolScores:
    """Texts of these predicted classes, as sure as that; the other classes share what is left."""
    n, m = len(predicted), len(labels)
    probabilities = np.repeat((1 - np.array(sure))[:, None] / (classes - 1), classes, axis=1)
    probabilities[np.arange(n), predicted] = sure
    gold = LabeledScores(np.full((m, classes), 1 / classes), np.zeros((m, 1)), np.array(labels, dtype=np.int64))
    return PoolScores(n, probabilities, -np.array(sure), labeled=gold)


def test_the_rarer_class_is_filled_up_first_in_the_order_of_the_strategy() -> None:
    scores = scores_of([0, 0, 0, 1, 1, 1], [0.6, 0.7, 0.8, 0.9, 0.95, 0.85], [0, 0])
    # Two zeros are labeled: two ones come first, the least certain first; then all are at two, and 0.6 leads.
    assert entropy_balanced_sampling().select(scores, 2, RNG).tolist() == [5, 3]
    assert entropy_balanced_sampling().select(scores, 6, RNG).tolist() == [5, 3, 0, 4, 1, 2]


def test_a_class_that_the_pool_has_no_more_of_leaves_its_places_to_the_others() -> None:
    scores = scores_of([1, 0, 0, 0], [0.9, 0.8, 0.7, 0.6], [], classes=3)
    assert entropy_balanced_sampling().select(scores, 4, RNG).tolist() == [3, 0, 2, 1]


@given(
    st.lists(st.integers(0, 2), min_size=1, max_size=7),
    st.lists(st.integers(0, 2), max_size=6),
    st.integers(1, 7),
    st.integers(0, 2**32),
)
def test_no_other_query_comes_nearer_to_equal_counts(
    predicted: list[int], labels: list[int], size: int, seed: int
) -> None:
    n = len(predicted)
    size = min(size, n)
    sure = np.random.default_rng(seed).uniform(0.5, 1, n).tolist()

    def unevenness(chosen: tuple[int, ...]) -> int:
        counts = [labels.count(label) + [predicted[i] for i in chosen].count(label) for label in range(3)]
        return sum(count**2 for count in counts)

    scores = scores_of(predicted, sure, labels, classes=3)
    chosen = entropy_balanced_sampling().select(scores, size, RNG).tolist()
    assert unevenness(tuple(chosen)) == min(map(unevenness, combinations(range(n), size)))
    # Within a class the least certain first, and none left out for a surer one.
    for label in range(3):
        own = sorted((i for i in range(n) if predicted[i] == label), key=lambda i: sure[i])
        asked = [i for i in chosen if predicted[i] == label]
        assert asked == own[: len(asked)]


def test_random_balanced_prefers_no_text_of_a_class() -> None:
    scores = scores_of([0, 0, 0, 1], [0.9, 0.8, 0.7, 0.6], [])
    rng, counts = np.random.default_rng(0), np.zeros(4)
    for _ in range(600):
        counts[query_strategy("random-balanced").select(scores, 2, rng)] += 1
    assert counts[3] == 600
    assert counts[:3] == pytest.approx([200] * 3, abs=50)  # standard deviation 12


def test_any_strategy_that_ranks_can_be_balanced() -> None:
    strategy = balanced(least_confidence_sampling())
    assert strategy.name == "least-confidence-balanced"
    assert strategy.needs == {"probabilities", "labeled"}
    scores = scores_of([0, 0, 1], [0.6, 0.7, 0.9], [])
    assert strategy.select(scores, 2, RNG).tolist() == [0, 2]
    xal = query_strategy("xal-balanced", lambda_=2.0)
    assert xal.uses_explanations
    assert xal.needs == {"probabilities", "explanation_scores", "labeled"}
