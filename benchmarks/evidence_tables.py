"""Finished runs of the evidence -> the tables of docs/results.md, by the same code as ``xal report``'s."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.evidence_runs import key_of, run_of
from benchmarks.tables import markdown, replace_generated, summary
from training.reporting.compared import by_measure, comparison_table, comparisons
from training.reporting.costs import costs_table
from training.reporting.explaining import quality_table
from training.reporting.redundant import redundancy_table
from training.reporting.study import Study
from training.reporting.tables import Table, mean, number, values_at, without_empty_columns
from training.runs import Curve

MARK = "<!-- generated: python -m benchmarks.evidence --table -->"

Cell = Mapping[str, Any]


def write_page(cells: Sequence[Cell], page: Path) -> None:
    """Replace what stands between the page's marks. Raises InputError where the page lacks one of them."""
    replace_generated(page, MARK, render(cells))


def render(cells: Sequence[Cell]) -> str:
    """The tables of every data set and backbone that something was measured on."""
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        groups.setdefault(key_of(cell)[:2], []).append(cell)
    parts = [_tables(data, model, own) for (data, model), own in groups.items()]
    return "\n".join(parts) if parts else "Nothing has been measured yet.\n"


def _tables(data: str, model: str, cells: Sequence[Cell]) -> str:
    study = Study.of([run_of(cell) for cell in cells])
    config = cells[0]["config"]
    commits = sorted({str(cell["config"]["git_hash"])[:12] for cell in cells})
    parts = [
        f"### {data}, {model}\n\nQueries of {config['query_size']} texts, {config['num_beams']} beams; commits "
        f"{', '.join(commits)}.\n",
        _titled("Macro-F1 on test by number of labels, mean ± standard error over runs", points_table(study.curves)),
    ]
    for measure, compared in by_measure(comparisons(study)).items():
        parts.append(_titled(f"Difference in {measure}, pairs of runs", comparison_table(compared)))
    parts.append(_titled("Explanations of held-out texts, last round", quality_table(study.curves)))
    parts.append(_titled("What chose: the terms of Eq. 8", selection_table(study.curves)))
    parts.append(_titled("Similarity within a batch", redundancy_table([c for c in study.curves if _is_seen(c)])))
    parts.append(_titled("Seconds a round", costs_table(list(study.curves))))
    return "\n".join(part for part in parts if part)


def points_table(curves: Sequence[Curve]) -> Table:
    """One row for each strategy: macro-F1 at every number of labels, and the calibration error at the last."""
    labels = sorted({n for curve in curves for n in curve.n_labeled})
    rows = [["strategy", "runs", *map(str, labels), "dev, last", "calibration error"]]
    for curve in curves:
        values = dict(zip(curve.n_labeled, curve.values("macro_f1").T, strict=True))
        points = [summary(values[n].tolist(), 3) if n in values else "" for n in labels]
        dev = number(mean(values_at(curve.last_entries, "dev", "macro_f1")))
        error = number(mean(values_at(curve.last_entries, "calibration_error")))
        rows.append([curve.label, str(len(curve.runs)), *points, dev, error])
    return rows


def selection_table(curves: Sequence[Curve]) -> Table:
    """Of strategies that score explanations: how far p and c spread, what part of the scores' variance p carries, and
    how much of the choice is entropy's; whether high entropy and low p find what is predicted wrong (0.5 is chance).
    Means over runs and rounds."""
    columns = {
        "std of p": ("explanation_score", "std"),
        "std of c": ("entropy", "std"),
        "correlation": ("correlation",),
        "p's share": ("explanation_share",),
        "also entropy's choice": ("overlap_with_entropy",),
        "also chance's": ("overlap_with_random",),
    }
    errors = {"wrong": "predicted wrong", "entropy": "entropy finds these", "explanation": "p finds these"}
    rows = [["strategy", *columns, *errors.values()]]
    for curve in curves:
        rounds = [entry for run in curve.runs for entry in run.rounds if entry.get("selection")]
        if rounds:
            found = [values_at(rounds, "selection", *path) for path in columns.values()]
            found += [values_at(rounds, "errors", name) for name in errors]
            rows.append([curve.label, *(number(float(np.mean(values))) if values else "" for values in found)])
    return without_empty_columns(rows)


def _is_seen(curve: Curve) -> bool:
    return bool(values_at([entry for run in curve.runs for entry in run.rounds], "redundancy", "chosen"))


def _titled(title: str, table: Table) -> str:
    return f"**{title}**\n\n{markdown(table[0], table[1:])}" if len(table) > 1 else ""
