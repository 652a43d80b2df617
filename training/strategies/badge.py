"""BADGE: ask for texts whose gradients are long and point in different directions."""

import numpy as np
from numpy.typing import NDArray

from training.strategies.clustering import filled_up, squared_distances
from training.strategies.interface import Floats, Indices, PoolScores, QueryStrategy, highest

CLOSE = 0.01  # of |h|² + |k|²: below it too few digits of a difference of float32 are left


def badge_sampling() -> QueryStrategy:
    """k-means++ over gradient embeddings g = (p - onehot(argmax p)) ⊗ h_0, (C·H,): uncertain and diverse at once.

    g is the gradient of the cross-entropy of the predicted label with respect to the head's weights. The first text is
    drawn uniformly, each further one with probability proportional to its squared distance |g - g_c|² to the nearest of
    those before it. When none is at a distance any more, the places that are left go to the longest gradients, ties in
    the pool's order.
    """
    return QueryStrategy(
        name="badge",
        reference="Ash et al. 2020, arXiv 1906.03671, Algorithm 1",
        uses_explanations=False,
        needs=frozenset({"probabilities", "embeddings"}),
        choose=_choose_by_gradient,
    )


def _choose_by_gradient(scores: PoolScores, size: int, rng: np.random.Generator) -> Indices:
    probabilities, embeddings = scores.probabilities, scores.embeddings
    assert probabilities is not None
    assert embeddings is not None
    residuals = probabilities.copy()  # p - onehot(argmax p), (n, C)
    residuals[np.arange(scores.n), probabilities.argmax(axis=1)] -= 1.0
    squared = np.einsum("id,id->i", embeddings, embeddings).astype(np.float64)  # |h_0|², (n,)
    nearest, chosen = np.full(scores.n, np.inf), [int(rng.integers(scores.n))]
    while len(chosen) < size:
        np.minimum(nearest, _to_gradient(residuals, embeddings, squared, chosen[-1]), out=nearest)
        nearest[chosen[-1]] = 0.0
        total = nearest.sum()
        if total <= 0:
            break
        chosen.append(int(rng.choice(scores.n, p=nearest / total)))
    lengths = (residuals**2).sum(axis=1) * squared
    return filled_up(np.array(chosen), highest(lengths, scores.n), size)


def _to_gradient(residuals: Floats, embeddings: NDArray[np.float32], squared: Floats, centre: int) -> Floats:
    """Squared distance of every gradient to one of them, without writing any of them down. -> (n,).

    a⊗h - b⊗k = (a - b)⊗h + b⊗(h - k), whose squared length needs dot products of the factors alone. It is exactly 0
    where the factors are the same. squared: |h|² of each text.
    """
    b = residuals[centre]
    a_minus_b = residuals - b
    d_d = _between(embeddings, squared, centre)
    h_d = (squared - squared[centre] + d_d) / 2  # h·(h - k)
    found = (a_minus_b**2).sum(axis=1) * squared + (b @ b) * d_d + 2 * (a_minus_b @ b) * h_d
    return np.maximum(found, 0.0)  # rounding


def _between(embeddings: NDArray[np.float32], squared: Floats, centre: int) -> Floats:
    """|h - k|² of every h to one of them, k. -> (n,).

    From |h|² + |k|² - 2 h·k, in one pass over all h; where little of that is left but rounding, from the differences.
    """
    k, both = embeddings[centre], squared + squared[centre]
    found: Floats = both - 2.0 * np.einsum("id,d->i", embeddings, k)
    close = np.flatnonzero(found <= CLOSE * both)
    found[close] = squared_distances(embeddings[close], k)
    return found
