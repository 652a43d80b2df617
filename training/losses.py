"""The training losses of arXiv 2310.05502, Eq. 3 to 7: one pure function per equation."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from service.model.network import Conditioning


def classification_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Eq. 3, L_cls: cross-entropy of the gold label, averaged over the batch. (batch, C), (batch,) -> scalar, nats."""
    return F.cross_entropy(logits, labels)


def generation_loss(scores: Tensor, conditioning: Conditioning = "none") -> Tensor:
    """Eq. 4, L_gen: negative log-likelihood of what is to be written, averaged over the batch.

    That is the reasonable explanation e_0, as in the paper. Where each explanation is given its label, it is every one
    of them, for the decoder will be asked to write for whatever label is predicted. Taken as the mean over the tokens
    of each, which makes it -p by Eq. 6: lambda1 = 0.1 presumes this (a sum would be tens of times larger).

    scores: (batch, k), Eq. 6 of each text's explanations, the reasonable one in column 0. -> scalar, nats per token.
    """
    return -(scores if conditioning == "label" else scores[:, 0]).mean()


def ranking_loss(scores: Tensor) -> Tensor:
    """Eq. 5, L_rank: sum over r > 0 of max(0, p_r - p_0) for each text, averaged over the batch.

    scores: (batch, k), Eq. 6 of each text's explanations, the reasonable one in column 0. -> scalar, at least 0;
    0 where every reasonable explanation is at least as probable as the unreasonable ones.
    """
    return F.relu(scores[:, 1:] - scores[:, :1]).sum(dim=1).mean()


def total_loss(
    logits: Tensor,
    labels: Tensor,
    scores: Tensor | None,
    lambda1: float,
    lambda2: float,
    conditioning: Conditioning = "none",
) -> Tensor:
    """Eq. 7: L = L_cls + lambda1 * L_gen + lambda2 * L_rank; L_cls alone without explanations (scores None)."""
    loss = classification_loss(logits, labels)
    if scores is None:
        return loss
    return loss + lambda1 * generation_loss(scores, conditioning) + lambda2 * ranking_loss(scores)
