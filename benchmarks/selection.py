"""Selection side by side: explanation score and entropy of every text of a pool.

    python -m benchmarks.selection

Ours is ``Predictor.explanations``, as xal score and the loop use it, in the number format that it chooses by itself;
where a row says so, in the other's. The others compute in float32 on a CPU, as they are, and in bfloat16 on a GPU.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch

from benchmarks import shapes
from benchmarks.rivals import TranslatorSelection, authors_selection, transformers_selection
from benchmarks.shapes import Shape, forced_ends
from benchmarks.side_by_side import Comparison, device_name, medians, quickest, record, table
from service.model.errors import XalError
from service.model.hardware import choose_device, multiplies_bfloat16

BATCHES = (8, 16, 32, 64, 128, 256)  # that transformers is tried with


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    options = _parser().parse_args(arguments)
    try:
        device = choose_device(options.device)
        comparisons = []
        for comparison in _measure(device, options.texts, options.turns):
            record([comparison])  # a run that is stopped keeps what it has
            comparisons.append(comparison)
    except XalError as error:
        print(error, file=sys.stderr)
        return 2
    print(table(comparisons))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.selection", description="Compare selection's speed.")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default auto)")
    parser.add_argument(
        "--texts", type=int, default=None, help="of the pool (default: 64 and 24 on a CPU, 600 on a GPU)"
    )
    parser.add_argument("--turns", type=int, default=3, help="of which the median counts (default 3)")
    return parser


def _measure(device: torch.device, texts: int | None, turns: int) -> Iterator[Comparison]:
    measured = {shapes.flan_t5_small: 64, shapes.default_backbone: 24}
    if device.type != "cpu":
        measured = {shapes.flan_t5_small: 600, shapes.flan_t5_large: 600}
    for make, count in measured.items():
        yield from _of_shape(make(texts or count, device), turns)


def _of_shape(shape: Shape, turns: int) -> Iterator[Comparison]:
    """All comparisons of one shape."""
    device = shape.predictor.device
    fast = shape.copy_in(torch.bfloat16) if multiplies_bfloat16(device) else shape
    plain = shape if device.type == "cpu" else fast
    contestants: dict[str, Callable[[], object]] = {
        "ours": lambda: _ours(fast),
        "entropy": lambda: fast.predictor.predict(fast.items),
        "transformers": _tuned(plain),
    }
    if fast is not plain:
        contestants |= {"ours, float32": lambda: _ours(plain), "transformers, bfloat16": _tuned(fast)}
    if shape.is_t5:
        contestants["authors"] = lambda: authors_selection(plain)
        if (translator := TranslatorSelection.of(plain)) is not None:
            contestants["ctranslate2"] = translator
    per_text = {name: seconds / len(shape.items) * 1000 for name, seconds in medians(contestants, turns).items()}

    def against(name: str, ours: str, other: str, model: str = "") -> Comparison:
        figures = per_text[ours], per_text[other]
        where = device_name(device)
        return Comparison(name, *figures, "ms/text", figures[1] / figures[0], where, shape.name + model)

    if "authors" in per_text:
        yield against("selection_vs_authors", "ours", "authors")
    yield against("selection_vs_transformers", "ours", "transformers")
    if "ours, float32" in per_text:
        yield against("selection_vs_transformers", "ours, float32", "transformers", ", both float32")
        yield against("selection_vs_transformers", "ours", "transformers, bfloat16", ", both bfloat16")
    if "ctranslate2" in per_text:
        yield against("selection_vs_ctranslate2", "ours", "ctranslate2")
    yield against("selection_xal_vs_entropy", "ours", "entropy")


def _ours(shape: Shape) -> None:
    with forced_ends(shape):
        assert len(list(shape.predictor.explanations(shape.items))) == len(shape.items)


def _tuned(shape: Shape) -> Callable[[], object]:
    """transformers with the batch size that is quickest here."""
    sizes = [size for size in BATCHES if size <= max(BATCHES[0], len(shape.items))]
    return partial(
        transformers_selection, shape, quickest({size: partial(transformers_selection, shape, size) for size in sizes})
    )


if __name__ == "__main__":
    sys.exit(main())
