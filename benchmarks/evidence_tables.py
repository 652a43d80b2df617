"""Finished runs of the evidence -> the tables of docs/results.md, by the same code as ``xal report``'s."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.evidence_runs import key_of, run_of
from benchmarks.tables import markdown, replace_generated, summary
from training.reporting.compared import by_measure, comparison_table, comparisons, method
from training.reporting.costs import NOTE as COSTS
from training.reporting.costs import costs_table
from training.reporting.explaining import meaning, quality_table
from training.reporting.learning import CALIBRATION, SELECTION, SELECTION_NOTE, says_something
from training.reporting.redundant import NOTE as SIMILARITY
from training.reporting.redundant import redundancy_table
from training.reporting.study import Study
from training.reporting.tables import Entry, Table, mean, number, table_of, values_at
from training.runs import Curve

MARK = "<!-- generated: python -m benchmarks.evidence --table -->"
WIDTH = 120  # characters of a line of a note
POINTS = (
    "Mean over the runs of a strategy ± its standard error; dev, last: macro-F1 on dev at the last number of labels; "
    f"{CALIBRATION}, on test at the same number."
)

Cell = Mapping[str, Any]


class _Shown(NamedTuple):
    """A table, its title, and what the tables of its kind are called and mean."""

    title: str
    table: Table
    kind: str
    note: str


def write_page(cells: Sequence[Cell], page: Path) -> None:
    """Replace what stands between the page's marks. Raises InputError where the page lacks one of them."""
    replace_generated(page, MARK, render(cells))


def render(cells: Sequence[Cell]) -> str:
    """What the columns mean, then the tables of every data set and backbone that something was measured on."""
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        groups.setdefault(key_of(cell)[:2], []).append(cell)
    if not groups:
        return "Nothing has been measured yet.\n"
    tables = {place: _tables(Study.of([run_of(cell) for cell in own])) for place, own in groups.items()}
    notes = dict.fromkeys((shown.kind, shown.note) for own in tables.values() for shown in own)
    parts = ["### What the columns mean\n", *(_listed(f"**{kind}.** {note}") for kind, note in notes), ""]
    for (data, model), own in groups.items():
        parts.append(f"### {data}, {model}\n\n{_setting(own)}\n")
        parts += [f"**{shown.title}**\n\n{markdown(shown.table[0], shown.table[1:])}" for shown in tables[data, model]]
    return "\n".join(parts)


def _setting(cells: Sequence[Cell]) -> str:
    config = cells[0]["config"]
    commits = sorted({str(cell["config"]["git_hash"])[:12] for cell in cells})
    return f"Queries of {config['query_size']} texts, {config['num_beams']} beams; commits {', '.join(commits)}."


def _tables(study: Study) -> list[_Shown]:
    """Those that have rows."""
    curves = study.curves
    explained = meaning({curve.runs[0].strategy for curve in curves})
    found = [_Shown("Macro-F1 on test by number of labels", points_table(curves), "Macro-F1", POINTS)]
    for measure, compared in by_measure(comparisons(study)).items():
        title = f"Difference in {measure}, pairs of runs"
        found.append(_Shown(title, comparison_table(compared), "Differences", method(study)))
    found += [
        _Shown("Explanations of held-out texts, last round", quality_table(curves), "Explanations", explained),
        _Shown(
            "What chose, mean over the runs and rounds that recorded it",
            selection_table(curves),
            "What chose",
            SELECTION_NOTE,
        ),
        _Shown("Similarity within a batch", _similarity(curves), "Similarity", SIMILARITY),
        _Shown("Seconds a round", costs_table(list(curves)), "Seconds", COSTS),
    ]
    return [shown for shown in found if len(shown.table) > 1]


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
    """The report's columns of a selection, for strategies that score explanations; means over runs and rounds."""
    rows = []
    for curve in curves:
        strategy, rounds = curve.runs[0].strategy, [entry for entry in _rounds(curve) if entry.get("selection")]
        if rounds:
            means = {
                name: number(mean(values_at(rounds, *path))) if says_something(name, strategy) else ""
                for name, path in SELECTION.items()
            }
            rows.append({"strategy": curve.label, **means})
    return table_of(rows) if rows else [[]]


def _similarity(curves: Sequence[Curve]) -> Table:
    seen = [curve for curve in curves if values_at(_rounds(curve), "redundancy", "chosen")]
    return redundancy_table(seen) if seen else [[]]


def _rounds(curve: Curve) -> list[Entry]:
    return [entry for run in curve.runs for entry in run.rounds]


def _listed(text: str) -> str:
    return textwrap.fill(text, WIDTH, initial_indent="- ", subsequent_indent="  ", break_on_hyphens=False)
