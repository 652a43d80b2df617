import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from training.strategies import LabeledScores, PoolScores
from training.strategies.coreset import coreset_sampling

RNG = np.random.default_rng(0)


def scores_of(pool: list[list[float]], labeled: list[list[float]]) -> PoolScores:
    embeddings = np.array(pool, dtype=np.float32)
    m, width = len(labeled), embeddings.shape[1]
    gold = LabeledScores(
        np.full((m, 2), 0.5), np.array(labeled, dtype=np.float32).reshape(m, width), np.zeros(m, dtype=np.int64)
    )
    return PoolScores(len(pool), embeddings=embeddings, labeled=gold)


def test_the_farthest_from_labeled_and_chosen_texts_comes_next() -> None:
    # From 0: 10 is farthest. Then 4 is 4 from 0, and 7 is 3 from 10. Then 7 is 3 from both 4 and 10, 1 is 1 from 0.
    scores = scores_of([[1.0], [4.0], [10.0], [7.0]], [[0.0]])
    assert coreset_sampling().select(scores, 4, RNG).tolist() == [2, 1, 3, 0]


def test_without_labeled_texts_the_first_is_nearest_to_the_mean() -> None:
    # The mean is 3.75.
    scores = scores_of([[0.0], [3.0], [4.5], [7.5]], [])
    assert coreset_sampling().select(scores, 4, RNG).tolist() == [1, 3, 0, 2]
    assert coreset_sampling().select(scores, 1, RNG).tolist() == [1]


def test_texts_that_coincide_keep_the_pools_order() -> None:
    scores = scores_of([[1.0], [1.0], [5.0], [1.0]], [[1.0]])
    assert coreset_sampling().select(scores, 4, RNG).tolist() == [2, 0, 1, 3]
    scores = scores_of([[0.0, 0.0]] * 3, [])
    assert coreset_sampling().select(scores, 3, RNG).tolist() == [0, 1, 2]


def test_copies_of_labeled_texts_are_at_no_distance_and_keep_the_pools_order() -> None:
    embeddings = np.random.default_rng(0).normal(size=(40, 384)).astype(np.float32)
    scores = scores_of([*embeddings.tolist(), *(embeddings[:1] + 1e-3).tolist()], embeddings[::-1].tolist())
    assert coreset_sampling().select(scores, 41, RNG).tolist() == [40, *range(40)]


POINTS = arrays.arrays(np.int64, st.tuples(st.integers(1, 9), st.just(2)), elements=st.integers(-4, 4))


@given(POINTS, POINTS)
def test_it_is_k_center_greedy(pool: np.ndarray, labeled: np.ndarray) -> None:
    # Whole numbers, whose squared distances are exact, so that ties are ties.
    centres, left, expected = labeled.tolist(), list(range(len(pool))), []
    while left:
        gaps = [min(sum((a - b) ** 2 for a, b in zip(pool[i], c, strict=True)) for c in centres) for i in left]
        farthest = left[gaps.index(max(gaps))]
        expected.append(farthest)
        centres.append(pool[farthest].tolist())
        left.remove(farthest)
    scores = scores_of(pool.tolist(), labeled.tolist())
    assert coreset_sampling().select(scores, len(pool), RNG).tolist() == expected
