"""All cells of a comparison, one after the other; those that stand in the results already are passed over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path

from benchmarks.cell import Protocol, run_cell
from benchmarks.datasets import DataSet
from benchmarks.results import Key, append_cell, key_of, read_cells
from benchmarks.rows import Settled, digest
from training.backbones import resolve
from training.config import git_hash, versions
from training.judge import Judge, train_encoder_judge, train_word_judge

JUDGE_BACKBONE = "minilm-minilm"  # whose encoder is fine-tuned


def run_grid(
    rows: Sequence[Settled],
    data_sets: Sequence[DataSet],
    labels: Sequence[int],
    seeds: Sequence[int],
    results: Path,
    *,
    cache: Path,
    corpora: Sequence[DataSet] = (),
    device: str = "auto",
    protocol: Protocol | None = None,
    progress: bool = True,
) -> None:
    """Measure every (seed, number of labels, data set, row) that is not in ``results`` with these very settings, and
    add each to it the moment it is measured.

    cache: where adapted backbones are kept. corpora: what they learn to explain from, the first that is of another task
    than the data set. Seeds are outermost: a comparison that is stopped early has few seeds of everything, not
    everything of few rows.
    """
    protocol = protocol or Protocol()
    judges: dict[str, dict[str, Judge]] = {}
    for seed, n, data, settled in product(seeds, labels, data_sets, rows):
        corpus = next((other for other in corpora if other.name != data.name), None)
        settings = settled.settings(corpus) | {"protocol": asdict(protocol), "data": data.digest}
        key = Key(settled.row.name, data.name, n, seed, digest(settings))
        title = f"{key.row}, {key.data}, {n} labels, seed {seed}"
        if key in map(key_of, read_cells(results)):
            print(f"{title}: measured already", flush=True)
            continue
        ready = settled.adapted_to(data, corpus, cache=cache, device=device, progress=progress)
        if data.name not in judges:
            judges[data.name] = _judges(data, protocol.judge_texts, cache, progress)
        found = run_cell(
            ready, data, judges[data.name], labels=n, seed=seed, device=device, protocol=protocol, progress=progress
        )
        origin = {"settings": settings, "versions": versions(), "git_hash": git_hash()}
        append_cell(results, key._asdict() | found | {"adaptation": ready.adaptation_report()} | origin)
        print(f"{title}: macro-F1 {found['macro_f1']:.3f}, {found['train_seconds']:.0f} s to train", flush=True)


def _judges(data: DataSet, texts: int, cache: Path, progress: bool) -> dict[str, Judge]:
    """Who judges the explanations of a data set; they learn from the recorded explanations of its pool."""
    explanations, source = data.explained(data.pool[:texts]), resolve(JUDGE_BACKBONE, cache).source
    return {
        "encoder": train_encoder_judge(explanations, source, progress=progress),
        "words": train_word_judge(explanations),
    }
