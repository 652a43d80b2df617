"""The data sets on which it is measured whether explanations save labels: files as ``xal run`` takes them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.datasets import hold_out
from service.model.errors import InputError
from service.model.task import Task
from training.data import Example, read_examples
from training.product_reviews import EXPLANATIONS, write_product_reviews
from training.records import iter_rows, place, write_atomically

EXAMPLES = EXPLANATIONS.parents[1]

# e-SNLI: as many texts as two cores can explain in an hour or two. No premise stands in two of the parts.
ESNLI_PARTS = {"train": 600, "dev": 400, "test": 1000}


@dataclass(frozen=True)
class DataSet:
    """name: in results. task, data, explanations: files. only_explained: whether the pool is what is explained."""

    name: str
    task: Path
    data: Path
    explanations: Path
    only_explained: bool = False


def data_set(options: argparse.Namespace, cache: Path) -> DataSet:
    """What a command's options name (see ``evidence.add_data_options``). Raises InputError where a file is missing."""
    folder = options.runs / "data"
    folder.mkdir(parents=True, exist_ok=True)
    if options.data == "product-reviews":
        return product_reviews(folder, cache)
    if options.data == "mams":
        if options.mams is None or options.mams_explanations is None:
            raise InputError("--data mams: the files are not part of this project; name --mams and --mams-explanations")
        return mams(options.mams, options.mams_explanations)
    if options.esnli is None:
        raise InputError("--data e-snli: the file is not part of this project; name it with --esnli FILE")
    return esnli(options.esnli, folder)


def product_reviews(folder: Path, cache: Path) -> DataSet:
    """Sentences of product reviews: 600 of them explained, the pool; 625 for dev, 775 for test, of other reviews."""
    data = folder / "product-reviews.jsonl"
    write_product_reviews(data, EXPLANATIONS, cache)
    return DataSet("product-reviews", EXPLANATIONS.with_name("task.yaml"), data, EXPLANATIONS)


def mams(data: Path, explanations: Path) -> DataSet:
    """MAMS with the paper's split (``python -m training.releases mams``); the pool is what is explained of train."""
    return DataSet("mams", EXAMPLES / "mams" / "task.yaml", data, explanations, only_explained=True)


def esnli(source: Path, folder: Path) -> DataSet:
    """Rows of e-SNLI, drawn once and for all by their premises: pool and dev from split train, test from split test.

    source: JSONL with sentence1, sentence2, label, split and explanations {label: text}. Raises InputError where a
    split has too few rows.
    """
    task = EXAMPLES / "e-snli" / "task.yaml"
    rows = read_examples(source, Task.from_yaml(task), require_labels=True)
    parts = {}
    rest = [row for row in rows if row.split == "train"]
    for part in ("dev", "train"):
        rest, parts[part] = hold_out(rest, ESNLI_PARTS[part], _premise)
    taken = {_premise(row) for part in parts.values() for row in part}
    test = [row for row in rows if row.split == "test" and _premise(row) not in taken]
    parts["test"] = hold_out(test, ESNLI_PARTS["test"], _premise)[1]
    for part, wanted in ESNLI_PARTS.items():
        if len(parts[part]) < 0.9 * wanted:
            raise InputError(f"{source}: expected rows for {wanted} {part} texts, found {len(parts[part])}")
    explained = {}
    for number, row in iter_rows(source):
        if "id" not in row or "explanations" not in row:
            raise InputError(f"{place(source, number)}: expected the columns id and explanations {{label: text}}")
        explained[str(row["id"])] = row["explanations"]
    data = folder / "e-snli.jsonl"
    _write(data, parts, explained)
    return DataSet("e-snli", task, data, data)


def _write(path: Path, parts: Mapping[str, Sequence[Example]], explained: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        {"id": row.id, **row.fields, "label": row.label, "split": part, "explanations": explained[row.id]}
        for part, examples in parts.items()
        for row in examples
    ]
    write_atomically(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _premise(example: Example) -> str:
    return example.fields["sentence1"]
