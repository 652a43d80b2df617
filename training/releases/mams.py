"""MAMS: restaurant reviews with a sentiment for each aspect category (Jiang et al., EMNLP 2019).

Format: ``data/MAMS-ACSA/raw/{train,val,test}.xml`` of the authors' repository; each ``sentence`` has a ``text`` and
``aspectCategory`` elements with the attributes ``category`` and ``polarity``.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

from service.model.errors import InputError
from training.releases.files import find
from training.releases.rows import ReleasedRow

SOURCE = "get MAMS-ACSA, the part with aspect categories, from https://github.com/siat-nlp/MAMS-for-ABSA"
LABELS = {"positive": "positive", "negative": "negative", "neutral": "neutral"}

_SPLITS = {"train": "train", "val": "dev", "test": "test"}


def read_mams(release: Path) -> Iterator[ReleasedRow]:
    """One row for each category of each sentence, in the release's own split.

    Raises InputError for a file that is no XML, or that has aspect terms (MAMS-ATSA) in place of categories.
    """
    for name, split in _SPLITS.items():
        path = find(release, (f"MAMS-ACSA/raw/{name}.xml", f"raw/{name}.xml", f"{name}.xml"), SOURCE)
        for number, sentence in enumerate(_sentences(path)):
            text = sentence.findtext("text") or ""
            for place, aspect in enumerate(sentence.iter("aspectCategory")):
                fields = {"text": text, "target": aspect.get("category", "")}
                yield ReleasedRow(f"{name}-{number}-{place}", fields, aspect.get("polarity", ""), split)


def _sentences(path: Path) -> list[ElementTree.Element]:
    try:
        sentences = ElementTree.parse(path).getroot().findall("sentence")
    except (ElementTree.ParseError, OSError, UnicodeError) as error:
        raise InputError(f"{path}: expected MAMS's XML; it cannot be read ({error}); fetch the file again") from error
    if not any(sentence.find(".//aspectCategory") is not None for sentence in sentences):
        terms = any(sentence.find(".//aspectTerm") is not None for sentence in sentences)
        found = "aspect terms, the part MAMS-ATSA" if terms else f"{len(sentences)} sentences without any"
        raise InputError(f"{path}: expected sentences with aspectCategory elements; found {found}; {SOURCE}")
    return sentences
