"""Ours and generate's hypotheses are compared as they are: the same where they are the same, told apart where not."""

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import hypotheses
from benchmarks.hypotheses import Pair, pairs
from service.model.predictor import Predictor

TEXTS = ["no", "it works", "i love this camera , and the battery lasts all day long", "the price is fair", "so so"]


@pytest.mark.parametrize("conditioning", ["none", "label"])
@pytest.mark.parametrize("family", ["t5", "bart", "composed-llama"])
def test_ours_are_generates(family: str, conditioning: str, make_model_dir: Callable[..., Path]) -> None:
    found = pairs(Predictor.load(make_model_dir(family, conditioning), device="cpu", dtype="float32"), TEXTS)
    assert [pair.text for pair in found] == TEXTS
    for pair in found:
        assert pair.ours == pair.theirs
        assert pair.our_score == pytest.approx(pair.their_score, abs=1e-5)


def test_every_difference_is_printed_with_both_scores(capsys: pytest.CaptureFixture[str]) -> None:
    same = Pair("fine", "a reason", "a reason", -1.0, -1.00001)
    apart = Pair("so so", "one reason", "another reason", -1.25, -1.5)
    assert hypotheses._report([same, same, apart]) == pytest.approx(2 / 3)
    printed = capsys.readouterr().out
    assert "so so\n  ours   -1.250000 one reason\n  theirs -1.500000 another reason\n" in printed
    assert "2 of 3 explanations are the same; their scores differ by 1.0e-05 at most" in printed
