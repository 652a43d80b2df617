import math

import numpy as np
import pytest

from training.strategies import LabeledScores, PoolScores
from training.strategies.cal import cal_sampling

RNG = np.random.default_rng(0)


def test_the_texts_that_differ_from_their_labeled_neighbour_come_first() -> None:
    # Ten labeled texts at 0 are all sure of the first label, ten at 10 of the second: each text has ten of a kind.
    sure = np.array([[1.0, 0.0]] * 10 + [[0.0, 1.0]] * 10)
    labeled = LabeledScores(sure, np.repeat([[0.0], [10.0]], 10, axis=0), np.repeat([0, 1], 10))
    # KL = -log P(label of the neighbours): 0.11, 2.30, 1.61, 0.22
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8], [0.2, 0.8]])
    embeddings = np.array([[1.0], [9.0], [2.0], [8.0]], dtype=np.float32)
    scores = PoolScores(4, probabilities, embeddings=embeddings, labeled=labeled)
    assert cal_sampling().select(scores, 4, RNG).tolist() == [1, 2, 3, 0]


@pytest.mark.parametrize("labeled", [1, 3, 10, 25])
def test_it_is_the_mean_divergence_from_the_ten_nearest(labeled: int) -> None:
    rng = np.random.default_rng(labeled)
    own, theirs = rng.dirichlet([0.5] * 3, 12), rng.dirichlet([0.5] * 3, labeled)
    points, centres = (rng.normal(size=(rows, 4)).astype(np.float32) for rows in (12, labeled))
    expected = []
    for p, point in zip(own.tolist(), points.tolist(), strict=True):
        gaps = [sum((a - b) ** 2 for a, b in zip(point, centre, strict=True)) for centre in centres.tolist()]
        nearest = sorted(range(labeled), key=gaps.__getitem__)[:10]
        divergences = [
            sum(q * math.log(q / mine) for q, mine in zip(theirs[index].tolist(), p, strict=True)) for index in nearest
        ]
        expected.append(sum(divergences) / len(divergences))
    gold = LabeledScores(theirs, centres, np.zeros(labeled, dtype=np.int64))
    scores = PoolScores(12, own, embeddings=points, labeled=gold)
    order = sorted(range(12), key=lambda index: -expected[index])
    assert cal_sampling().select(scores, 12, RNG).tolist() == order
    assert cal_sampling().select(scores, 5, RNG).tolist() == order[:5]


def test_a_label_that_the_model_rules_out_is_far_but_not_without_end() -> None:
    labeled = LabeledScores(np.array([[0.5, 0.5], [0.1, 0.9]]), np.zeros((2, 1)), np.array([0, 1]))
    # Both rule a label out that the neighbours hold possible; the first the one they hold more so.
    probabilities = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    scores = PoolScores(3, probabilities, embeddings=np.zeros((3, 1), dtype=np.float32), labeled=labeled)
    assert cal_sampling().select(scores, 3, RNG).tolist() == [0, 1, 2]


def test_with_nothing_labeled_the_highest_entropy_comes_first() -> None:
    nothing = LabeledScores(np.empty((0, 2)), np.empty((0, 1), dtype=np.float32), np.empty(0, dtype=np.int64))
    probabilities = np.array([[0.9, 0.1], [0.5, 0.5], [0.3, 0.7]])
    scores = PoolScores(3, probabilities, embeddings=np.zeros((3, 1), dtype=np.float32), labeled=nothing)
    assert cal_sampling().select(scores, 3, RNG).tolist() == [1, 2, 0]
