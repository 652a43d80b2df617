"""Saved runs -> one picture, one table and one HTML page that opens anywhere, without a network."""

import base64
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from service.model.errors import InputError
from training.evaluation import area_under_curve
from training.figures import headline, learning_curve_png, terminal_curve
from training.runs import Curve, Run, learning_curves, read_run, share_data

PICTURE_FILE = "learning_curve.png"
PAGE_FILE = "report.html"

Table = list[list[str]]  # the header first
Show = Callable[[Mapping[str, Any]], str]  # a round of metrics.json -> a cell
Columns = dict[str, Show]


def report(run_dirs: Sequence[str | Path], output: str | Path) -> str:
    """Write ``learning_curve.png`` and ``report.html`` into ``output``; returns curve and table for a terminal.

    Raises InputError for what is no run directory (see read_run), runs that cannot be compared (see learning_curves),
    or an output that cannot be written. Each file is replaced whole or not at all.
    """
    runs = [read_run(directory) for directory in run_dirs]
    curves = learning_curves(runs)
    picture = learning_curve_png(curves)
    page = html_page(curves, picture)
    output = Path(output)
    try:
        output.mkdir(parents=True, exist_ok=True)
        _replace(output / PICTURE_FILE, picture)
        _replace(output / PAGE_FILE, page.encode("utf-8"))
    except OSError as error:
        raise InputError(
            f"{output}: cannot write the report ({error.strerror or error}); name another --output"
        ) from error
    return "\n\n".join([terminal_curve(runs), text_table(summary_table(curves)), *_warnings(curves)])


def summary_table(curves: Sequence[Curve]) -> Table:
    """One row for each setting: its last point, the mean height of its curve, and what its runs took together."""
    rows = [_summary(curve) for curve in curves]
    return _without_empty_columns([list(rows[0]), *(list(row.values()) for row in rows)])


def _summary(curve: Curve) -> dict[str, str]:
    f1, accuracy = curve.values("macro_f1"), curve.values("accuracy")
    areas = [area_under_curve(curve.n_labeled, values.tolist()) for values in f1]
    rounds = [entry for run in curve.runs for entry in run.rounds]
    return {
        "strategy": curve.label,
        "runs": str(len(curve.runs)),
        "labels": str(curve.n_labeled[-1]),
        "macro-F1": _number(f1[:, -1].mean()),
        "lowest-highest": f"{f1[:, -1].min():.3f}-{f1[:, -1].max():.3f}" if len(f1) > 1 else "",
        "accuracy": _number(accuracy[:, -1].mean()),
        "mean over curve": _number(sum(areas) / len(areas)),
        "minutes": _amount(sum(map(_seconds, rounds)) / 60, ",.1f"),
        "teacher tokens": _amount(sum(map(_tokens, rounds)), ","),
        "cost": _amount(sum(map(_cost, rounds)), ",.4f"),
    }


def rounds_tables(run: Run) -> dict[str, Table]:
    """One row for each round of a run: how good it was, what it took, and what its selection was like."""
    labels = list(_part(run.rounds[-1], "per_class_f1"))
    per_class = {f"F1 {label}": _nested("per_class_f1", label) for label in labels}
    tables = {"Metrics": _METRICS | per_class, "Seconds and the teacher's bill": _BILL, "Selection": _SELECTION}
    return {title: _rounds_table(run, columns) for title, columns in tables.items()}


def _rounds_table(run: Run, columns: Columns) -> Table:
    columns = {"labels": lambda entry: str(entry["n_labeled"])} | columns
    rows = [[show(entry) for show in columns.values()] for entry in run.rounds]
    return _without_empty_columns([list(columns), *rows])


def _warnings(curves: Sequence[Curve]) -> list[str]:
    if share_data([run for curve in curves for run in curve.runs]):
        return []
    return ["The runs do not share their data files: their curves cannot be compared."]


