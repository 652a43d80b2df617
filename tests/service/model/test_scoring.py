"""Entropy, Eq. 6, log Z, Eq. 8 and ranks: by hand, and against implementations that share nothing with ours."""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import logsumexp
from scipy.stats import entropy as scipy_entropy

from service.model import scoring
from service.model.scoring import Normaliser

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


def test_scores_of_an_empty_pool_are_empty() -> None:
    assert scoring.acquisition_score([], [], scoring.pool_normaliser([], [])).shape == (0,)
    assert scoring.ranks([]).shape == (0,)


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
