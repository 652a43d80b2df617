"""Entropy, Eq. 6, log Z, Eq. 8 and ranks: by hand, and against implementations that share nothing with ours."""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import logsumexp
from scipy.stats import entropy as scipy_entropy
from scipy.stats import zscore

from service.model import scoring
from service.model.scoring import Acquisition, Normaliser

SCORES = st.floats(-50, 0)  # Eq. 6, nats per token
ENTROPIES = st.floats(0, 3)
POOLS = st.lists(st.tuples(SCORES, ENTROPIES), min_size=1, max_size=40)


# ------------------------------------------------------------------------------------------------------------ entropy


def test_entropy_is_that_worked_out_by_hand() -> None:
    # 1/2 ln 2 + 2 * 1/4 ln 4 = 1/2 ln 2 + ln 2 = 3/2 ln 2; a certain text 0; four equal ones ln 4.
    assert scoring.entropy([[0.5, 0.25, 0.25]])[0] == pytest.approx(1.5 * math.log(2), abs=1e-15)
    assert scoring.entropy([[0.0, 1.0, 0.0]])[0] == 0.0
    assert scoring.entropy([[0.25] * 4])[0] == pytest.approx(math.log(4), abs=1e-15)


def test_entropy_of_a_certain_text_is_not_negative_zero() -> None:
    assert math.copysign(1.0, scoring.entropy([[1.0, 0.0]])[0]) == 1.0


def test_entropy_equals_scipys() -> None:
    probabilities = np.random.default_rng(0).dirichlet([0.1] * 5, size=200)  # many almost certain rows
    np.testing.assert_allclose(scoring.entropy(probabilities), scipy_entropy(probabilities, axis=1), atol=1e-12)


@pytest.mark.filterwarnings("error")
def test_entropy_warns_of_nothing_at_the_edges() -> None:
    assert scoring.entropy([[1.0, 0.0], [5e-324, 1.0]]) == pytest.approx([0.0, 0.0])


def test_entropy_of_a_nan_is_nan_and_not_certainty() -> None:
    assert math.isnan(scoring.entropy([[math.nan, math.nan]])[0])


def test_entropy_of_float32_is_computed_in_float64() -> None:
    assert scoring.entropy(np.array([[0.5, 0.5]], dtype=np.float32)).dtype == np.float64


# -------------------------------------------------------------------------------------------------------------- Eq. 6


def test_token_log_probs_are_those_worked_out_by_hand() -> None:
    # Logits (0, ln 3): e^0 : e^ln3 = 1 : 3, so P = 1/4, 3/4. Adding 100 to all changes nothing.
    logits = torch.tensor([[[0.0, math.log(3)], [100.0, 100.0 + math.log(3)]]])
    found = scoring.token_log_probs(logits, torch.tensor([[1, 0]]))
    assert found.tolist() == [pytest.approx([math.log(3 / 4), math.log(1 / 4)], abs=1e-5)]


def test_token_log_probs_equal_a_plain_python_softmax() -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(3, 5, 11, generator=generator) * 4
    tokens = torch.randint(11, (3, 5), generator=generator)
    found = scoring.token_log_probs(logits, tokens)
    for row in range(3):
        for t in range(5):
            weights = [math.exp(value) for value in logits[row, t].tolist()]
            expected = math.log(weights[tokens[row, t]] / sum(weights))
            assert found[row, t].item() == pytest.approx(expected, abs=1e-5)


