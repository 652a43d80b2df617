"""Several values in one option of the command line."""

from __future__ import annotations

import math

from service.model.errors import InputError

MOST = 1000  # values in one list: a range that somebody mistyped must not fill the memory


def numbers(text: str) -> tuple[int, ...]:
    """``0-2,5`` -> (0, 1, 2, 5). Raises InputError for anything that is no such list of whole numbers from 0 on, and
    for one of more than MOST."""
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        ends = [first, last] if dash else [first]
        if not all(end.strip().isdecimal() for end in ends) or int(ends[0]) > int(ends[-1]):
            raise InputError(f"expected whole numbers such as 0-2 or 0,1,5, found {text!r}")
        values = range(int(ends[0]), int(ends[-1]) + 1)
        if values[-1] - values[0] >= MOST - len(found):
            raise InputError(f"expected at most {MOST} values, found more in {text!r}")
        found += values
    return tuple(found)


def weights(text: str) -> tuple[float, ...]:
    """``0.05,0.1`` -> (0.05, 0.1). Raises InputError for anything that is no such list of finite numbers from 0 on."""
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"expected numbers such as 0.1 or 0.05,0.1, found {text!r}") from None
    if not all(math.isfinite(value) and value >= 0 for value in found):
        raise InputError(f"expected finite numbers that are not negative, found {text!r}")
    return found


def names(text: str) -> tuple[str, ...]:
    """``xal, random`` -> ("xal", "random")."""
    return tuple(part.strip() for part in text.split(","))
