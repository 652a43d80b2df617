import numpy as np

from training.strategies import PoolScores
from training.strategies.uncertainty import entropy_sampling

RNG = np.random.default_rng(0)


def test_entropy_asks_for_the_least_certain_first() -> None:
    # in nats: 0.33, 0.69, 1.10, 0.69
    probabilities = np.array([[0.9, 0.1, 0.0], [0.5, 0.5, 0.0], [1 / 3, 1 / 3, 1 / 3], [0.0, 0.5, 0.5]])
    assert entropy_sampling().select(PoolScores(4, probabilities), 4, RNG).tolist() == [2, 1, 3, 0]
    assert entropy_sampling().select(PoolScores(4, probabilities), 2, RNG).tolist() == [2, 1]


def test_entropy_is_not_least_confidence() -> None:
    # The first text is surer of its best label (0.50 against 0.48), yet its other labels are wide open.
    probabilities = np.array([[0.50, 0.25, 0.25], [0.48, 0.48, 0.04]])
    assert entropy_sampling().select(PoolScores(2, probabilities), 1, RNG).tolist() == [0]
