import numpy as np
import pytest

from training.strategies.initial import spread_out

# Directions of three topics, and texts around each, the middle one the nearest to their mean.
TOPICS = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
OFFSETS = np.array([[0.0, 0.1, -0.1], [0.02, 0.0, 0.01], [0.1, -0.1, 0.0]])


def test_each_topic_gives_the_text_in_its_middle() -> None:
    embeddings = np.concatenate([topic + OFFSETS for topic in TOPICS])
    middles = []
    for first in (0, 3, 6):
        unit = [row / sum(value**2 for value in row) ** 0.5 for row in embeddings[first : first + 3]]
        mean = sum(unit) / 3
        gaps = [sum((a - b) ** 2 for a, b in zip(row, mean, strict=True)) for row in unit]
        middles.append(first + gaps.index(min(gaps)))
    for seed in range(5):
        assert spread_out(embeddings.astype(np.float32), 3, seed).tolist() == middles


def test_lengths_do_not_matter() -> None:
    embeddings = np.concatenate([topic + OFFSETS for topic in TOPICS]).astype(np.float32)
    longer = embeddings * np.array([1, 9, 100, 2, 7, 1, 50, 3, 1], dtype=np.float32)[:, None]
    assert spread_out(longer, 3, 0).tolist() == spread_out(embeddings, 3, 0).tolist()


@pytest.mark.filterwarnings("error")
def test_where_texts_coincide_all_directions_are_found_before_any_comes_twice() -> None:
    embeddings = np.repeat(np.vstack([TOPICS, np.zeros((1, 3))]), 4, axis=0).astype(np.float32)
    for size in range(1, 17):
        chosen = spread_out(embeddings, size, 1).tolist()
        assert len(set(chosen)) == size
        assert len({index // 4 for index in chosen}) == min(size, 4)


def test_a_seed_repeats_the_choice_and_another_may_differ() -> None:
    embeddings = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
    before = embeddings.copy()
    assert spread_out(embeddings, 7, 1).tolist() == spread_out(embeddings, 7, 1).tolist()
    assert len({tuple(spread_out(embeddings, 7, seed).tolist()) for seed in range(5)}) > 1
    assert (embeddings == before).all()


def test_a_pool_of_many_texts_is_clustered_in_batches() -> None:
    embeddings = np.repeat(TOPICS, 4000, axis=0) + np.random.default_rng(0).normal(0, 0.05, (12000, 3))
    assert sorted(index // 4000 for index in spread_out(embeddings.astype(np.float32), 3, 0)) == [0, 1, 2]


@pytest.mark.parametrize("size", [0, 4])
def test_more_texts_than_there_are_cannot_be_chosen(size: int) -> None:
    with pytest.raises(ValueError, match="from 1 to 3 texts"):
        spread_out(np.eye(3, dtype=np.float32), size, 0)
