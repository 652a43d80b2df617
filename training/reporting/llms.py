"""An LLM as the classifier, or as the source of labels, beside what human labels bought (the paper's Table 3)."""

from collections.abc import Sequence

from training.comparison import labels_to_target
from training.reporting import spent
from training.reporting.page import Grid, Note, Section
from training.reporting.study import Study
from training.reporting.tables import Entry, Table, amount, mean, number, table_of, value_at, values_at
from training.runs import Curve


def llm_section(study: Study) -> Section | None:
    """A row for each LLM and for the best point of each learning curve; None without an LLM."""
    if not study.llms:
        return None
    note = Note(
        "LLMs, then each learning curve at its highest point, mean over the runs. Labels: human ones that were used. "
        "Unparsable: answers that named no label of the task, or more than one. Its labels right: share of the "
        "pool's labels by the LLM that a model then learned from. To match: human labels at which the "
        "mean curve reaches the best LLM above, in a straight line between rounds. Requests, tokens and cost: of a run."
    )
    return Section("LLM as the classifier", [Grid(llm_table(study)), note])


def llm_table(study: Study) -> Table:
    best = max(float(curve.values("macro_f1")[:, -1].mean()) for curve in study.llms)
    rows = [{"classifier": curve.label, **_llm(curve)} for curve in study.llms]
    return table_of(rows + [{"classifier": curve.label, **_trained(curve, best)} for curve in study.curves])


def _llm(curve: Curve) -> dict[str, str]:
    entries = curve.last_entries
    rounds = [entry for run in curve.runs for entry in run.rounds]
    unparsable = mean([value for entry in entries if (value := _unparsable(entry)) is not None])
    return {
        "runs": str(len(curve.runs)),
        "labels": str(curve.n_labeled[-1]),
        "macro-F1": number(mean(values_at(entries, "macro_f1"))),
        "accuracy": number(mean(values_at(entries, "accuracy"))),
        "unparsable": "" if unparsable is None else f"{unparsable:,.0f}",
        "its labels right": number(mean(values_at(entries, "silver", "accuracy"))),
        **_bill(curve, rounds),
    }


def _trained(curve: Curve, best: float) -> dict[str, str]:
    means = curve.values("macro_f1").mean(axis=0).tolist()
    place = means.index(max(means))
    rounds = [entry for run in curve.runs for entry in run.rounds if entry["n_labeled"] <= curve.n_labeled[place]]
    needed = labels_to_target(curve.n_labeled, means, best)
    return {
        "runs": str(len(curve.runs)),
        "labels": str(curve.n_labeled[place]),
        "macro-F1": number(means[place]),
        "accuracy": number(float(curve.values("accuracy")[:, place].mean())),
        "to match the best LLM": "not reached" if needed is None else f"{needed:,.0f} labels",
        **_bill(curve, rounds),
    }


def _bill(curve: Curve, rounds: Sequence[Entry]) -> dict[str, str]:
    n_runs = len(curve.runs)
    return {
        "requests": amount(sum(spent.billed(entry, "requests") for entry in rounds) / n_runs, ",.0f"),
        "tokens": amount(sum(map(spent.tokens, rounds)) / n_runs, ",.0f"),
        "cost": amount(sum(map(spent.cost, rounds)) / n_runs, ",.4f"),
    }


def _unparsable(entry: Entry) -> float | None:
    return value_at(entry, "unparsable")
