"""RTE and MRPC, as GLUE, SuperGLUE and Microsoft publish them.

Formats: the GLUE tables (``index sentence1 sentence2 label``; the labels in words) and the tables of the Microsoft
Research Paraphrase Corpus (``Quality, #1 ID, #2 ID, #1 String, #2 String``; Quality 1 is a paraphrase) were looked at
in public copies; SuperGLUE's JSONL (``premise, hypothesis, label, idx``) and the Parquet or JSONL files of the data
libraries (``sentence1, sentence2, label, idx``, the labels as numbers) are as their documentation describes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from training.records import place
from training.releases.files import cell, find, read_table
from training.releases.rows import ReleasedRow

RTE_SOURCE = "get RTE from GLUE (https://gluebenchmark.com/tasks) or SuperGLUE and unpack it"
# 0 is entailment in the numbered copies, as in GLUE's own list of labels.
RTE_LABELS = {"entailment": "entailment", "not_entailment": "not_entailment", "0": "entailment", "1": "not_entailment"}

MRPC_SOURCE = (
    "get the Microsoft Research Paraphrase Corpus (https://www.microsoft.com/en-us/download/details.aspx?id=52398), "
    "msr_paraphrase_train.txt and msr_paraphrase_test.txt"
)
MRPC_LABELS = {"1": "equivalent", "0": "not_equivalent"}

_FIRST = ("sentence1", "premise", "#1 String")
_SECOND = ("sentence2", "hypothesis", "#2 String")


def read_rte(release: Path) -> Iterator[ReleasedRow]:
    """GLUE's training pairs, undivided, and its dev pairs as the test set: GLUE's own test pairs have no labels."""
    train = find(release, _names("RTE", ("train",)), RTE_SOURCE)
    dev = find(release, _names("RTE", ("dev", "val", "validation")), RTE_SOURCE)
    yield from _pairs(train, "train", "train+dev", ("label",), RTE_SOURCE)
    yield from _pairs(dev, "dev", "test", ("label",), RTE_SOURCE)


def read_mrpc(release: Path) -> Iterator[ReleasedRow]:
    """Microsoft's training pairs, undivided, and its test pairs.

    In a copy without Microsoft's own two tables the training pairs are those of train and of dev, which GLUE parted.
    """
    columns = ("Quality", "label")
    train = find(release, ("msr_paraphrase_train.txt", *_names("MRPC", ("train",))), MRPC_SOURCE)
    yield from _pairs(train, "train", "train+dev", columns, MRPC_SOURCE)
    if train.name == "msr_paraphrase_train.txt":
        test = find(release, ("msr_paraphrase_test.txt",), MRPC_SOURCE)
    else:
        dev = find(release, _names("MRPC", ("dev", "validation")), MRPC_SOURCE)
        yield from _pairs(dev, "dev", "train+dev", columns, MRPC_SOURCE)
        test = find(release, _names("MRPC", ("test",)), MRPC_SOURCE)
    yield from _pairs(test, "test", "test", columns, MRPC_SOURCE)


def _pairs(path: Path, part: str, split: str, label: Sequence[str], source: str) -> Iterator[ReleasedRow]:
    advice = f"is this the labeled table? {source}"
    for index, (number, row) in enumerate(read_table(path)):
        where = place(path, number)
        fields = {
            "sentence1": cell(row, _FIRST, where, advice),
            "sentence2": cell(row, _SECOND, where, advice),
        }
        yield ReleasedRow(f"{part}-{index}", fields, cell(row, label, where, advice), split)


def _names(folder: str, stems: Sequence[str]) -> list[str]:
    """The names that one table has in the known copies: in its folder first, so that a whole benchmark can be given."""
    return [
        f"{prefix}{stem}{ending}"
        for prefix in (f"{folder}/", f"{folder.lower()}/", "")
        for stem in stems
        for ending in (".tsv", ".jsonl", ".parquet", "-00000-of-00001.parquet", ".csv")
    ]
