"""Ours and the authors' epoch are the same training: what is measured is the time that it takes."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from benchmarks.training import EPOCHS
from tests.benchmarks.tiny_shape import tiny_shape


@pytest.mark.parametrize("size", [1, 2, 5])
def test_both_epochs_end_with_the_same_loss_and_the_same_weights(
    size: int, make_model_dir: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = tiny_shape("t5", make_model_dir)
    monkeypatch.setattr("training.trainer.multiplies_bfloat16", lambda _: False)
    before = [parameter.clone() for parameter in shape.predictor.network.parameters()]
    ours, authors = (EPOCHS[name](shape, size) for name in ("ours", "authors"))
    for epoch in (ours, authors):
        epoch.network.eval()  # dropout would draw other numbers for other shapes
        epoch.optimizer = torch.optim.SGD(epoch.network.parameters(), lr=0.01)  # Adam's first steps know signs alone
    assert ours(shape) == pytest.approx(authors(shape), rel=1e-4)
    for left, right in zip(ours.network.parameters(), authors.network.parameters(), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-5)
    assert any(not torch.equal(first, left) for first, left in zip(before, ours.network.parameters(), strict=True))
