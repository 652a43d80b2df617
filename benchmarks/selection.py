"""Selection side by side: explanation score and entropy of every text of a pool.

    python -m benchmarks.selection

Ours is ``Predictor.explanations``, as xal score and the loop use it, in the number format that it chooses by itself.
transformers is measured as it loads, in float32, and, where ours chooses bfloat16, in that too; the authors' code
computes in float32 as they wrote it, on a GPU in bfloat16.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from benchmarks import shapes
from benchmarks.rivals import AUTHORS_BATCH, TranslatorSelection, authors_selection, transformers_selection
from benchmarks.shapes import Shape, forced_ends
from benchmarks.side_by_side import Comparison, device_name, medians, quickest, record, table
from service.model.errors import XalError
from service.model.hardware import choose_device, multiplies_bfloat16

SHARE = 0.1  # of the pool that two-stage selection explains: the most uncertain


@dataclass(frozen=True)
class Plan:
    """How much is measured. texts: of the pool. batches: sizes that transformers is tried with. part: texts that the
    slower ones are given, which they take so many at a time that a text takes no longer among more."""

    texts: int
    batches: tuple[int, ...]
    part: int


# T5 last: with CTranslate2 loaded, all else in the process takes half again as long.
CPU = {shapes.default_backbone: Plan(48, (12, 24), 24), shapes.flan_t5_small: Plan(128, (32, 64), 64)}
GPU = {shapes.flan_t5_small: Plan(1200, (64, 256), 256), shapes.flan_t5_large: Plan(600, (64, 256), 256)}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.selection", description="Compare selection's speed.")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default auto)")
    parser.add_argument("--turns", type=int, default=3, help="of which the median counts (default 3)")
    options = parser.parse_args(arguments)
    comparisons = []
    try:
        device = choose_device(options.device)
        for make, plan in (CPU if device.type == "cpu" else GPU).items():
            for comparison in _compared(make(plan.texts, device), plan, options.turns):
                record([comparison])  # a run that is stopped keeps what it has
                comparisons.append(comparison)
    except XalError as error:
        print(error, file=sys.stderr)
        return 2
    print(table(comparisons))
    return 0


def _compared(shape: Shape, plan: Plan, turns: int) -> Iterator[Comparison]:
    """All comparisons of one shape."""
    device = shape.predictor.device
    fast = shape.copy_in(torch.bfloat16) if multiplies_bfloat16(device) else shape
    part = fast.first(plan.part)
    batch = quickest({size: partial(transformers_selection, part, size) for size in plan.batches})
    contestants: dict[str, tuple[Callable[[Shape], object], Shape]] = {
        "ours": (_explained, fast),
        "entropy": (_classified, fast),
        "two-stage": (_two_stage, fast),
        "transformers": (partial(transformers_selection, batch=batch), part),
    }
    if fast is not shape:
        plain = shape.first(batch)
        contestants["transformers, float32"] = partial(transformers_selection, batch=batch), plain
    if shape.is_t5:
        contestants["authors"] = authors_selection, (shape if device.type == "cpu" else fast).first(AUTHORS_BATCH)
    for run, own in contestants.values():
        run(own.first(8))  # to warm up
    seconds = medians({name: partial(run, own) for name, (run, own) in contestants.items()}, turns)
    per_text = {name: 1000 * seconds[name] / len(own.items) for name, (_, own) in contestants.items()}

    def compared(name: str, ours: str, other: str, note: str = "") -> Comparison:
        figures = per_text[ours], per_text[other]
        ratio = figures[1] / figures[0]
        return Comparison(name, *figures, "ms/text", ratio, device_name(device), shape.name + note)

    if "authors" in per_text:
        yield compared("selection_vs_authors", "ours", "authors")
    if "transformers, float32" in per_text:
        yield compared("selection_vs_transformers", "ours", "transformers, float32", ", theirs in float32")
    yield compared("selection_vs_transformers", "ours", "transformers")
    yield compared("selection_xal_vs_entropy", "ours", "entropy")
    yield compared("selection_xal_vs_entropy", "two-stage", "entropy", f", two-stage, {SHARE:.0%} explained")
    if shape.is_t5 and (translator := TranslatorSelection.of(shape)) is not None:
        both = {"ours": partial(_explained, fast), "ctranslate2": partial(translator, fast)}
        per_text |= {name: 1000 * taken / len(fast.items) for name, taken in medians(both, turns).items()}
        yield compared("selection_vs_ctranslate2", "ours", "ctranslate2")


def _explained(shape: Shape) -> None:
    with forced_ends(shape):
        assert len(list(shape.predictor.explanations(shape.items))) == len(shape.items)


def _classified(shape: Shape) -> None:
    assert len(shape.predictor.predict(shape.items)) == len(shape.items)


def _two_stage(shape: Shape) -> None:
    """Entropy for all, explanations for a share of them; which does not matter here."""
    _classified(shape)
    _explained(shape.first(round(SHARE * len(shape.items))))


if __name__ == "__main__":
    sys.exit(main())
