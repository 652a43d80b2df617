from collections import Counter

import numpy as np

from training.strategies import PoolScores
from training.strategies.random import random_sampling


def test_random_needs_no_scores_and_prefers_no_text() -> None:
    rng = np.random.default_rng(0)
    chosen = [random_sampling().select(PoolScores(4), 2, rng).tolist() for _ in range(2000)]
    firsts = Counter(first for first, _ in chosen)
    pairs = Counter(frozenset(pair) for pair in chosen)
    # 500 expected for each text, standard deviation 19; 333 for each of the 6 pairs, standard deviation 17
    assert all(420 < firsts[index] < 580 for index in range(4))
    assert len(pairs) == 6
    assert all(260 < count < 410 for count in pairs.values())
