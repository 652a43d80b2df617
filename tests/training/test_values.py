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


def test_names_lose_the_blanks_around_them() -> None:
    assert names("xal, random ,entropy") == ("xal", "random", "entropy")
