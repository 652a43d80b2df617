"""Every strategy can be measured, and in a process of its own."""

from collections.abc import Callable

import numpy as np
import pytest

from benchmarks import strategies_memory
from benchmarks.strategies_memory import (
    NAMES,
    RIVALS,
    Measured,
    gradients,
    main,
    measure,
    random_scores,
    ratios,
    table,
)
from training.strategies.interface import NEEDS


@pytest.mark.parametrize("name", [*NAMES, *RIVALS])
def test_each_strategy_chooses_a_query_from_random_scores(name: str) -> None:
    found = strategies_memory._choice(name, 500)()
    chosen = np.asarray(found[1] if name in RIVALS else found)  # scikit-learn's says where the centres lie, too
    assert len(set(chosen.tolist())) == 100
    assert set(chosen.tolist()) <= set(range(500))


def test_the_choice_alone_is_timed_and_the_memory_is_that_before_it_and_at_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[str] = []
    memory = {(): 0.0, ("scores",): 80.0, ("scores", "choice"): 95.0}
    seconds = {(): 0.0, ("scores",): 7.0, ("scores", "choice"): 9.5}

    def choice(name: str, n: int) -> Callable[[], None]:
        assert (name, n) == ("cal", 500)
        done.append("scores")
        return lambda: done.append("choice")

    monkeypatch.setattr(strategies_memory, "_choice", choice)
    monkeypatch.setattr(strategies_memory, "_peak_mib", lambda: memory[tuple(done)])
    monkeypatch.setattr(strategies_memory, "perf_counter", lambda: seconds[tuple(done)])
    assert measure("cal", 500) == Measured("cal", 500, before_mib=80.0, peak_mib=95.0, seconds=2.5)


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


def test_badge_is_measured_beside_the_library(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(strategies_memory, "in_a_process", measure)  # a process takes seconds to begin
    assert main(["--strategy", "badge", "--n", "60"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "badge beside scikit-learn, 60 texts" in lines
    rows = [line.split(" | ")[0] for line in lines if line.startswith("| badge")]
    assert rows == ["| badge", "| badge", "| badge-sklearn-float32", "| badge-sklearn-float64"]
    assert [line.split(":")[0] for line in lines[-2:]] == list(RIVALS)


def test_the_ratios_are_of_the_rival_to_ours() -> None:
    ours, rival = Measured("badge", 9, 100.0, 120.0, 2.0), Measured("other", 9, 101.0, 180.0, 3.0)
    assert ratios(ours, rival) == (
        "other: 1.50 times the seconds and 1.50 times the peak memory of badge; beside the pool's arrays 79 MiB, not 20"
    )


@pytest.mark.parametrize("dtype", RIVALS.values())
def test_the_library_is_given_badges_gradients(dtype: type[np.floating]) -> None:
    scores = random_scores(5, {"probabilities", "embeddings"})
    assert scores.probabilities is not None
    assert scores.embeddings is not None
    found = gradients(scores, dtype)
    assert (found.shape, found.dtype) == ((5, 3 * 512), dtype)
    for row, p, h in zip(found, scores.probabilities, scores.embeddings, strict=True):
        expected = np.outer([value - (label == p.argmax()) for label, value in enumerate(p)], h)
        assert row == pytest.approx(expected.ravel(), rel=1e-5)


def test_a_row_of_the_table() -> None:
    assert list(table([Measured("cal", 9, 400.4, 512.6, 3.14)]))[-1] == "| cal | 400 | 513 | 3.14 |"
