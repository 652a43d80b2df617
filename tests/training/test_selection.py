import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from training.selection import diagnose, finds_errors, overlap, redundancy, variance_shares
from training.strategies import PoolScores

# exp(-p) is e times 1, 2, 4 and exp(c) is 4, 2, 1: the terms of Eq. 8 at 0.5 are 1, 2, 4 and 8, 4, 2 parts of 21.
SCORES = PoolScores(
    3,
    probabilities=np.array([[0.25, 0.25, 0.25, 0.25], [0.5, 0.5, 0, 0], [1, 0, 0, 0]]),
    explanation_scores=np.array([-1.0, -1 - math.log(2), -1 - math.log(4)]),
)


def test_diagnostics_of_three_texts_by_hand() -> None:
    found = diagnose(SCORES, np.array([2, 0]))
    ln2 = math.log(2)
    assert (found.n, found.size) == (3, 2)
    p, c = found.explanation_score, found.entropy
    assert (p.mean, p.std, p.min, p.max) == pytest.approx((-1 - ln2, ln2 * math.sqrt(2 / 3), -1 - 2 * ln2, -1))
    assert (c.mean, c.std, c.min, c.max) == pytest.approx((ln2, ln2 * math.sqrt(2 / 3), 0, 2 * ln2))
    assert found.correlation == pytest.approx(1.0)
    # the sums are 9, 6, 6 parts, 2, -1, -1 from their mean: variance 6; covariances 2 - 2 - 4 and 16 - 4 - 2
    assert found.explanation_share == pytest.approx(-4 / 6)
    assert found.entropy_share == pytest.approx(10 / 6)
    assert found.overlap_with_entropy == 0.5  # entropy alone takes 0 and 1
    assert found.overlap_with_random == pytest.approx(2 / 3)


def test_lambda_moves_variance_to_the_explanation_term() -> None:
    # at lambda 2 the terms are 2, 4, 8 and 4, 2, 1: sums 6, 6, 9, deviations -1, -1, 2; covariances 10 and -4
    found = diagnose(SCORES, np.array([2]), lambda_=2.0)
    assert (found.explanation_share, found.entropy_share) == pytest.approx((10 / 6, -4 / 6))


def test_shares_are_those_of_the_strategys_acquisition_and_the_papers_beside_them() -> None:
    # exp(-p) is 3, 5, 3, 5 of 16 and exp(c) 1, 1, 3, 3 of 8: 1/16 and 1/8 from their means, without any correlation.
    certain, open_ = [1.0, 0.0, 0.0], [1 / 3] * 3
    p = -np.log([3.0, 5.0, 3.0, 5.0])
    scores = PoolScores(4, np.array([certain, certain, open_, open_]), p)
    found = diagnose(scores, np.array([3, 2]), acquisition="standardized")
    # weights 1/3 and 2/3: variances (1/3)^2 and (2/3)^2 standardised, (1/48)^2 and (1/12)^2 as in the paper
    assert found.acquisition == "standardized"
    assert (found.explanation_share, found.entropy_share) == pytest.approx((1 / 5, 4 / 5))
    assert found.explanation_share_in_paper == pytest.approx(1 / 17)
    in_paper = diagnose(scores, np.array([3, 2]))
    assert in_paper.explanation_share == pytest.approx(1 / 17)
    assert (in_paper.acquisition, in_paper.explanation_share_in_paper) == ("paper", None)
    # lambda is the weight of a standard deviation of the one to a standard deviation of the other
    assert diagnose(scores, np.array([3]), 1.0, "standardized").explanation_share == pytest.approx(1 / 2)
    assert diagnose(scores, np.array([3]), 3.0, "standardized").explanation_share == pytest.approx(9 / 10)


def test_a_strategy_that_does_not_rank_by_eq_8_has_no_shares_of_it() -> None:
    ranked, found = diagnose(SCORES, np.array([2, 0])), diagnose(SCORES, np.array([2, 0]), lambda_=None)
    missing = {"acquisition", "explanation_share", "entropy_share", "explanation_share_in_paper"}
    assert {name: found.to_dict()[name] for name in missing} == dict.fromkeys(missing)
    assert {**ranked.to_dict(), **dict.fromkeys(missing)} == found.to_dict()  # all else is as it was


def test_constant_scores_have_no_correlation_and_no_shares() -> None:
    scores = PoolScores(3, np.full((3, 3), 1 / 3), np.full(3, -1.1))
    standardised = diagnose(scores, np.array([0]), acquisition="standardized")
    assert (standardised.explanation_share, standardised.entropy_share) == (None, None)
    found = diagnose(scores, np.array([0]))
    assert found.correlation is None
    assert (found.explanation_share, found.entropy_share) == (None, None)
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["entropy"]["max"] == pytest.approx(math.log(3))


def test_diagnostics_need_explanation_scores() -> None:
    with pytest.raises(ValueError, match="need the explanation scores"):
        diagnose(PoolScores(1, np.ones((1, 1))), np.array([0]))


