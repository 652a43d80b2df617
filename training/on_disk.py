"""Sorting what need not fit into memory: 8 or 16 bytes a text, in temporary files that vanish with the process."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

CHUNK = 65536  # numbers in memory at a time


def sorted_on_disk(parts: Iterable[NDArray[Any]], directory: Path | None = None) -> NDArray[Any]:
    """All numbers of all parts, in ascending order, as an array that lies in a nameless file in ``directory``.

    directory: the system's for temporary files unless given. Parts must share one dtype; without any, an empty array.
    """
    with tempfile.TemporaryFile(dir=directory) as stream:
        dtype: np.dtype[Any] = np.dtype(np.float64)
        for part in parts:
            dtype = part.dtype
            stream.write(part.tobytes())
        stream.flush()
        if stream.tell() == 0:
            return np.empty(0)
        values: NDArray[Any] = np.memmap(stream, dtype=dtype, mode="r+")
    values.sort()
    return values


def order_on_disk(parts: Iterable[ArrayLike], directory: Path | None = None) -> NDArray[np.float64]:
    """As scoring.order, for scores that come in parts: places from the highest to the lowest, ties in their order.

    (n,) whole numbers, as float64, in a file in ``directory``; exact below 2^53 texts.
    """

    def keys() -> Iterator[NDArray[np.complex128]]:
        # Complex numbers are sorted by their real part, then by the other: in place, unlike a sort of indices.
        first = 0
        for part in parts:
            scores = np.asarray(part, dtype=np.float64)
            key = np.empty(len(scores), dtype=np.complex128)
            key.real, key.imag = -scores, np.arange(first, first + len(scores))
            first += len(scores)
            yield key

    return sorted_on_disk(keys(), directory).imag


def ranks_on_disk(parts: Iterable[ArrayLike], directory: Path | None = None) -> NDArray[np.int64]:
    """As scoring.ranks, for scores that come in parts: 1 for the highest, ties in their order. (n,) in a file."""
    order = order_on_disk(parts, directory)
    ranks = array_on_disk(len(order), np.int64, directory)
    for first in range(0, len(order), CHUNK):
        places = order[first : first + CHUNK].astype(np.int64)
        ranks[places] = np.arange(first + 1, first + 1 + len(places))
    return ranks


def array_on_disk(n: int, dtype: type[np.generic], directory: Path | None = None) -> NDArray[Any]:
    """n zeros in a nameless file in ``directory``."""
    if n == 0:
        return np.empty(0, dtype=dtype)
    with tempfile.TemporaryFile(dir=directory) as stream:
        stream.truncate(n * np.dtype(dtype).itemsize)
        return np.memmap(stream, dtype=dtype, mode="r+", shape=(n,))
