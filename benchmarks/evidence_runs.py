"""The runs of the evidence: which are missing, and what of the finished ones is kept for good."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.evidence import EXPLAINED, NUM_BEAMS, QUERY_SIZE, TRAINER, model_name
from benchmarks.evidence_data import data_set
from benchmarks.results import append_cell, read_cells
from service.model.errors import InputError
from training.experiment import Grid
from training.jobs import Job
from training.run_request import RunOptions
from training.runs import METRICS_FILE, Run, find_runs
from training.values import names, numbers

# Where things lay on one machine, and texts or ids of data that are not this project's.
NOT_KEPT = {"file", "base_url", "selected_ids", "queried_ids", "explanation_examples", "model_version"}


def grid_directory(options: argparse.Namespace) -> Path:
    """Where the runs of a data set and a backbone are."""
    found: Path = options.runs / f"{options.data}-{model_name(options.model)}"
    return found


def missing_jobs(options: argparse.Namespace, cache: Path) -> list[Job]:
    """The runs of the wanted grid that the results do not hold yet, to be run or to go on."""
    data = data_set(options, cache)
    grid = Grid(names(options.strategy), numbers(options.initial_set), numbers(options.seed))
    common = RunOptions(
        task=data.task,
        data=data.data,
        explanations=data.explanations,
        only_explained=data.only_explained,
        strategy=grid.strategies[0],
        output=grid_directory(options),
        model=options.model,
        budget=options.budget,
        query_size=QUERY_SIZE,
        num_beams=NUM_BEAMS,
        measure_explanations=EXPLAINED,
        keep_models="none",
        trainer=TRAINER.get(options.model, {}),
        device=options.device,
    )
    held = {key_of(cell): cell["config"]["budget"] for cell in read_cells(options.results)}
    group = (data.name, model_name(options.model))
    if others := {budget for key, budget in held.items() if key[:2] == group} - {options.budget}:
        raise InputError(
            f"--budget: the runs of {' with '.join(group)} in {options.results} have {min(others)} labels, not "
            f"{options.budget}; give the same, or another --results"
        )
    wanted = [cell for cell in grid.cells() if (*group, cell.name) not in held]
    return [Job(cell.name, cell.options(common)) for cell in wanted]


def collect(folder: Path, data: str, results: Path) -> int:
    """Take the finished runs of a grid that the results lack into them; returns how many."""
    if not folder.is_dir() or not any(folder.glob(f"*/{METRICS_FILE}")):
        return 0
    held = {key_of(cell) for cell in read_cells(results)}
    new = 0
    for run in find_runs([folder])[0]:
        cell = {"data": data, "name": run.directory.name, **_kept({"config": run.config, "rounds": run.rounds})}
        cell["config"]["model"] = model_name(cell["config"]["model"])
        if run.rounds[-1]["queried_ids"] or key_of(cell) in held:
            continue
        append_cell(results, cell)
        new += 1
    return new


def key_of(cell: Mapping[str, Any]) -> tuple[str, str, str]:
    """What makes a run of the evidence: its data set, its backbone, and its name in the grid."""
    return cell["data"], model_name(cell["config"]["model"]), cell["name"]


def run_of(cell: Mapping[str, Any]) -> Run:
    """A line of the results as reports read runs."""
    return Run(Path(cell["name"]), cell["config"], cell["rounds"])


def _kept(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _kept(inner) for key, inner in value.items() if key not in NOT_KEPT}
    if isinstance(value, float):
        return float(f"{value:.6g}")
    return [_kept(inner) for inner in value] if isinstance(value, list | tuple) else value
