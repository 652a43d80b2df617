"""Several values in one option of the command line."""

from __future__ import annotations

from service.model.errors import InputError


def numbers(text: str) -> tuple[int, ...]:
    """``0-2,5`` -> (0, 1, 2, 5). Raises InputError for anything that is no such list of whole numbers from 0 on."""
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        ends = [first, last] if dash else [first]
        if not all(end.strip().isdecimal() for end in ends) or int(ends[0]) > int(ends[-1]):
            raise InputError(f"expected whole numbers such as 0-2 or 0,1,5, found {text!r}")
        found += range(int(ends[0]), int(ends[-1]) + 1)
    return tuple(found)


def weights(text: str) -> tuple[float, ...]:
    """``0.05,0.1`` -> (0.05, 0.1). Raises InputError for anything that is no such list of numbers."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"expected numbers such as 0.1 or 0.05,0.1, found {text!r}") from None


def names(text: str) -> tuple[str, ...]:
    """``xal, random`` -> ("xal", "random")."""
    return tuple(part.strip() for part in text.split(","))
