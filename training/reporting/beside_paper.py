"""Our numbers beside the paper's Table 7, for runs on one of its tasks, and all that keeps them from being the same."""

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from training.reporting.drawing import METHOD
from training.reporting.page import Grid, Note, Section
from training.reporting.study import Study
from training.reporting.tables import Table, counted, number, table_of, values_at
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


@cache
def table7() -> Mapping[str, Any]:
    """``n_labeled``, and ``macro_f1``: task -> strategy by our name -> percent at each of them; with its source."""
    found: dict[str, Any] = json.loads(files("training.reporting").joinpath("paper_table7.json").read_text("utf-8"))
    return found


def paper_task(name: str) -> str | None:
    """The paper's task that a name begins with, as in ``MAMS``, ``mams-acsa`` or ``Covid 19``; None for any other."""
    name = name.strip().lower()
    return next((task for task, words in TASKS.items() if re.match(f"{words}(?![a-z0-9])", name)), None)


def paper_section(study: Study) -> Section | None:
    """Ours above the paper's; None for other tasks and where no number of labels is in both."""
    task = paper_task(study.task_name)
    curves = [curve for curve in study.curves if task and curve.runs[0].strategy in table7()["macro_f1"][task]]
    table = paper_table(curves, task) if task else None
    if not task or table is None:
        return None
    note = Note(_differences(curves))
    return Section("Beside the paper", [Grid(table, f"Macro-F1 on {task.upper()}, by number of labels"), note])


def paper_table(curves: Sequence[Curve], task: str) -> Table | None:
    """Two rows for each strategy, at the numbers of labels that both have; None without any.

    curves: of strategies that the paper has.
    """
    paper = table7()
    rows = []
    for curve in curves:
        percents = paper["macro_f1"][task][curve.runs[0].strategy]
        theirs = {n: percent / 100 for n, percent in zip(paper["n_labeled"], percents, strict=False)}
        ours = dict(zip(curve.n_labeled, curve.values("macro_f1").mean(axis=0).tolist(), strict=True))
        if shared := sorted(ours.keys() & theirs.keys()):
            runs = counted(len(curve.runs), "run")
            rows.append({"strategy": curve.label, "of": runs, **{str(n): number(ours[n]) for n in shared}})
            rows.append({"strategy": "", "of": "the paper", **{str(n): number(theirs[n]) for n in shared}})
    columns = ("strategy", "of", *(str(n) for n in paper["n_labeled"]))
    return table_of([{key: row.get(key, "") for key in columns} for row in rows]) if rows else None


def _differences(curves: Sequence[Curve]) -> str:
    paper, configs = table7(), [run.config for curve in curves for run in curve.runs]
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
            if own.get(key, in_paper) not in (in_paper, *found.get(key, ())):
                found.setdefault(key, []).append(own[key])
    names = [f"{PAPER[key][0]} {' or '.join(found[key])} ({PAPER[key][1]})" for key in PAPER if key in found]
    text = f"Settings that are not the paper's, and in brackets the paper's: {', '.join(names)}. " if names else ""
    explaining = [curve.label for curve in curves if _explains(curve) and curve.runs[0].strategy != METHOD]
    if explaining:
        text += f"Learned from explanations here, from labels alone in the paper: {', '.join(explaining)}. "
    return text


def _explains(curve: Curve) -> bool:
    return curve.runs[0].config.get("teacher") is not None
