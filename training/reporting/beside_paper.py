"""Our numbers beside the paper's Table 7, for runs on one of its tasks, and all that keeps them from being the same."""

import json
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from training.reporting.page import Grid, Note, Section
from training.reporting.study import Study
from training.reporting.tables import Table, counted, number, table_of, values_at

TASKS = re.compile(r"(rte|mrpc|mams|covid-?19|deba|clef)(?![a-z0-9])")


@cache
def table7() -> Mapping[str, Any]:
    """``n_labeled``, and ``macro_f1``: task -> strategy by our name -> percent at each of them; with its source."""
    found: dict[str, Any] = json.loads(files("training.reporting").joinpath("paper_table7.json").read_text("utf-8"))
    return found


def paper_task(name: str) -> str | None:
    """The paper's task that a task's name begins with, as in ``MAMS`` or ``mams-acsa``; None for any other."""
    match = TASKS.match(name.strip().lower())
    return match[1].replace("-", "") if match else None


def paper_section(study: Study) -> Section | None:
    """Ours above the paper's; None for other tasks and where no number of labels is in both."""
    task = paper_task(study.task_name)
    table = paper_table(study, task) if task else None
    if not task or table is None:
        return None
    return Section(
        "Beside the paper", [Grid(table, f"Macro-F1 on {task.upper()}, by number of labels"), Note(_differences(study))]
    )


def paper_table(study: Study, task: str) -> Table | None:
    """Two rows for each strategy that the paper has, at the numbers of labels that both have; None without any."""
    paper = table7()
    rows = []
    for curve in study.curves:
        percents = paper["macro_f1"][task].get(curve.runs[0].strategy, [])
        theirs = {n: percent / 100 for n, percent in zip(paper["n_labeled"], percents, strict=False)}
        ours = dict(zip(curve.n_labeled, curve.values("macro_f1").mean(axis=0).tolist(), strict=True))
        if shared := sorted(ours.keys() & theirs.keys()):
            runs = counted(len(curve.runs), "run")
            rows.append({"strategy": curve.label, "of": runs, **{str(n): number(ours[n]) for n in shared}})
            rows.append({"strategy": "", "of": "the paper", **{str(n): number(theirs[n]) for n in shared}})
    columns = ("strategy", "of", *(str(n) for n in paper["n_labeled"]))
    return table_of([{key: row.get(key, "") for key in columns} for row in rows]) if rows else None


def _differences(study: Study) -> str:
    paper, configs = table7(), [run.config for curve in study.curves for run in curve.runs]
    teachers = sorted({str(config["teacher"]) for config in configs if config.get("teacher")})
    sizes = values_at([entry for curve in study.curves for run in curve.runs for entry in run.rounds], "n_test")
    tested = f", measured on {' or '.join(f'{size:,.0f}' for size in sorted(set(sizes)))} test texts" if sizes else ""
    sets, seeds = (len({str(config.get(key)) for config in configs}) for key in ("initial_set", "seed"))
    models = sorted({str(config["model"]) for config in configs if config.get("model")}) or ["unknown"]
    return (
        f"Paper: {paper['source']}; {paper['backbone']}, explanations by {paper['teacher']}, mean of 3 initial sets x "
        f"3 seeds, the authors' split and test set. Here: {', '.join(models)}; explanations "
        f"{'by ' + ', '.join(teachers) if teachers else 'by no teacher'}; {counted(sets, 'initial set')} x "
        f"{counted(seeds, 'seed')}; the split of the data that these runs were given{tested}. Where these differ, "
        "the numbers say how far apart two experiments are, not which strategy is better."
    )
