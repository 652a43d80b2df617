"""Our numbers beside the paper's, for runs on one of its tasks, and all that keeps them from being the same: learning
curves (Table 7), labels to 90% of the upper bound (Table 8), ranking accuracy (Table 10)."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from training.reporting.drawing import METHOD
from training.reporting.explaining import measured
from training.reporting.page import Grid, Note, Section
from training.reporting.reaching import median, needed_labels
from training.reporting.study import SHARE, UNUSED, Study, Target
from training.reporting.tables import Table, counted, mean, number, table_of, values_at
from training.runs import Curve, settings

# The paper's task -> what a task's name may begin with.
TASKS = {
    "rte": "rte", "mrpc": "mrpc", "mams": "mams", "covid19": "covid[-_ ]?19", "deba": "deba(greement)?",
    "clef": "clef([-_ ]?20[0-9]{2})?",
}  # fmt: skip

# Setting -> what it is called and, as settings() has it, what it is in the paper, where a run that has none is alike.
PAPER = {
    "query_size": ("texts in the first set and in each round", "100"),
    "initial": ("first set", "random"),
    "prefilter.ratio": ("prefilter", "none"),
    "warm_start": ("warm start", "False"),
    "adaptation": ("adaptation", "none"),
    "lambda": ("lambda", "0.5"),
    "trainer.lambda1": ("lambda1", "0.1"),
    "trainer.lambda2": ("lambda2", "0.01"),
    "trainer.conditioning": ("conditioning", "none"),
    "trainer.epochs": ("epochs", "10"),
    "trainer.explanation_epochs": ("epochs with explanations", "all"),
    "trainer.batch_size": ("batch size", "1"),
    "trainer.learning_rate": ("learning rate", "0.0001"),
    "trainer.decoder_learning_rate": ("decoder's learning rate", "the same"),
    "trainer.head_learning_rate": ("head's learning rate", "the same"),
    "trainer.warmup": ("warm-up", "0.0"),
    "trainer.pooling": ("pooling", "cls"),
    "trainer.decoder_tuning": ("decoder tuning", "full"),
}


BASELINE = "best baseline"


@cache
def published() -> Mapping[str, Any]:
    """The paper's numbers, with their source: ``n_labeled``; ``macro_f1``, task -> strategy by our name -> percent at
    each of them; ``labels_to_target``, task -> xal or the best baseline -> labels; ``ranking``, task -> strategy ->
    percent."""
    found: dict[str, Any] = json.loads(files("training.reporting").joinpath("paper.json").read_text("utf-8"))
    return found


def paper_task(name: str) -> str | None:
    """The paper's task that a name begins with, as in ``MAMS``, ``mams-acsa`` or ``Covid 19``; None for any other."""
    name = name.strip().lower()
    return next((task for task, words in TASKS.items() if re.match(f"{words}(?![a-z0-9])", name)), None)


def paper_section(study: Study) -> Section | None:
    """Ours above the paper's; None for other tasks and where there is no number that both have."""
    task = paper_task(study.task_name)
    if task is None:
        return None
    known = published()["macro_f1"][task].keys() | published()["ranking"][task].keys()
    curves = [curve for curve in study.curves if curve.runs[0].strategy in known]
    tables = {
        f"Macro-F1 on {task.upper()}, by number of labels": paper_table(curves, task),
        "Labels to 90% of the upper bound, 50 a round in the paper; ours: median, straight between rounds": (
            target_table(curves, task, study.target)
        ),
        "Ranking accuracy, with the ranking loss (xal) and without": ranking_table(curves, task),
    }
    grids = [Grid(table, title) for title, table in tables.items() if table]
    return Section("Beside the paper", [*grids, Note(_differences(curves))]) if grids else None


def paper_table(curves: Sequence[Curve], task: str) -> Table | None:
    """Two rows for each strategy of the paper's Table 7, at the numbers of labels that both have; None without any."""
    paper = published()
    rows = []
    for curve in curves:
        percents = paper["macro_f1"][task].get(curve.runs[0].strategy, ())
        theirs = {n: percent / 100 for n, percent in zip(paper["n_labeled"], percents, strict=False)}
        ours = dict(zip(curve.n_labeled, curve.values("macro_f1").mean(axis=0).tolist(), strict=True))
        if shared := sorted(ours.keys() & theirs.keys()):
            runs = counted(len(curve.runs), "run")
            rows.append({"strategy": curve.label, "of": runs, **{str(n): number(ours[n]) for n in shared}})
            rows.append({"strategy": "", "of": "the paper", **{str(n): number(theirs[n]) for n in shared}})
    columns = ("strategy", "of", *(str(n) for n in paper["n_labeled"]))
    return table_of([{key: row.get(key, "") for key in columns} for row in rows]) if rows else None


