"""Which score tells the texts that a model gets wrong? Entropy, the explanation score (Eq. 6), and its two parts.

    python -m benchmarks.wrong_texts --data product-reviews [--labels 100] [--seed 0]
    python -m benchmarks.wrong_texts --table

The score of a text's explanation is split in two: what the same explanation gets on average from other texts (how
common its wording is), and the rest, which is what this text adds. On dev texts of the evidence's data sets, never on
test texts. A run is a line of docs/wrong_texts.jsonl; --table makes the table of docs/results.md of that file.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.ending import exit_code
from benchmarks.evidence import DOCS, EXPLAINED, MODEL, NUM_BEAMS, TRAINER, add_data_options, model_name
from benchmarks.results import append_cell, read_cells
from benchmarks.tables import markdown, replace_generated, summary
from service.model.errors import InputError

if TYPE_CHECKING:  # they bring torch, which --table can do without
    from service.model.predictor import Predictor
    from training.data import Example

MARK = "<!-- generated: python -m benchmarks.wrong_texts --table -->"
OTHERS = 4  # other texts that score each explanation
STREAM = 9  # keeps the draw of these apart from every other generator that is seeded with a small number
# What is told of the scores, in the table's order.
COLUMNS = {
    "entropy": ("finds", "entropy"),
    "explanation score": ("finds", "explanation"),
    "wording": ("finds", "wording"),
    "what the text adds": ("finds", "added"),
    "std of the score": ("std", "explanation"),
    "of the wording": ("std", "wording"),
    "of what is added": ("std", "added"),
    "score's variance that is wording": ("wording_share",),
}

Floats = NDArray[np.float64]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 0 done, 1 failure, 2 wrong input, 130 interrupted."""
    options = _parser().parse_args(arguments)
    if options.table:
        return exit_code(lambda: replace_generated(options.page, MARK, render(read_cells(options.results))))
    return exit_code(lambda: _measure(options), kept="nothing is kept of this run")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.wrong_texts", description="Which score tells the texts that a model gets wrong?"
    )
    add_data_options(parser)
    add = parser.add_argument
    add("--labels", type=int, default=100, help="texts to train on (default 100)")
    add("--seed", type=int, default=0, help="of their draw and of the training (default 0)")
    add("--texts", type=int, default=300, help="dev texts to score, at most (default 300)")
    add("--model", default=MODEL, help=f"backbone (default {MODEL})")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default auto)")
    add("--results", type=Path, default=DOCS / "wrong_texts.jsonl", help="file of measured runs")
    add("--table", action="store_true", help="measure nothing; make the table of what was measured")
    add("--page", type=Path, default=DOCS / "results.md", help="page that the table stands in")
    return parser


def _measure(options: argparse.Namespace) -> None:
    from benchmarks.evidence_data import data_set
    from service.model.decoding import Decoding
    from service.model.task import Task
    from training.backbones import resolve
    from training.cli import quiet_libraries
    from training.config import DataFile, git_hash, versions
    from training.fitted import fitted_predictor
    from training.offline_parts import cache_directory
    from training.pool import initial_set
    from training.run_data import read_splits
    from training.teacher import RecordedTeacher
    from training.trainer import TrainerConfig

    if options.labels < 1 or options.texts <= OTHERS:
        raise InputError(
            f"expected --labels of 1 or more and --texts of {OTHERS + 1} or more, found {options.labels} and "
            f"{options.texts}"
        )
    quiet_libraries()
    data = data_set(options, cache_directory())
    task, file = Task.from_yaml(data.task), DataFile.of(data.data)
    teacher = RecordedTeacher(data.explanations, task)
    # The pool that the evidence's runs draw from.
    splits = read_splits(task, file, covered=teacher.covered, only_covered=data.only_explained, explained=EXPLAINED)
    by_id = {example.id: example for example in splits.train}
    labeled = [by_id[id_] for id_ in initial_set(splits.train, options.labels, options.seed)]
    backbone = resolve(options.model, cache_directory())
    trainer = TrainerConfig.model_validate({**backbone.training, **TRAINER.get(options.model, {})})
    predictor = fitted_predictor(
        labeled,
        teacher.explain({example.id: example.fields for example in labeled}).explanations,
        task=task,
        source=backbone.source,
        config=trainer,
        seed=options.seed,
        device=options.device,
        decoding=Decoding(NUM_BEAMS, task.max_explanation_tokens),
        precision="float32",  # alike on all machines
    )
    explained = {example.id for example in splits.explained}
    dev = [example for example in splits.dev if example.id not in explained][: options.texts]
    cell = {
        "data": data.name,
        "model": model_name(options.model),
        "labels": options.labels,
        "seed": options.seed,
        **describe(*score_with_others(predictor, dev, options.seed)),
        "trainer": trainer.model_dump(),
        "sha256": {"data": file.sha256, "explanations": DataFile.of(data.explanations).sha256},
    }
    append_cell(options.results, cell | {"versions": versions(), "git_hash": git_hash()})
    print(f"{options.results}: one run added\n\n{render([cell])}")


