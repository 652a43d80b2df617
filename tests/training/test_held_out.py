"""Which texts explanations are measured on, and what is measured: by hand, and text by text through the predictor."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from service.model.classification import Item, Prediction
from service.model.errors import InputError, XalError
from service.model.predictor import Predictor
from tests import tiny
from training.data import Example
from training.explanation_quality import RankingAccuracy
from training.held_out import gold_first, hold_out, measure_explanations, rank
from training.judge import train_word_judge
from training.splits import Splits
from training.teacher import RecordedTeacher


def some(prefix: str, count: int) -> list[Example]:
    return [
        Example(f"{prefix}{n}", {"text": f"{prefix} text {n}"}, tiny.TASK.label_ids[n % 3], None) for n in range(count)
    ]


def ids(examples: Sequence[Example]) -> list[str]:
    return [example.id for example in examples]


SPLITS = Splits(train=some("pool", 12), dev=some("dev", 5), test=some("test", 8), notes=["as it was"])
ANY = None


@pytest.mark.parametrize(
    ("size", "covered", "taken_from"),
    [
        (5, ANY, "dev"),
        (6, ANY, "test"),
        (9, ANY, "pool"),
        (3, frozenset(["dev0", "dev2", "dev4", "test1", "pool3"]), "dev"),
        (2, frozenset(["dev0", "test1", "test7", "pool3"]), "test"),
        (2, frozenset(["dev0", "test1", "pool3", "pool4", "pool5"]), "pool"),
    ],
)
def test_dev_texts_come_first_then_test_texts_then_those_of_the_pool(
    size: int, covered: frozenset[str] | None, taken_from: str
) -> None:
    found = hold_out(SPLITS, size, covered)
    assert len(set(ids(found.explained))) == size
    assert all(example.id.startswith(taken_from) for example in found.explained)
    assert covered is None or covered.issuperset(ids(found.explained))
    assert (found.dev, found.test) == (SPLITS.dev, SPLITS.test)
    if taken_from == "pool":
        assert found.train == [example for example in SPLITS.train if example not in found.explained]
        assert found.notes[0] == "as it was"
        assert f"held out {size} explained texts of the pool" in found.notes[1]
    else:
        assert found.train == SPLITS.train
        assert found.notes == SPLITS.notes


def test_a_pool_has_the_same_texts_held_out_in_its_order_every_time() -> None:
    one = hold_out(SPLITS, 9, ANY).explained
    np.random.default_rng().random(3)
    assert hold_out(SPLITS, 9, ANY).explained == one
    assert one == [example for example in SPLITS.train if example in one]
    assert one != SPLITS.train[:9]  # drawn, not the first


def test_a_text_that_is_measured_on_stands_nowhere_in_the_pool() -> None:
    twins = [Example(f"twin of {example.id}", example.fields, example.label, None) for example in SPLITS.train]
    covered = frozenset(ids(SPLITS.train))
    found = hold_out(Splits(SPLITS.train + twins, [], SPLITS.test[:1], []), 4, covered)
    texts = {example.fields["text"] for example in found.explained}
    assert len(found.train) == 16
    assert not texts & {example.fields["text"] for example in found.train}


@pytest.mark.parametrize(
    ("size", "covered", "explained"),
    [(12, ANY, 12), (3, frozenset(["dev1", "test1", "pool1", "pool2", "pool3"]), 3), (1, frozenset[str](), 0)],
)
def test_too_few_explained_texts_are_said(size: int, covered: frozenset[str] | None, explained: int) -> None:
    with pytest.raises(
        InputError, match=f"--measure-explanations {size}: the teacher explains {explained} texts of the pool"
    ):
        hold_out(SPLITS, size, covered)


def test_the_reasonable_explanation_comes_first_and_the_others_keep_their_order() -> None:
    own = {"a": "for a", "b": "for b", "c": "for c"}
    found = gold_first(Example("1", {"text": "x"}, "b", None), {"1": own})
    assert list(found.items()) == [("b", "for b"), ("a", "for a"), ("c", "for c")]


def scored(label: str, *scores: float) -> Prediction:
    return Prediction(label, {label: 1.0}, 0.0, False, np.zeros(2, np.float32), candidate_scores=scores)


def test_ranking_is_that_of_all_texts_and_of_those_predicted_right_by_hand() -> None:
    examples = [Example(str(n), {"text": "x"}, label, None) for n, label in enumerate("aab")]
    predictions = [scored("a", -1.0, -2.0, -3.0), scored("b", -2.0, -1.0, -1.5), scored("b", -1.0, -1.0, -0.5)]
    # Right pairs: 2 of 2, 0 of 2, 1/2 of 2 (a tie counts half): shares of 1, 0, 1/4 about 5/12.
    of_all, where_right = rank(examples, predictions)
    assert (of_all.value, of_all.texts, of_all.pairs) == (pytest.approx(5 / 12), 3, 6)
    variance = ((7 / 12) ** 2 + (5 / 12) ** 2 + (2 / 12) ** 2) / 2
    assert of_all.standard_error == pytest.approx((variance / 3) ** 0.5)
    # The second is predicted wrong: 1 and 1/4 are left.
    assert where_right == RankingAccuracy(pytest.approx(5 / 8), pytest.approx(3 / 8), 2, 4)
    assert rank(examples[:1], [scored("c", -1.0, -2.0)]) == (RankingAccuracy(1.0, None, 1, 1), None)


@pytest.mark.parametrize(("family", "conditioning"), [("t5", "none"), ("t5", "label"), ("composed-llama", "none")])
def test_what_is_measured_is_what_the_predictor_says_text_by_text(
    make_model_dir: Callable[..., Path], family: str, conditioning: str
) -> None:
    predictor = Predictor.load(make_model_dir(family, conditioning), device="cpu")
    teacher = RecordedTeacher(tiny.EXPLANATIONS, tiny.TASK)
    examples = [
        Example(id_, {"text": text}, tiny.TASK.label_ids[n % 3], None)
        for n, (id_, text) in enumerate(zip(sorted(teacher.covered)[:10], tiny.sentences(10)[::3], strict=True))
    ]
    theirs = teacher.explain({example.id: example.fields for example in examples}).explanations
    learned = teacher.explain({id_: {} for id_ in sorted(teacher.covered)[20:40]}).explanations
    judge, other = train_word_judge(learned), train_word_judge({"1": {"negative": "bad", "positive": "good"}})
    found = measure_explanations(predictor, examples, theirs, {"words": judge, "other": other}, progress=False)

    reasonable_wins, right_wins, written, labels = [], [], [], []
    for example in examples:
        others = [label for label in tiny.TASK.label_ids if label != example.label]
        candidates = tuple(theirs[example.id][label] for label in (str(example.label), *others))
        outcome = predictor.predict([Item(example.fields, candidates)], explain=True)[0]
        assert isinstance(outcome, Prediction)
        first, *rest = outcome.candidate_scores
        reasonable_wins.append(sum(first > score for score in rest) / 2)
        if outcome.label == example.label:
            right_wins.append(reasonable_wins[-1])
        written.append(outcome.explanation or "")
        labels.append(outcome.label)
    assert found["texts"] == 10
    assert found["ranking"]["value"] == pytest.approx(np.mean(reasonable_wins))
    assert found["ranking"]["standard_error"] == pytest.approx(np.std(reasonable_wins, ddof=1) / 10**0.5)
    assert (found["ranking"]["texts"], found["ranking"]["pairs"]) == (10, 20)
    assert 0 < len(right_wins) < 10
    assert found["ranking_where_right"]["value"] == pytest.approx(np.mean(right_wins))
    assert found["ranking_where_right"]["texts"] == len(right_wins)
    for name, who in (("words", judge), ("other", other)):
        named = who.judge(written)
        assert found["consistency"][name] == np.mean([a == b for a, b in zip(named, labels, strict=True)])
        of_teacher = [(who.judge([text])[0], label) for own in theirs.values() for label, text in own.items()]
        assert found["judge_accuracy"][name] == pytest.approx(np.mean([a == b for a, b in of_teacher]))
    assert found["distinct"] == len(set(written)) / 10


def test_a_text_that_the_model_cannot_answer_is_named(model_dir: Path) -> None:
    predictor = Predictor.load(model_dir, device="cpu")
    example = Example("7", {"text": "a camera"}, "positive", None)
    with pytest.raises(XalError, match="held-out explanations: text '7': the candidate explanation is empty"):
        measure_explanations(predictor, [example], {"7": {"positive": "Praise.", "negative": " "}}, {}, progress=False)
