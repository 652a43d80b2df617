from itertools import product

import numpy as np
import pytest

from training.comparison import labels_to_target, mean_interval, paired_difference, sign_flip_p


def p_by_hand(differences: list[float]) -> float:
    """Of all ways to give the differences signs, those whose sum is as far from 0."""
    found = abs(sum(differences))
    sums = [
        abs(sum(s * d for s, d in zip(signs, differences, strict=True)))
        for signs in product((1, -1), repeat=len(differences))
    ]
    return sum(one >= found - 1e-12 for one in sums) / len(sums)


@pytest.mark.parametrize(
    "differences",
    [[0.1] * 6, [1, 2, 3, 4, 5, 6], [1, -1], [0.3, -0.1, 0.2, 0.2, 0.5, -0.05, 0.1, 0.4], [0, 0, 0], [2, 0]],
)  # fmt: skip
def test_the_sign_flip_test_is_the_share_of_all_signs(differences: list[float]) -> None:
    assert sign_flip_p(differences) == pytest.approx(p_by_hand(differences))


def test_one_difference_alone_says_nothing() -> None:
    assert sign_flip_p([0.5]) == 1.0


def test_six_pairs_are_the_fewest_that_can_show_a_difference() -> None:
    assert sign_flip_p([0.1] * 5) == 2 / 32
    assert sign_flip_p([0.1] * 6) == 2 / 64
    five = paired_difference([0.6] * 5, [0.5] * 5)
    assert (five.verdict, five.n) == ("too few pairs to show one", 5)
    six = paired_difference([0.6, 0.62, 0.6, 0.61, 0.6, 0.6], [0.5] * 6)
    assert (six.verdict, six.p) == ("better", 2 / 64)
    assert six.mean == pytest.approx(0.105)


def test_lower_is_better_where_labels_are_counted() -> None:
    many, few = [300, 310, 290, 305, 300, 320], [100.0] * 6
    assert paired_difference(many, few).verdict == "better"
    assert paired_difference(many, few, higher_is_better=False).verdict == "worse"
    assert paired_difference(few, many, higher_is_better=False).verdict == "better"


def test_a_verdict_needs_the_interval_and_the_test() -> None:
    # Five of six differences are large, one is as small as it gets: the interval leaves out 0, but 4 of 64 signs are
    # as extreme.
    found = paired_difference([0.1, 0.1, 0.1, 0.1, 0.1, -0.001], [0.0] * 6)
    assert found.interval is not None
    assert found.interval[0] > 0
    assert found.p == 4 / 64
    assert found.verdict == "no difference shown"
    mixed = paired_difference([0.1, -0.1, 0.2, -0.2, 0.1, -0.1], [0.0] * 6)
    assert mixed.verdict == "no difference shown"
    assert mixed.interval is not None
    assert mixed.interval[0] < 0 < mixed.interval[1]


def test_no_difference_at_all_is_none() -> None:
    same = paired_difference([0.5] * 7, [0.5] * 7)
    assert (same.mean, same.interval, same.p, same.verdict) == (0, (0, 0), 1, "no difference shown")


def test_a_single_pair_has_a_difference_and_no_interval() -> None:
    found = paired_difference([0.7], [0.5])
    assert found.mean == pytest.approx(0.2)
    assert (found.n, found.interval, found.p, found.verdict) == (1, None, 1, "too few pairs to show one")


def test_what_does_not_pair_up_is_refused() -> None:
    with pytest.raises(ValueError, match="as many values of both"):
        paired_difference([0.1, 0.2], [0.1])
    with pytest.raises(ValueError, match="at least one"):
        paired_difference([], [])
    with pytest.raises(ValueError, match="at least two runs"):
        mean_interval([[0.1, 0.2]])


def test_the_interval_of_two_or_three_runs_is_lowest_to_highest() -> None:
    low, high = mean_interval([[0.1, 5.0], [0.4, 3.0], [0.2, 4.0]])
    assert low == pytest.approx([0.1, 3.0])
    assert high == pytest.approx([0.4, 5.0])


def test_the_interval_is_that_of_resampled_means_and_always_the_same() -> None:
    values = np.array([0.1, 0.4, 0.2, 0.35, 0.6, 0.15, 0.5])
    low, high = mean_interval(values)
    resampled = values[np.random.default_rng(7).integers(0, 7, size=(40_000, 7))].mean(axis=1)
    assert [float(low), float(high)] == pytest.approx(np.percentile(resampled, [2.5, 97.5]).tolist(), abs=0.01)
    assert mean_interval(values) == (low, high)


def test_labels_to_target_lie_on_the_line_between_two_rounds() -> None:
    assert labels_to_target([100, 200, 300], [0.5, 0.6, 0.8], 0.65) == pytest.approx(225)
    assert labels_to_target([100, 200, 300], [0.5, 0.6, 0.8], 0.6) == pytest.approx(200)
    assert labels_to_target([100, 200, 300], [0.5, 0.6, 0.8], 0.5) == 100
    assert labels_to_target([100, 200, 300], [0.5, 0.6, 0.8], 0.4) == 100


def test_the_first_time_counts_and_never_is_none() -> None:
    assert labels_to_target([10, 20, 30, 40], [0.4, 0.6, 0.3, 0.7], 0.5) == pytest.approx(15)
    assert labels_to_target([10, 20], [0.4, 0.5], 0.6) is None
    assert labels_to_target([10], [0.4], 0.6) is None
    assert labels_to_target([], [], 0.6) is None
