"""The command: one of the paper's data sets, from its public release.

python -m training.releases mams MAMS-for-ABSA --output build/mams.jsonl
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from service.model.errors import InputError, XalError
from training.records import write_atomically
from training.releases import clef_tar, covid19, debagreement, glue, mams
from training.releases.rows import SPLITS, Conversion, ReleasedRow, convert


@dataclass(frozen=True)
class Release:
    """How one release is read. labels: its coding -> label id. paper: the paper's sizes of train, dev and test."""

    read: Callable[[Path], Iterator[ReleasedRow]]
    labels: Mapping[str, str]
    paper: tuple[int, int, int]


RELEASES = {
    "rte": Release(glue.read_rte, glue.RTE_LABELS, (2240, 250, 278)),
    "mrpc": Release(glue.read_mrpc, glue.MRPC_LABELS, (3667, 409, 1726)),
    "mams": Release(mams.read_mams, mams.LABELS, (7090, 888, 901)),
    "covid19": Release(covid19.read_covid19, covid19.LABELS, (4533, 800, 800)),
    "deba": Release(debagreement.read_debagreement, debagreement.LABELS, (4617, 578, 580)),
    "clef": Release(clef_tar.read_clef, clef_tar.LABELS, (7847, 981, 982)),
}


def write_release(task: str, release: Path, output: Path, seed: int) -> Conversion:
    """Convert a release and write the data file, in one step.

    task: a key of ``RELEASES``. release: the path of the release's own files. Raises InputError where they are not
    what is expected, or where the output is no .jsonl file that can be written.
    """
    if output.suffix.lower() != ".jsonl":
        raise InputError(f"{output}: expected an output file ending in .jsonl; found {output.suffix or 'no suffix'!r}")
    source = RELEASES[task]
    conversion = convert(source.read(release), task, source.labels, seed)
    text = "".join(json.dumps(row.to_dict(), ensure_ascii=False) + "\n" for row in conversion.rows)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(output, text)
    except OSError as error:
        raise InputError(f"{output}: cannot be written ({error.strerror or error}); choose another --output") from error
    return conversion


def summary(task: str, conversion: Conversion, seed: int) -> str:
    """Sizes beside the paper's, what was left out, and how the rows were split; one line each."""
    lines = []
    for split, expected in zip(SPLITS, RELEASES[task].paper, strict=True):
        labels = Counter(row.label for row in conversion.rows if row.split == split)
        size = labels.total()
        counts = ", ".join(f"{count} {label}" for label, count in sorted(labels.items()))
        paper = "as in the paper" if size == expected else f"the paper has {expected}, {_difference(size, expected)}"
        lines.append(f"{split}: {size} ({counts}); {paper}")
    lines += [f"left out {count} {_rows(count)} {reason}" for reason, count in sorted(conversion.left_out.items())]
    drawn = f"drawn at random with seed {seed}, each label in proportion" if conversion.divided else "the release's own"
    return "\n".join([*lines, f"split: {drawn}"])


def _difference(size: int, expected: int) -> str:
    return f"{abs(size - expected)} {'more' if expected > size else 'fewer'} than here"


def _rows(count: int) -> str:
    return "row" if count == 1 else "rows"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 0, or 2 for wrong input."""
    parser = argparse.ArgumentParser(
        prog="python -m training.releases",
        description="Turn the public release of one of the paper's data sets into a data file with three splits.",
    )
    parser.add_argument("task", choices=RELEASES, help="the data set; examples/TASK/task.yaml is its task file")
    parser.add_argument("release", type=Path, help="folder of the unpacked release (examples/README.md says which)")
    parser.add_argument("--output", type=Path, required=True, help="JSONL file to write")
    parser.add_argument("--seed", type=int, default=42, help="of the splits that the release does not give")
    options = parser.parse_args(arguments)
    if options.seed < 0:
        parser.error(f"--seed: expected a whole number from 0; found {options.seed}")
    try:
        conversion = write_release(options.task, options.release, options.output, options.seed)
    except XalError as error:
        print(error, file=sys.stderr)
        return 2
    print(summary(options.task, conversion, options.seed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
