"""Backbones side by side: rows x data sets x numbers of labels x seeds, one measured cell after the other.

    python -m benchmarks.backbones --row minilm-minilm --data product-reviews --labels 100 --seed 0
    python -m benchmarks.backbones --esnli esnli.jsonl
    python -m benchmarks.backbones --table

Each finished cell is a line of docs/backbones.jsonl at once. Killed, it goes on when started again: cells that stand
there with the same settings are passed over. --table makes the tables of docs/backbones.md of that file.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.ending import exit_code
from service.model.errors import InputError

if TYPE_CHECKING:  # they bring torch, which --table can do without
    from benchmarks.datasets import DataSet
    from benchmarks.rows import Row

DOCS = Path(__file__).parents[1] / "docs"
LABELS = (100, 300)
SEEDS = (0, 1, 2)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 0 done, 1 failure, 2 wrong input, 130 interrupted."""
    options = _parser().parse_args(arguments)
    if options.table:
        return exit_code(lambda: _write_tables(options.results, options.page))
    return exit_code(lambda: _measure(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.backbones", description="Compare backbones.")
    add = parser.add_argument
    add("--row", nargs="+", metavar="NAME", help="rows to measure (default: all)")
    add("--data", nargs="+", metavar="NAME", help="product-reviews, e-snli (default: all that are at hand)")
    add("--labels", nargs="+", type=int, default=LABELS, metavar="N", help="numbers of labels (default: 100 300)")
    add("--seed", nargs="+", type=int, default=SEEDS, metavar="S", help="seeds (default: 0 1 2)")
    add("--esnli", type=Path, metavar="FILE", help="e-SNLI with an explanation for every label, JSONL")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default auto)")
    add("--results", type=Path, default=DOCS / "backbones.jsonl", help="file of measured cells")
    add("--table", action="store_true", help="measure nothing; make the tables of what was measured")
    add("--page", type=Path, default=DOCS / "backbones.md", help="page that the tables stand in")
    return parser


def _write_tables(results: Path, page: Path) -> None:
    from benchmarks.results import read_cells
    from benchmarks.tables import write_tables

    cells = read_cells(results)
    write_tables(cells, page)
    print(f"{page}: tables of {len(cells)} measured cells")


def _measure(options: argparse.Namespace) -> None:
    from transformers.utils import logging

    from benchmarks.datasets import DATA_SETS
    from benchmarks.grid import run_grid
    from benchmarks.rows import settle
    from training.offline_parts import cache_directory

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    cache, rows = cache_directory(), _rows(options.row)
    at_hand = _data_sets(options.data, options.esnli, cache)
    settled = [settle(row, cache) for row in rows]  # what a row lacks is found before hours of training
    run_grid(
        settled,
        [data for data in at_hand if data.name in (options.data or DATA_SETS)],
        options.labels,
        options.seed,
        options.results,
        cache=cache,
        corpora=at_hand,
        device=options.device,
    )


def _rows(names: Sequence[str] | None) -> list[Row]:
    from benchmarks.rows import ROWS

    if unknown := sorted(set(names or ()) - set(ROWS)):
        raise InputError(f"--row: no row {unknown[0]!r}; there are {', '.join(ROWS)}")
    return [ROWS[name] for name in names or ROWS]


def _data_sets(names: Sequence[str] | None, esnli_file: Path | None, cache: Path) -> list[DataSet]:
    """All that are at hand, whether they are to be measured on or not: one is the other's corpus of explanations."""
    from benchmarks.datasets import DATA_SETS, esnli, product_reviews

    if unknown := sorted(set(names or ()) - set(DATA_SETS)):
        raise InputError(f"--data: no data set {unknown[0]!r}; there are {', '.join(DATA_SETS)}")
    if esnli_file is not None:
        return [product_reviews(cache), esnli(esnli_file)]
    if "e-snli" in (names or ()):
        raise InputError("--data e-snli: the file is not part of this project; name it with --esnli FILE")
    print("no --esnli FILE: e-snli is left out, and adapted rows have no corpus of explanations", flush=True)
    return [product_reviews(cache)]


if __name__ == "__main__":
    sys.exit(main())
