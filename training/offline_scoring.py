"""``xal score``: a pool file of any size -> a result row per text, as /acquisition_score gives them, in flat memory."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from service.model.classification import Item
from service.model.errors import InputError
from service.model.predictor import Predictor
from service.model.results import Normalisation, result_row
from service.model.scoring import LAMBDA, Acquisition, acquisition_score, pool_normaliser, ranks
from training.data import check_pool, iter_examples

CHUNK = 256  # texts handed to the predictor at once: enough to sort by length, few enough to show progress


@dataclass(frozen=True)
class ScoredFile:
    """What was done. errors: texts that got an error instead of a score. normalisation: the one that was used;
    acquisition: the model's."""

    rows: int
    errors: int
    normalisation: Normalisation
    acquisition: Acquisition


def score_file(
    predictor: Predictor,
    source: Path,
    output: Path,
    *,
    lambda_: float = LAMBDA,
    normalisation: Normalisation | None = None,
    num_beams: int | None = None,
    max_new_tokens: int | None = None,
    progress: bool = True,
) -> ScoredFile:
    """Score every text of ``source`` (JSONL, CSV, Parquet) and write JSON lines in the same order, all or nothing.

    normalisation: ``pool`` (the default where the model knows its pool's sums) or ``request``, over this very file.
    Raises InputError for an unsound file before anything is scored; a single text that cannot be scored gets a row
    with an error. Two passes: Eq. 8 over the file and the ranks need every text's p and c first, which take 16 bytes
    a text; all else is streamed.
    """
    if output.suffix not in (".jsonl", ".ndjson"):
        raise InputError(f"{output}: results are JSON lines; give an --output that ends in .jsonl")
    if output.is_dir():
        raise InputError(f"{output} is a directory; give an --output that is a file")
    if output.exists() and output.samefile(source):
        raise InputError(f"{output} is the input; give another --output, so that the texts are not lost")
    chosen: Normalisation = normalisation or ("pool" if predictor.normaliser else "request")
    if chosen == "pool" and predictor.normaliser is None:
        raise InputError("this model was exported without its pool's sums; use --normalization request")
    if chosen == "pool" and (num_beams, max_new_tokens) != (None, None):
        raise InputError(
            "the pool's sums were computed with the model's own beams and lengths; with --num-beams or "
            "--max-new-tokens use --normalization request"
        )
    n = check_pool(source, predictor.task)
    output.parent.mkdir(parents=True, exist_ok=True)
    scored, ranked = (output.with_name(f".{output.name}.{part}") for part in ("scored", "part"))
    try:
        p, c = array("d"), array("d")
        with scored.open("w", encoding="utf-8") as stream:
            rows = _rows(predictor, source, num_beams, max_new_tokens)
            for row in tqdm(rows, desc="score", total=n, unit="text", disable=None if progress else True):
                if "error" not in row:
                    p.append(row["explanation_score"])
                    c.append(row["entropy"])
                stream.write(_line(row))
        normaliser = predictor.normaliser if chosen == "pool" else pool_normaliser(p, c)
        assert normaliser is not None  # ``chosen`` is pool only where there is one
        scores = acquisition_score(np.frombuffer(p), np.frombuffer(c), normaliser, lambda_, predictor.acquisition)
        _write_ranked(scored, ranked, zip(scores, ranks(scores), strict=True))
        ranked.replace(output)
    finally:
        scored.unlink(missing_ok=True)
        ranked.unlink(missing_ok=True)
    return ScoredFile(n, n - len(p), chosen, predictor.acquisition)


def _rows(
    predictor: Predictor, source: Path, num_beams: int | None, max_new_tokens: int | None
) -> Iterator[dict[str, Any]]:
    examples = iter_examples(source, predictor.task)
    while chunk := list(islice(examples, CHUNK)):
        items = [Item(example.fields) for example in chunk]
        outcomes = predictor.predict(items, explain=True, num_beams=num_beams, max_new_tokens=max_new_tokens)
        for example, outcome in zip(chunk, outcomes, strict=True):
            yield result_row(example.id, outcome)


def _write_ranked(scored: Path, ranked: Path, places: Iterator[tuple[np.float64, np.int64]]) -> None:
    with scored.open(encoding="utf-8") as stream, ranked.open("w", encoding="utf-8") as result:
        for line in stream:
            row = json.loads(line)
            if "error" not in row:
                score, rank = next(places)
                row |= {"acquisition_score": float(score), "rank": int(rank)}
            result.write(_line(row))


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"
