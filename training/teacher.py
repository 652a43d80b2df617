"""The teacher: one explanation per (text, candidate label). Here: its interface, and the teacher recorded in a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from service.model.errors import InputError, XalError
from service.model.task import Task
from training.records import iter_rows, place

RECORDED = "recorded:"  # begins the name of a teacher that is a file


class TeacherError(XalError):
    """The teacher did not answer; the message says why and what to do. What it did answer is kept."""


class TeacherBudgetError(TeacherError):
    """The next request could exceed the cap; what was answered is kept, and a run with a higher cap goes on from it."""


@dataclass(frozen=True)
class Usage:
    """What asking took; usages add up.

    requests: sent, repeated attempts included. cached: answers that took no request of their own. Tokens and cost
    are as billed; a request whose bill never came (a time-out, a lost connection) counts at its worst case.
    """

    requests: int = 0
    cached: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.requests + other.requests,
            self.cached + other.cached,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cost + other.cost,
        )


@dataclass(frozen=True)
class Explained:
    """explanations: text id -> label id -> explanation, texts as asked for, labels in the task's order."""

    explanations: dict[str, dict[str, str]]
    usage: Usage


class Teacher(Protocol):
    """Explains texts. ``name`` goes into a model's lineage; ``covered`` holds the ids it can explain, None for any."""

    @property
    def name(self) -> str: ...

    @property
    def covered(self) -> frozenset[str] | None: ...

    def explain(self, texts: Mapping[str, Mapping[str, str]]) -> Explained:
        """Text id -> fields, to one explanation for every label of the task. Only these texts are asked about."""


class RecordedTeacher:
    """Explanations out of a JSONL file with rows ``{"id": ..., "explanations": {label id: text, ...}}``.

    The whole file is checked: InputError naming file and line for broken JSON, a missing key, an id that stands there
    twice, a label that the task does not have, an empty explanation. A row may leave labels out; its id then counts as
    covered only if none of the task's labels is missing.
    """

    def __init__(self, path: str | Path, task: Task) -> None:
        self._path = Path(path)
        self._labels = task.label_ids
        self._explanations: dict[str, dict[str, str]] = {}
        for number, row in iter_rows(self._path):
            where = place(self._path, number)
            key = _recorded_id(row, where)
            if key in self._explanations:
                raise InputError(f"{where}: the id {key!r} stands there twice; keep one of the rows")
            self._explanations[key] = _recorded_explanations(row, self._labels, where)
        if not self._explanations:
            raise InputError(f"{self._path}: expected explanations, found no row; {_ROW_FORM}")
        self.name = f"{RECORDED}{self._path.name}"
        self.covered = frozenset(key for key, texts in self._explanations.items() if len(texts) == len(self._labels))

    def explain(self, texts: Mapping[str, Mapping[str, str]]) -> Explained:
        """Raises InputError naming the file and the first ids that lack an explanation for any label."""
        missing = [key for key in texts if key not in self.covered]
        if missing:
            named = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
            raise InputError(
                f"{self._path}: no explanation for every label ({', '.join(self._labels)}) for {len(missing)} of "
                f"{len(texts)} selected ids: {named}; add them, or keep such texts out of the pool (--only-explained)"
            )
        return Explained({key: {x: self._explanations[key][x] for x in self._labels} for key in texts}, Usage())


_ROW_FORM = 'a row looks like {"id": "7", "explanations": {"label id": "text"}}'


def _recorded_id(row: Mapping[str, object], where: str) -> str:
    key = row.get("id")
    if not isinstance(key, str | int) or isinstance(key, bool) or key == "":
        raise InputError(f"{where}: expected an 'id' that is a text or a whole number, found {key!r}; {_ROW_FORM}")
    return str(key)


def _recorded_explanations(row: Mapping[str, object], labels: tuple[str, ...], where: str) -> dict[str, str]:
    texts = row.get("explanations")
    if not isinstance(texts, dict):
        raise InputError(f"{where}: expected 'explanations' by label id, found {type(texts).__name__}; {_ROW_FORM}")
    for label, text in texts.items():
        if label not in labels:
            raise InputError(f"{where}: the label {label!r} is not one of the task's: {', '.join(labels)}")
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"{where}: the explanation for {label!r} is empty or no text; write one or leave it out")
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            reason = "holds half of a surrogate pair, which is not valid Unicode"
            raise InputError(f"{where}: the explanation for {label!r} {reason}; write it anew") from None
    return {label: clean(text) for label, text in texts.items()}


def clean(text: str) -> str:
    """An explanation as it is used: no white space around it, single blanks within."""
    return " ".join(text.split())
