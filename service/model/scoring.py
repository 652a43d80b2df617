"""The acquisition score and its parts: one pure function per equation (arXiv 2310.05502, Eq. 6 and 8)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

Floats = NDArray[np.float64]

Acquisition = Literal["paper", "standardized"]  # how the terms of Eq. 8 enter its sum, see acquisition_terms

LAMBDA = 0.5  # the paper's weight of the explanation score against the entropy
CONSTANT = 1e-6  # a term that varies by less, in units of its mean, varies by the rounding of float32 alone


@dataclass(frozen=True)
class Normaliser:
    """What the terms of Eq. 8 were like over one unlabeled pool.

    Scores normalised by the same Normaliser can be compared with each other, whenever they were computed.
    log_z_p, log_z_c: the two sums, as logarithms. size: texts in the pool, so that 1/size is the mean of each term.
    std_p, std_c: standard deviation of exp(-p_i)/Z_p and of exp(c_i)/Z_c, 0 where the term is the same for all texts;
    None where nobody took it down: then only the paper's acquisition can be computed.
    """

    log_z_p: float
    log_z_c: float
    size: int
    std_p: float | None = None
    std_c: float | None = None


def entropy(probabilities: ArrayLike) -> Floats:
    """Entropy c_i of each row, in nats: 0 (certain) to log C (no idea). (N, C) -> (N,)."""
    p = np.asarray(probabilities, dtype=np.float64)
    # 0 log 0 = 0, while a NaN stays one; + 0.0: no negative zero.
    return -(p * np.log(np.where(p == 0, 1.0, p))).sum(axis=-1) + 0.0


def explanation_score(token_log_probs: Tensor, mask: Tensor) -> Tensor:
    """Eq. 6: p_r = (1/|e_r|) sum_t log P(e_{r,t} | x, e_{r,<t}), the end-of-sequence token counted.

    token_log_probs: (n, length); mask: (n, length), true where a token of the explanation stands. Every row must have
    at least one. Returns (n,), in nats per token, at most 0: higher = the model finds the explanation more natural.
    """
    # Filled, not multiplied: padding may hold -inf or NaN, which times 0 is NaN.
    return token_log_probs.masked_fill(~mask, 0.0).sum(dim=-1) / mask.sum(dim=-1)


def log_normaliser(values: ArrayLike) -> float:
    """log sum_i exp(v_i): log Z_c of the entropies c, log Z_p of the negated explanation scores -p. (N,) -> float."""
    v = np.asarray(values, dtype=np.float64)
    if v.size == 0:
        return -np.inf
    peak = v.max()
    if not np.isfinite(peak):
        return float(peak)
    return float(peak + np.log(np.exp(v - peak).sum()))


def pool_normaliser(explanation_scores: ArrayLike, entropies: ArrayLike) -> Normaliser:
    """Z_p and Z_c of Eq. 8 over one unlabeled pool, and the spread of its terms. (N,), (N,) -> Normaliser."""
    p = np.asarray(explanation_scores, dtype=np.float64)
    c = np.asarray(entropies, dtype=np.float64)
    log_z_p, log_z_c = log_normaliser(-p), log_normaliser(c)
    return Normaliser(log_z_p, log_z_c, p.size, _spread(np.exp(-p - log_z_p)), _spread(np.exp(c - log_z_c)))


@dataclass
class PoolTerm:
    """One term of Eq. 8 over a pool that comes in parts: its log Z and its spread, in constant memory.

    The values are those that the term's exponential is taken of: negated explanation scores -p_i, or entropies c_i.
    size: texts so far, by their weights.
    """

    size: float = 0.0
    _peak: float = -np.inf  # what follows is of exp(v_i - peak), which never overflows
    _mean: float = 0.0
    _squares: float = 0.0  # weighted sum of squared deviations from the mean

    def add(self, values: ArrayLike, weight: float = 1.0) -> None:
        """Take in more texts. values: (n,), finite. weight: how many texts of the pool each of them stands for."""
        v = np.asarray(values, dtype=np.float64)
        if v.size == 0:
            return
        peak = max(self._peak, float(v.max()))
        shrink = float(np.exp(self._peak - peak))
        term = np.exp(v - peak)
        # Chan, Golub and LeVeque's way to join two means and variances: sums of squares would cancel each other out.
        added, step = weight * v.size, float(term.mean()) - shrink * self._mean
        size = self.size + added
        within = shrink**2 * self._squares + weight * float(((term - term.mean()) ** 2).sum())
        self._squares = within + step**2 * self.size * added / size
        self._mean = shrink * self._mean + step * added / size
        self.size, self._peak = size, peak

    @property
    def log_mean(self) -> float:
        """log of the mean of exp(v_i); -inf where there is no text."""
        return self._peak + float(np.log(self._mean)) if self.size else -np.inf

    @property
    def log_sum(self) -> float:
        """log Z = log sum_i w_i exp(v_i); -inf where there is no text."""
        return self.log_mean + float(np.log(self.size)) if self.size else -np.inf

    @property
    def variation(self) -> float:
        """Standard deviation of exp(v_i) in units of its mean; 0 if that is nothing but rounding."""
        variation = float(np.sqrt(self._squares / self.size)) / self._mean if self.size else 0.0
        return variation if variation > CONSTANT else 0.0


def streamed_normaliser(explanations: PoolTerm, entropies: PoolTerm) -> Normaliser:
    """As pool_normaliser, over a pool that came in parts.

    The pool is as large as its entropies are many. Where not all of its texts were explained, Z_p is the mean over
    those that were, by their weights, times that size.
    """
    size = round(entropies.size)
    log_z_p = explanations.log_mean + float(np.log(size)) if size else -np.inf
    std_p, std_c = (term.variation / size if size else 0.0 for term in (explanations, entropies))
    return Normaliser(log_z_p, entropies.log_sum, size, std_p, std_c)


def standardised(term: ArrayLike, size: int, std: float) -> Floats:
    """Zero mean and unit variance over the pool for a term of Eq. 8; 0 where it is the same for the whole pool.

    term: exp(-p_i)/Z_p or exp(c_i)/Z_c, (N,), of texts of the pool or others. size, std: the pool's. -> (N,).
    """
    term = np.asarray(term, dtype=np.float64)
    return (term - 1 / size) / std if std > 0 else np.zeros_like(term)


def acquisition_terms(
    explanation_scores: ArrayLike,
    entropies: ArrayLike,
    normaliser: Normaliser,
    lambda_: float = LAMBDA,
    acquisition: Acquisition = "paper",
) -> tuple[Floats, Floats]:
    """The two weighted terms of Eq. 8, explanation term first. (N,), (N,) -> (N,), (N,).

    acquisition: ``paper`` sums the terms as they are, parts of the pool's sums, so that the one which varies more over
    the pool decides more than its weight says; ``standardized`` gives each zero mean and unit variance over the pool
    first, so that lambda is the weight of the one against the other. Raises ValueError for
    ``standardized`` where the normaliser does not know the spread.
    """
    explanation_term = np.exp(-np.asarray(explanation_scores, dtype=np.float64) - normaliser.log_z_p)
    entropy_term = np.exp(np.asarray(entropies, dtype=np.float64) - normaliser.log_z_c)
    if acquisition == "standardized":
        if normaliser.std_p is None or normaliser.std_c is None:
            raise ValueError("the standardized acquisition needs a normaliser that knows std_p and std_c")
        explanation_term = standardised(explanation_term, normaliser.size, normaliser.std_p)
        entropy_term = standardised(entropy_term, normaliser.size, normaliser.std_c)
    return lambda_ / (1 + lambda_) * explanation_term, 1 / (1 + lambda_) * entropy_term


def acquisition_score(
    explanation_scores: ArrayLike,
    entropies: ArrayLike,
    normaliser: Normaliser,
    lambda_: float = LAMBDA,
    acquisition: Acquisition = "paper",
) -> Floats:
    """Eq. 8: s_i = lambda/(1+lambda) exp(-p_i)/Z_p + 1/(1+lambda) exp(c_i)/Z_c; higher = ask for this one first.

    explanation_scores: p_i, Eq. 6 of the top-1 hypothesis, (N,). entropies: c_i in nats, (N,). lambda_: >= 0.
    acquisition: see acquisition_terms. Returns (N,); over the very pool that made the normaliser the scores add up to
    1 as in the paper, to 0 standardized.
    """
    terms = acquisition_terms(explanation_scores, entropies, normaliser, lambda_, acquisition)
    return terms[0] + terms[1]


def order(scores: ArrayLike) -> NDArray[np.int64]:
    """Indices from the highest score to the lowest; ties keep the pool's order, so that runs repeat. (N,) -> (N,)."""
    return np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")


def ranks(scores: ArrayLike) -> NDArray[np.int64]:
    """1 for the item to ask for first, N for the last; ties keep their order. (N,) -> (N,)."""
    places = order(scores)
    result = np.empty(len(places), dtype=np.int64)
    result[places] = np.arange(1, len(places) + 1)
    return result


def token_log_probs(logits: Tensor, tokens: Tensor) -> Tensor:
    """log P(e_t | x, e_<t) of the given tokens, in float32. (n, length, vocab), (n, length) -> (n, length)."""
    # Cross-entropy goes over the vocabulary less often than the difference of a logit and a logsumexp does.
    return -F.cross_entropy(logits.float().flatten(0, 1), tokens.flatten(), reduction="none").view(tokens.shape)


def _spread(term: Floats) -> float:
    """Standard deviation of a term of Eq. 8 over its pool, where it adds up to 1; 0 if that is nothing but rounding."""
    std = float(term.std()) if term.size else 0.0
    return std if std * term.size > CONSTANT else 0.0
