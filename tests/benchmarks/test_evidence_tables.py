"""The tables of the results page: means and differences worked out by hand from a few lines of results."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.evidence_tables import MARK, render, write_page
from benchmarks.tables import END
from service.model.errors import InputError


def cell(strategy: str, points: list[float], initial: int = 0, seed: int = 0, **in_each_round: Any) -> dict[str, Any]:
    """A line of the results. points: macro-F1 at 50, 100, ... labels."""
    config = {
        "strategy": strategy,
        "task": {"name": "reviews"},
        "data": {"sha256": "ab"},
        "test_data": None,
        "initial_set": initial,
        "seed": seed,
        "model": "minilm-minilm",
        "query_size": 50,
        "num_beams": 2,
        "git_hash": "0123456789abcdef",
    }
    rounds = [
        {"n_labeled": 50 * number, "macro_f1": f1, "accuracy": f1, "seconds": {"train": 10.0}, **in_each_round}
        for number, f1 in enumerate(points, start=1)
    ]
    name = f"{strategy}-i{initial}-s{seed}"
    return {"data": "product-reviews", "name": name, "config": config, "rounds": rounds}


def test_a_strategy_s_row_has_mean_and_standard_error_at_every_number_of_labels() -> None:
    page = render([cell("xal", [0.4, 0.6]), cell("xal", [0.5, 0.6], seed=1), cell("random", [0.4, 0.5])])
    assert "### product-reviews, minilm-minilm" in page
    assert "commits 0123456789ab" in page
    # mean .45, standard deviation .0707, over the root of 2: .05
    assert "| xal | 2 | 0.450 ± 0.050 | 0.600 ± 0.000 |" in page
    assert "| random | 1 | 0.400 | 0.500 |" in page


def test_differences_are_those_of_pairs() -> None:
    runs = [cell("xal", [0.5, 0.6 + 0.01 * seed], seed=seed) for seed in range(6)]
    runs += [cell("random", [0.5, 0.5 + 0.01 * seed], seed=seed) for seed in range(6)]
    page = render(runs)
    assert "| xal | random | 6 | +0.100 | +0.100 to +0.100 | 0.031 | better |" in page


def test_what_chose_is_shown_of_those_that_score_explanations() -> None:
    selection = {
        "explanation_score": {"std": 0.1},
        "entropy": {"std": 0.3},
        "correlation": -0.2,
        "explanation_share": 0.05,
        "overlap_with_entropy": 0.9,
        "overlap_with_random": 0.1,
    }
    errors = {"wrong": 0.4, "entropy": 0.7, "explanation": 0.55}
    page = render([cell("xal", [0.4], selection=selection, errors=errors), cell("random", [0.4])])
    assert "| xal | 0.100 | 0.300 | -0.200 | 0.050 | 0.900 | 0.100 | 0.400 | 0.700 | 0.550 |" in page


def test_the_explanations_share_is_that_of_strategies_that_rank_by_eq_8() -> None:
    def selecting(strategy: str, share: float | None) -> dict[str, Any]:
        return cell(strategy, [0.4], selection={"entropy": {"std": 0.3}, "explanation_share": share})

    page = render([selecting("xal-no-me", 0.034), selecting("xal", 0.05), selecting("xal-std", None)])
    assert "| strategy | entropy, std | explanation's share |" in page
    assert "| xal-no-me | 0.300 |  |" in page
    assert "| xal | 0.300 | 0.050 |" in page
    assert "| xal-std | 0.300 |  |" in page
    assert "explanation's share |" not in render([selecting("xal-no-me", None)])


def test_the_columns_are_explained_once_and_only_those_that_are_there() -> None:
    reviews = [cell("xal", [0.4], redundancy={"chosen": 0.5, "random": 0.6}), cell("random", [0.5])]
    page = render([*reviews, *({**one, "data": "mams"} for one in reviews)])
    for said in ("dev, last: macro-F1 on dev", "minus the second", "cosine similarity of its h_0", "Seconds are those"):
        assert " ".join(page.split()).count(said) == 1
    assert "Ranking accuracy" not in page
    assert page.startswith("### What the columns mean\n\n- **Macro-F1.** ")
    assert "\n\n### product-reviews, minilm-minilm\n\n" in page


def test_the_page_keeps_what_stands_around_its_marks(tmp_path: Path) -> None:
    page = tmp_path / "results.md"
    page.write_text(f"before\n{MARK}\nold\n{END}\nafter\n")
    write_page([], page)
    assert page.read_text() == f"before\n{MARK}\n\nNothing has been measured yet.\n\n{END}\nafter\n"
    page.write_text("no marks")
    with pytest.raises(InputError, match="expected the lines"):
        write_page([], page)
