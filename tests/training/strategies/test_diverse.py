import numpy as np

from training.strategies import PoolScores, query_strategy
from training.strategies.diverse import diverse_xal_sampling

RNG = np.random.default_rng(0)


def pool(p: list[float], embeddings: list[list[float]]) -> PoolScores:
    """All equally uncertain, so that the least natural explanation has the highest acquisition score."""
    return PoolScores(len(p), np.full((len(p), 2), 0.5), np.array(p), np.array(embeddings, dtype=np.float32))


def test_each_cluster_gives_its_highest_acquisition_score() -> None:
    # Two clusters, right and up; the three highest scores are all to the right.
    right = [[10.0, 0.0], [10.0, 3.0], [10.0, -3.0], [10.0, 0.5]]
    up = [[0.0, 10.0], [3.0, 10.0], [-3.0, 10.0], [0.5, 10.0]]
    scores = pool([-5.0, -8.0, -7.0, -6.0, -1.0, -2.0, -3.0, -4.0], right + up)
    assert query_strategy("xal").select(scores, 2, RNG).tolist() == [1, 2]
    assert diverse_xal_sampling().select(scores, 2, RNG).tolist() == [1, 7]


def test_only_four_candidates_for_each_place_are_clustered() -> None:
    # The last text lies apart, a cluster of its own for two places: the eighth highest score is looked at, no ninth.
    p, embeddings = [-9.0, -8.0, -7.0, -6.0, -5.0, -4.0, -3.0, -2.0], [[float(index), 1.0] for index in range(8)]
    eighth, ninth = (pool([*p, last], [*embeddings, [-900.0, 1.0]]) for last in (-2.5, -1.0))
    assert diverse_xal_sampling().select(eighth, 2, RNG).tolist() == [0, 8]
    assert 8 not in diverse_xal_sampling().select(ninth, 2, RNG).tolist()


def test_near_duplicates_are_passed_over_for_the_next_best() -> None:
    # Lengths make clusters, directions make duplicates: 0 and 1 point the same way, 2 a little aside (cosine 0.995).
    scores = pool([-5.0, -4.0, -3.0, -2.0], [[1.0, 0.0], [50.0, 0.0], [10.0, 1.0], [0.0, 1.0]])
    assert diverse_xal_sampling().select(scores, 2, RNG).tolist() == [0, 3]
    # Where all the rest are near-duplicates, the best of them are taken after all.
    assert diverse_xal_sampling().select(scores, 3, RNG).tolist() == [0, 1, 3]


def test_no_two_of_a_query_are_near_where_the_pool_allows() -> None:
    rng = np.random.default_rng(2)
    directions = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    embeddings = (directions[rng.integers(4, size=60)] + rng.normal(0, 0.005, (60, 2))) * rng.uniform(0.5, 20, (60, 1))
    scores = PoolScores(60, rng.dirichlet([1.0, 1.0], 60), -rng.exponential(1.0, 60), embeddings.astype(np.float32))
    chosen = diverse_xal_sampling().select(scores, 4, RNG)
    for place, one in enumerate(embeddings[chosen].tolist()):
        for other in embeddings[chosen[:place]].tolist():
            dot = one[0] * other[0] + one[1] * other[1]
            assert dot / ((one[0] ** 2 + one[1] ** 2) * (other[0] ** 2 + other[1] ** 2)) ** 0.5 <= 0.98


def test_texts_without_direction_are_near_to_none_and_the_best_score_comes_first() -> None:
    scores = pool([-1.0, -3.0, -2.0], [[0.0, 0.0]] * 3)
    assert diverse_xal_sampling().select(scores, 2, RNG).tolist() == [1, 2]


def test_the_whole_pool_comes_in_the_order_of_its_scores() -> None:
    rng = np.random.default_rng(3)
    scores = PoolScores(
        20, rng.dirichlet([1.0, 1.0], 20), -rng.exponential(1.0, 20), rng.normal(size=(20, 3)).astype(np.float32)
    )
    for lambda_ in (0.0, 0.5, 2.0):
        expected = query_strategy("xal", lambda_=lambda_).select(scores, 20, RNG).tolist()
        assert diverse_xal_sampling(lambda_).select(scores, 20, RNG).tolist() == expected
