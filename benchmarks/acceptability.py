"""Does the explanation score (Eq. 6) of a model agree with people who voted on explanations?

    python -m benchmarks.acceptability --esnli FILE --acceptability FILE [--labels 300] [--seed 0]
    python -m benchmarks.acceptability --table

A model learns from explained e-SNLI texts of the pool that the evidence draws from, once with the ranking loss and once
without. Each then scores explanations that annotators accepted or not, of texts whose premise it has not seen. A run is
a line of docs/acceptability.jsonl; --table makes the table of docs/results.md of that file.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.ending import exit_code
from benchmarks.evidence import DOCS, MODEL, TRAINER, model_name
from benchmarks.results import append_cell, read_cells
from benchmarks.tables import markdown, replace_generated
from service.model.errors import InputError, ItemError, XalError

if TYPE_CHECKING:  # they bring torch, which --table can do without
    from benchmarks.agreement import Agreement, JudgedText
    from service.model.classification import Prediction
    from service.model.predictor import Predictor
    from training.backbones import Backbone
    from training.data import Example
    from training.judge import Explanations
    from training.trainer import TrainerConfig

MARK = "<!-- generated: python -m benchmarks.acceptability --table -->"
RANKED, NOT_RANKED = "Eq. 6", "Eq. 6, no ranking loss"
SHORTER, OVERLAP = "shorter first", "word overlap"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 0 done, 1 failure, 2 wrong input, 130 interrupted."""
    options = _parser().parse_args(arguments)
    if options.table:
        return exit_code(lambda: _write_table(options.results, options.page))
    return exit_code(lambda: _measure(options), kept="nothing is kept of this run")


def _write_table(results: Path, page: Path) -> None:
    table = render(read_cells(results))
    print(table)
    replace_generated(page, MARK, table)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.acceptability", description="Does the explanation score agree with people?"
    )
    add = parser.add_argument
    add("--esnli", type=Path, metavar="FILE", help="e-SNLI with an explanation for every label, JSONL")
    add("--acceptability", type=Path, metavar="FILE", help="explanations of SNLI texts with people's votes, JSONL")
    add("--labels", type=int, default=300, help="texts to train on (default 300)")
    add("--seed", type=int, default=0, help="of their draw and of the training (default 0)")
    add("--items", type=int, metavar="N", help="score the first N texts with votes (default: all)")
    add("--model", default=MODEL, help=f"backbone (default {MODEL})")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default auto)")
    add("--results", type=Path, default=DOCS / "acceptability.jsonl", help="file of measured runs")
    add("--table", action="store_true", help="measure nothing; make the table of what was measured")
    add("--page", type=Path, default=DOCS / "results.md", help="page that the table stands in")
    return parser


def _measure(options: argparse.Namespace) -> None:
    from benchmarks.agreement import pairs_in_order, read_judged, shorter_first
    from training.backbones import resolve
    from training.cli import quiet_libraries
    from training.config import git_hash, versions
    from training.offline_parts import cache_directory
    from training.records import data_hash
    from training.trainer import TrainerConfig

    for name in ("esnli", "acceptability"):
        if getattr(options, name) is None:
            raise InputError(f"the file is not part of this project; name it with --{name} FILE")
    if options.labels < 1 or (options.items is not None and options.items < 1):
        raise InputError(f"expected --labels and --items of 1 or more, found {options.labels} and {options.items}")
    quiet_libraries()
    judged = read_judged(options.acceptability)[: options.items]
    labeled, explanations = _training_texts(options.esnli, options.labels, options.seed)
    kept = unseen(judged, labeled)
    if not pairs_in_order(shorter_first(kept), kept)[1].any():
        raise InputError(
            f"{options.acceptability}: of {len(judged)} texts {len(kept)} are not trained on, and none of these has "
            "explanations with different numbers of votes; give more texts"
        )
    backbone = resolve(options.model, cache_directory())
    trainer = TrainerConfig.model_validate({**backbone.training, **TRAINER.get(options.model, {})})
    found = compare(
        kept, labeled, explanations, backbone=backbone, trainer=trainer, seed=options.seed, device=options.device
    )
    settings = {
        "model": model_name(options.model),
        "labels": options.labels,
        "seed": options.seed,
        "trainer": trainer.model_dump(),
        "data": {name: data_hash(getattr(options, name)) for name in ("esnli", "acceptability")},
        "dropped": len(judged) - len(kept),
    }
    append_cell(options.results, settings | found | {"versions": versions(), "git_hash": git_hash()})
    print(f"{options.results}: one run added\n\n{render([settings | found])}")


