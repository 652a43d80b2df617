"""The file that pictures of a round are made of: its rows, their states and labels, and how many there are."""

from pathlib import Path

import numpy as np
import pytest

from training.round_map import LABELED, MAP_FILE, MOST_TEXTS, REST, SELECTED, save_map
from training.strategies import LabeledScores, PoolScores


def scores(n: int, labeled: int) -> PoolScores:
    """Embeddings of which the first number is the text's own: its place, below 0 for the labeled ones."""
    own = np.zeros((labeled, 3), np.float32)
    own[:, 0] = -1 - np.arange(labeled)
    pool = np.zeros((n, 3), np.float32)
    pool[:, 0] = np.arange(n)
    return PoolScores(
        n,
        embeddings=pool,
        labeled=LabeledScores(np.full((labeled, 3), 1 / 3), own, np.arange(labeled) % 3),
    )


def saved(path: Path, of: PoolScores, gold: np.ndarray, chosen: list[int], seed: int = 0) -> dict[str, np.ndarray]:
    save_map(path, of, gold, np.array(chosen, dtype=np.int64), np.random.default_rng(seed))
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def test_a_small_pool_is_in_the_file_whole_by_hand(tmp_path: Path) -> None:
    found = saved(tmp_path / MAP_FILE, scores(4, 2), np.array([2, 0, 1, 2]), [3, 1])
    assert found["embeddings"][:, 0].tolist() == [-1, -2, 0, 1, 2, 3]
    assert found["state"].tolist() == [LABELED, LABELED, REST, SELECTED, REST, SELECTED]
    assert found["label"].tolist() == [0, 1, 2, 0, 1, 2]
    assert (found["embeddings"].dtype, found["state"].dtype, found["label"].dtype) == (np.float16, np.int8, np.int16)
    assert [path.name for path in tmp_path.iterdir()] == [MAP_FILE]  # no temporary file is left


def test_of_a_large_pool_a_seeded_sample_stands_for_the_rest(tmp_path: Path) -> None:
    n, labeled, chosen = 2040, 30, [7, 2035, 900]  # all below 2048, up to which float16 counts
    gold = np.arange(n) % 3
    found = saved(tmp_path / "a.npz", scores(n, labeled), gold, chosen)
    states, places = found["state"], found["embeddings"][:, 0].astype(int)
    assert len(states) == MOST_TEXTS
    assert (states == LABELED).sum() == labeled
    assert places[states == SELECTED].tolist() == sorted(chosen)
    rest = places[states == REST]
    assert len(set(rest)) == MOST_TEXTS - labeled - len(chosen)
    assert not set(rest) & set(chosen)
    of_pool = states != LABELED
    assert np.array_equal(found["label"][of_pool], gold[places[of_pool]])
    again, other = (saved(tmp_path / "b.npz", scores(n, labeled), gold, chosen, seed) for seed in (0, 1))
    assert all(np.array_equal(again[name], found[name]) for name in found)
    assert not np.array_equal(other["embeddings"], found["embeddings"])


def test_labeled_and_chosen_texts_are_all_there_even_where_they_are_more(tmp_path: Path) -> None:
    found = saved(tmp_path / MAP_FILE, scores(40, MOST_TEXTS), np.zeros(40, np.int64), list(range(5)))
    assert np.bincount(found["state"]).tolist() == [MOST_TEXTS, 5]


def test_a_map_is_replaced_by_that_of_the_same_round(tmp_path: Path) -> None:
    saved(tmp_path / MAP_FILE, scores(4, 2), np.zeros(4, np.int64), [3])
    (tmp_path / f".{MAP_FILE}.part").write_bytes(b"of a run that was killed")
    assert len(saved(tmp_path / MAP_FILE, scores(5, 2), np.zeros(5, np.int64), [3])["state"]) == 7
    assert [path.name for path in tmp_path.iterdir()] == [MAP_FILE]


@pytest.mark.parametrize("blind", [PoolScores(2), PoolScores(2, embeddings=np.ones((2, 3), np.float32)), PoolScores(0)])
def test_nothing_is_written_of_a_pool_that_was_not_looked_at(tmp_path: Path, blind: PoolScores) -> None:
    save_map(tmp_path / MAP_FILE, blind, np.zeros(2, np.int64), np.array([0]), np.random.default_rng(0))
    assert list(tmp_path.iterdir()) == []
