"""Do explanations save labels? Grids of runs on three data sets, kept in docs/results.jsonl, shown in docs/results.md.

python -m benchmarks.evidence --data product-reviews                             # runs what is missing
python -m benchmarks.evidence --data mams --budget 100 --mams FILE --mams-explanations FILE
python -m benchmarks.evidence --data e-snli --esnli FILE
python -m benchmarks.evidence --table                                            # the page's tables
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.ending import exit_code

DOCS = Path(__file__).parents[1] / "docs"
STRATEGIES = "xal,me-exp,xal-no-rank,xal-no-me,entropy,badge,random"
BUDGET, QUERY_SIZE, NUM_BEAMS, EXPLAINED = 150, 50, 2, 60
MODEL = "minilm-minilm"
# Over a backbone's own settings: what two cores have the time for, a ranking loss that can be felt, and explanations
# that are not given a label, as in the paper.
TRAINER: Mapping[str, Mapping[str, Any]] = {
    "minilm-minilm": {"explanation_epochs": 3, "lambda2": 0.1},
    "minilm-smollm2": {"conditioning": "none"},
}


def model_name(model: str) -> str:
    """What results call a backbone: no directory of one machine, no organisation of a hub; ``a+b`` of two halves."""
    return "+".join(Path(half).name for half in model.split("+"))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 0 done, 1 failure, 2 wrong input, 130 interrupted."""
    options = _parser().parse_args(arguments)
    if options.table:
        return exit_code(lambda: _write_page(options.results, options.page))
    return exit_code(lambda: _measure(options))


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Which data set, where its files are, and where those are put that are made of them."""
    add = parser.add_argument
    add("--data", choices=("product-reviews", "mams", "e-snli"), default="product-reviews", help="what to measure on")
    add("--mams", type=Path, metavar="FILE", help="MAMS, as python -m training.releases makes it")
    add("--mams-explanations", type=Path, metavar="FILE", help="recorded explanations of texts of its pool")
    add("--esnli", type=Path, metavar="FILE", help="e-SNLI with an explanation for every label, JSONL")
    add("--runs", type=Path, default=Path("build/evidence"), help="where data and runs are (default build/evidence)")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evidence", description="Do explanations save labels?")
    add_data_options(parser)
    add = parser.add_argument
    add("--strategy", default=STRATEGIES, help=f"(default {STRATEGIES})")
    add("--initial-set", default="0-2", help="(default 0-2)")
    add("--seed", default="0-1", help="(default 0-1)")
    add("--budget", type=int, default=BUDGET, help=f"labels of a run (default {BUDGET})")
    add("--model", default=MODEL, help=f"backbone (default {MODEL})")
    add("--jobs", type=int, default=2, help="runs at a time (default 2)")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default auto)")
    add("--results", type=Path, default=DOCS / "results.jsonl", help="file of finished runs")
    add("--collect", action="store_true", help="run nothing; take finished runs into the results")
    add("--table", action="store_true", help="run nothing; make the tables of the results")
    add("--page", type=Path, default=DOCS / "results.md", help="page that the tables stand in")
    return parser


def _write_page(results: Path, page: Path) -> None:
    from benchmarks.evidence_tables import write_page
    from benchmarks.results import read_cells

    cells = read_cells(results)
    write_page(cells, page)
    print(f"{page}: tables of {len(cells)} runs")


def _measure(options: argparse.Namespace) -> None:
    from benchmarks.evidence_runs import collect, grid_directory, missing_jobs
    from training.cli import quiet_libraries
    from training.jobs import run_jobs
    from training.offline_parts import cache_directory

    quiet_libraries()
    jobs = [] if options.collect else missing_jobs(options, cache_directory())
    try:
        if jobs:
            run_jobs(jobs, cache_directory(), at_once=options.jobs)
    finally:
        new = collect(grid_directory(options), options.data, options.results)
        print(f"{options.results}: {new} runs added")


if __name__ == "__main__":
    sys.exit(main())
