import json
from collections.abc import Callable
from pathlib import Path

import pytest

from service.model.errors import InputError
from tests import tiny
from training.judge import Explanations, train_encoder_judge, train_word_judge

CLEAR = {
    "1": {"good": "The writer praises the screen.", "bad": "The writer complains of the screen."},
    "2": {"good": "Praise for the battery.", "bad": "A complaint about the battery."},
}


def recorded() -> dict[str, dict[str, str]]:
    rows = [json.loads(line) for line in tiny.EXPLANATIONS.read_text(encoding="utf-8").splitlines()]
    return {row["id"]: row["explanations"] for row in rows}


def of_reviews(explanations: Explanations, remainder: int) -> Explanations:
    """The explanations of every third review, or of all others."""
    return {id: own for id, own in explanations.items() if (int(id.partition("_")[0]) % 3 == 0) == (remainder == 0)}


def test_the_judge_names_the_label_that_unseen_words_argue_for() -> None:
    judge = train_word_judge(CLEAR)
    assert judge.judge(["He praises the sound.", "One complains of the sound."]) == ["good", "bad"]
    assert judge.judge([]) == []
    assert judge.judge(["", "He praises the sound."]) == ["", "good"]  # nothing argues for nothing


def test_accuracy_is_the_share_of_labels_named_by_hand() -> None:
    judge = train_word_judge(CLEAR)
    swapped = {"9": {"good": "He praises it.", "bad": "She complains of it."}, "10": {"good": "A complaint."}}
    assert judge.accuracy(swapped) == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="found none"):
        judge.accuracy({})


def test_on_the_recorded_explanations_the_judge_is_far_above_chance_and_repeats() -> None:
    learned, unseen = of_reviews(recorded(), 1), of_reviews(recorded(), 0)
    judge = train_word_judge(learned)
    assert judge.accuracy(unseen) > 0.85  # a third of the explanations stand for each label
    texts = [text for own in unseen.values() for text in own.values()]
    assert train_word_judge(learned).judge(texts) == judge.judge(texts)


@pytest.mark.parametrize("explanations", [{}, {"1": {"good": "Fine."}}])
def test_a_judge_needs_two_labels(explanations: Explanations) -> None:
    with pytest.raises(InputError, match="at least two labels"):
        train_word_judge(explanations)


def test_the_encoder_judge_learns_what_explanations_argue_for_and_repeats(backbone_dir: Callable[[str], Path]) -> None:
    source = str(backbone_dir("bert2bert"))
    many = {str(n): {"good": f"The writer praises item {n}.", "bad": f"A complaint about item {n}."} for n in range(60)}
    judge = train_encoder_judge(many, source, max_tokens=48, progress=False)
    assert judge.judge([]) == []
    assert judge.accuracy({"x": {"good": "The writer praises item 99.", "bad": "A complaint about item 77."}}) == 1.0
    texts = [text for own in CLEAR.values() for text in own.values()] * 30  # more than are judged at once
    assert train_encoder_judge(many, source, max_tokens=48, progress=False).judge(texts) == judge.judge(texts)
    assert judge.judge(texts[:4]) * 30 == judge.judge(texts)
    assert judge.judge(["", texts[0], " \n"]) == ["", judge.judge(texts)[0], ""]  # nothing argues for nothing
    with pytest.raises(InputError, match="at least two labels"):
        train_encoder_judge({"1": {"good": "Fine."}}, source)
