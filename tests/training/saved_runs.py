"""Run directories as ``xal run`` writes them, made from the points of a curve."""

import json
from pathlib import Path
from typing import Any

import yaml


def save_run(
    directory: Path,
    *,
    strategy: str = "xal",
    points: dict[int, float] | None = None,
    task_name: str = "product-sentiment",
    model: str = "minilm",
    seed: int = 0,
    data: dict[str, str] | None = None,
    **in_each_round: Any,
) -> Path:
    """points: number of labels -> macro-F1; accuracies stand 0.1 above. Further keywords go into every round."""
    config = {
        "strategy": strategy,
        "task": {"name": task_name, "fields": ["text"]},
        "data": data or {"file": "reviews.jsonl", "sha256": "ab12"},
        "test_data": None,
        "seed": seed,
        "initial_set": 0,
        "model": model,
        "versions": {"torch": "2.13.0"},
    }
    rounds = [
        {"round": number, "n_labeled": n, "macro_f1": f1, "accuracy": f1 + 0.1, "n_test": 600, **in_each_round}
        for number, (n, f1) in enumerate((points or {16: 0.5, 32: 0.6}).items())
    ]
    directory.mkdir()
    (directory / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    (directory / "metrics.json").write_text(json.dumps(rounds), encoding="utf-8")
    return directory
