from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.model.errors import InputError
from training.data import Example
from training.splits import split_examples


def example(id_: str, text: str | None = None, split: str | None = None, label: str = "x") -> Example:
    return Example(id_, {"text": text or f"text {id_}"}, label, split)


def ids(examples: list[Example]) -> list[str]:
    return [one.id for one in examples]


def test_the_column_split_decides() -> None:
    data = [
        example("a", split="train"),
        example("b", split="test"),
        example("c", split="dev"),
        example("d", split="train"),
    ]
    splits = split_examples(data)
    assert (ids(splits.train), ids(splits.dev), ids(splits.test)) == (["a", "d"], ["c"], ["b"])
    assert splits.notes == []


def test_separate_files_replace_their_splits_of_the_data() -> None:
    data = [example("a", split="train"), example("b", split="test"), example("c", split="dev")]
    splits = split_examples(data, test=[example("t", split="train")], dev=[example("v")])
    assert (ids(splits.train), ids(splits.dev), ids(splits.test)) == (["a"], ["v"], ["t"])
    assert splits.notes == [
        "left out 1 example of split dev in the data: --dev names another file",
        "left out 1 example of split test in the data: --test names another file",
    ]


def test_a_fifth_is_held_out_for_each_label_in_proportion() -> None:
    data = [example(str(i), label="rare" if i % 10 == 0 else "common") for i in range(200)]
    splits = split_examples(data)
    assert Counter(one.label for one in splits.test) == {"common": 36, "rare": 4}
    assert sorted(ids(splits.train + splits.test), key=int) == [str(i) for i in range(200)]
    assert ids(splits.train) == sorted(ids(splits.train), key=int)  # the data's order
    assert ids(splits.test) != [str(i) for i in range(2, 200, 5)]  # drawn, not counted off
    assert splits.notes[0].startswith("held out 40 of 200 examples as the test set")
    assert split_examples(data) == splits


@given(st.lists(st.sampled_from("abc"), min_size=3, max_size=60))
def test_held_out_shares_are_a_fifth_up_to_rounding(labels: list[str]) -> None:
    data = [example(str(i), label=label) for i, label in enumerate(labels)]
    test = split_examples(data).test
    assert len(test) == (len(labels) + 2) // 5
    for label, count in Counter(labels).items():
        assert abs(sum(one.label == label for one in test) - count / 5) < 1


def test_a_pool_text_that_is_tested_on_is_dropped() -> None:
    data = [
        example("a", "same"),
        example("b", "other"),
        example("c", "same"),
        example("d", "developed"),
        example("e", "Same"),
    ]
    test = [example("t1", "same"), example("t2", "both"), example("t3", "same")]
    dev = [example("v1", "developed"), example("v2", "both")]
    splits = split_examples(data, test, dev)
    assert (ids(splits.train), ids(splits.dev), ids(splits.test)) == (["b", "e"], ["v1"], ["t1", "t2", "t3"])
    assert splits.notes == [
        "dropped 1 of 2 examples from the development set: the same text is in the test set",
        "dropped 2 of 5 examples from the pool: the same text is in the test set",
        "dropped 1 of 3 examples from the pool: the same text is in the development set",
    ]


def test_pairs_are_repeats_only_if_all_their_fields_are() -> None:
    pairs = [Example(i, {"one": one, "two": two}, "x", None) for i, one, two in [("a", "p", "q"), ("b", "q", "p")]]
    splits = split_examples(pairs, test=[Example("t", {"one": "p", "two": "q"}, "x", None)])
    assert ids(splits.train) == ["b"]


def test_ids_of_separate_files_are_made_different_from_the_datas() -> None:
    data = [example("0"), example("test:0")]
    splits = split_examples(data, test=[example("0", "t0"), example("1", "t1")], dev=[example("7", "v")])
    assert ids(splits.test) == ["test:test:0", "test:test:1"]
    assert ids(splits.dev) == ["7"]
    assert splits.notes == ["the ids of the test file got the prefix 'test:', for some stand in other files too"]


def test_an_empty_pool_or_test_set_is_an_error() -> None:
    with pytest.raises(InputError, match="the test set is empty"):
        split_examples([example("a", split="train"), example("b", split="dev")])
    with pytest.raises(InputError, match="the pool is empty"):
        split_examples([example("a", split="test")])
    with pytest.raises(
        InputError, match=r"the pool is empty.*; dropped 1 of 1 example from the pool: the same text is"
    ):
        split_examples([example("a", "same")], test=[example("t", "same")])
    with pytest.raises(InputError, match="the test set is empty"):
        split_examples([example("a")])
