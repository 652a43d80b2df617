"""One process at a time: the second one is refused, or waits."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from service.model.errors import InputError
from training.locks import alone, in_turn


def test_a_directory_is_held_by_one_alone_until_it_is_let_go(tmp_path: Path) -> None:
    with alone(tmp_path), pytest.raises(InputError, match="another process is working on this run"), alone(tmp_path):
        pass
    with alone(tmp_path):
        pass


def test_who_comes_second_waits_for_the_first(tmp_path: Path) -> None:
    place, order, inside = tmp_path / "new" / "thing", list[str](), threading.Event()

    def first() -> None:
        with in_turn(place):
            inside.set()
            threading.Event().wait(0.2)
            order.append("first")

    thread = threading.Thread(target=first)
    thread.start()
    assert inside.wait(10)
    with in_turn(place):
        order.append("second")
    thread.join()
    assert order == ["first", "second"]
    assert list(place.parent.iterdir()) == []


def test_never_two_at_a_time_however_many_come_and_go(tmp_path: Path) -> None:
    inside: list[int] = []
    most = 0

    def come_and_go(number: int) -> None:
        nonlocal most
        for _ in range(50):
            with in_turn(tmp_path / "thing"):
                inside.append(number)
                most = max(most, len(inside))
                time.sleep(0.001)  # others run
                inside.remove(number)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(come_and_go, range(4)))
    assert most == 1


def test_what_fails_lets_the_next_one_in(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), in_turn(tmp_path / "thing"):
        _ = 1 // 0
    with in_turn(tmp_path / "thing"):
        pass
