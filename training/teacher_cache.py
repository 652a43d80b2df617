"""Every request ever made to a paid teacher, in one SQLite file: what was asked, what came back, what it cost.

The file is the memory (nothing paid for is asked twice) and the wallet (the cap counts all that was ever spent through
this file, by any run, model or process). A request is written at its worst-case price *before* it leaves and corrected
when its bill is known, so neither a killed process nor a second one sharing the file can make the sum too small.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from service.model.errors import InputError

SCHEMA_VERSION = 1
APPLICATION_ID = 0x58414C54  # "XALT": tells a teacher cache from any other SQLite file
LOCK_TIMEOUT_S = 60.0

SCHEMA = (
    """CREATE TABLE requests (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL,                   -- SHA-256 of model, sampling and prompt
    model TEXT NOT NULL,
    sampling TEXT NOT NULL,              -- JSON
    prompt TEXT NOT NULL,
    answer TEXT,                         -- as it came; NULL while in flight, and for ever where it was lost
    prompt_tokens INTEGER NOT NULL,      -- as billed; the worst case where the bill is not known
    completion_tokens INTEGER NOT NULL,
    cost REAL NOT NULL,
    asked_at TEXT NOT NULL,              -- UTC, ISO 8601
    seconds REAL                         -- from question to answer or failure; NULL while in flight or lost
)""",
    "CREATE INDEX answered ON requests (key) WHERE answer IS NOT NULL",
    "CREATE INDEX spent ON requests (prompt_tokens, completion_tokens, cost)",  # the sums never read a prompt
)


@dataclass(frozen=True)
class Bill:
    """Tokens and money (in the currency of the prices) of one request or of many."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Bill) -> Bill:
        return Bill(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cost + other.cost,
        )


@dataclass(frozen=True)
class Cap:
    """What may be spent through one cache file in its whole life; None is no limit."""

    tokens: int | None
    cost: float | None

    def allows(self, bill: Bill) -> bool:
        return (self.tokens is None or bill.tokens <= self.tokens) and (self.cost is None or bill.cost <= self.cost)


@dataclass(frozen=True)
class Question:
    """One prompt for one model with one way of sampling: what makes two requests the same.

    The server's address is no part of it: the same model answers elsewhere too.
    """

    model: str
    sampling: Mapping[str, float | int | None]
    prompt: str

    @property
    def key(self) -> str:
        """SHA-256 (hexadecimal) of model, sampling and prompt."""
        return hashlib.sha256(json.dumps([self.model, self.sampling, self.prompt], sort_keys=True).encode()).hexdigest()


class TeacherCache:
    """The open cache file; a context manager. To be used by the thread that opened it; processes may share the file.

    Written answer by answer in write-ahead mode: what is written survives the process being killed at any moment.
    Raises InputError where the file is not a teacher cache, or one of another version.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._claims: BinaryIO | None = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self.path, timeout=LOCK_TIMEOUT_S, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise InputError(f"{self.path}: cannot be opened as a teacher cache ({error})") from None
        try:
            self._prepare()
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise InputError(
                f"{self.path}: cannot be used as a teacher cache ({error}); give another path, or move this file away"
            ) from None
        except InputError:
            self._db.close()
            raise

    def __enter__(self) -> TeacherCache:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()
        if self._claims is not None:
            self._claims.close()

    def answer(self, key: str) -> str | None:
        """The first answer that came to a question, as it came; None if there is none yet."""
        row = self._db.execute(
            "SELECT answer FROM requests WHERE key = ? AND answer IS NOT NULL ORDER BY id LIMIT 1", (key,)
        ).fetchone()
        return None if row is None else str(row[0])

    def spent(self) -> Bill:
        """All that was ever spent through this file, requests in flight at their worst case."""
        row = self._db.execute("SELECT SUM(prompt_tokens), SUM(completion_tokens), SUM(cost) FROM requests").fetchone()
        return Bill(*row) if row[0] is not None else Bill()

    def reserve(self, question: Question, worst: Bill, cap: Cap) -> int | None:
        """Write down a request that is about to leave, at its worst case; None if that could exceed the cap.

        Check and entry are one transaction, so the cap holds over all processes that share the file.
        """
        with self._transaction():
            if not cap.allows(self.spent() + worst):
                return None
            cursor = self._db.execute(
                "INSERT INTO requests (key, model, sampling, prompt, prompt_tokens, completion_tokens, cost, asked_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    question.key,
                    question.model,
                    json.dumps(question.sampling, sort_keys=True),
                    question.prompt,
                    worst.prompt_tokens,
                    worst.completion_tokens,
                    worst.cost,
                    datetime.now(UTC).isoformat(timespec="milliseconds"),
                ),
            )
            return cursor.lastrowid

    def settle(self, request: int, bill: Bill, answer: str | None, seconds: float) -> None:
        """Correct a request to what was billed (zero if it was turned away), and keep its answer if it had one, and its
        question none: what a model has learned from must be found again."""
        with self._transaction():
            key = self._db.execute("SELECT key FROM requests WHERE id = ?", (request,)).fetchone()[0]
            answer = answer if self.answer(key) is None else None
            self._db.execute(
                "UPDATE requests SET prompt_tokens = ?, completion_tokens = ?, cost = ?, answer = ?, seconds = ?"
                " WHERE id = ?",
                (bill.prompt_tokens, bill.completion_tokens, bill.cost, answer, seconds, request),
            )

    def claim(self, key: str) -> bool:
        """Whether this process may ask a question: nobody else is asking it through this file. Until ``unclaim``, or
        until the process ends, however it does, no other process may."""
        if self._claims is None:
            self._claims = self.path.with_name(f".{self.path.name}.asking").open("wb")
        try:
            fcntl.lockf(self._claims, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _offset(key))
        except BlockingIOError:
            return False
        return True

    def unclaim(self, key: str) -> None:
        """Let others ask a claimed question, should it still have no answer."""
        assert self._claims is not None, "only what was claimed can be let go of"
        fcntl.lockf(self._claims, fcntl.LOCK_UN, 1, _offset(key))

    def _prepare(self) -> None:
        self._db.execute("PRAGMA synchronous = NORMAL")  # in write-ahead mode safe against kill -9
        with self._transaction():
            mark = (self._pragma("application_id"), self._pragma("user_version"))
            empty = self._db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0] == 0
            if mark == (0, 0) and empty:
                for statement in SCHEMA:
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            elif mark[0] != APPLICATION_ID:
                raise InputError(
                    f"{self.path}: an SQLite file of another program; give another path for the teacher cache"
                )
            elif mark[1] != SCHEMA_VERSION:
                raise InputError(
                    f"{self.path}: a teacher cache of version {mark[1]}, this program reads version {SCHEMA_VERSION}; "
                    "use the program that wrote it, or give another path"
                )
        self._db.execute("PRAGMA journal_mode = WAL")

    def _pragma(self, name: str) -> Any:
        return self._db.execute(f"PRAGMA {name}").fetchone()[0]

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        # IMMEDIATE takes the write lock at once: a check and the entry that follows from it cannot be torn apart.
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")


def _offset(key: str) -> int:
    """Where in the file of claims a question's byte is: nothing is written there, it is only locked."""
    return int(key[:15], 16)
