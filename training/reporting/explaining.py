"""How good the explanations are, in numbers and to read."""

from collections.abc import Mapping, Sequence
from typing import Any

from training.reporting.page import Grid, Note, Part, Section
from training.reporting.study import Study, representatives
from training.reporting.tables import Entry, Table, mean, number, part, table_of, value_at, values_at
from training.runs import Curve, Run

SHOWN = 3  # examples of each kind
KINDS = {"most": "most reasonable", "least": "least reasonable"}


def explanations_section(study: Study) -> Section | None:
    """Ranking accuracy, consistency, and examples; None where no run has any of them."""
    parts: list[Part] = []
    quality = quality_table(study.curves)
    if len(quality) > 1:
        parts += [Grid(quality), Note(meaning({curve.runs[0].strategy for curve in study.curves}))]
    for curve in representatives(study.curves):
        table, where = examples_table(curve)
        if table:
            parts.append(Grid(table, f"{curve.label}: {where}", prose=True))
    if any(isinstance(p, Grid) and p.prose for p in parts):
        text = (
            "Most and least reasonable of the unlabeled pool by the explanation score (Eq. 6), in nats per token; the "
        )
        parts.append(Note(text + "explanation is the model's own, the gold label was not known to it."))
    return Section("Explanations", parts) if parts else None


def meaning(strategies: set[str]) -> str:
    """What the columns of ``quality_table`` mean. strategies: those that it has rows for, and others."""
    text = (
        "At the last number of labels that was measured, mean over the runs. Ranking accuracy: how often the "
        "explanation written for the gold label scores above one written for another label, on held-out texts; 0.5 is "
        "chance; beside it its standard error over texts; where right: of the texts alone that are classified right. "
        "Different: explanations that differ, over all. Consistency: how often a judge who sees the generated "
        "explanation alone names the label that the model predicted; beside it how often that judge is right about "
        "the teacher's explanations, which consistency cannot be read without. Judges: words, a classifier of "
        "words that learned from the explanations of the round's labeled texts; llm, the LLM that the run names."
    )
    if {"xal", "xal-no-rank"} <= strategies:
        text += " xal against xal-no-rank: with and without the ranking loss (the paper's Table 10)."
    return text


def quality_table(curves: Sequence[Curve]) -> Table:
    """One row for each setting whose explanations were measured; only a header where none were."""
    return table_of([_quality(curve, rounds) for curve in curves if (rounds := measured(curve))]) if curves else [[]]


def measured(curve: Curve) -> list[Entry]:
    """The last round of each run whose explanations were measured."""
    found = [[entry for entry in run.rounds if part(entry, "explanations")] for run in curve.runs]
    return [rounds[-1] for rounds in found if rounds]


def _quality(curve: Curve, rounds: Sequence[Entry]) -> dict[str, str]:
    judges = dict.fromkeys(str(judge) for entry in rounds for judge in part(part(entry, "explanations"), "consistency"))
    labels = sorted({int(entry["n_labeled"]) for entry in rounds})
    row = {
        "strategy": curve.label,
        "runs": str(len(rounds)),
        "labels": str(labels[0]) if len(labels) == 1 else f"{labels[0]}-{labels[-1]}",
        "texts": _most(values_at(rounds, "explanations", "texts")),
        "ranking accuracy": number(mean(values_at(rounds, "explanations", "ranking", "value"))),
        "± std. error": number(mean(values_at(rounds, "explanations", "ranking", "standard_error"))),
    }
    row["where right"] = number(mean(values_at(rounds, "explanations", "ranking_where_right", "value")))
    row["different"] = number(mean(values_at(rounds, "explanations", "distinct")))
    for judge in judges:
        row[f"consistency, {judge}"] = number(mean(values_at(rounds, "explanations", "consistency", judge)))
        row[f"{judge} is right"] = number(mean(values_at(rounds, "explanations", "judge_accuracy", judge)))
    return row


def _most(values: Sequence[float]) -> str:
    return f"{max(values):,.0f}" if values else ""


def examples_table(curve: Curve) -> tuple[Table | None, str]:
    """The examples of the curve's first run that has any, from its last round with some, and where they are from."""
    for run in curve.runs:
        for entry in reversed(run.rounds):
            examples = part(entry, "explanation_examples")
            rows = [_example(shown, name) for kind, name in KINDS.items() for shown in _shown(examples, kind)]
            if rows:
                return table_of(rows), f"{_name(run)}, {entry['n_labeled']} labels"
    return None, ""


def _name(run: Run) -> str:
    facts = [f"{key.replace('_', ' ')} {run.config[key]}" for key in ("initial_set", "seed") if key in run.config]
    return ", ".join(facts) or str(run.directory)


def _shown(examples: Mapping[str, Any], kind: str) -> list[Mapping[str, Any]]:
    found = examples.get(kind)
    return [example for example in found if isinstance(example, Mapping)][:SHOWN] if isinstance(found, list) else []


def _example(example: Mapping[str, Any], kind: str) -> dict[str, str]:
    score = value_at(example, "score")
    return {
        "": kind,
        **{key: str(example.get(key) or "") for key in ("text", "predicted", "gold", "explanation")},
        "score": "" if score is None else f"{score:.2f}",
    }