def _training_texts(esnli: Path, labels: int, seed: int) -> tuple[list[Example], Explanations]:
    """So many texts of the pool that the evidence's runs draw from, and their explanations."""
    from benchmarks import evidence_data
    from service.model.task import Task
    from training.data import read_examples
    from training.pool import initial_set
    from training.splits import split_examples
    from training.teacher import RecordedTeacher

    with tempfile.TemporaryDirectory() as folder:
        data = evidence_data.esnli(esnli, Path(folder))
        task = Task.from_yaml(data.task)
        pool = split_examples(read_examples(data.data, task, require_labels=True)).train
        by_id = {example.id: example for example in pool}
        labeled = [by_id[id_] for id_ in initial_set(pool, labels, seed)]
        teacher = RecordedTeacher(data.explanations, task)
    return labeled, teacher.explain({example.id: example.fields for example in labeled}).explanations


def unseen(judged: Sequence[JudgedText], labeled: Sequence[Example]) -> list[JudgedText]:
    """Those whose premise stands in no text that is trained on, letter case and white space aside."""
    seen = {_premise(example.fields) for example in labeled}
    return [text for text in judged if _premise(text.fields) not in seen]


def _premise(fields: Mapping[str, str]) -> str:
    return " ".join(fields["sentence1"].lower().split())


def compare(
    judged: Sequence[JudgedText],
    labeled: Sequence[Example],
    explanations: Explanations,
    *,
    backbone: Backbone,
    trainer: TrainerConfig,
    seed: int,
    device: str = "auto",
    progress: bool = True,
) -> dict[str, Any]:
    """Train with the ranking loss and without, score, and measure both beside the scores that need no model.

    labeled, explanations: what both models learn from. Returns plain values: ``scores``, name -> agreement, by label
    and where the model is right or wrong; ``differences`` from Eq. 6 trained with the ranking loss; how often the
    predicted label is right.
    """
    import torch

    from benchmarks.agreement import difference, shorter_first, word_overlap
    from training.clock import Clock

    clock = Clock()
    scores = {SHORTER: shorter_first(judged), OVERLAP: word_overlap(judged)}
    right: dict[str, list[bool]] = {}
    for name, config in {RANKED: trainer, NOT_RANKED: trainer.model_copy(update={"lambda2": 0.0})}.items():
        with clock("train"):
            predictor = _trained(labeled, explanations, backbone.source, config, seed, device, progress)
        with clock("score"):
            predictions = _predictions(predictor, judged)
        scores[name] = [list(prediction.candidate_scores) for prediction in predictions]
        right[name] = [prediction.label == text.label for prediction, text in zip(predictions, judged, strict=True)]
    return {
        "texts": len(judged),
        "accuracy": {name: sum(flags) / len(flags) for name, flags in right.items()},
        "scores": {name: _described(rows, judged, right.get(name)) for name, rows in scores.items()},
        "differences": {name: difference(scores[RANKED], scores[name], judged) for name in scores if name != RANKED},
        "seconds": {stage: round(seconds, 1) for stage, seconds in clock.seconds.items()},
        "threads": torch.get_num_threads(),
    }


