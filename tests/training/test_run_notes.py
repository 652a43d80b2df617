"""What a user is told of the texts before a run starts."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.training_fixtures import SMALL
from training.run_request import RunOptions
from training.setup import prepare

Rows = list[dict[str, str]]


@pytest.fixture
def notes_on(
    example_files: dict[str, Path], backbone_dir: Callable[[str], Path], tmp_path: Path
) -> Callable[[Rows], list[str]]:
    """The notes on a run from labels alone over these rows."""

    def find(rows: Rows) -> list[str]:
        data = tmp_path / "data.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        options = RunOptions(
            task=example_files["task"],
            data=data,
            strategy="random",
            output=tmp_path / "run",
            model=str(backbone_dir("t5")),
            budget=3,
            query_size=3,
            device="cpu",
            trainer=SMALL,
        )
        return prepare(options, cache=tmp_path / "cache", progress=False)[1]

    return find


def texts(**labels: str) -> Rows:
    """Two rows of each label of a split: ``train="negative neutral"``."""
    return [
        {"id": f"{split}-{label}-{number}", "text": f"{split} {label} {number}", "label": label, "split": split}
        for split, named in labels.items()
        for label in named.split()
        for number in range(2)
    ]


def test_labels_that_are_missing_in_the_test_set_or_in_the_pool_are_named(
    notes_on: Callable[[Rows], list[str]],
) -> None:
    everything = "negative neutral positive"
    assert notes_on(texts(train=everything, test=everything)) == []
    assert notes_on(texts(train=everything, test="neutral")) == [
        "no test text has the label negative, positive; its F1 counts as 0 in every macro-F1"
    ]
    assert notes_on(texts(train="negative neutral", test=everything)) == [
        "no pool text has the label positive; no model will learn it"
    ]
