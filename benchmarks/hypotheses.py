"""The search's hypotheses beside those of transformers' ``generate``, text by text.

    python -m benchmarks.hypotheses --model build/demo/model [--texts 500]

Ours are found as xal score finds them, many texts at work at once, in float32; theirs one text at a time, their score
by teacher forcing (Eq. 6). Every difference is printed: where two hypotheses are the same but for rounding in their
score, either is right.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from tqdm import tqdm

from benchmarks.rivals import generated
from service.model.classification import Item, Prediction
from service.model.decoding import score_explanations
from service.model.errors import XalError
from service.model.predictor import Predictor
from training.offline_parts import cache_directory, fetch
from training.product_reviews import EXPLANATIONS, SENTENCES, product_reviews

SHARE = 0.99  # that must be the same


@dataclass(frozen=True)
class Pair:
    """A text's explanation and its Eq. 6, as ours and as theirs."""

    text: str
    ours: str
    theirs: str
    our_score: float
    their_score: float


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 0 where the same, but for one text in a hundred, 1 where not."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hypotheses", description="Compare with generate.")
    parser.add_argument("--model", type=Path, required=True, help="model directory of a task with one field")
    parser.add_argument(
        "--texts", type=int, default=500, help="dev and test texts of the product reviews (default 500)"
    )
    parser.add_argument("--num-beams", type=int, default=5, help="of both searches (default 5)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default auto)")
    options = parser.parse_args(arguments)
    try:
        predictor = Predictor.load(options.model, device=options.device, dtype="float32")
        rows = product_reviews(fetch("rated-sentences", cache_directory()) / SENTENCES, EXPLANATIONS)
        texts = [row["text"] for row in rows if row["split"] in ("dev", "test")][: options.texts]
        predictor.decoding = replace(predictor.decoding, num_beams=options.num_beams)
        found = pairs(predictor, texts)
    except XalError as error:
        print(error, file=sys.stderr)
        return 2
    return 0 if _report(found) >= SHARE else 1


def pairs(predictor: Predictor, texts: Sequence[str]) -> list[Pair]:
    """Ours and theirs of each text."""
    items = [Item({predictor.task.fields[0]: text}) for text in texts]
    found = []
    for item, text, ours in tqdm(zip(items, texts, predictor.explanations(items), strict=True), total=len(items)):
        if not isinstance(ours, Prediction) or ours.explanation is None or ours.explanation_score is None:
            raise XalError(f"expected an explanation of every text, found {ours}")
        theirs, their_score = _theirs(predictor, item)
        found.append(Pair(text, ours.explanation, theirs, ours.explanation_score, their_score))
    return found


@torch.inference_mode()
def _theirs(predictor: Predictor, item: Item) -> tuple[str, float]:
    network, encoder = predictor.network, predictor.encoder
    memory = network.encode(encoder.inputs([encoder.encode_fields(item.fields)], network.device))
    labels = network.classify(memory).argmax(dim=1)
    [(tokens, _)] = generated(network, memory, labels, predictor.decoding)
    [score] = score_explanations(network, memory, [0], [tokens], labels.tolist())
    return encoder.decode(tokens), score


def _report(found: Sequence[Pair]) -> float:
    """Print what was found; -> the share that is the same."""
    same = [pair for pair in found if pair.ours == pair.theirs]
    for pair in found:
        if pair.ours != pair.theirs:
            print(
                f"{pair.text}\n  ours   {pair.our_score:.6f} {pair.ours}\n  theirs {pair.their_score:.6f} {pair.theirs}"
            )
    apart = max((abs(pair.our_score - pair.their_score) for pair in same), default=0.0)
    print(f"{len(same)} of {len(found)} explanations are the same; their scores differ by {apart:.1e} at most")
    return len(same) / len(found)


if __name__ == "__main__":
    sys.exit(main())
