import numpy as np
import pytest

from training.strategies import clustering
from training.strategies.clustering import best_of_each, blocks, filled_up, k_means, squared_distances, unit_length

CORNERS = np.array([[0, 0], [10, 0], [0, 10]], dtype=np.float32)


@pytest.mark.parametrize("whole", [1000, 20])
def test_clusters_are_found_whole_or_a_batch_at_a_time(whole: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clustering, "WHOLE", whole)
    points = np.repeat(CORNERS, 30, axis=0) + np.random.default_rng(0).normal(0, 0.1, (90, 2)).astype(np.float32)
    clusters, centres = k_means(points, 3, np.random.default_rng(1))
    assert centres.shape == (3, 2)
    for corner in range(3):
        own = clusters[30 * corner : 30 * corner + 30]
        assert len(set(own.tolist())) == 1
        assert centres[own[0]] == pytest.approx(CORNERS[corner], abs=0.2)
    assert len(set(clusters.tolist())) == 3


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("whole", [1000, 5])
def test_points_that_coincide_leave_clusters_empty_and_warn_nobody(whole: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clustering, "WHOLE", whole)
    clusters, _ = k_means(np.repeat(CORNERS[:2], 5, axis=0), 4, np.random.default_rng(0))
    assert set(clusters.tolist()) <= set(range(4))
    assert len(set(clusters[:5].tolist())) == 1
    assert set(clusters[:5].tolist()).isdisjoint(clusters[5:].tolist())


def test_as_many_clusters_as_points_are_the_points() -> None:
    clusters, centres = k_means(CORNERS, 3, np.random.default_rng(0))
    assert clusters.tolist() == [0, 1, 2]
    assert (centres == CORNERS).all()


def test_of_each_cluster_the_highest_score_is_taken_highest_first() -> None:
    clusters = np.array([2, 0, 2, 0, 5, 5])
    assert best_of_each(clusters, np.array([1.0, 3.0, 2.0, 3.0, 7.0, 7.0])).tolist() == [4, 1, 2]


def test_filling_up_takes_the_next_in_order_that_are_not_there() -> None:
    assert filled_up(np.array([3, 1]), np.array([1, 0, 3, 2]), 4).tolist() == [3, 1, 0, 2]
    assert filled_up(np.array([3, 1]), np.array([1, 0, 3, 2]), 3).tolist() == [3, 1, 0]
    assert filled_up(np.array([3, 1]), np.array([1, 0, 3, 2]), 1).tolist() == [3]


def test_distances_do_not_depend_on_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    points = np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0], [6.0, 8.0], [3.0, 4.0]], dtype=np.float32)
    monkeypatch.setattr(clustering, "BLOCK", 4)
    assert [(block.start, block.stop) for block in blocks(5, 2)] == [(0, 2), (2, 4), (4, 6)]
    assert squared_distances(points, points[1]).tolist() == [25.0, 0.0, 18.0, 25.0, 0.0]
    assert squared_distances(points, points[:2], np.array([0, 0, 0, 1, 1])).tolist() == [0.0, 25.0, 1.0, 25.0, 0.0]


def test_unit_length_leaves_a_vector_without_length() -> None:
    vectors = np.array([[3.0, 4.0], [0.0, 0.0]], dtype=np.float32)
    scaled = unit_length(vectors)
    assert scaled.dtype == np.float32
    assert scaled.tolist() == pytest.approx(np.array([[0.6, 0.8], [0.0, 0.0]]))
    assert vectors.tolist() == [[3.0, 4.0], [0.0, 0.0]]