def test_overlap_is_a_share_of_the_chosen() -> None:
    assert overlap("abcd", "cdxyz") == 0.5
    assert overlap([1, 2], [2, 1]) == 1.0
    assert overlap([1], []) == 0.0
    with pytest.raises(ValueError, match="empty choice"):
        overlap([], [1])


VALUES = arrays.arrays(np.float64, 5, elements=st.floats(0, 1, width=32))


@given(VALUES, VALUES)
def test_shares_add_up_to_one(first: np.ndarray, second: np.ndarray) -> None:
    shares = variance_shares(first, second)
    if shares[0] is not None and np.var(first + second) > 1e-12:
        assert sum(shares) == pytest.approx(1.0)  # type: ignore[arg-type]


@given(VALUES)
def test_a_constant_term_has_no_share(values: np.ndarray) -> None:
    if np.ptp(values) > 1e-3:
        assert variance_shares(values, np.full(5, 0.25)) == pytest.approx((1.0, 0.0), abs=1e-9)


# East twice (of another length), north-east, west: cosines of 1, sqrt(1/2), -1 to east, and -sqrt(1/2) to north-east.
DIRECTIONS = np.array([[1, 0], [3, 0], [2, 2], [-1, 0]], dtype=np.float32)


def test_redundancy_of_four_directions_by_hand() -> None:
    half = math.sqrt(1 / 2)

    def of(*chosen: int) -> float:
        found = redundancy(DIRECTIONS, np.array(chosen))
        assert found is not None
        return found["chosen"]

    assert of(0, 1) == pytest.approx(1.0)  # a query of one text twice
    assert of(3, 0) == pytest.approx(-1.0)
    assert of(0, 2, 3) == pytest.approx((half + half - half) / 3)
    assert of(0, 1, 2, 3) == pytest.approx((1 + 1 + half - half) / 4)


def test_random_queries_stand_beside_it_the_same_for_every_strategy() -> None:
    # Of the 6 pairs two have a cosine of sqrt(1/2), one of 1, two of -1, one of -sqrt(1/2).
    expected = (2 * math.sqrt(1 / 2) + 1 - 2 - math.sqrt(1 / 2)) / 6
    found = redundancy(DIRECTIONS, np.array([0, 1]), batches=4000)
    other = redundancy(DIRECTIONS, np.array([3, 0]), batches=4000)
    assert found is not None
    assert other is not None
    assert found["random"] == other["random"] == pytest.approx(expected, abs=0.05)
    whole = redundancy(DIRECTIONS, np.arange(4))
    assert whole is not None
    assert whole["random"] == pytest.approx(whole["chosen"])  # there is but one query of all texts


@pytest.mark.parametrize("chosen", [[], [2]])
def test_fewer_than_two_texts_repeat_nothing(chosen: list[int]) -> None:
    assert redundancy(DIRECTIONS, np.array(chosen, dtype=np.int64)) is None


def test_a_vector_of_length_zero_is_like_no_other() -> None:
    embeddings = np.array([[0, 0], [0, 0], [1, 0], [1, 1]], dtype=np.float32)
    assert redundancy(embeddings, np.array([0, 1])) == {"chosen": 0.0, "random": pytest.approx(0.1, abs=0.1)}
    found = redundancy(embeddings, np.array([0, 2, 3]))
    assert found is not None
    assert found["chosen"] == pytest.approx(2 * math.sqrt(1 / 2) / 3)
    json.dumps(found, allow_nan=False)


def test_scores_find_errors_as_often_as_a_wrong_text_comes_before_a_right_one() -> None:
    # predicted 0, 0, 1, 1; texts 1 and 2 are wrong. By entropy text 1 is above both right ones, text 2 above one.
    probabilities = np.array([[0.99, 0.01], [0.55, 0.45], [0.1, 0.9], [0.2, 0.8]])
    p = np.array([-1.0, -3.0, -0.5, -1.0])  # text 1 is explained worst of all, text 2 best
    found = finds_errors(PoolScores(4, probabilities, p), np.array([0, 1, 0, 1]))
    assert found == {"wrong": 0.5, "entropy": pytest.approx(3 / 4), "explanation": pytest.approx(2 / 4)}


def test_equal_scores_find_errors_by_chance_and_texts_of_one_kind_tell_nothing() -> None:
    equal = PoolScores(2, np.array([[0.7, 0.3], [0.3, 0.7]]), np.array([-1.0, -1.0]))
    assert finds_errors(equal, np.array([0, 0])) == {"wrong": 0.5, "entropy": 0.5, "explanation": 0.5}
    assert finds_errors(equal, np.array([0, 1])) == {"wrong": 0.0, "entropy": None, "explanation": None}
    assert finds_errors(PoolScores(2, equal.probabilities), np.array([1, 1]))["explanation"] is None
    with pytest.raises(ValueError, match="from the probabilities"):
        finds_errors(PoolScores(2), np.array([0, 1]))
