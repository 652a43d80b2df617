"""What the open round has paid for is not forgotten by a kill."""

from pathlib import Path

from training.bill import BILL_FILE, billed, close_bill
from training.teacher import Usage


def test_starts_of_one_round_add_up_and_what_they_find_of_each_other_is_no_cached_answer(tmp_path: Path) -> None:
    paid = Usage(requests=7, cached=2, prompt_tokens=70, completion_tokens=35, cost=0.7)
    assert billed(tmp_path, "a", "teacher", paid) == paid
    assert billed(tmp_path, "a", "explanations", Usage(requests=1, cost=0.1)) == Usage(requests=1, cost=0.1)
    assert billed(tmp_path, "a", "teacher", Usage(cached=9)) == paid
    more = Usage(requests=1, cached=8, prompt_tokens=10, completion_tokens=5, cost=0.5)  # an answer was lost
    assert billed(tmp_path, "a", "teacher", more) == Usage(8, 2, 80, 40, 1.2)
    assert billed(tmp_path, "a", "explanations", Usage(cached=1)) == Usage(requests=1, cost=0.1)


def test_another_round_has_a_bill_of_its_own(tmp_path: Path) -> None:
    billed(tmp_path, "a", "teacher", Usage(requests=7))
    assert billed(tmp_path, "b", "teacher", Usage(cached=3)) == Usage(cached=3)
    billed(tmp_path, "b", "teacher", Usage(requests=1))
    close_bill(tmp_path)
    assert billed(tmp_path, "b", "teacher", Usage(cached=1)) == Usage(cached=1)


def test_what_cost_nothing_is_not_written_down(tmp_path: Path) -> None:
    billed(tmp_path, "a", "teacher", Usage(cached=3))
    assert not (tmp_path / BILL_FILE).exists()
    close_bill(tmp_path)
