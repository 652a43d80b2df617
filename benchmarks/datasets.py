"""The texts that backbones are compared on: a pool to draw labels from, dev texts, and explained texts to rank.

Nothing here is anybody's test set: choices are made on these numbers, so the test texts stay unseen.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from service.model.errors import InputError
from service.model.task import Task
from training.data import Example, read_examples
from training.judge import Explanations
from training.product_reviews import EXPLANATIONS, write_product_reviews
from training.splits import split_examples
from training.teacher import RecordedTeacher

DATA_SETS = ("product-reviews", "e-snli")

# Texts to rank: the standard error of the ranking accuracy is then about 0.03. Of the product reviews these are a third
# of the explained ones, which leaves 400 to draw 300 labels from and 100 unlabeled ones.
RANKING_TEXTS = 200
# e-SNLI: with these the standard error of the accuracy is below 0.02, and 8,800 rows are left for the pool.
ESNLI_DEV_TEXTS = 800

ESNLI_TASK = Task.from_dict(
    {
        "name": "e-snli",
        "fields": ["sentence1", "sentence2"],
        "label_field": "label",
        "labels": {"entailment": "entailment", "neutral": "neutral", "contradiction": "contradiction"},
        "input": "sentence 1: {sentence1} sentence 2: {sentence2}",
        "prompt": '"{sentence1}" "{sentence2}" The relation of sentence 2 to sentence 1 is {label}, explain the reason '
        "within 50 words.",
        "max_input_tokens": 128,
        "max_explanation_tokens": 60,
    }
)


@dataclass(frozen=True)
class DataSet:
    """One data set of the comparison; no review, and no premise, stands in two of its parts.

    pool: texts that labels are drawn from. dev: texts to classify and to explain. ranking: explained texts that no
    model trains on. explanations: the teacher's, for every label of every text of pool and ranking. shows_texts:
    whether the licence lets dev texts stand in this project's documentation.
    """

    name: str
    task: Task
    pool: list[Example]
    dev: list[Example]
    ranking: list[Example]
    explanations: Explanations
    shows_texts: bool

    @property
    def digest(self) -> str:
        """Sixteen hexadecimal digits that change with any text, label or explanation, or with the parts."""
        parts = [
            [[example.id, dict(example.fields), example.label] for example in part]
            for part in (self.pool, self.dev, self.ranking)
        ]
        content = [self.task.to_dict(), parts, self.explained(self.pool), self.explained(self.ranking)]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]

    def explained(self, examples: Iterable[Example]) -> Explanations:
        """The teacher's explanations of these texts of the pool or of the ranking texts."""
        return {example.id: self.explanations[example.id] for example in examples}


def product_reviews(cache: Path) -> DataSet:
    """Sentences of product reviews as the demo has them; 200 of the explained ones, of whole reviews, are held out."""
    task = Task.from_yaml(EXPLANATIONS.with_name("task.yaml"))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "product-reviews.jsonl"
        write_product_reviews(file, EXPLANATIONS, cache)
        splits = split_examples(read_examples(file, task, require_labels=True))
    pool, ranking = hold_out(splits.train, RANKING_TEXTS, lambda example: example.id.partition("_")[0])
    explanations = _explanations(EXPLANATIONS, task, splits.train)
    return DataSet("product-reviews", task, pool, splits.dev, ranking, explanations, shows_texts=True)


def esnli(file: Path) -> DataSet:
    """e-SNLI's rows of split train, parted by premise. Rows of another split are read and left aside.

    file: JSONL with sentence1, sentence2, label, split and explanations {label: text}. Raises InputError where its rows
    of split train are too few or lack explanations.
    """
    rows = [row for row in read_examples(file, ESNLI_TASK, require_labels=True) if row.split == "train"]
    held_out = ESNLI_DEV_TEXTS + RANKING_TEXTS
    if len(rows) <= held_out:
        raise InputError(f"{file}: expected more than {held_out} rows of split train, found {len(rows)}")
    rest, dev = hold_out(rows, ESNLI_DEV_TEXTS, _premise)
    pool, ranking = hold_out(rest, RANKING_TEXTS, _premise)
    explanations = _explanations(file, ESNLI_TASK, rest)
    return DataSet("e-snli", ESNLI_TASK, pool, dev, ranking, explanations, shows_texts=False)


def hold_out(
    examples: Sequence[Example], size: int, group: Callable[[Example], str]
) -> tuple[list[Example], list[Example]]:
    """(kept, held out): whole groups are held out while they fit into ``size`` texts, which most often fills it.

    Groups come in the order of the SHA-256 of their names, which is random but the same everywhere and for ever; within
    both parts the examples keep their order.
    """
    members: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        members[group(example)].append(example)
    held_out: set[str] = set()
    taken = 0
    for name in sorted(members, key=lambda name: hashlib.sha256(f"held out {name}".encode()).digest()):
        if taken + len(members[name]) <= size:
            held_out.add(name)
            taken += len(members[name])
    kept = [example for example in examples if group(example) not in held_out]
    return kept, [example for example in examples if group(example) in held_out]


def _premise(example: Example) -> str:
    return example.fields["sentence1"]


def _explanations(file: Path, task: Task, examples: Sequence[Example]) -> Explanations:
    teacher = RecordedTeacher(file, task)
    return teacher.explain({example.id: example.fields for example in examples}).explanations