def text_table(table: Table) -> str:
    """A table as aligned lines of text: the first column to the left, all others to the right."""
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    lines = [
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def html_page(curves: Sequence[Curve], picture: bytes) -> str:
    """The whole report as one HTML document: pictures inside, nothing loaded, every text escaped."""
    task = curves[0].runs[0].task_name
    image = base64.b64encode(picture).decode("ascii")
    sections = "\n".join(_run_section(run) for curve in curves for run in curve.runs)
    warnings = "".join(f'<p class="warning">{escape(warning)}</p>\n' for warning in _warnings(curves))
    alternative = escape(f"Learning curves, {headline(curves, 'macro_f1')}; the numbers are in the tables below")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{escape(task)}: learning curves</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1>{escape(task)}</h1>
<p class="lead">How fast a classifier learns from labels that each query strategy asks for.</p>
<figure><img src="data:image/png;base64,{image}" alt="{alternative}"></figure>
<h2>Strategies</h2>
{warnings}{_html_table(summary_table(curves))}
<p class="note">Metrics at the last number of labels that all runs of a strategy reached, mean over its runs; minutes,
tokens and cost of all its runs together.</p>
<h2>Runs</h2>
<p class="note">Selection: how far the explanation score and the entropy spread over the unlabeled pool, in nats, and
their correlation; the explanation's share of the acquisition score's variance, and where the strategy standardises the
terms of Eq. 8, what that share would have been as in the paper; the share of the chosen texts that entropy alone, or
chance, would have chosen too. With a prefilter this describes the explained texts, and the share that it kept of
those with the highest acquisition scores is estimated from a sample of the others.</p>
{sections}
</main>
</body>
</html>
"""


def _run_section(run: Run) -> str:
    config = run.config
    facts = [f"{key.replace('_', ' ')} {config[key]}" for key in ("seed", "initial_set", "model") if key in config]
    title = (
        f"<strong>{escape(run.strategy)}</strong> {escape(', '.join(facts))} <code>{escape(str(run.directory))}</code>"
    )
    tables = "\n".join(
        f"<h3>{escape(title)}</h3>\n{_html_table(table)}"
        for title, table in rounds_tables(run).items()
        if len(table[0]) > 1
    )
    return f"<details><summary>{title}</summary>\n{tables}\n</details>"


def _html_table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in table[0])
    body = "\n".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table[1:])
    return f'<div class="table"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>'


def _without_empty_columns(table: Table) -> Table:
    """A run without a teacher has no bill, one without a development set no choices: leave such columns out."""
    filled = [column for column in range(len(table[0])) if any(row[column] for row in table[1:])]
    return [[row[column] for column in filled] for row in table]


def _part(entry: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = entry.get(name)
    return part if isinstance(part, Mapping) else {}


def _seconds(entry: Mapping[str, Any]) -> float:
    return float(sum(_part(entry, "seconds").values()))


def _tokens(entry: Mapping[str, Any]) -> int:
    teacher = _part(entry, "teacher")
    return int(teacher.get("prompt_tokens", 0) + teacher.get("completion_tokens", 0))


def _cost(entry: Mapping[str, Any]) -> float:
    return float(_part(entry, "teacher").get("cost") or 0)


def _number(value: Any) -> str:
    """Three digits, or nothing where the run did not measure this."""
    return f"{value:.3f}" if isinstance(value, int | float) else ""


def _amount(value: float, form: str) -> str:
    """What was spent, in this format; nothing where nothing was."""
    return format(value, form) if value else ""


def _nested(*path: str) -> Show:
    """Shows the number that stands at this path of a round, if it is there."""

    def show(entry: Mapping[str, Any]) -> str:
        for name in path[:-1]:
            entry = _part(entry, name)
        return _number(entry.get(path[-1]))

    return show


def _stage(name: str) -> Show:
    return lambda entry: _amount(_part(entry, "seconds").get(name, 0), ",.1f")


_METRICS: Columns = {
    "macro-F1": _nested("macro_f1"),
    "accuracy": _nested("accuracy"),
    "dev macro-F1": _nested("dev", "macro_f1"),
    "dev accuracy": _nested("dev", "accuracy"),
}
_BILL: Columns = {
    **{stage: _stage(stage) for stage in ("teach", "train", "evaluate", "score", "select")},
    "requests": lambda entry: _amount(_part(entry, "teacher").get("requests", 0), ","),
    "cached": lambda entry: _amount(_part(entry, "teacher").get("cached", 0), ","),
    "tokens": lambda entry: _amount(_tokens(entry), ","),
    "cost": lambda entry: _amount(_cost(entry), ",.4f"),
}
_SELECTION: Columns = {
    "explanation score, std": _nested("selection", "explanation_score", "std"),
    "entropy, std": _nested("selection", "entropy", "std"),
    "correlation": _nested("selection", "correlation"),
    "explanation's share": _nested("selection", "explanation_share"),
    "as in the paper": _nested("selection", "explanation_share_in_paper"),
    "overlap with entropy": _nested("selection", "overlap_with_entropy"),
    "with random": _nested("selection", "overlap_with_random"),
    "explained": lambda entry: _amount(_part(entry, "prefilter").get("explained", 0), ","),
    "of": lambda entry: _amount(_part(entry, "prefilter").get("of", 0), ","),
    "kept by the prefilter": _nested("prefilter", "kept_share"),
}

_STYLE = """
:root { color-scheme: light; --ink: #222; --soft: #666; --line: #e3e3e3; }
body { margin: 0; background: #f6f6f4; color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { margin: 0; font-size: 1.8rem; } h2 { margin: 2.5rem 0 .75rem; font-size: 1.2rem; }
h3 { margin: 1rem 0 .35rem; font-size: .85rem; color: var(--soft); }
.lead, .note { color: var(--soft); margin: .25rem 0 1.25rem; } .note { font-size: .85rem; margin-top: .5rem; }
.warning { border-left: 4px solid #d55e00; padding: .5rem .75rem; background: #fff; }
figure { margin: 0; background: #fff; border: 1px solid var(--line); border-radius: 8px; padding: .5rem; }
figure img { display: block; width: 100%; height: auto; }
.table { overflow-x: auto; background: #fff; border: 1px solid var(--line); border-radius: 8px; }
table { width: 100%; border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { padding: .45rem .6rem; text-align: right; white-space: nowrap; }
th { color: var(--soft); font-weight: 600; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; } tbody tr + tr td { border-top: 1px solid #f0f0f0; }
details { margin: .5rem 0; } summary { cursor: pointer; padding: .35rem 0; } details .table { margin: 0 0 1rem; }
code { color: var(--soft); font-size: .85em; margin-left: .5rem; }
"""


def _replace(path: Path, content: bytes) -> None:
    """Write a file beside its place and move it there, so that a reader never sees half of it."""
    beside = path.with_name(f".{path.name}.part")
    beside.write_bytes(content)
    beside.replace(path)
