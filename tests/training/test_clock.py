"""Seconds by stage."""

import time

import pytest

from training.clock import Clock


def test_a_clock_measures_each_stage_in_its_order() -> None:
    clock = Clock()
    with clock("sleep"):
        time.sleep(0.05)
    with clock("nothing"):
        pass
    assert list(clock.seconds) == ["sleep", "nothing"]
    assert clock.seconds["sleep"] >= 0.05 > clock.seconds["nothing"]


def test_a_stage_that_fails_is_not_measured() -> None:
    clock = Clock()
    with pytest.raises(RuntimeError), clock("broken"):
        raise RuntimeError
    assert clock.seconds == {}
