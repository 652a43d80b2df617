"""The learning curves, their end points, and every run round by round."""

from collections.abc import Mapping, Sequence

from training.evaluation import area_under_curve
from training.figures import Level, headline, learning_curve_png, single_curves_png
from training.reporting import spent
from training.reporting.page import Fold, Grid, Note, Part, Picture, Section
from training.reporting.study import Study, is_reference, ranks_by_acquisition
from training.reporting.tables import (
    Columns,
    Entry,
    Table,
    amount,
    mean,
    nested,
    number,
    part,
    table_of,
    value_at,
    values_at,
    without_empty_columns,
)
from training.runs import Curve, Run

CURVE_FILE, SINGLE_FILE = "learning_curve.png", "learning_curves_one_by_one.png"
CROWDED = 4  # curves; of more, each is drawn on its own as well
# What is told of a selection -> where it stands in a round.
SELECTION = {
    "explanation score, std": ("selection", "explanation_score", "std"),
    "entropy, std": ("selection", "entropy", "std"),
    "correlation": ("selection", "correlation"),
    "explanation's share": ("selection", "explanation_share"),
    "as in the paper": ("selection", "explanation_share_in_paper"),
    "overlap with entropy": ("selection", "overlap_with_entropy"),
    "with random": ("selection", "overlap_with_random"),
    "predicted wrong": ("errors", "wrong"),
    "entropy finds these": ("errors", "entropy"),
    "explanation score finds these": ("errors", "explanation"),
}
SHARES = ("explanation's share", "as in the paper")
CALIBRATION = "calibration error: the expected one, 0 to 1"
SELECTION_NOTE = (
    "Selection: how far the explanation score (p of Eq. 6) and the entropy spread over the unlabeled pool, in nats, "
    "and their correlation; the explanation's share of the variance of the acquisition score (Eq. 8), for strategies "
    "that rank by it, and where they standardise its terms, what that share would have been as in the paper; the share "
    "of the chosen texts that entropy alone, or chance, would have chosen too; the share of the pool that is predicted "
    "wrong, and how often such a text has the higher entropy, or the worse explanation score, than one predicted "
    "right: 0.5 is chance. With a prefilter this describes the explained texts, and the share that it kept of those "
    "with the highest scores is estimated from a sample of the others."
)


def curves_section(study: Study) -> Section | None:
    """All curves in one picture; many of them one by one, too."""
    if not study.curves:
        return None
    shown = headline(study.curves, "macro_f1")
    alternative = f"Learning curves, {shown}; the numbers are in the tables below"
    picture = learning_curve_png(study.curves, levels=levels(study))
    parts: list[Part] = [Picture(CURVE_FILE, picture, alternative)]
    if len(study.curves) > CROWDED:
        alternative = f"Each learning curve on its own, {shown}"
        parts.append(Picture(SINGLE_FILE, single_curves_png(study.curves), alternative))
    return Section("Learning curves", parts)


def levels(study: Study) -> list[Level]:
    """What is no curve: upper bounds, LLMs and the target."""
    found = [
        Level(reference.title, sum(values) / len(values))
        for reference in study.references
        if (values := values_at(reference.last_entries, "macro_f1"))
    ]
    return found + ([Level("target", study.target.macro_f1, ":")] if study.target else [])


def summary_section(study: Study) -> Section:
    """What the curves end at, and what their runs took; the references stand below them."""
    parts: list[Part] = [Note(warning, warning=True) for warning in study.warnings]
    parts.append(Grid(summary_table(study.everything)))
    parts.append(
        Note(
            "Metrics at the last number of labels that all runs of a strategy reached, mean over its runs; "
            f"{CALIBRATION}; minutes, tokens and cost of all its runs together."
        )
    )
    classes = class_table(study.everything)
    if len(classes[0]) > 1:
        parts.append(Grid(classes, "F1 of each class, at the same number of labels"))
    return Section("Strategies", parts)


def summary_table(curves: Sequence[Curve]) -> Table:
    """One row for each setting: its last point, the mean height of its curve, and what its runs took together."""
    return table_of([_summary(curve) for curve in curves])


