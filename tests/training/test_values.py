import pytest

from service.model.errors import InputError
from training.values import names, numbers, weights


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("0", (0,)),
        ("0-2", (0, 1, 2)),
        ("3,1", (3, 1)),
        ("0-1, 5", (0, 1, 5)),
        ("7-7", (7,)),
        ("10-12,2", (10, 11, 12, 2)),
    ],
)
def test_whole_numbers_are_listed_one_by_one_or_as_ranges(text: str, found: tuple[int, ...]) -> None:
    assert numbers(text) == found


@pytest.mark.parametrize("text", ["", "a", "-1", "2-0", "0-", "1.5", "0,,1", "0-1-2", "0x1"])
def test_what_is_no_list_of_whole_numbers_is_said(text: str) -> None:
    with pytest.raises(InputError, match="expected whole numbers such as 0-2"):
        numbers(text)


def test_weights_are_listed_one_by_one() -> None:
    assert weights("0.05,0.1, 1") == (0.05, 0.1, 1.0)
    with pytest.raises(InputError, match=r"expected numbers such as 0\.1"):
        weights("0.1-0.5")
    for text in ("nan", "0.1,inf", "-0.1"):
        with pytest.raises(InputError, match=f"expected finite numbers that are not negative, found '{text}'"):
            weights(text)


def test_a_mistyped_range_does_not_fill_the_memory() -> None:
    assert len(numbers("0-999")) == 1000
    for text in ("0-1000", "5,0-999", f"0-{10**12}"):
        with pytest.raises(InputError, match="expected at most 1000 values"):
            numbers(text)


def test_names_lose_the_blanks_around_them() -> None:
    assert names("xal, random ,entropy") == ("xal", "random", "entropy")
