from pathlib import Path
from typing import Any

from tests.training.saved_runs import EXPLAINED
from training.reporting.explaining import examples_table, explanations_section, quality_table
from training.reporting.study import Study
from training.runs import Run, learning_curves


def run(strategy: str, *rounds: dict[str, Any], seed: int = 0) -> Run:
    entries = [{"n_labeled": 10 * (n + 1), "macro_f1": 0.5, "accuracy": 0.5, **entry} for n, entry in enumerate(rounds)]
    return Run(Path(f"{strategy}-{seed}"), {"strategy": strategy, "seed": seed, "task": {"name": "t"}}, entries)


def measured(value: float, judges: dict[str, float]) -> dict[str, Any]:
    ranking = {"value": value, "standard_error": 0.03, "texts": 200, "pairs": 400}
    return {
        "explanations": {
            "texts": 200,
            "ranking": ranking,
            "consistency": judges,
            "judge_accuracy": {name: share + 0.05 for name, share in judges.items()},
        }
    }


def test_the_last_measured_rounds_are_averaged() -> None:
    runs = [
        run("xal", measured(0.5, {"words": 0.8}), measured(0.7, {"words": 0.8}), {"explanations": None}),
        run("xal", measured(0.1, {"words": 0.1}), measured(0.8, {"words": 0.6, "encoder": 0.9}), {}, seed=1),
        run("random", {}),
    ]
    header, row = quality_table(learning_curves(runs))
    assert dict(zip(header, row, strict=True)) == {
        "strategy": "xal",
        "runs": "2",
        "labels": "20",
        "texts": "200",
        "ranking accuracy": "0.750",
        "± std. error": "0.030",
        "consistency, words": "0.700",
        "words is right": "0.750",
        "consistency, encoder": "0.900",
        "encoder is right": "0.950",
    }


def test_examples_are_those_of_the_last_round_that_has_some() -> None:
    early = {"explanation_examples": {"most": [{"text": "early"}], "least": []}}
    (curve,) = learning_curves([run("xal", early, EXPLAINED, {"explanation_examples": None})])
    table, where = examples_table(curve)
    assert where == "seed 0, 20 labels"
    assert table == [
        ["", "text", "predicted", "gold", "explanation", "score"],
        ["most reasonable", "cold food", "negative", "neutral", "Food is cold.", "-0.25"],
        ["least reasonable", "cold food", "negative", "neutral", "Food is cold.", "-2.50"],
    ]


def test_the_ranking_loss_is_named_where_both_are_there() -> None:
    assert explanations_section(Study.of([run("xal", {})])) is None

    def said(*strategies: str) -> str:
        section = explanations_section(Study.of([run(strategy, EXPLAINED) for strategy in strategies]))
        assert section is not None
        return str(section.parts)

    assert "with and without the ranking loss" in said("xal", "xal-no-rank")
    assert "with and without the ranking loss" not in said("xal")
