"""Every strategy can be measured, and in a process of its own."""

import pytest

from benchmarks import strategies_memory
from benchmarks.strategies_memory import NAMES, Measured, main, measure, random_scores, table
from training.strategies import STRATEGIES
from training.strategies.interface import NEEDS


@pytest.mark.parametrize("name", NAMES)
def test_each_strategy_chooses_from_random_scores(name: str) -> None:
    found = measure(name, 500)
    assert (found.strategy, found.n) == (name, 500)
    assert 0 < found.before_mib <= found.peak_mib
    assert found.seconds > 0


def test_the_scores_are_those_that_are_needed_of_the_sizes_that_are_printed() -> None:
    scores = random_scores(7, NEEDS)
    assert scores.embeddings is not None
    assert scores.dropout_probabilities is not None
    assert scores.labeled is not None
    assert scores.embeddings.shape == (7, 512)
    assert scores.dropout_probabilities.shape == (7, 10, 3)
    assert len(scores.labeled.labels) == 500
    assert random_scores(7, {"probabilities"}).embeddings is None


def test_the_command_measures_in_a_process_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--strategy", "coreset", "--n", "500"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("500 texts, h_0 of 512, 10 passes, 3 labels, 500 labeled, query of 100\n")
    assert "| strategy | pool MiB | peak MiB | s |\n" in printed
    assert printed.splitlines()[-1].startswith("| coreset | ")


def test_a_row_of_the_table() -> None:
    assert list(table([Measured("cal", 9, 400.4, 512.6, 3.14)]))[-1] == "| cal | 400 | 513 | 3.1 |"
    assert set(STRATEGIES) < set(strategies_memory.NAMES)