def _summary(curve: Curve) -> dict[str, str]:
    f1, accuracy = curve.values("macro_f1"), curve.values("accuracy")
    areas = [area_under_curve(curve.n_labeled, values.tolist()) for values in f1]
    rounds = [entry for run in curve.runs for entry in run.rounds]
    return {
        "strategy": curve.label,
        "runs": str(len(curve.runs)),
        "labels": str(curve.n_labeled[-1]),
        "macro-F1": number(float(f1[:, -1].mean())),
        "lowest-highest": f"{f1[:, -1].min():.3f}-{f1[:, -1].max():.3f}" if len(f1) > 1 else "",
        "accuracy": number(float(accuracy[:, -1].mean())),
        "calibration error": number(mean(values_at(curve.last_entries, "calibration_error"))),
        "mean over curve": "" if is_reference(curve.runs[0].strategy) else number(mean(areas)),
        "minutes": amount(sum(map(spent.seconds, rounds)) / 60, ",.1f"),
        "teacher tokens": amount(sum(map(spent.tokens, rounds)), ","),
        "cost": amount(sum(map(spent.cost, rounds)), ",.4f"),
    }


def class_table(curves: Sequence[Curve]) -> Table:
    """One row for each setting: F1 of each class at its last point, mean over its runs."""
    rows = [{"strategy": curve.label, **classes} for curve in curves if (classes := _classes(curve))]
    return table_of(rows) if rows else [["strategy"]]


def _classes(curve: Curve) -> Mapping[str, str]:
    labels = dict.fromkeys(str(label) for entry in curve.last_entries for label in part(entry, "per_class_f1"))
    return {f"F1 {label}": number(mean(values_at(curve.last_entries, "per_class_f1", label))) for label in labels}


def rounds_section(study: Study) -> Section:
    """Every run, to be opened one by one."""
    return Section("Runs", [Note(SELECTION_NOTE), *(_fold(run) for curve in study.everything for run in curve.runs)])


def _fold(run: Run) -> Fold:
    config = run.config
    facts = [f"{key.replace('_', ' ')} {config[key]}" for key in ("seed", "initial_set", "model") if key in config]
    grids = [Grid(table, title) for title, table in rounds_tables(run).items() if len(table[0]) > 1]
    return Fold(run.strategy, ", ".join(facts), str(run.directory), grids)


def rounds_tables(run: Run) -> dict[str, Table]:
    """One row for each round of a run: how good it was, what it took, and what its selection was like."""
    per_class = {f"F1 {label}": nested("per_class_f1", label) for label in part(run.rounds[-1], "per_class_f1")}
    selection = {name: nested(*path) for name, path in SELECTION.items() if says_something(name, run.strategy)}
    tables = {
        "Metrics": _METRICS | per_class,
        "Seconds and the teacher's bill": spent.BILL,
        "Selection": selection | _PREFILTER,
    }
    return {title: _rounds_table(run, columns) for title, columns in tables.items()}


def says_something(name: str, strategy: str) -> bool:
    """Whether this one of SELECTION describes the strategy's choice: no share in a score that it did not rank by."""
    return name not in SHARES or ranks_by_acquisition(strategy)


def _rounds_table(run: Run, columns: Columns) -> Table:
    columns = {"labels": lambda entry: str(entry["n_labeled"])} | columns
    rows = [[show(entry) for show in columns.values()] for entry in run.rounds]
    return without_empty_columns([list(columns), *rows])


def _of_prefilter(entry: Entry, name: str) -> str:
    return amount(value_at(entry, "prefilter", name) or 0, ",.0f")


_METRICS: Columns = {
    "macro-F1": nested("macro_f1"),
    "accuracy": nested("accuracy"),
    "calibration error": nested("calibration_error"),
    "dev macro-F1": nested("dev", "macro_f1"),
    "dev accuracy": nested("dev", "accuracy"),
    "dev calibration error": nested("dev", "calibration_error"),
}
_PREFILTER: Columns = {
    "explained": lambda entry: _of_prefilter(entry, "explained"),
    "of": lambda entry: _of_prefilter(entry, "of"),
    "kept by the prefilter": nested("prefilter", "kept_share"),
}
