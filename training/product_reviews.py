"""The example data: sentences of product reviews with human sentiment ratings, as a JSONL file with three splits.

    python -m training.product_reviews --output product-reviews.jsonl

Sentences and ratings: Hutto & Gilbert, VADER (ICWSM 2014), from the source distribution of vaderSentiment 2.5 (MIT).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict

from service.model.errors import InputError, XalError
from training.offline_parts import cache_directory, fetch
from training.records import iter_rows, place, write_atomically

SENTENCES = "amazonReviewSnippets_GroundTruth.txt"
EXPLANATIONS = Path(__file__).parents[1] / "examples" / "product-reviews" / "explanations.jsonl"


class Row(TypedDict):
    """One sentence: id ``review_sentence``; label negative, neutral or positive; split train, dev or test."""

    id: str
    text: str
    label: str
    split: str


def write_product_reviews(output: Path, explanations: Path, cache_dir: Path) -> dict[str, dict[str, int]]:
    """Write the data file, in one step; returns split -> label -> number of rows.

    explanations: JSONL whose ids are the pool. Raises InputError where it explains a sentence that does not exist, and
    PartError where the sentences cannot be fetched.
    """
    rows = product_reviews(fetch("rated-sentences", cache_dir) / SENTENCES, explanations)
    output.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(output, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return {
        split: dict(sorted(Counter(row["label"] for row in rows if row["split"] == split).items()))
        for split in ("train", "dev", "test")
    }


def product_reviews(sentences: Path, explanations: Path) -> list[Row]:
    """The rows, in the order of the sentences' file.

    train: the sentences with explanations. Reviews without any explained sentence are dev or test, as a whole; the
    other sentences of explained reviews are left out, so that no review is in two splits.
    """
    rated = list(_read_sentences(sentences))
    explained = _explained_ids(explanations, {key for key, _, _ in rated})
    pool_reviews = {_review(key) for key in explained}
    half = _halves({_review(key) for key, _, _ in rated} - pool_reviews)
    return [
        Row(id=key, text=text, label=_label(rating), split="train" if key in explained else half[_review(key)])
        for key, rating, text in rated
        if key in explained or _review(key) in half
    ]


def _read_sentences(path: Path) -> Iterator[tuple[str, float, str]]:
    """(id, mean rating in -4..4, text); the file is ASCII with tabs and Windows line ends."""
    for line in path.read_text(encoding="ascii").splitlines():
        key, rating, text = line.split("\t")
        yield key, float(rating), text.strip()


def _explained_ids(path: Path, known: set[str]) -> set[str]:
    ids = set()
    for number, row in iter_rows(path):
        key = row.get("id")
        if not isinstance(key, str) or key not in known:
            raise InputError(f"{place(path, number)}: {key!r} is no id of a review sentence; ids look like '203_5'")
        ids.add(key)
    return ids


def _halves(reviews: set[str]) -> dict[str, str]:
    """Review -> dev or test: in the order of the SHA-256 of their ids, which is random but the same everywhere and
    for ever, the first half (the smaller one) is dev."""
    ordered = sorted(reviews, key=lambda review: hashlib.sha256(f"review {review}".encode()).digest())
    return {review: "dev" if rank < len(ordered) // 2 else "test" for rank, review in enumerate(ordered)}


def _review(key: str) -> str:
    return key.partition("_")[0]


def _label(rating: float) -> str:
    return "negative" if rating < -0.8 else "positive" if rating > 0.8 else "neutral"


def main() -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m training.product_reviews", description="Make the example data file of product reviews."
    )
    parser.add_argument("--output", type=Path, required=True, help="JSONL file to write")
    parser.add_argument("--explanations", type=Path, default=EXPLANATIONS, help="whose ids are the pool")
    options = parser.parse_args()
    try:
        counts = write_product_reviews(options.output, options.explanations, cache_directory())
    except XalError as error:
        print(error, file=sys.stderr)
        return 2
    for split, labels in counts.items():
        print(f"{split}: {sum(labels.values())} ({', '.join(f'{n} {label}' for label, n in labels.items())})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
