"""Explanations that people voted on, and how far a score of explanations agrees with their votes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.model.errors import InputError
from training.records import iter_rows, place

FIELDS = ("sentence1", "sentence2")
LABELS = {"TRUE": "entailment", "FALSE": "contradiction", "neither": "neutral"}

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class JudgedText:
    """A text whose explanations people were shown. label: an id of the e-SNLI task. votes: how many of so many
    annotators accepted each explanation, in the order of the explanations."""

    fields: Mapping[str, str]
    label: str
    explanations: tuple[str, ...]
    votes: tuple[int, ...]
    annotators: tuple[int, ...]


@dataclass(frozen=True)
class Agreement:
    """How far scores agree with votes.

    pairwise: share of the pairs within a text, of different numbers of votes, in which the better voted explanation
    scores higher, ties counting half; 0 to 1, chance is 0.5. standard_error: over texts, whose pairs are not
    independent; None for a single text. texts, pairs: how many there were. top_accepted: share of all texts, pairs or
    none, whose highest scored explanation a majority of its annotators accepted. random_accepted: that of one drawn at
    random. top_standard_error: of the difference between the two.
    """

    pairwise: float
    standard_error: float | None
    texts: int
    pairs: int
    top_accepted: float
    random_accepted: float
    top_standard_error: float | None


def read_judged(path: Path) -> list[JudgedText]:
    """Rows with sentence1, sentence2, label (TRUE, FALSE, neither) and explanations [{text, votes, n_annotators}].

    Raises InputError, naming file and line, for a row that has another form, and for a file without rows.
    """
    judged = [_judged(row, place(path, number)) for number, row in iter_rows(path)]
    if not judged:
        raise InputError(f"{path}: expected explanations with votes, found no row; {_FORM}")
    return judged


_FORM = (
    'a row looks like {"sentence1": "...", "sentence2": "...", "label": "TRUE", "explanations": '
    '[{"text": "...", "votes": 2, "n_annotators": 3}, ...]}'
)


def _judged(row: Mapping[str, Any], where: str) -> JudgedText:
    label, explained = row.get("label"), row.get("explanations")
    if not isinstance(label, str) or label not in LABELS:
        raise InputError(f"{where}: the label {label!r} is unknown; expected {', '.join(LABELS)}")
    if not all(isinstance(row.get(name), str) for name in FIELDS):
        raise InputError(f"{where}: expected texts in {' and '.join(FIELDS)}; {_FORM}")
    if not isinstance(explained, list) or len(explained) < 2:
        raise InputError(f"{where}: expected two explanations or more; {_FORM}")
    for entry in explained:
        votes, annotators = (entry.get(key) if isinstance(entry, dict) else None for key in ("votes", "n_annotators"))
        if type(votes) is not int or type(annotators) is not int or annotators < 1 or not 0 <= votes <= annotators:
            raise InputError(
                f"{where}: expected 0 to n_annotators votes on every explanation, found {votes!r} of {annotators!r}; "
                f"{_FORM}"
            )
        if not isinstance(entry.get("text"), str) or not entry["text"].strip():
            raise InputError(f"{where}: expected the text of every explanation; {_FORM}")
    return JudgedText(
        {name: row[name] for name in FIELDS},
        LABELS[label],
        tuple(entry["text"] for entry in explained),
        tuple(entry["votes"] for entry in explained),
        tuple(entry["n_annotators"] for entry in explained),
    )


def agreement(scores: Sequence[Sequence[float]], judged: Sequence[JudgedText]) -> Agreement | None:
    """How far scores, one per explanation, agree with the votes; None where no text has two different numbers of them.

    scores: one row per text. Raises ValueError where they are not as many as the explanations.
    """
    right, pairs = pairs_in_order(scores, judged)
    if not pairs.sum():
        return None
    value, error = _ratio(right, pairs)
    shares = [np.array(text.votes) * 2 > np.array(text.annotators) for text in judged]
    highest = [np.array(row) == max(row) for row in scores]
    top = np.array([accepted[first].mean() for accepted, first in zip(shares, highest, strict=True)])
    random = np.array([accepted.mean() for accepted in shares])
    return Agreement(
        value,
        error,
        int((pairs > 0).sum()),
        int(pairs.sum()),
        float(top.mean()),
        float(random.mean()),
        float((top - random).std(ddof=1) / np.sqrt(len(top))) if len(top) > 1 else None,
    )


def difference(
    one: Sequence[Sequence[float]], other: Sequence[Sequence[float]], judged: Sequence[JudgedText]
) -> tuple[float, float | None] | None:
    """Pairwise agreement of one score less that of another on the same pairs, and its standard error over texts; None
    where there are no pairs."""
    (right, pairs), (right_too, _) = (pairs_in_order(scores, judged) for scores in (one, other))
    return _ratio(right - right_too, pairs) if pairs.sum() else None


def pairs_in_order(scores: Sequence[Sequence[float]], judged: Sequence[JudgedText]) -> tuple[Floats, Floats]:
    """Of each text: how many pairs of explanations with different votes are scored in their order, ties counting half,
    and how many such pairs there are. -> (n,), (n,)."""
    right, pairs = np.zeros(len(judged)), np.zeros(len(judged))
    for number, (row, text) in enumerate(zip(scores, judged, strict=True)):
        if len(row) != len(text.votes):
            raise ValueError(f"expected {len(text.votes)} scores, one per explanation, found {len(row)}")
        votes, own = np.array(text.votes), np.array(row, dtype=np.float64)
        better = votes[:, None] > votes  # (k, k)
        in_order = (own[:, None] > own) + 0.5 * (own[:, None] == own)
        right[number], pairs[number] = in_order[better].sum(), better.sum()
    return right, pairs


def _ratio(right: Floats, pairs: Floats) -> tuple[float, float | None]:
    """Sum over sum, and its standard error over the texts that have pairs (Cochran, Sampling Techniques, 6.4)."""
    right, pairs = right[pairs > 0], pairs[pairs > 0]
    n, value = len(pairs), float(right.sum() / pairs.sum())
    if n < 2:
        return value, None
    residuals = right - value * pairs
    return value, float(np.sqrt(n / (n - 1) * (residuals**2).sum()) / pairs.sum())


def shorter_first(judged: Iterable[JudgedText]) -> list[list[float]]:
    """A score that needs no model: the fewer words an explanation has, the higher."""
    return [[-float(len(text.split())) for text in item.explanations] for item in judged]


def word_overlap(judged: Iterable[JudgedText]) -> list[list[float]]:
    """A score that needs no model: the share of an explanation's different words that its text has too, 0 to 1."""
    found = []
    for item in judged:
        of_text = set().union(*(_words(value) for value in item.fields.values()))
        found.append([len(words & of_text) / max(1, len(words)) for words in map(_words, item.explanations)])
    return found


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))