def test_token_log_probs_survive_huge_logits_and_forbidden_tokens() -> None:
    logits = torch.tensor([[[1e4, 1e4, -math.inf]]])
    assert scoring.token_log_probs(logits, torch.tensor([[1]])).item() == pytest.approx(-math.log(2), abs=1e-3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_token_log_probs_of_half_precision_logits_are_summed_in_float32(dtype: torch.dtype) -> None:
    # 1000 equal logits: ln 1000 = 6.9078, which bfloat16 would round to 6.90625.
    found = scoring.token_log_probs(torch.zeros(1, 1, 1000, dtype=dtype), torch.tensor([[7]]))
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(-math.log(1000), abs=1e-5)


def test_explanation_score_is_the_mean_over_its_own_tokens() -> None:
    # (-1 - 2 - 3) / 3 = -2, and (-0.5) / 1 = -0.5: a longer explanation is not less probable for its length.
    log_probs = torch.tensor([[-1.0, -2.0, -3.0], [-0.5, -9.0, -9.0]])
    mask = torch.tensor([[True, True, True], [True, False, False]])
    assert scoring.explanation_score(log_probs, mask).tolist() == pytest.approx([-2.0, -0.5])


@pytest.mark.parametrize("absurd", [1e30, -1e30, math.inf, -math.inf, math.nan])
def test_explanation_score_does_not_look_at_padding(absurd: float) -> None:
    log_probs = torch.tensor([[-1.0, -2.0, absurd], [-4.0, absurd, absurd]], requires_grad=True)
    scores = scoring.explanation_score(log_probs, torch.tensor([[True, True, False], [True, False, False]]))
    assert scores.tolist() == pytest.approx([-1.5, -4.0])
    scores.sum().backward()
    assert log_probs.grad is not None
    assert log_probs.grad.tolist() == [[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]


@given(st.lists(st.lists(st.floats(-20, 0, width=32), min_size=1, max_size=9), min_size=1, max_size=6), st.data())
def test_explanation_scores_of_a_padded_batch_equal_each_alone(rows: list[list[float]], data: st.DataObject) -> None:
    longest = max(len(row) for row in rows) + data.draw(st.integers(0, 3))
    log_probs = torch.tensor([row + [7.0] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[True] * len(row) + [False] * (longest - len(row)) for row in rows])
    expected = [math.fsum(row) / len(row) for row in rows]
    assert scoring.explanation_score(log_probs, mask).tolist() == pytest.approx(expected, abs=1e-4)


# -------------------------------------------------------------------------------------------------------------- log Z


def test_log_normaliser_is_that_worked_out_by_hand() -> None:
    # ln(e^0 + e^ln2 + e^ln3) = ln(1 + 2 + 3)
    assert scoring.log_normaliser([0.0, math.log(2), math.log(3)]) == pytest.approx(math.log(6), abs=1e-15)


@given(arrays(np.float64, st.integers(1, 30), elements=st.floats(-2000, 2000)))
def test_log_normaliser_equals_scipys_beyond_the_range_of_exp(values: np.ndarray) -> None:
    assert scoring.log_normaliser(values) == pytest.approx(logsumexp(values), rel=1e-12, abs=1e-12)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("values", "expected"),
    [([], -math.inf), ([-math.inf], -math.inf), ([-math.inf, 1.0], 1.0), ([math.inf, 1.0], math.inf)],
)
def test_log_normaliser_has_the_limits_of_the_sum(values: list[float], expected: float) -> None:
    assert scoring.log_normaliser(values) == expected


def test_pool_normaliser_sums_negated_scores_and_plain_entropies() -> None:
    # Z_p = e^1 + e^2 = 10.1073; Z_c = e^0 + e^ln2 = 3.
    normaliser = scoring.pool_normaliser([-1.0, -2.0], [0.0, math.log(2)])
    assert normaliser.log_z_p == pytest.approx(math.log(math.e + math.e**2))
    assert normaliser.log_z_c == pytest.approx(math.log(3))
    assert normaliser.size == 2


def test_pool_normaliser_knows_the_spread_of_each_term() -> None:
    # exp(-p)/Z_p = 1/4 and 3/4, exp(c)/Z_c = 1/3 and 2/3: each 1/4 and 1/6 from their mean, 1/2.
    normaliser = scoring.pool_normaliser([-1.0, -1 - math.log(3)], [0.0, math.log(2)])
    assert (normaliser.std_p, normaliser.std_c) == pytest.approx((1 / 4, 1 / 6))


@pytest.mark.parametrize("n", [1, 3, 1000])
def test_a_spread_of_rounding_is_none(n: int) -> None:
    rounding = 1e-7 * np.random.default_rng(n).standard_normal(n)
    normaliser = scoring.pool_normaliser(rounding - 2.0, np.full(n, 0.7))
    assert (normaliser.std_p, normaliser.std_c) == (0.0, 0.0)


# ----------------------------------------------------------------------------------------------- log Z, part by part


@given(
    st.lists(
        st.tuples(arrays(np.float64, st.integers(0, 9), elements=st.floats(-2000, 2000)), st.sampled_from([1.0, 7.5])),
        max_size=6,
    )
)
def test_a_pool_in_parts_has_scipys_logsumexp(parts: list[tuple[np.ndarray, float]]) -> None:
    term = scoring.PoolTerm()
    for values, weight in parts:
        term.add(values, weight)
    values = np.concatenate([values for values, _ in parts] or [np.empty(0)])
    weights = np.concatenate([np.full(len(values), weight) for values, weight in parts] or [np.empty(0)])
    assert term.size == weights.sum()
    if len(values):
        assert term.log_sum == pytest.approx(logsumexp(values, b=weights), rel=1e-12, abs=1e-12)
    else:
        assert term.log_sum == -math.inf


@given(st.lists(st.lists(st.tuples(SCORES, ENTROPIES), max_size=7), max_size=5))
def test_a_pool_in_parts_is_the_pool(parts: list[list[tuple[float, float]]]) -> None:
    terms = scoring.PoolTerm(), scoring.PoolTerm()
    for part in parts:
        terms[0].add([-p for p, _ in part])
        terms[1].add([c for _, c in part])
    p, c = np.array([pair for part in parts for pair in part]).reshape(-1, 2).T
    found, whole = scoring.streamed_normaliser(*terms), scoring.pool_normaliser(p, c)
    assert found.size == whole.size
    assert (found.log_z_p, found.log_z_c) == pytest.approx((whole.log_z_p, whole.log_z_c), rel=1e-12, abs=1e-12)
    assert (found.std_p, found.std_c) == pytest.approx((whole.std_p, whole.std_c), abs=2 * scoring.CONSTANT)


def test_the_spread_of_a_large_pool_of_equal_texts_is_none_and_a_small_one_is_found() -> None:
    equal, nearly = scoring.PoolTerm(), scoring.PoolTerm()
    for _ in range(2000):
        equal.add(np.full(500, 1.7))
        nearly.add([1.7, 1.7 + 1e-4])  # exp is 1e-4 apart, in units of the mean: half of it is the deviation
    assert equal.variation == 0.0
    assert nearly.variation == pytest.approx(5e-5, rel=1e-3)


def test_weights_stand_for_texts_that_were_not_looked_at() -> None:
    # exp(-p) is 1 and 3, the second of these for 3 texts: 1 + 3 + 3 + 3 = 10 over 4, or 20 over a pool of 8.
    p, c = scoring.PoolTerm(), scoring.PoolTerm()
    p.add([0.0])
    p.add([math.log(3)], 3.0)
    c.add(np.zeros(8))
    found = scoring.streamed_normaliser(p, c)
    assert (found.size, found.log_z_c) == (8, pytest.approx(math.log(8)))
    assert found.log_z_p == pytest.approx(math.log(20))
    assert found.std_p == pytest.approx(math.sqrt(3 / 4) / 20)  # 1, 3, 3, 3: variance 3/4, in parts of 20
    assert found.std_c == 0.0


# -------------------------------------------------------------------------------------------------------------- Eq. 8


def test_acquisition_score_is_that_worked_out_by_hand() -> None:
    # lambda = 1/2: weights 1/3 and 2/3. exp(-p)/Z_p = e/(e+e^2), e^2/(e+e^2) = 1/(1+e), e/(1+e) = .26894, .73106;
    # exp(c)/Z_c = 1/3, 2/3. So s = .26894/3 + 2/9 = .31187 and .73106/3 + 4/9 = .68813.
    p, c = [-1.0, -2.0], [0.0, math.log(2)]
    scores = scoring.acquisition_score(p, c, scoring.pool_normaliser(p, c))
    assert scores == pytest.approx([0.31187, 0.68813], abs=1e-5)


def test_acquisition_terms_weigh_explanations_by_lambda_over_one_plus_lambda() -> None:
    # lambda = 3: weights 3/4 and 1/4; Z_p = Z_c = 1 (their logarithms 0), so 3/4 e^0 and 1/4 e^0.
    explanation, uncertainty = scoring.acquisition_terms([0.0], [0.0], Normaliser(0.0, 0.0, 1), 3.0)
    assert (explanation[0], uncertainty[0]) == (0.75, 0.25)


def test_acquisition_score_with_lambda_zero_is_the_entropy_alone() -> None:
    p, c = [-1.0, -9.0], [0.0, math.log(2)]
    scores = scoring.acquisition_score(p, c, scoring.pool_normaliser(p, c), lambda_=0.0)
    assert scores == pytest.approx([1 / 3, 2 / 3])


@given(POOLS, st.floats(0, 10))
def test_acquisition_score_equals_the_formula_in_plain_python(pool: list[tuple[float, float]], lambda_: float) -> None:
    p, c = zip(*pool, strict=True)
    z_p, z_c = sum(math.exp(-value) for value in p), sum(math.exp(value) for value in c)
    expected = [
        lambda_ / (1 + lambda_) * math.exp(-p_i) / z_p + 1 / (1 + lambda_) * math.exp(c_i) / z_c for p_i, c_i in pool
    ]
    found = scoring.acquisition_score(p, c, scoring.pool_normaliser(p, c), lambda_)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert found.sum() == pytest.approx(1.0)


def test_acquisition_score_stays_finite_where_exp_alone_would_overflow() -> None:
    p, c = np.array([-1000.0, -1001.0]), np.zeros(2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = scoring.acquisition_score(p, c, scoring.pool_normaliser(p, c))
    # exp(1000)/(exp(1000)+exp(1001)) = 1/(1+e) = .26894: 1/3 of it, and 2/3 of 1/2.
    assert scores[0] == pytest.approx(0.26894 / 3 + 1 / 3, abs=1e-5)


def test_acquisition_score_under_a_stored_normaliser_does_not_depend_on_company() -> None:
    pool = scoring.pool_normaliser([-1.0, -2.0, -3.0], [0.1, 0.2, 0.3])
    together = scoring.acquisition_score([-1.0, -2.5], [0.1, 0.9], pool)
    alone = scoring.acquisition_score([-2.5], [0.9], pool)
    assert together[1] == alone[0]


@given(POOLS)
def test_acquisition_score_rises_with_the_entropy_and_falls_with_the_explanation_score(
    pool: list[tuple[float, float]],
) -> None:
    p, c = (np.array(values) for values in zip(*pool, strict=True))
    normaliser = scoring.pool_normaliser(p, c)
    scores = scoring.acquisition_score(p, c, normaliser)
    assert (scoring.acquisition_score(p - 0.5, c, normaliser) >= scores).all()
    assert (scoring.acquisition_score(p, c + 0.5, normaliser) > scores).all()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("acquisition", ["paper", "standardized"])
def test_scores_of_an_empty_pool_are_empty(acquisition: Acquisition) -> None:
    scores = scoring.acquisition_score([], [], scoring.pool_normaliser([], []), acquisition=acquisition)
    assert scores.shape == (0,)
    assert scoring.ranks([]).shape == (0,)


# ------------------------------------------------------------------------------------------- Eq. 8, terms standardised

# exp(-p)/Z_p = 1/7, 2/7, 4/7, which are -4, -1, 5 parts of 21 from their mean 1/3; std = sqrt((16 + 1 + 25)/3)/21 =
# sqrt(14)/21, so they are -4, -1, 5 over sqrt(14) standardised. exp(c)/Z_c the other way round: 5, -1, -4.
P3 = [-1.0, -1 - math.log(2), -1 - math.log(4)]
C3 = [math.log(4), math.log(2), 0.0]


@pytest.mark.parametrize(
    ("lambda_", "expected"),
    [
        (0.0, [5, -1, -4]),
        (0.5, [2, -1, -1]),  # (-4, -1, 5)/3 + (10, -2, -8)/3
        (1.0, [0.5, -1, 0.5]),  # (-4, -1, 5)/2 + (5, -1, -4)/2
        (3.0, [-7 / 4, -1, 11 / 4]),  # (-12, -3, 15)/4 + (5, -1, -4)/4
    ],
)
def test_standardised_score_is_that_worked_out_by_hand(lambda_: float, expected: list[float]) -> None:
    pool = scoring.pool_normaliser(P3, C3)
    scores = scoring.acquisition_score(P3, C3, pool, lambda_, "standardized")
    assert scores * math.sqrt(14) == pytest.approx(expected)


@given(POOLS, st.floats(0, 10))
def test_standardised_score_equals_scipys_z_scores(pool: list[tuple[float, float]], lambda_: float) -> None:
    p, c = (np.array(values) for values in zip(*pool, strict=True))
    assume(all(np.ptp(values) > 1e-3 for values in (p, c)))
    expected = (lambda_ * zscore(np.exp(-p)) + zscore(np.exp(c))) / (1 + lambda_)
    found = scoring.acquisition_score(p, c, scoring.pool_normaliser(p, c), lambda_, "standardized")
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@given(POOLS)
def test_standardised_terms_have_mean_zero_and_the_weights_for_spread(pool: list[tuple[float, float]]) -> None:
    p, c = (np.array(values) for values in zip(*pool, strict=True))
    terms = scoring.acquisition_terms(p, c, scoring.pool_normaliser(p, c), 3.0, "standardized")
    for term, values, weight in zip(terms, (p, c), (3 / 4, 1 / 4), strict=True):
        assert term.mean() == pytest.approx(0, abs=1e-6)
        if np.ptp(values) > 1e-3:
            assert term.std() == pytest.approx(weight)


@pytest.mark.filterwarnings("error")
def test_a_constant_term_counts_nothing_when_standardised() -> None:
    equal, differing = [-1.3] * 3, [math.log(1), math.log(2), math.log(3)]
    # exp(c)/Z_c = 1/6, 2/6, 3/6: -1, 0, 1 times sqrt(3/2); two thirds of that at lambda 1/2.
    scores = scoring.acquisition_score(equal, differing, scoring.pool_normaliser(equal, differing), 0.5, "standardized")
    assert scores == pytest.approx([-math.sqrt(2 / 3), 0, math.sqrt(2 / 3)])
    alone = scoring.pool_normaliser([-2.0], [0.4])
    assert scoring.acquisition_score([-2.0, -9.0], [0.4, 0.1], alone, 0.5, "standardized").tolist() == [0, 0]


def test_standardised_score_under_a_stored_normaliser_does_not_depend_on_company() -> None:
    pool = scoring.pool_normaliser(P3, C3)
    inside = scoring.acquisition_score(P3, C3, pool, 0.5, "standardized")
    # A text that was not in the pool, with exp(-p) = 7e and exp(c) = 7: parts 1 of Z_p and of Z_c, 14/21 above 1/3.
    outside = scoring.acquisition_score([-1 - math.log(7), P3[0]], [math.log(7), C3[0]], pool, 0.5, "standardized")
    assert outside[0] * math.sqrt(14) == pytest.approx(14)
    assert outside[1] == inside[0]


@pytest.mark.filterwarnings("error")
def test_standardised_score_stays_finite_where_exp_alone_would_overflow() -> None:
    p, c = np.array([-1000.0, -1000 - math.log(3)]), np.zeros(2)
    scores = scoring.acquisition_score(p, c, scoring.pool_normaliser(p, c), 1.0, "standardized")
    assert scores == pytest.approx([-0.5, 0.5])  # of two texts one is a std below the mean, one above


def test_a_normaliser_without_spread_is_enough_for_the_papers_acquisition_alone() -> None:
    older = Normaliser(1.0, 2.0, 3)
    assert np.isfinite(scoring.acquisition_score([-1.0], [0.5], older)).all()
    with pytest.raises(ValueError, match="knows std_p and std_c"):
        scoring.acquisition_score([-1.0], [0.5], older, acquisition="standardized")


# -------------------------------------------------------------------------------------------------------------- ranks


def test_order_is_highest_first_and_ties_keep_the_pools_order() -> None:
    assert scoring.order([0.2, 0.5, 0.5, 0.1]).tolist() == [1, 2, 0, 3]


def test_ranks_number_the_items_from_the_first_to_ask_for() -> None:
    assert scoring.ranks([0.2, 0.5, 0.5, 0.1]).tolist() == [3, 1, 2, 4]


def test_order_of_many_ties_is_the_pools() -> None:
    assert scoring.order(np.zeros(5000)).tolist() == list(range(5000))


@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), max_size=30))
def test_order_equals_pythons_stable_sort_and_ranks_invert_it(scores: list[float]) -> None:
    order = scoring.order(scores)
    assert order.tolist() == sorted(range(len(scores)), key=lambda index: -scores[index])
    assert [scoring.ranks(scores)[index] for index in order] == list(range(1, len(scores) + 1))
