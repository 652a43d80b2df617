from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from sklearn.cluster import kmeans_plusplus

from training.strategies import PoolScores
from training.strategies.badge import _to_gradient, badge_sampling


def gradients(probabilities: np.ndarray, embeddings: np.ndarray) -> list[list[float]]:
    """(p - onehot(argmax p)) ⊗ h_0, number by number."""
    found = []
    for p, h in zip(probabilities.tolist(), embeddings.tolist(), strict=True):
        best = p.index(max(p))
        found.append([(value - (label == best)) * state for label, value in enumerate(p) for state in h])
    return found


def squared_distance(one: list[float], other: list[float]) -> float:
    return sum((a - b) ** 2 for a, b in zip(one, other, strict=True))


def random_pool(n: int, classes: int, seed: int = 0) -> PoolScores:
    rng = np.random.default_rng(seed)
    return PoolScores(n, rng.dirichlet([1.0] * classes, n), embeddings=rng.normal(size=(n, 5)).astype(np.float32))


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_distances_between_gradients_need_no_gradient(classes: int) -> None:
    scores = random_pool(7, classes)
    assert scores.probabilities is not None
    assert scores.embeddings is not None
    expected = gradients(scores.probabilities, scores.embeddings)
    residuals = scores.probabilities - np.eye(classes)[scores.probabilities.argmax(axis=1)]
    squared = (scores.embeddings.astype(np.float64) ** 2).sum(axis=1)
    for centre in range(7):
        found = _to_gradient(residuals, scores.embeddings, squared, centre)
        assert found == pytest.approx([squared_distance(own, expected[centre]) for own in expected], rel=1e-5)
        assert found[centre] == 0.0


def test_distances_of_vectors_that_are_nearly_the_same_keep_their_digits() -> None:
    rng = np.random.default_rng(0)
    embeddings = (10 + 1e-4 * rng.normal(size=(6, 50))).astype(np.float32)
    embeddings[5] = embeddings[0]
    residuals = np.tile([0.3, -0.3], (6, 1))
    wide = embeddings.astype(np.float64)
    expected = 0.18 * ((wide - wide[0]) ** 2).sum(axis=1)
    found = _to_gradient(residuals, embeddings, (wide**2).sum(axis=1), 0)
    assert found == pytest.approx(expected, rel=1e-4)
    assert found[0] == found[5] == 0.0


def test_the_second_text_is_drawn_by_its_squared_distance_from_the_first() -> None:
    scores = random_pool(4, 3, seed=1)
    assert scores.probabilities is not None
    assert scores.embeddings is not None
    g = gradients(scores.probabilities, scores.embeddings)
    expected = {}
    for first in range(4):
        total = sum(squared_distance(own, g[first]) for own in g)
        for second in range(4):
            expected[first, second] = squared_distance(g[first], g[second]) / total / 4
    rng, draws = np.random.default_rng(0), 4000
    found = Counter(tuple(badge_sampling().select(scores, 2, rng).tolist()) for _ in range(draws))
    for pair, share in expected.items():
        # four standard deviations of a count
        assert found[pair] == pytest.approx(draws * share, abs=4 * (draws * share) ** 0.5)


def test_three_texts_are_drawn_as_scikit_learn_draws_them_given_the_gradients() -> None:
    scores = random_pool(4, 3, seed=2)
    assert scores.probabilities is not None
    assert scores.embeddings is not None
    g = np.array(gradients(scores.probabilities, scores.embeddings))
    apart = ((g[:, None] - g) ** 2).sum(axis=2)  # (4, 4)
    expected = {
        (first, second, third): apart[first, second]
        / apart[first].sum()
        * min(apart[first, third], apart[second, third])
        / np.minimum(apart[first], apart[second]).sum()
        / 4
        for first, second, third in permutations(range(4), 3)
    }
    assert sum(expected.values()) == pytest.approx(1.0)
    draws, ours, theirs = 2000, np.random.default_rng(0), np.random.RandomState(0)
    found = (
        Counter(tuple(badge_sampling().select(scores, 3, ours).tolist()) for _ in range(draws)),
        Counter(tuple(kmeans_plusplus(g, 3, random_state=theirs, n_local_trials=1)[1].tolist()) for _ in range(draws)),
    )
    for counts in found:
        assert set(counts) == set(expected)
        for triple, share in expected.items():
            # four standard deviations of a count
            assert counts[triple] == pytest.approx(draws * share, abs=4 * (draws * share) ** 0.5)


def test_the_third_text_minds_the_nearer_of_the_two_before() -> None:
    # Gradients at 0 (twice), 1 and 10 on a line: after 0 and 10 what is left is the text at 1, not the other at 0.
    probabilities = np.full((4, 2), 0.5)
    embeddings = np.array([[0.0], [0.0], [1.0], [10.0]], dtype=np.float32)
    scores = PoolScores(4, probabilities, embeddings=embeddings)
    for seed in range(50):
        chosen = badge_sampling().select(scores, 3, np.random.default_rng(seed)).tolist()
        assert {2, 3} < set(chosen)


def test_when_all_that_is_left_coincides_the_longest_gradients_fill_up() -> None:
    # Three texts at one gradient, two at a longer one: two draws find both, then the longer ones come first.
    probabilities = np.full((5, 2), 0.5)
    embeddings = np.array([[1.0], [1.0], [3.0], [1.0], [3.0]], dtype=np.float32)
    scores = PoolScores(5, probabilities, embeddings=embeddings)
    for seed in range(20):
        chosen = badge_sampling().select(scores, 5, np.random.default_rng(seed)).tolist()
        short, long = sorted(chosen[:2], key=lambda index: embeddings[index, 0])
        assert embeddings[[short, long], 0].tolist() == [1.0, 3.0]
        assert chosen[2:] == [index for index in (2, 4, 0, 1, 3) if index not in (short, long)]


def test_where_the_model_is_sure_of_all_the_pools_order_remains() -> None:
    scores = PoolScores(4, np.array([[1.0, 0.0]] * 4), embeddings=np.eye(4, dtype=np.float32))
    chosen = badge_sampling().select(scores, 4, np.random.default_rng(3)).tolist()
    assert chosen[1:] == sorted(set(range(4)) - {chosen[0]})
