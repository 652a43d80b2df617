"""The most and the least reasonable explanations of a pool, for people to read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from service.model.classification import Prediction
from service.model.task import Task
from training.data import Example

SHOWN = 5
LONGEST_TEXT = 500  # characters of a text that are shown


def extremes(
    examples: Sequence[Example], predictions: Sequence[Prediction], task: Task, shown: int = SHOWN
) -> dict[str, list[dict[str, Any]]]:
    """``most`` and ``least``: the texts with the highest and the lowest explanation score (Eq. 6), the most extreme
    first, as metrics.json holds them. From the most to the least, ties keep the pool's order. A pool of fewer than
    twice as many is shared out."""
    order = sorted(range(len(predictions)), key=lambda place: -(predictions[place].explanation_score or 0.0))
    count = min(shown, len(order) // 2)
    entries = [_entry(examples[place], predictions[place], task) for place in order]
    return {"most": entries[:count], "least": entries[::-1][:count]}


def _entry(example: Example, prediction: Prediction, task: Task) -> dict[str, Any]:
    text = task.render_input(example.fields)
    return {
        "id": example.id,
        "text": text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 3]}...",
        "predicted": prediction.label,
        "gold": example.label,
        "explanation": prediction.explanation,
        "score": prediction.explanation_score,
    }
