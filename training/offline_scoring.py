"""``xal score``: a pool file of any size -> a result row per text, as /acquisition_score gives them, in flat memory.

What is finished lies in hidden files beside the output until all of it is: a process that was killed leaves them to
the next one with the same model, input and options.
"""

from __future__ import annotations

import sys
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import compress, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from service.model.classification import Item
from service.model.errors import InputError
from service.model.predictor import Predictor
from service.model.results import Normalisation, result_row
from service.model.scoring import LAMBDA, Acquisition
from training.config import versions
from training.data import Example, check_pool, iter_examples
from training.on_disk import CHUNK, array_on_disk, order_on_disk
from training.parts import Parts
from training.prefilter import STREAM, Draw, Kept, Prefilter
from training.ranked_file import Equation8, Rows, ScoredRow, normaliser_over, write_ranked
from training.records import Row, data_hash

# Texts in a block (see Parts): no more of them are done again after a kill. At a block's end few are left to work on
# together, which a GPU feels more.
BLOCK = {"cpu": 512, "cuda": 4096}

STAGES = ("labeled", "explained")
QUERY_SIZE = 100  # as in xal run
CANDIDATE, SAMPLED = 1, 2  # why a text is explained; 0: it is not


@dataclass(frozen=True)
class ScoredFile:
    """What was done. errors: texts that got an error instead of a score. normalisation: the one that was used;
    acquisition: the model's. kept: what the prefilter did, None without one."""

    rows: int
    errors: int
    normalisation: Normalisation
    acquisition: Acquisition
    kept: Kept | None


def score_file(
    predictor: Predictor,
    source: Path,
    output: Path,
    *,
    lambda_: float = LAMBDA,
    normalisation: Normalisation | None = None,
    num_beams: int | None = None,
    max_new_tokens: int | None = None,
    prefilter: Prefilter | None = None,
    query_size: int = QUERY_SIZE,
    progress: bool = True,
) -> ScoredFile:
    """Score every text of ``source`` (JSONL, CSV, Parquet) and write JSON lines in the same order, all or nothing.

    normalisation: ``pool`` (the default where the model knows its pool's sums) or ``request``, over this very file.
    prefilter: explain only the candidates for a query of ``query_size`` and a sample of the others; all other rows
    have label, probabilities and entropy, but neither acquisition_score nor rank, and Z_p over the file is estimated.
    Raises InputError for an unsound file before anything is written; a single text that cannot be scored gets a row
    with an error. An exception, Ctrl-C and SIGKILL leave what is finished, and the next call goes on from there to the
    very same file, byte for byte; it begins anew, and says so, where model, input or decoding are others.
    """
    _check_output(output, source)
    chosen = _normalisation(predictor, normalisation, (num_beams, max_new_tokens) == (None, None))
    work = _Work(predictor, source, output, check_pool(source, predictor.task), num_beams, max_new_tokens, progress)
    before = _fingerprint(source)
    output.parent.mkdir(parents=True, exist_ok=True)
    ranked = _hidden(output, "part")
    with ExitStack() as files:
        rows, draw = _rows(work, before, prefilter, query_size, files)
        if _fingerprint(source) != before:
            raise InputError(f"{source} was changed while it was scored; start again, with all of it anew")
        own_sums = predictor.normaliser if chosen == "pool" else None
        normaliser = own_sums or normaliser_over(rows, draw.weight if draw else 1.0)
        equation = Equation8(normaliser, lambda_, predictor.acquisition)
        try:
            errors = write_ranked(rows, equation, ranked)
            kept = _kept(rows, equation, draw, query_size) if draw else None
            ranked.replace(output)
        finally:
            ranked.unlink(missing_ok=True)
        for stage in STAGES:
            _hidden(output, stage).unlink(missing_ok=True)
    return ScoredFile(work.n, errors, chosen, predictor.acquisition, kept)


@dataclass(frozen=True)
class _Work:
    """Texts through the predictor, a block at a time, into parts."""

    predictor: Predictor
    source: Path
    output: Path
    n: int
    num_beams: int | None
    max_new_tokens: int | None
    progress: bool

    def labeled(self, about: Mapping[str, Any]) -> Parts:
        """Label and entropy of every text."""
        return self._filled("labeled", about, self.n, self._examples(), self._label)

    def explained(
        self, about: Mapping[str, Any], marks: NDArray[np.int8] | None = None, total: int | None = None
    ) -> Parts:
        """The whole row of every text, or of those ``total`` that are marked."""
        decoding = self.predictor.explainer(num_beams=self.num_beams, max_new_tokens=self.max_new_tokens).decoding
        examples = self._examples() if marks is None else compress(self._examples(), marks)
        about = {**about, "decoding": asdict(decoding)}
        return self._filled("explained", about, self.n if total is None else total, examples, self._explain)

    def _examples(self) -> Iterator[Example]:
        return iter_examples(self.source, self.predictor.task)

    def _label(self, examples: Iterable[Example]) -> Iterator[Row]:
        block = list(examples)
        outcomes = self.predictor.predict([Item(example.fields) for example in block])
        return (result_row(example.id, outcome) for example, outcome in zip(block, outcomes, strict=True))

    def _explain(self, examples: Iterable[Example]) -> Iterator[Row]:
        ids: deque[str] = deque()  # of the texts that the predictor has read ahead

        def items() -> Iterator[Item]:
            for example in examples:
                ids.append(example.id)
                yield Item(example.fields)

        options = {"num_beams": self.num_beams, "max_new_tokens": self.max_new_tokens}
        for outcome in self.predictor.explanations(items(), **options):
            yield result_row(ids.popleft(), outcome)

    def _filled(
        self,
        stage: str,
        about: Mapping[str, Any],
        total: int,
        examples: Iterator[Example],
        answer: Callable[[Iterable[Example]], Iterator[Row]],
    ) -> Parts:
        """The parts of one stage, finished. They are closed where anything goes wrong, and kept."""
        place = f"{self.predictor.device.type} {self.predictor.network.backbone.dtype}"
        about = {"model version": self.predictor.model_version, "device": place, "versions": versions(), **about}
        block = BLOCK.get(self.predictor.device.type, BLOCK["cpu"])
        parts = Parts(_hidden(self.output, stage), {**about, "block": block}, block, total)
        with ExitStack() as unless_finished:
            unless_finished.enter_context(parts)
            if parts.rows:
                print(f"{self.output}: going on after {parts.rows} texts ({stage})", file=sys.stderr)
            elif parts.differing:
                print(f"{self.output}: beginning anew, not as before: {', '.join(parts.differing)}", file=sys.stderr)
            left = islice(examples, parts.rows, None)
            bar = tqdm(
                desc=stage, total=total, initial=parts.rows, unit="text", disable=None if self.progress else True
            )
            with bar:
                while size := parts.next_block:
                    end = parts.rows + size
                    for row in answer(islice(left, size)):
                        parts.write(row)
                        bar.update()
                    if parts.rows < end:
                        raise InputError(f"{self.source} became shorter while it was scored; start again")
                    parts.finish_block()
            unless_finished.pop_all()
        return parts