def target_table(curves: Sequence[Curve], task: str, target: Target | None) -> Table | None:
    """Labels that xal needs, and the best of the paper's baselines among the curves; None where the paper has no such
    number, or for another target."""
    theirs = published()["labels_to_target"].get(task)
    if theirs is None or target is None or target.share != SHARE:
        return None
    needed = {curve.label: median([needed_labels(run, target.macro_f1) for run in curve.runs]) for curve in curves}
    rows = []
    baselines = [curve for curve in curves if _is_baseline(curve)]
    best = min(baselines, key=lambda curve: needed[curve.label] or math.inf, default=None)
    for curve in [*(curve for curve in curves if _is_xal(curve)), *([best] if best else [])]:
        labels, name = needed[curve.label], METHOD if _is_xal(curve) else BASELINE
        ours, shown = "not reached" if labels is None else f"{labels:,.0f}", curve.label
        if name == BASELINE:  # of those that never get there none is the best
            shown = BASELINE if labels is None else f"{BASELINE}: {curve.label}"
        rows.append({"strategy": shown, "of": counted(len(curve.runs), "run"), "labels": ours})
        rows.append({"strategy": "", "of": "the paper", "labels": str(theirs[name])})
    return table_of(rows) if rows else None


def ranking_table(curves: Sequence[Curve], task: str) -> Table | None:
    """Two rows for each strategy of the paper's Table 10 whose explanations were measured; None without any."""
    theirs = published()["ranking"][task]
    rows = []
    for curve in curves:
        ours = mean(values_at(measured(curve), "explanations", "ranking", "value"))
        if ours is not None and curve.runs[0].strategy in theirs:
            runs = counted(len(curve.runs), "run")
            rows.append({"strategy": curve.label, "of": runs, "ranking accuracy": number(ours)})
            percent = theirs[curve.runs[0].strategy]
            rows.append({"strategy": "", "of": "the paper", "ranking accuracy": number(percent / 100)})
    return table_of(rows) if rows else None


def _is_xal(curve: Curve) -> bool:
    return curve.runs[0].strategy == METHOD


def _is_baseline(curve: Curve) -> bool:
    """Whether it is one of the paper's, and trained like those: from labels alone."""
    strategies = next(iter(published()["macro_f1"].values()))
    return curve.runs[0].strategy in strategies and not _is_xal(curve) and not _explains(curve)


def _differences(curves: Sequence[Curve]) -> str:
    paper, configs = published(), [run.config for curve in curves for run in curve.runs]
    teachers = sorted({str(config["teacher"]) for config in configs if config.get("teacher")})
    sizes = values_at([entry for curve in curves for run in curve.runs for entry in run.rounds], "n_test")
    tested = f", measured on {' or '.join(f'{size:,.0f}' for size in sorted(set(sizes)))} test texts" if sizes else ""
    sets, seeds = (len({str(config.get(key)) for config in configs}) for key in ("initial_set", "seed"))
    models = sorted({str(config["model"]) for config in configs if config.get("model")}) or ["unknown"]
    return (
        f"Paper: {paper['source']}; {paper['backbone']}, explanations by {paper['teacher']}, mean of 3 initial sets x "
        f"3 seeds, the authors' split and test set. Here: {', '.join(models)}; explanations "
        f"{'by ' + ', '.join(teachers) if teachers else 'by no teacher'}; {counted(sets, 'initial set')} x "
        f"{counted(seeds, 'seed')}; the split of the data that these runs were given{tested}. {_settings(curves)}"
        "Where these differ, the numbers say how far apart two experiments are, not which strategy is better."
    )


def _settings(curves: Sequence[Curve]) -> str:
    """The settings that are not the paper's, in sentences; nothing where all are."""
    found: dict[str, list[str]] = {}
    for curve in curves:
        own = settings(curve.runs[0].config)
        for key, (_, in_paper) in PAPER.items():
            is_read = UNUSED.get(curve.runs[0].strategy) != key
            if is_read and own.get(key, in_paper) not in (in_paper, *found.get(key, ())):
                found.setdefault(key, []).append(own[key])
    names = [f"{PAPER[key][0]} {' or '.join(found[key])} ({PAPER[key][1]})" for key in PAPER if key in found]
    text = f"Settings that are not the paper's, and in brackets the paper's: {', '.join(names)}. " if names else ""
    theirs = published()["ranking"]["rte"]  # strategies that explain in the paper too
    explaining = [curve.label for curve in curves if _explains(curve) and curve.runs[0].strategy not in theirs]
    if explaining:
        text += f"Learned from explanations here, from labels alone in the paper: {', '.join(explaining)}. "
    return text


def _explains(curve: Curve) -> bool:
    return curve.runs[0].config.get("teacher") is not None
