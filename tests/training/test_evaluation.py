from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.evaluation import CALIBRATION_BINS, area_under_curve, calibration_error, evaluate


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


def test_calibration_error_of_five_texts_by_hand() -> None:
    # Predicted label's probability and whether it is right, in 4 bins: (1/4, 1/2] 0.4 wrong, 0.5 right;
    # (1/2, 3/4] 0.6 right, 0.7 right; (3/4, 1] 0.9 wrong. Gaps: |1 - 0.9|, |2 - 1.3|, |0 - 0.9|, over 5 texts.
    p = [[0.4, 0.3, 0.3], [0.25, 0.5, 0.25], [0.6, 0.4, 0.0], [0.2, 0.1, 0.7], [0.05, 0.9, 0.05]]
    assert calibration_error(p, [1, 1, 0, 2, 2], bins=4) == pytest.approx((0.1 + 0.7 + 0.9) / 5)
    # In a single bin what is too sure makes up for what is not sure enough: 3 right, 3.1 in all.
    assert calibration_error(p, [1, 1, 0, 2, 2], bins=1) == pytest.approx(0.1 / 5)


def test_who_is_sure_and_always_right_has_no_calibration_error_and_who_is_always_wrong_has_all() -> None:
    assert calibration_error([[1.0, 0.0]] * 3, [0, 0, 0]) == 0.0
    assert calibration_error([[1.0, 0.0]] * 3, [1, 1, 1]) == 1.0
    assert calibration_error([[0.5, 0.5], [0.5, 0.5]], [0, 1]) == 0.0  # right as often as it says


@pytest.mark.parametrize("bins", [CALIBRATION_BINS, 25, 29])  # 7 / 25 * 25 is more than 7 in floating point
def test_a_confidence_on_an_edge_belongs_to_the_bin_below(bins: int) -> None:
    for edge in range(1, bins):
        on_edge, below = edge / bins, (edge - 0.5) / bins
        above = np.nextafter(on_edge, 1)
        p = np.zeros((2, 64))  # so many labels that the largest may be small
        gold = [0, 1]  # the first is right, the second wrong
        for other, together in ((below, True), (above, False)):
            p[:] = 0.0
            p[:, 0] = on_edge, other
            apart = abs(1 - on_edge) + other
            expected = abs(1 - on_edge - other) if together else apart
            assert calibration_error(p, gold, bins) == pytest.approx(expected / 2)


@given(st.integers(1, 20), st.integers(2, 4), st.integers(0, 40), st.randoms(use_true_random=False))
def test_calibration_error_is_that_of_bins_counted_one_by_one(bins: int, labels: int, n: int, random: Random) -> None:
    texts = []
    for _ in range(n + 1):
        weights = [random.random() + 1e-3 for _ in range(labels)]
        texts.append(([weight / sum(weights) for weight in weights], random.randrange(labels)))
    total = 0.0
    for number in range(bins):
        inside = [(p, y) for p, y in texts if number / bins < max(p) <= (number + 1) / bins]
        if inside:
            accuracy = sum(p.index(max(p)) == y for p, y in inside) / len(inside)
            confidence = sum(max(p) for p, _ in inside) / len(inside)
            total += len(inside) / len(texts) * abs(accuracy - confidence)
    found = calibration_error([p for p, _ in texts], [y for _, y in texts], bins)
    assert found == pytest.approx(total, abs=1e-12)
    assert 0 <= found <= 1


@pytest.mark.parametrize(
    ("p", "gold"), [(np.zeros((0, 3)), []), ([[0.5, 0.5]], [0, 1]), ([0.5, 0.5], [0, 1]), ([[0.5, 0.5]], [[0]])]
)
def test_calibration_takes_one_gold_label_for_each_text(p: list[list[float]], gold: list[int]) -> None:
    with pytest.raises(ValueError, match="expected probabilities"):
        calibration_error(p, gold)
