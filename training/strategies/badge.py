"""BADGE: ask for texts whose gradients are long and point in different directions."""

import numpy as np
from numpy.typing import NDArray

from training.strategies.clustering import blocks, filled_up
from training.strategies.interface import Floats, Indices, PoolScores, QueryStrategy, highest


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
    nearest, chosen = np.full(scores.n, np.inf), [int(rng.integers(scores.n))]
    while len(chosen) < size:
        np.minimum(nearest, _to_gradient(residuals, embeddings, chosen[-1]), out=nearest)
        nearest[chosen[-1]] = 0.0
        total = nearest.sum()
        if total <= 0:
            break
        chosen.append(int(rng.choice(scores.n, p=nearest / total)))
    lengths = (residuals**2).sum(axis=1) * np.einsum("id,id->i", embeddings, embeddings)
    return filled_up(np.array(chosen), highest(lengths, scores.n), size)


def _to_gradient(residuals: Floats, embeddings: NDArray[np.float32], centre: int) -> Floats:
    """Squared distance of every gradient to one of them, without writing any of them down. -> (n,).

    a⊗h - b⊗k = (a - b)⊗h + b⊗(h - k), whose squared length needs dot products of the factors alone. It is exactly 0
    where the factors are the same.
    """
    b, k = residuals[centre], embeddings[centre]
    squared_b, found = b @ b, np.empty(len(residuals))
    for block in blocks(*embeddings.shape):
        h, a_minus_b = embeddings[block], residuals[block] - b
        h_minus_k = h - k
        h_h, h_d, d_d = (
            np.einsum("id,id->i", left, right).astype(np.float64)
            for left, right in ((h, h), (h, h_minus_k), (h_minus_k, h_minus_k))
        )
        found[block] = (a_minus_b**2).sum(axis=1) * h_h + squared_b * d_d + 2 * (a_minus_b @ b) * h_d
    return np.maximum(found, 0.0)  # rounding