def _trained(
    labeled: Sequence[Example],
    explanations: Explanations,
    source: str,
    config: TrainerConfig,
    seed: int,
    device: str,
    progress: bool,
) -> Predictor:
    """A model that scores explanations of e-SNLI texts."""
    from benchmarks.evidence_data import EXAMPLES
    from service.model.decoding import Decoding
    from service.model.task import Task
    from training.fitted import fitted_predictor

    return fitted_predictor(
        labeled,
        explanations,
        task=Task.from_yaml(EXAMPLES / "e-snli" / "task.yaml"),
        source=source,
        config=config,
        seed=seed,
        device=device,
        decoding=Decoding(num_beams=1, max_new_tokens=1),  # what is generated beside the scores is not wanted here
        precision="float32",  # alike on all machines
        progress=progress,
    )


def _predictions(predictor: Predictor, judged: Sequence[JudgedText]) -> list[Prediction]:
    """Labels and the scores of all explanations. Raises XalError for a text that cannot be answered."""
    from service.model.classification import Item

    found = []
    items = [Item(text.fields, text.explanations) for text in judged]
    for number, outcome in enumerate(predictor.explanations(items)):
        if isinstance(outcome, ItemError):
            raise XalError(f"acceptability: text {number} of those that are scored: {outcome.message}")
        found.append(outcome)
    return found


def _described(
    scores: Sequence[Sequence[float]], judged: Sequence[JudgedText], right: Sequence[bool] | None
) -> dict[str, Any]:
    from benchmarks.agreement import LABELS, agreement

    def of(chosen: Sequence[bool]) -> dict[str, Any] | None:
        places = [place for place, wanted in enumerate(chosen) if wanted]
        found: Agreement | None = agreement([scores[place] for place in places], [judged[place] for place in places])
        return asdict(found) if found else None

    return {
        "all": of([True] * len(judged)),
        "by_label": {label: of([text.label == label for text in judged]) for label in LABELS.values()},
        "where_right": of(right) if right else None,
        "where_wrong": of([not flag for flag in right]) if right else None,
    }


def render(cells: Sequence[Mapping[str, Any]]) -> str:
    """A table for every model, number of labels and seed; of several measurements the last."""
    latest = {(cell["model"], cell["labels"], cell["seed"]): cell for cell in cells}
    return "\n".join(map(_table, latest.values())) or "Nothing has been measured yet.\n"


def _table(cell: Mapping[str, Any]) -> str:
    labels = list(cell["scores"][RANKED]["by_label"])
    head = ["score", "all", *labels, "predicted right", "predicted wrong", "Eq. 6 less this", "first is accepted"]
    lines = []
    for name in (RANKED, NOT_RANKED, SHORTER, OVERLAP):
        own, less = cell["scores"][name], cell["differences"].get(name)
        parts = [own["all"], *own["by_label"].values(), own["where_right"], own["where_wrong"]]
        pairwise = [_with_error(part["pairwise"], part["standard_error"]) if part else "-" for part in parts]
        lines.append([name, *pairwise, _with_error(*less) if less else "-", f"{own['all']['top_accepted']:.1%}"])
    of_all = cell["scores"][RANKED]["all"]
    accuracy = ", ".join(f"{value:.1%} ({name})" for name, value in cell["accuracy"].items())
    return (
        f"#### {cell['model']}, {cell['labels']} labels of e-SNLI, seed {cell['seed']}\n\n"
        f"{of_all['pairs']:,} pairs of explanations of {of_all['texts']:,} texts; with those whose votes are all the "
        f"same, {cell['texts']:,} texts. The predicted label is right for {accuracy}. Of one explanation at random "
        f"{of_all['random_accepted']:.1%} are accepted.\n\n{markdown(head, lines)}"
    )


def _with_error(value: float, error: float | None) -> str:
    return f"{value:.3f}" + ("" if error is None else f" ± {error:.3f}")


if __name__ == "__main__":
    sys.exit(main())
