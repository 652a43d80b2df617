"""Eq. 3 to 7 against numbers worked out by hand."""

import math

import pytest
import torch
from torch.nn.functional import log_softmax

from service.model.scoring import explanation_score
from training.losses import classification_loss, generation_loss, ranking_loss, total_loss

LOGITS = torch.tensor([[0.0, 0.0], [math.log(3), 0.0]])  # P = (1/2, 1/2) and (3/4, 1/4)
LABELS = torch.tensor([0, 1])
SCORES = torch.tensor([[-1.0, -3.0, -0.5], [-2.0, -1.5, -1.0]])  # reasonable first


def test_classification_loss_is_the_mean_surprise_of_the_gold_labels() -> None:
    # -ln(1/2) = 0.6931, -ln(1/4) = 1.3863; mean 1.0397
    assert classification_loss(LOGITS, LABELS).item() == pytest.approx((math.log(2) + math.log(4)) / 2)


def test_generation_loss_is_the_mean_over_tokens_not_their_sum() -> None:
    # Two explanations of 2 and 4 tokens, log-probabilities summing to -3 and -4: means -1.5 and -1, loss 1.25.
    log_probs = torch.tensor([[-1.0, -2.0, 99.0, 99.0], [-1.0, -1.0, -1.0, -1.0]])
    mask = torch.tensor([[True, True, False, False], [True, True, True, True]])
    scores = explanation_score(log_probs, mask).unsqueeze(1)
    assert generation_loss(scores).item() == pytest.approx(1.25)


def test_ranking_loss_sums_over_unreasonable_explanations_and_averages_over_texts() -> None:
    # First text: max(0, -3 + 1) + max(0, -0.5 + 1) = 0.5; second: max(0, 0.5) + max(0, 1) = 1.5; mean 1.
    assert ranking_loss(SCORES).item() == pytest.approx(1.0)


def test_ranking_loss_is_zero_where_every_reasonable_explanation_is_the_most_probable() -> None:
    assert ranking_loss(torch.tensor([[-1.0, -1.0, -2.0], [-0.1, -5.0, -0.2]])).item() == 0.0


def test_ranking_loss_lifts_the_reasonable_explanation_and_lowers_those_above_it_only() -> None:
    scores = SCORES.clone().requires_grad_()
    ranking_loss(scores).backward()
    assert scores.grad is not None
    # d/dp: for each pair above, +1 for p_r and -1 for p_0, over 2 texts.
    assert scores.grad.tolist() == [[-0.5, 0.0, 0.5], [-1.0, 0.5, 0.5]]


def test_total_loss_weighs_the_three_losses() -> None:
    # 1.0397 + 0.1 * 1.5 + 0.01 * 1.0 = 1.1997
    expected = (math.log(2) + math.log(4)) / 2 + 0.1 * 1.5 + 0.01 * 1.0
    assert total_loss(LOGITS, LABELS, SCORES, 0.1, 0.01).item() == pytest.approx(expected)


def test_explanations_that_are_given_their_labels_are_all_written() -> None:
    # All six: (1 + 3 + 0.5 + 2 + 1.5 + 1) / 6 = 1.5; with the first text's worst raised by 6: 2.5.
    scores = SCORES - torch.tensor([[0.0, 6.0, 0.0], [0.0, 0.0, 0.0]])
    expected = (math.log(2) + math.log(4)) / 2 + 0.1 * 2.5 + 0.01 * 1.0
    assert total_loss(LOGITS, LABELS, scores, 0.1, 0.01, "label").item() == pytest.approx(expected)


def test_without_explanations_only_the_classification_loss_is_left() -> None:
    assert total_loss(LOGITS, LABELS, None, 0.1, 0.01).item() == classification_loss(LOGITS, LABELS).item()


def test_losses_are_those_of_an_unbatched_computation() -> None:
    torch.manual_seed(0)
    logits, labels, scores = torch.randn(5, 4), torch.tensor([0, 3, 1, 1, 2]), -torch.rand(5, 4)
    each = [
        -log_softmax(logits[i], 0)[labels[i]]
        - 0.3 * scores[i, 0]
        + 0.2 * sum(max(0.0, (scores[i, r] - scores[i, 0]).item()) for r in range(1, 4))
        for i in range(5)
    ]
    assert total_loss(logits, labels, scores, 0.3, 0.2).item() == pytest.approx(sum(map(float, each)) / 5, abs=1e-6)
