"""What each strategy took: time by stage and the teacher's bill."""

from training.reporting import spent
from training.reporting.page import Grid, Note, Section
from training.reporting.study import Study
from training.reporting.tables import Entry, Table, amount, table_of
from training.runs import Curve

SELECTION = "selection"
# Name -> the stages of a round that it sums up.
WORK = {"training": ["train"], SELECTION: ["score", "select"], "evaluation": ["evaluate"], "teacher": ["teach"]}
NOTE = (
    "Means over the runs of a strategy. Seconds are those of a round in which there was such work (the last one of a "
    "run may select nothing), minutes and the teacher's bill those of a whole run. Selection: scoring the pool and "
    "choosing from it. An answer that an earlier run has paid for costs the next one nothing. Times of different "
    "machines do not compare."
)


def costs_section(study: Study) -> Section | None:
    """Seconds a round, minutes and the bill a run; None where nothing was measured."""
    table = costs_table(study.everything)
    if len(table[0]) < 4:
        return None
    return Section("Time and cost", [Grid(table), Note(NOTE)])


def costs_table(curves: list[Curve]) -> Table:
    return table_of([_costs(curve) for curve in curves])


def _costs(curve: Curve) -> dict[str, str]:
    n_runs, rounds = len(curve.runs), [entry for run in curve.runs for entry in run.rounds]

    def a_round(work: str) -> str:
        seconds = [spent.seconds(entry, WORK[work]) for entry in rounds if _has(entry, work)]
        return amount(sum(seconds) / max(1, len(seconds)), ",.1f")

    return {
        "strategy": curve.label,
        "runs": str(n_runs),
        "rounds": f"{len(rounds) / n_runs:g}",
        **{f"{work}, s": a_round(work) for work in WORK},
        "minutes in all": amount(sum(map(spent.seconds, rounds)) / 60 / n_runs, ",.1f"),
        "requests": amount(sum(spent.billed(entry, "requests") for entry in rounds) / n_runs, ",.0f"),
        "tokens": amount(sum(map(spent.tokens, rounds)) / n_runs, ",.0f"),
        "cost": amount(sum(map(spent.cost, rounds)) / n_runs, ",.4f"),
    }


def _has(entry: Entry, work: str) -> bool:
    """Whether a round did such work: it took time, or texts were chosen, however fast."""
    return spent.seconds(entry, WORK[work]) > 0 or (work == SELECTION and bool(entry.get("queried_ids")))
