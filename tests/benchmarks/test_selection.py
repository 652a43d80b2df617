"""Every contestant selects from the same pool, and each comparison has its row."""

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import selection
from benchmarks.rivals import TranslatorSelection, authors_selection, transformers_selection
from benchmarks.selection import Plan
from benchmarks.shapes import forced_ends
from service.model.classification import Prediction
from tests.benchmarks.tiny_shape import tiny_shape


def test_the_contestants_find_the_same_entropies_and_explain_every_text(
    make_model_dir: Callable[..., Path],
) -> None:
    shape = tiny_shape("t5", make_model_dir)
    with forced_ends(shape):
        ours = list(shape.predictor.explanations(shape.items))
    entropies = [outcome.entropy for outcome in ours if isinstance(outcome, Prediction)]
    for found in (authors_selection(shape), transformers_selection(shape, 2)):
        assert [c for _, c in found] == pytest.approx(entropies, abs=1e-5)
        assert all(p < 0 for p, _ in found)
    assert all(isinstance(outcome, Prediction) and outcome.explanation is not None for outcome in ours)


def test_each_comparison_has_its_row(make_model_dir: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TranslatorSelection, "of", lambda _: None)
    shape = tiny_shape("t5", make_model_dir)
    rows = list(selection._compared(shape, Plan(texts=5, batches=(2, 4), part=4), turns=1))
    assert {row.name for row in rows} == {
        "selection_vs_authors",
        "selection_vs_transformers",
        "selection_xal_vs_entropy",
    }
    for row in rows:
        assert row.ratio == pytest.approx(row.other / row.ours)
        assert row.unit == "ms/text"
