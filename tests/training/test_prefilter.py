"""Which texts a prefilter has explained, and what share of the true top it kept: by hand, and against all scores."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.model.errors import InputError
from training.prefilter import Draw, Kept, Prefilter, kept_share
from training.strategies import QueryStrategy, query_strategy


def test_the_share_that_is_kept_is_that_worked_out_by_hand() -> None:
    # Candidates 9, 7, 5, 1; 2 of 6 others were sampled, with 8 and 3, each for 3 texts. From the top: 9 is one text,
    # 8 stands for three, 7 is the fifth. So 2 of the top 5 are candidates, and 3 of the top 6.
    scores = np.array([7.0, 8.0, 1.0, 9.0, 3.0, 5.0])
    is_candidate = np.array([True, False, True, True, False, True])
    assert kept_share(scores, is_candidate, 3.0, 5) == pytest.approx(2 / 5)
    assert kept_share(scores, is_candidate, 3.0, 6) == pytest.approx(3 / 6)
    assert kept_share(scores, is_candidate, 3.0, 1) == 1.0
    # The top 2 hold one of the three texts that 8 stands for, the top 10 are all texts.
    assert kept_share(scores, is_candidate, 3.0, 2) == pytest.approx(1 / 2)
    assert kept_share(scores, is_candidate, 3.0, 10) == pytest.approx(4 / 10)


def test_a_pool_smaller_than_the_query_is_the_top_itself() -> None:
    assert kept_share(np.array([2.0, 1.0]), np.array([True, False]), 1.0, 50) == 0.5


def test_ties_are_broken_by_the_pools_order() -> None:
    equal = np.ones(4)
    assert kept_share(equal, np.array([True, False, True, False]), 1.0, 1) == 1.0
    assert kept_share(equal, np.array([False, True, True, False]), 1.0, 2) == 0.5


@pytest.mark.parametrize(("scores", "size"), [([], 1), ([1.0], 0)])
def test_nothing_has_no_share(scores: list[float], size: int) -> None:
    with pytest.raises(ValueError, match="at least one"):
        kept_share(np.array(scores), np.ones(len(scores), dtype=bool), 1.0, size)


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=1, max_size=40), st.integers(1, 40))
def test_with_all_others_sampled_the_share_is_exact(texts: list[tuple[int, bool]], size: int) -> None:
    scores = np.array([score for score, _ in texts], dtype=np.float64)
    is_candidate = np.array([candidate for _, candidate in texts])
    size = min(size, len(texts))
    top = sorted(range(len(texts)), key=lambda i: -scores[i])[:size]  # Python's sort keeps the order of ties
    assert kept_share(scores, is_candidate, 1.0, size) == pytest.approx(sum(is_candidate[top]) / size)


def test_the_estimate_is_right_on_average_where_a_sampled_text_stands_for_few() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=2000)
    is_candidate = rng.random(2000) < 1 / (1 + np.exp(-2 * scores))  # good texts are more often candidates
    truth = is_candidate[np.argsort(-scores)[:200]].mean()
    others = np.flatnonzero(~is_candidate)
    found = []
    for _ in range(200):
        explained = np.sort(np.r_[np.flatnonzero(is_candidate), rng.choice(others, 250, replace=False)])
        found.append(kept_share(scores[explained], is_candidate[explained], len(others) / 250, 200))
    assert np.mean(found) == pytest.approx(truth, abs=0.01)


def test_candidates_are_the_first_and_a_seeded_sample_of_the_others_is_drawn() -> None:
    prefilter = Prefilter(ratio=2.5, sample=20)
    draw = prefilter.draw(100, 3, np.random.default_rng(7))
    assert draw.candidates == 8  # 7.5 are not less than 8
    assert len(set(draw.sampled.tolist())) == 20
    assert draw.sampled.min() >= 8
    assert draw.sampled.max() < 100
    assert draw.sampled.tolist() == sorted(draw.sampled.tolist())
    assert draw.weight == pytest.approx(92 / 20)
    assert draw.explained == 28
    assert prefilter.draw(100, 3, np.random.default_rng(7)).sampled.tolist() == draw.sampled.tolist()
    assert prefilter.draw(100, 3, np.random.default_rng(8)).sampled.tolist() != draw.sampled.tolist()


@pytest.mark.parametrize(
    ("ratio", "size", "candidates"), [(1.1, 50, 55), (1.1, 51, 57), (4.35, 100, 435), (1e300, 50, 1000)]
)
def test_the_candidates_are_as_many_as_the_ratio_says_and_rounded_up(ratio: float, size: int, candidates: int) -> None:
    assert Prefilter(ratio=ratio).draw(1000, size, np.random.default_rng(0)).candidates == candidates


@pytest.mark.parametrize(("n", "candidates", "sampled"), [(0, 0, 0), (5, 5, 0), (11, 10, 1), (40, 10, 20)])
def test_small_pools_are_explained_as_far_as_they_go(n: int, candidates: int, sampled: int) -> None:
    draw = Prefilter(ratio=2.0, sample=20).draw(n, 5, np.random.default_rng(0))
    assert (draw.candidates, len(draw.sampled)) == (candidates, sampled)
    assert draw.weight * sampled == n - candidates


def test_what_was_kept_is_told_in_a_line() -> None:
    draw = Draw(1200, 2, np.array([4, 900]))
    kept = Kept.measured(draw, np.array([4.0, 3.0, 2.0, 1.0]), np.array([True, True, False, False]), 2)
    assert str(kept) == "explained 4 of 1,200 texts; keeps about 100% of the top 2, estimated from 2 of 1,198 others"
    assert str(Kept(9, 9, 4, 5, 2, 0.5)) == "explained 9 of 9 texts; keeps 50% of the top 2"
    assert Kept.measured(Draw(0, 0, np.empty(0, np.int64)), np.empty(0), np.empty(0, bool), 2).kept_share is None


@pytest.mark.parametrize(
    ("ratio", "sample", "message"),
    [
        (0.5, None, r"--prefilter: .*greater than or equal to 1, found 0\.5"),
        (math.nan, None, "--prefilter: "),
        (math.inf, None, "--prefilter: "),
        (2.0, 0, "--prefilter-sample: .*found 0"),
        (None, 10, "give --prefilter R too"),
    ],
)
def test_a_setting_without_meaning_is_refused(ratio: float | None, sample: int | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Prefilter.of(ratio, sample)


def test_only_strategies_that_read_explanation_scores_have_any_to_spare() -> None:
    assert Prefilter.of(None, None) is None
    prefilter = Prefilter.of(3.0, None)
    assert prefilter == Prefilter(ratio=3.0, sample=100)
    for name in ("xal", "xal-std", "xal-no-me"):
        prefilter.check(query_strategy(name))
    for name in ("entropy", "random"):
        with pytest.raises(InputError, match=f"the strategy {name} reads none; leave it out"):
            prefilter.check(query_strategy(name))


def test_a_strategy_without_a_score_cannot_be_told_what_it_loses() -> None:
    needs = frozenset({"explanation_scores"})
    first = QueryStrategy("first", "none", True, needs, lambda scores, size, rng: np.arange(size))  # noqa: ARG005
    with pytest.raises(InputError, match="the strategy first gives none; give it a score, or leave --prefilter out"):
        Prefilter(ratio=2).check(first)