def score_with_others(
    predictor: Predictor, examples: Sequence[Example], seed: int, *, progress: bool = True
) -> tuple[NDArray[np.bool_], Floats, Floats, Floats]:
    """Whether each text is predicted wrong, its entropy, and the Eq. 6 of its generated explanation: given the text
    itself, and the mean of it given OTHERS other texts, drawn at random. All (n,); scores in nats per token.

    Texts whose explanation is empty are left out. Raises XalError where the model fails on a text, and where OTHERS or
    fewer are left.
    """
    from service.model.classification import Item
    from service.model.errors import ItemError, XalError
    from training.predictions import predict_examples

    found = predict_examples(predictor, examples, explain=True, progress=progress, stage="explain")
    kept = [place for place, prediction in enumerate(found) if str(prediction.explanation or "").strip()]
    if len(kept) <= OTHERS:
        raise XalError(f"only {len(kept)} of {len(found)} explanations say anything; expected more than {OTHERS}")
    order = np.random.default_rng([STREAM, seed]).permutation(len(kept))
    written = [str(found[kept[place]].explanation) for place in order]
    # Text number i in this order scores its own explanation, then those of the OTHERS behind it.
    items = [
        Item(examples[kept[place]].fields, tuple(np.roll(written, -i)[: OTHERS + 1].tolist()))
        for i, place in enumerate(order)
    ]
    rows = []
    for item, outcome in zip(items, predictor.explanations(items, num_beams=1, max_new_tokens=1), strict=True):
        if isinstance(outcome, ItemError):
            raise XalError(f"scoring explanations of other texts for {dict(item.fields)}: {outcome.message}")
        rows.append(outcome.candidate_scores)
    scores = np.array(rows, dtype=np.float64)  # (n, 1 + OTHERS)
    by_others = np.stack([np.roll(scores[:, k], k) for k in range(1, OTHERS + 1)]).mean(axis=0)
    chosen = [found[kept[place]] for place in order]
    wrong = np.array([p.label != examples[kept[place]].label for p, place in zip(chosen, order, strict=True)])
    return wrong, np.array([prediction.entropy for prediction in chosen]), scores[:, 0], by_others


def describe(wrong: NDArray[np.bool_], entropy: Floats, own: Floats, by_others: Floats) -> dict[str, Any]:
    """How often a text that is predicted wrong stands out from one that is predicted right (area under the ROC curve,
    0.5 for chance, None without both kinds): by higher entropy, or by a lower explanation score, wording or rest."""
    from sklearn.metrics import roc_auc_score

    suspects = {"entropy": entropy, "explanation": -own, "wording": -by_others, "added": by_others - own}
    both = bool(wrong.any() and not wrong.all())
    return {
        "texts": len(wrong),
        "wrong": float(wrong.mean()),
        "finds": {name: float(roc_auc_score(wrong, values)) if both else None for name, values in suspects.items()},
        "std": {name: float(suspects[name].std()) for name in ("explanation", "wording", "added")},
        "wording_share": _share(by_others, own),
    }


def _share(part: Floats, whole: Floats) -> float | None:
    """Covariance of a part with the whole, over the whole's variance; None where that is the same everywhere."""
    deviations = whole - whole.mean()
    variance = float(deviations @ deviations)
    return float((part - part.mean()) @ deviations) / variance if variance > 0 else None


def render(cells: Sequence[Mapping[str, Any]]) -> str:
    """One row for each data set, backbone and number of labels: means over seeds; of several measurements of one the
    last."""
    latest = {(cell["data"], cell["model"], cell["labels"], cell["seed"]): cell for cell in cells}
    groups: dict[tuple[str, str, int], list[Mapping[str, Any]]] = {}
    for (*place, _), cell in latest.items():
        groups.setdefault((place[0], place[1], place[2]), []).append(cell)
    lines = []
    for (data, model, labels), own in groups.items():
        texts = sorted({cell["texts"] for cell in own})
        of_texts = str(texts[0]) if len(texts) == 1 else f"{texts[0]}-{texts[-1]}"
        measured = [summary([_at(cell, path) for cell in own], 3) for path in [("wrong",), *COLUMNS.values()]]
        lines.append([data, model, str(labels), str(len(own)), of_texts, *measured])
    head = ["data", "backbone", "labels", "seeds", "texts", "predicted wrong", *COLUMNS]
    return markdown(head, lines) if lines else "Nothing has been measured yet.\n"


def _at(cell: Mapping[str, Any], path: Sequence[str]) -> float | None:
    found: Any = cell
    for name in path:
        found = found[name]
    return None if found is None else float(found)


if __name__ == "__main__":
    sys.exit(main())
