from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.evaluation import area_under_curve, evaluate


def test_metrics_of_six_texts_by_hand() -> None:
    # a: 2 right, 2 wrongly claimed, 1 missed -> 4/7; b: 1, 1, 1 -> 1/2; c: never predicted -> 0
    found = evaluate(list("aaabbc"), list("aabbaa"), ("a", "b", "c"))
    assert found["per_class_f1"] == pytest.approx({"a": 4 / 7, "b": 1 / 2, "c": 0.0})
    assert list(found["per_class_f1"]) == ["a", "b", "c"]
    assert found["macro_f1"] == pytest.approx(5 / 14)
    assert found["accuracy"] == 0.5


def test_a_label_that_nobody_uses_counts_as_zero() -> None:
    found = evaluate(["a", "b"], ["a", "b"], ("a", "b", "c"))
    assert found["macro_f1"] == pytest.approx(2 / 3)
    assert found["accuracy"] == 1.0


@pytest.mark.parametrize(("gold", "predicted"), [([], []), (["a"], ["a", "a"]), (["a"], ["z"]), (["z"], ["a"])])
def test_labels_have_to_fit(gold: list[str], predicted: list[str]) -> None:
    with pytest.raises(ValueError, match="expected"):
        evaluate(gold, predicted, ("a", "b"))


LABELS = st.sampled_from("abc")


@given(st.lists(st.tuples(LABELS, LABELS), min_size=1, max_size=30), st.randoms())
def test_the_order_of_texts_and_labels_changes_nothing(pairs: list[tuple[str, str]], random: Random) -> None:
    found = evaluate([gold for gold, _ in pairs], [predicted for _, predicted in pairs], "abc")
    random.shuffle(pairs)
    again = evaluate([gold for gold, _ in pairs], [predicted for _, predicted in pairs], "cab")
    assert again == found | {"macro_f1": pytest.approx(found["macro_f1"])}


def test_area_is_the_mean_height_over_the_labels() -> None:
    # (16 * 0.5 + 32 * 0.65) / 48
    assert area_under_curve([16, 32, 64], [0.4, 0.6, 0.7]) == pytest.approx(0.6)
    assert area_under_curve([100], [0.3]) == 0.3
    assert area_under_curve([1, 2, 10], [0.8, 0.8, 0.8]) == pytest.approx(0.8)


@pytest.mark.parametrize(("n", "values"), [([], []), ([1], [0.1, 0.2]), ([2, 2], [0.1, 0.2]), ([2, 1], [0.1, 0.2])])
def test_a_curve_has_points_in_order(n: list[int], values: list[float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        area_under_curve(n, values)
