import multiprocessing
import sqlite3
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from service.model.errors import InputError
from training.teacher_cache import Bill, Cap, Question, TeacherCache

NO_CAP = Cap(None, None)
QUESTION = Question("teacher-1", {"temperature": 0.0}, "great: this is positive, explain why.")


def test_an_answer_is_found_by_a_later_process_as_it_came(tmp_path: Path) -> None:
    with TeacherCache(tmp_path / "new" / "cache.sqlite") as cache:
        assert cache.answer(QUESTION.key) is None
        request = cache.reserve(QUESTION, Bill(50, 20), NO_CAP)
        assert request is not None
        assert cache.answer(QUESTION.key) is None
        cache.settle(request, Bill(12, 7, 0.5), " Because.\n", 1.25)
    with TeacherCache(tmp_path / "new" / "cache.sqlite") as cache:
        assert cache.answer(QUESTION.key) == " Because.\n"
        assert cache.spent() == Bill(12, 7, 0.5)
    with sqlite3.connect(tmp_path / "new" / "cache.sqlite") as db:
        columns = "model, sampling, prompt, answer, prompt_tokens, completion_tokens, cost, seconds"
        row = db.execute(f"SELECT {columns} FROM requests").fetchone()
    assert row == ("teacher-1", '{"temperature": 0.0}', QUESTION.prompt, " Because.\n", 12, 7, 0.5, 1.25)


def test_the_first_answer_that_came_stays_whichever_was_asked_first(tmp_path: Path) -> None:
    with TeacherCache(tmp_path / "cache.sqlite") as cache:
        requests = [cache.reserve(QUESTION, Bill(), NO_CAP) for _ in range(2)]
        for request, answer in reversed(list(zip(requests, ("first asked", "second asked"), strict=True))):
            assert request is not None
            cache.settle(request, Bill(5, 1), answer, 0.1)
            assert cache.answer(QUESTION.key) == "second asked"  # a model may have learned from it by now
        assert cache.spent() == Bill(10, 2)


def test_a_question_is_claimed_by_one_process_until_it_lets_go_or_ends(tmp_path: Path) -> None:
    path, other = tmp_path / "cache.sqlite", Question("teacher-1", {}, "another")
    with TeacherCache(path) as cache:
        assert cache.claim(QUESTION.key)
        assert _claimed_elsewhere(path, [QUESTION.key, other.key]) == [False, True]
        cache.unclaim(QUESTION.key)
        assert _claimed_elsewhere(path, [QUESTION.key]) == [True]  # that process has ended, and its claim with it
        assert cache.claim(QUESTION.key)


def _claimed_elsewhere(path: Path, keys: list[str]) -> list[bool]:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_claim, path, keys).result(60)


def _claim(path: Path, keys: list[str]) -> list[bool]:
    return [TeacherCache(path).claim(key) for key in keys]


def test_the_key_depends_on_model_sampling_and_prompt_alone() -> None:
    others = [
        Question("teacher-2", {"temperature": 0.0}, QUESTION.prompt),
        Question("teacher-1", {"temperature": 0.1}, QUESTION.prompt),
        Question("teacher-1", {"temperature": 0.0}, QUESTION.prompt + " "),
    ]
    assert len({QUESTION.key, *(other.key for other in others)}) == 4
    one = Question("m", {"a": 1, "b": None}, "p")
    assert one.key == Question("m", {"b": None, "a": 1}, "p").key
    # Independently: printf '["m", {"a": 1, "b": null}, "p"]' | sha256sum. A key that changed would forget every answer.
    assert one.key == "3afc11441f4a1e7be55e823871f99666770d86d54fd878b761c7371abe90b7c3"


@pytest.mark.parametrize(
    ("cap", "fits"),
    [
        (Cap(100, None), True),
        (Cap(99, None), False),
        (Cap(None, 3.0), True),
        (Cap(None, 2.9), False),
        (Cap(100, 2.9), False),
        (NO_CAP, True),
    ],
)
def test_a_request_is_entered_only_if_its_worst_case_fits_beside_all_others(
    tmp_path: Path, cap: Cap, fits: bool
) -> None:
    with TeacherCache(tmp_path / "cache.sqlite") as cache:
        assert cache.reserve(QUESTION, Bill(30, 10, 1.0), NO_CAP) is not None  # in flight, at its worst: 40 tokens
        assert (cache.reserve(QUESTION, Bill(30, 30, 2.0), cap) is not None) == fits
        assert cache.spent() == (Bill(60, 40, 3.0) if fits else Bill(30, 10, 1.0))


def test_what_a_bill_leaves_of_its_worst_case_is_free_again(tmp_path: Path) -> None:
    cap = Cap(100, None)
    with TeacherCache(tmp_path / "cache.sqlite") as cache:
        request = cache.reserve(QUESTION, Bill(50, 50), cap)
        assert request is not None
        assert cache.reserve(QUESTION, Bill(50, 20), cap) is None
        cache.settle(request, Bill(20, 10), "Because.", 0.1)
        assert cache.reserve(QUESTION, Bill(50, 20), cap) is not None


def _spend(path: Path, cap: int) -> int:
    answered = 0
    with TeacherCache(path) as cache:
        while (request := cache.reserve(QUESTION, Bill(3, 4), Cap(cap, None))) is not None:
            cache.settle(request, Bill(2, 2), "Because.", 0.1)
            answered += 1
    return answered


def test_processes_that_start_together_never_exceed_the_cap_together(tmp_path: Path) -> None:
    # The last request needs 7 free tokens and then takes 4: 4 * (n - 1) + 7 <= 1001, so n = 249.
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        answered = pool.starmap(_spend, [(tmp_path / "cache.sqlite", 1001)] * 4)
    assert sum(answered) == 249
    with TeacherCache(tmp_path / "cache.sqlite") as cache:
        assert cache.spent() == Bill(498, 498)


def test_a_file_of_another_kind_or_version_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no database at all " * 50)
    with sqlite3.connect(tmp_path / "other.sqlite") as db:
        db.execute("CREATE TABLE recipes (name TEXT)")
    with TeacherCache(tmp_path / "newer.sqlite"), sqlite3.connect(tmp_path / "newer.sqlite") as db:
        db.execute("PRAGMA user_version = 2")
    for name, message in (
        ("notes.txt", "cannot be used as a teacher cache"),
        ("other.sqlite", "an SQLite file of another program"),
        ("newer.sqlite", "a teacher cache of version 2, this program reads version 1"),
    ):
        before = (tmp_path / name).read_bytes()
        with pytest.raises(InputError, match=f"{name}: {message}"):
            TeacherCache(tmp_path / name)
        assert (tmp_path / name).read_bytes() == before
    with pytest.raises(InputError, match=r"notes\.txt"):
        TeacherCache(tmp_path / "notes.txt" / "cache.sqlite")
