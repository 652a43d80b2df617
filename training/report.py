"""Saved runs -> pictures, tables and one HTML page that opens anywhere, without a network."""

from collections.abc import Callable, Sequence
from pathlib import Path

from service.model.errors import InputError
from training.figures import terminal_curve
from training.reporting.beside_paper import paper_section
from training.reporting.compared import FILE as COMPARISONS_FILE
from training.reporting.compared import comparison_text, comparisons_section
from training.reporting.costs import costs_section
from training.reporting.explaining import explanations_section
from training.reporting.learning import (
    CURVE_FILE,
    SINGLE_FILE,
    curves_section,
    rounds_section,
    summary_section,
    summary_table,
)
from training.reporting.llms import llm_section
from training.reporting.maps import FILE as MAPS_FILE
from training.reporting.maps import maps_section
from training.reporting.page import Section, html_page
from training.reporting.reaching import FILE as TARGET_FILE
from training.reporting.reaching import target_section
from training.reporting.redundant import FILE as REDUNDANCY_FILE
from training.reporting.redundant import redundancy_section
from training.reporting.study import Study
from training.reporting.tables import text_table
from training.reporting.weights import FILE as SENSITIVITY_FILE
from training.reporting.weights import ablation_section, sensitivity_section
from training.runs import find_runs

PAGE_FILE = "report.html"
LEAD = "How fast a classifier learns from labels that each query strategy asks for."

# From top to bottom; each is left out where the runs hold nothing of its kind.
SECTIONS: Sequence[Callable[[Study], Section | None]] = (
    curves_section,
    summary_section,
    comparisons_section,
    target_section,
    paper_section,
    llm_section,
    ablation_section,
    sensitivity_section,
    explanations_section,
    maps_section,
    redundancy_section,
    costs_section,
    rounds_section,
)
PICTURES = (CURVE_FILE, SINGLE_FILE, COMPARISONS_FILE, TARGET_FILE, SENSITIVITY_FILE, MAPS_FILE, REDUNDANCY_FILE)


def report(run_dirs: Sequence[str | Path], output: str | Path) -> str:
    """Write ``report.html`` and its pictures into ``output``; returns curve, table, comparisons and warnings as text.

    run_dirs: run directories, or grid directories with run directories right below them, all of one task. Raises
    InputError for what is no run directory (see read_run), runs that cannot be compared (see learning_curves), no run
    with a finished round, or an output that cannot be written. Each file is replaced whole or not at all; pictures of
    an earlier report that this one does not have are removed.
    """
    study = Study.of(*find_runs(run_dirs))
    sections = [section for make in SECTIONS if (section := make(study)) is not None]
    page = _encoded(html_page(study.task_name, LEAD, sections))
    _write(Path(output), page, {picture.file: picture.png for section in sections for picture in section.pictures})
    return _encoded("\n\n".join(filter(None, _terminal(study)))).decode("utf-8")


def _terminal(study: Study) -> list[str]:
    curves = [run for curve in study.curves for run in curve.runs]
    return [
        terminal_curve(curves) if curves else "",
        text_table(summary_table(study.everything)),
        comparison_text(study),
        *study.warnings,
    ]


def _encoded(text: str) -> bytes:
    """UTF-8, with ? for what has no place in it, such as bytes of a path that are not UTF-8."""
    return text.encode("utf-8", "replace")


def _write(output: Path, page: bytes, pictures: dict[str, bytes]) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
        for name, picture in pictures.items():
            _replace(output / name, picture)
        _replace(output / PAGE_FILE, page)
        for name in set(PICTURES) - set(pictures):
            (output / name).unlink(missing_ok=True)
    except OSError as error:
        raise InputError(
            f"{output}: cannot write the report ({error.strerror or error}); name another --output"
        ) from error


def _replace(path: Path, content: bytes) -> None:
    """Write a file beside its place and move it there, so that a reader never sees half of it."""
    beside = path.with_name(f".{path.name}.part")
    beside.write_bytes(content)
    beside.replace(path)
