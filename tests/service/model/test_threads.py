"""Threads of torch wait briefly, and are no more than pays, unless the user said how."""

import os

import pytest
import torch

from service.model import threads
from service.model.threads import limit_threads, wait_briefly

COUNT = torch.get_num_threads()


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch):
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    limit_threads.cache_clear()
    yield
    limit_threads.cache_clear()
    torch.set_num_threads(COUNT)


def test_threads_wait_briefly() -> None:
    wait_briefly()
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    assert int(os.environ["GOMP_SPINCOUNT"]) > 0


def test_threads_wait_as_they_were_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    wait_briefly()
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"
    assert "GOMP_SPINCOUNT" not in os.environ


@pytest.mark.parametrize("best", [1, 2, 4])
def test_there_are_fewer_threads_where_fewer_are_quicker(best: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(4)
    monkeypatch.setattr(threads, "_seconds_with", lambda count: max(count / best, best / count))
    limit_threads()
    assert torch.get_num_threads() == best


def test_there_are_as_many_threads_as_cores_where_it_makes_little_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(4)
    monkeypatch.setattr(threads, "_seconds_with", lambda count: 1.0 + count / 100)
    limit_threads()
    assert torch.get_num_threads() == 4


def test_a_number_of_threads_that_was_asked_for_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    torch.set_num_threads(4)
    monkeypatch.setattr(threads, "_seconds_with", float)
    limit_threads()
    assert torch.get_num_threads() == 4


def test_what_is_measured_takes_time() -> None:
    assert 0 < threads._seconds_with(1) < 10
