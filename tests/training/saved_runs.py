"""Run directories as ``xal run`` writes them, made from the points of a curve."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml


def save_run(
    directory: Path,
    *,
    strategy: str = "xal",
    points: dict[int, float] | None = None,
    task_name: str = "product-sentiment",
    model: str = "minilm",
    seed: int = 0,
    initial_set: int = 0,
    data: dict[str, str] | None = None,
    settings: dict[str, Any] | None = None,
    **in_each_round: Any,
) -> Path:
    """points: number of labels -> macro-F1; accuracies stand 0.1 above. settings: more of config.yaml. Further
    keywords go into every round."""
    config = {
        "strategy": strategy,
        "task": {"name": task_name, "fields": ["text"]},
        "data": data or {"file": "reviews.jsonl", "sha256": "ab12"},
        "test_data": None,
        "seed": seed,
        "initial_set": initial_set,
        "model": model,
        "versions": {"torch": "2.13.0"},
        **(settings or {}),
    }
    rounds = [
        {"round": number, "n_labeled": n, "macro_f1": f1, "accuracy": f1 + 0.1, "n_test": 600, **in_each_round}
        for number, (n, f1) in enumerate((points or {16: 0.5, 32: 0.6}).items())
    ]
    directory.mkdir(parents=True)
    (directory / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    (directory / "metrics.json").write_text(json.dumps(rounds), encoding="utf-8")
    return directory


def save_map(directory: Path, number: int, n: int = 60, seed: int = 0, **replaced: Any) -> Path:
    """The map of a round: n texts of three classes, a tenth of them labeled, a tenth selected next."""
    rng = np.random.default_rng(seed)
    label = np.arange(n) % 3
    arrays = {
        "embeddings": (rng.normal(size=(n, 8)) + 6 * np.eye(3, 8)[label]).astype(np.float16),
        "state": np.where(np.arange(n) < n // 10, 0, np.where(np.arange(n) < n // 5, 1, 2)).astype(np.int8),
        "label": label.astype(np.int16),
    }
    path = directory / "rounds" / f"{number:02d}" / "map.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **(arrays | replaced))
    return path


GAINS = {"random": 0.0, "entropy": 0.01, "me-exp": 0.02, "xal-no-rank": 0.03, "xal": 0.05}


def save_experiment(grid: Path, task_name: str = "mams-acsa") -> Path:
    """A grid directory with something of everything a report shows: 5 strategies x 3 initial sets x 2 seeds, other
    weights, an upper bound, an LLM, explanations, maps, redundancy, a target."""
    shared = {"until": {"share": 0.9, "upper_bound": 0.74, "target": 0.6}, "lambda": 0.5}
    labels = {"negative": "bad", "neutral": "so-so", "positive": "good"}
    for strategy, gain in GAINS.items():
        for initial_set, seed in ((0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)):
            level = 0.5 + gain + 0.01 * initial_set + 0.003 * seed * (initial_set + 1)
            explains = strategy not in ("random", "entropy")
            directory = save_run(
                grid / f"{strategy}-{initial_set}-{seed}",
                strategy=strategy,
                points={100: level, 200: level + 0.05, 300: level + 0.08},
                seed=seed,
                initial_set=initial_set,
                task_name=task_name,
                settings={
                    "task": {"name": task_name, "fields": ["text"], "labels": labels},
                    "teacher": "recorded" if explains else None,
                    "trainer": {"lambda1": 0.1, "lambda2": 0.01},
                    **shared,
                },
                **(EXPLAINED if explains else MEASURED),
            )
            if explains and not initial_set and not seed:
                for number in range(3):
                    save_map(directory, number, seed=number)
    save_run(
        grid / "xal-lambda2",
        points={100: 0.5, 200: 0.56, 300: 0.6},
        task_name=task_name,
        settings={
            "task": {"name": task_name, "fields": ["text"], "labels": labels},
            "teacher": "recorded",
            "trainer": {"lambda1": 0.1, "lambda2": 0.1},
            **shared,
        },
    )
    save_run(grid / "all", strategy="upper-bound", points={7090: 0.74}, task_name=task_name)
    save_run(grid / "llm", strategy="llm-zero-shot", points={0: 0.58}, task_name=task_name, unparsable=3)
    save_run(grid / "not-started")
    (grid / "not-started" / "metrics.json").unlink()
    return grid


MEASURED = {
    "calibration_error": 0.11,
    "per_class_f1": {"negative": 0.6, "neutral": 0.4, "positive": 0.7},
    "seconds": {"train": 60.0, "evaluate": 6.0, "score": 30.0, "select": 0.5},
    "redundancy": {"chosen": 0.8, "random": 0.7},
}
EXAMPLE = {"id": "1", "text": "cold food", "predicted": "negative", "gold": "neutral", "explanation": "Food is cold."}
EXPLAINED = MEASURED | {
    "teacher": {"requests": 300, "cached": 0, "prompt_tokens": 9000, "completion_tokens": 1000, "cost": 0.25},
    "explanations": {
        "texts": 200,
        "ranking": {"value": 0.74, "standard_error": 0.03, "texts": 200, "pairs": 400},
        "consistency": {"words": 0.84},
        "judge_accuracy": {"words": 0.92},
    },
    "explanation_examples": {"most": [EXAMPLE | {"score": -0.25}], "least": [EXAMPLE | {"score": -2.5}]},
}
