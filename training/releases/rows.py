"""Rows as a release has them -> clean rows with a label of the task and one of three splits."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from service.model.errors import InputError

SPLITS = ("train", "dev", "test")
# What a release leaves undivided, and the parts of ten that go to the pool: the rest is dev, or dev and test in halves.
DIVIDED = {"train+dev": 9, "train+dev+test": 8}


@dataclass(frozen=True)
class ReleasedRow:
    """One row of a release.

    key: the row's file and number in it, such as ``train-17``; unique in the release. fields: the task's fields, as
    they stand there. label: in the release's coding. split: train, dev, test or a key of ``DIVIDED``. left_out: why the
    row is no part of the task, in words that go on from "12 rows", or None.
    """

    key: str
    fields: Mapping[str, str]
    label: str
    split: str
    left_out: str | None = None


@dataclass(frozen=True)
class ConvertedRow:
    """One row of the data file: clean fields, a label id of the task, split train, dev or test."""

    id: str
    fields: Mapping[str, str]
    label: str
    split: str

    def to_dict(self) -> dict[str, str]:
        """The row of the JSONL file."""
        return {"id": self.id, **self.fields, "label": self.label, "split": self.split}


@dataclass(frozen=True)
class Conversion:
    """A release as the project's own rows.

    rows: in the release's order. left_out: reason -> number of rows. divided: whether a split was drawn at random.
    """

    rows: list[ConvertedRow]
    left_out: dict[str, int]
    divided: bool


def convert(released: Iterable[ReleasedRow], name: str, labels: Mapping[str, str], seed: int) -> Conversion:
    """Clean and split the rows of a release; what cannot be used is left out and counted.

    name: opens every id. labels: the release's coding -> label id. Rows with an empty field or another label are left
    out. Undivided rows are split at random, seeded, each label in proportion (see divide).
    Raises InputError where a split is left without any row.
    """
    left_out: Counter[str] = Counter()
    kept: list[ConvertedRow] = []
    for row in released:
        fields = {field: clean(text) for field, text in row.fields.items()}
        reason = row.left_out or _unusable(fields, row.label, labels)
        if reason:
            left_out[reason] += 1
        else:
            kept.append(ConvertedRow(f"{name}-{row.key}", fields, labels[row.label.strip()], row.split))
    rows = divide(kept, seed)
    if empty := [split for split in SPLITS if not any(row.split == split for row in rows)]:
        found = "; ".join(f"left out {count} rows {reason}" for reason, count in left_out.items()) or "few rows at all"
        raise InputError(
            f"no row is left for {' and '.join(empty)}: expected the labels {', '.join(labels)} and texts in every "
            f"field; found {len(kept)} such rows, {found}; check that the release is complete"
        )
    return Conversion(rows, dict(left_out), divided=any(row.split in DIVIDED for row in kept))


def clean(text: str) -> str:
    """A text in Unicode's composed form (NFC), without white space around it."""
    return unicodedata.normalize("NFC", text).strip()


def divide(rows: list[ConvertedRow], seed: int) -> list[ConvertedRow]:
    """Undivided rows get a split, at random and stratified; all others keep theirs, and all keep their order.

    Each label's share in dev and in test differs from its share in all by less than one row. The same seed gives the
    same split of the same rows.
    """
    rng = np.random.default_rng(seed)
    split = [row.split for row in rows]
    for undivided in DIVIDED:
        indices = [index for index, row in enumerate(rows) if row.split == undivided]
        # Sorted by label within a random order: evenly spaced places then take each label in proportion.
        remaining = sorted(rng.permutation(indices).tolist(), key=lambda index: rows[index].label)
        sizes = split_sizes(len(indices), undivided)
        for name in undivided.split("+")[1:]:
            drawn = _evenly_spaced(remaining, sizes[name])
            for index in drawn:
                split[index] = name
            remaining = [index for index in remaining if index not in drawn]
        for index in remaining:
            split[index] = "train"
    return [ConvertedRow(row.id, row.fields, row.label, name) for row, name in zip(rows, split, strict=True)]


def split_sizes(count: int, undivided: str) -> dict[str, int]:
    """Split -> size, for ``count`` undivided rows.

    The pool gets nine or eight tenths of one row less than there are, rounded down. That is the rule behind the paper's
    sizes: 2,490 pairs of RTE -> 2240/250, 4,076 of MRPC -> 3667/409, 9,810 of CLEF -> 7847/981/982.
    """
    train = DIVIDED[undivided] * max(count - 1, 0) // 10
    held_out = undivided.split("+")[1:]
    if len(held_out) == 1:
        return {"train": train, held_out[0]: count - train}
    half = (count - train) // 2
    return {"train": train, held_out[0]: half, held_out[1]: count - train - half}


def _evenly_spaced(indices: list[int], size: int) -> set[int]:
    return {indices[(2 * place + 1) * len(indices) // (2 * size)] for place in range(size)}


def _unusable(fields: Mapping[str, str], label: str, labels: Mapping[str, str]) -> str | None:
    """Why a row cannot be used, in words that go on from "12 rows", or None."""
    for field, text in fields.items():
        if not text:
            return f"with an empty {field}"
        if any("\ud800" <= character <= "\udfff" for character in text):
            return f"with a {field} that is not valid Unicode"
    if label.strip() not in labels:
        return f"with the label {label.strip()!r}"
    return None
