"""Whether the texts of a batch repeat each other: the largest cosine similarity to another one, against chance."""

from collections.abc import Sequence

from training.reporting.drawing import looks, name_rows, plain_axes, png, rows_figure, title
from training.reporting.page import Grid, Note, Picture, Section
from training.reporting.study import Study
from training.reporting.tables import Table, mean, number, signed, table_of, values_at
from training.runs import Curve

FILE = "redundancy.png"
NOTE = (
    "How alike the texts of one batch are: for each chosen text the largest cosine similarity of its h_0 to another "
    "one, mean over the batch, its rounds and runs; beside it that of a random batch. Higher: more alike."
)


def redundancy_section(study: Study) -> Section | None:
    """Chosen against random, mean over rounds and runs; None where it was not measured."""
    curves = [curve for curve in study.curves if _values(curve, "chosen") is not None]
    if not curves:
        return None
    picture = Picture(FILE, _picture(study.curves, curves), "Similarity within chosen and random batches")
    return Section("Redundancy of the selected batches", [picture, Note(NOTE), Grid(redundancy_table(curves))])


def redundancy_table(curves: Sequence[Curve]) -> Table:
    rows = []
    for curve in curves:
        chosen, by_chance = _values(curve, "chosen"), _values(curve, "random")
        rows.append(
            {
                "strategy": curve.label,
                "chosen": number(chosen),
                "random": number(by_chance),
                "difference": "" if chosen is None or by_chance is None else signed(chosen - by_chance),
            }
        )
    return table_of(rows)


def _values(curve: Curve, name: str) -> float | None:
    return mean(values_at([entry for run in curve.runs for entry in run.rounds], "redundancy", name))


def _picture(everyone: Sequence[Curve], curves: Sequence[Curve]) -> bytes:
    """A row for each strategy: its batches as a dot, random ones as an open dot, a line between."""
    colours = {curve.label: look.colour for curve, look in zip(everyone, looks(everyone), strict=True)}
    names = [curve.label for curve in curves]
    figure = rows_figure(names, around=1.3, row=0.32)
    axes = figure.add_subplot()
    for row, curve in enumerate(curves):
        chosen, by_chance, colour = _values(curve, "chosen"), _values(curve, "random"), colours[curve.label]
        if by_chance is not None:
            axes.plot([chosen, by_chance], [row] * 2, color=colour, lw=1.5, zorder=1)
            axes.plot([by_chance], [row], "o", color=colour, mfc="white", ms=7, zorder=2)
        axes.plot([chosen], [row], "o", color=colour, ms=7, zorder=3)
    title(axes, "similarity within a batch")
    plain_axes(axes, grid="x")
    axes.margins(x=0.08)
    name_rows(axes, names)
    axes.set_xlabel("mean largest cosine similarity; filled: chosen, open: random")
    return png(figure)
