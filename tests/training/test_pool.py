from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.model.errors import InputError
from training.data import Example
from training.pool import Pool, check_budget, initial_set

EXAMPLES = [Example(name, {"text": name}, "x", None) for name in "cabde"]


def test_labeled_keeps_the_order_of_labeling_and_unlabeled_the_pools() -> None:
    pool = Pool(EXAMPLES)
    pool.label(["d", "a"])
    pool.label(["c"])
    assert pool.labeled_ids == ["d", "a", "c"]
    assert [example.id for example in pool.labeled] == ["d", "a", "c"]
    assert [example.id for example in pool.unlabeled] == ["b", "e"]
    assert len(pool) == 5


@pytest.mark.parametrize(("wrong", "message"), [("z", "'z' is not in the pool of 5"), ("d", "'d' is labeled already")])
def test_a_wrong_id_labels_nothing(wrong: str, message: str) -> None:
    pool = Pool(EXAMPLES)
    pool.label(["d"])
    with pytest.raises(InputError, match=message):
        pool.label(["a", wrong])
    assert pool.labeled_ids == ["d"]


def test_an_id_cannot_be_labeled_twice_at_once() -> None:
    with pytest.raises(InputError, match="'a' is labeled already"):
        Pool(EXAMPLES).label(["a", "a"])


def test_a_pool_needs_different_ids() -> None:
    with pytest.raises(ValueError, match="different ids"):
        Pool([EXAMPLES[0], EXAMPLES[0]])


@given(st.integers(0, 5), st.integers(0, 2**40))
def test_an_initial_set_is_a_draw_without_repeats_that_its_number_repeats(size: int, seed: int) -> None:
    drawn = initial_set(EXAMPLES, size, seed)
    assert len(set(drawn)) == size
    assert set(drawn) <= set("abcde")
    assert drawn == initial_set(EXAMPLES, size, seed)
    assert drawn == initial_set(EXAMPLES, 5, seed)[:size]


def test_every_text_is_equally_likely_in_an_initial_set() -> None:
    drawn = Counter(id_ for seed in range(2000) for id_ in initial_set(EXAMPLES, 2, seed))
    # 2 of 5 in each of 2000 draws: 800 expected, standard deviation 22
    assert all(700 < drawn[id_] < 900 for id_ in "abcde")


def test_an_initial_set_larger_than_the_pool_names_both_numbers() -> None:
    with pytest.raises(InputError, match=r"6 texts .* pool of 5"):
        initial_set(EXAMPLES, 6, 0)


def test_a_budget_has_to_fit_the_pool() -> None:
    check_budget(5, 1, 5)
    check_budget(5, 5, 5)
    for pool_size, query_size, budget, message in [
        (5, 0, 5, "query size is 0"),
        (5, 6, 9, "query size of 6 is larger than the pool of 5"),
        (5, 3, 2, "budget of 2 is smaller than the query size of 3"),
        (5, 3, 6, "budget of 6 is larger than the pool of 5"),
    ]:
        with pytest.raises(InputError, match=message):
            check_budget(pool_size, query_size, budget)