def _check_output(output: Path, source: Path) -> None:
    if output.suffix not in (".jsonl", ".ndjson"):
        raise InputError(f"{output}: results are JSON lines; give an --output that ends in .jsonl")
    if output.is_dir():
        raise InputError(f"{output} is a directory; give an --output that is a file")
    if output.exists() and output.samefile(source):
        raise InputError(f"{output} is the input; give another --output, so that the texts are not lost")


def _normalisation(predictor: Predictor, wanted: Normalisation | None, own_decoding: bool) -> Normalisation:
    """What to normalise over. own_decoding: whether explanations are generated as the model was exported."""
    chosen: Normalisation = wanted or ("pool" if predictor.normaliser else "request")
    if chosen == "pool" and predictor.normaliser is None:
        raise InputError("this model was exported without its pool's sums; use --normalization request")
    if chosen == "pool" and not own_decoding:
        raise InputError(
            "the pool's sums were computed with the model's own beams and lengths; with --num-beams or "
            "--max-new-tokens use --normalization request"
        )
    return chosen


def _hidden(output: Path, stage: str) -> Path:
    return output.with_name(f".{output.name}.{stage}")


def _fingerprint(source: Path) -> dict[str, Any]:
    """What tells one input from another."""
    return {"input": {"kind": source.suffix, "bytes": source.stat().st_size, "sha256": data_hash(source)}}


def _rows(
    work: _Work, about: Mapping[str, Any], prefilter: Prefilter | None, query_size: int, files: ExitStack
) -> tuple[Rows, Draw | None]:
    """Every row of the input, read from parts that ``files`` closes; and who was explained, if not all were."""
    if prefilter is None:
        explained = files.enter_context(work.explained(about))
        return lambda: map(ScoredRow, explained.read()), None
    labeled = files.enter_context(work.labeled(about))
    marks, draw = _marks(labeled, prefilter, query_size, work.output.parent)
    about = {**about, "prefilter": {**prefilter.model_dump(), "query_size": query_size}}
    some = files.enter_context(work.explained(about, marks, draw.explained))
    return lambda: _joined(labeled, some, marks), draw


def _marks(labeled: Parts, prefilter: Prefilter, query_size: int, directory: Path) -> tuple[NDArray[np.int8], Draw]:
    """Why each text is explained, (n,) on disk, CANDIDATE, SAMPLED or 0; texts with an error never are."""
    answered = 0

    def entropies() -> Iterator[array[float]]:
        nonlocal answered
        found = array("d")
        for row in labeled.read():
            answered += "error" not in row
            found.append(row.get("entropy", -np.inf))  # errors come last
            if len(found) == CHUNK:
                yield found
                found = array("d")
        yield found

    order = order_on_disk(entropies(), directory)
    draw = prefilter.draw(answered, query_size, np.random.default_rng(STREAM))
    marks = array_on_disk(len(order), np.int8, directory)
    for first in range(0, draw.candidates, CHUNK):
        marks[order[first : min(first + CHUNK, draw.candidates)].astype(np.int64)] = CANDIDATE
    marks[order[draw.sampled].astype(np.int64)] = SAMPLED
    return marks, draw


def _joined(labeled: Parts, explained: Parts, marks: NDArray[np.int8]) -> Iterator[ScoredRow]:
    """All rows in the input's order; where a text was explained, its row is the one with the explanation."""
    whole = explained.read()
    for row, mark in zip(labeled.read(), marks, strict=True):
        yield ScoredRow(next(whole), sampled=bool(mark == SAMPLED)) if mark else ScoredRow(row)


def _kept(rows: Rows, equation: Equation8, draw: Draw, query_size: int) -> Kept:
    scores, is_candidate = [np.empty(0)], list[bool]()
    for chunk, found in equation.chunks(rows):
        scores.append(found)
        is_candidate += [not one.sampled for one in chunk if one.explained]
    return Kept.measured(draw, np.concatenate(scores), np.array(is_candidate, dtype=bool), query_size)
