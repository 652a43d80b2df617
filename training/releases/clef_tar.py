"""CLEF: PubMed abstracts judged for systematic reviews (Kanoulas et al., Technologically Assisted Reviews, 2017-2019).

Formats: the folder of one collection in the lab's repository, such as ``2019-TAR/Task2/Testing/DTA``. Its ``qrels``
files have lines ``topic 0 PMID judgement``, its ``topics`` files ``Topic:`` and ``Title:``. The texts are not there:
whoever uses it fetches them from PubMed by their PMIDs into ``documents.xml`` (PubMed's own XML, PubmedArticleSet) or
``documents.jsonl`` (``pmid, title, abstract``). The first two were looked at; PubMed's XML is as its DTD describes it.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from service.model.errors import InputError
from training.records import place
from training.releases.files import DEPTHS, cell, listing, read_lines, read_table
from training.releases.rows import ReleasedRow

SOURCE = (
    "get one collection's qrels and topics from https://github.com/CLEF-TAR/tar, and the abstracts of its PMIDs from "
    "PubMed (https://pubmed.ncbi.nlm.nih.gov) as documents.xml or documents.jsonl (pmid, title, abstract) beside them"
)
LABELS = {"relevant": "relevant", "not relevant": "not_relevant"}

# Judgements on the whole article: the task shows the abstract, so those on the abstract are the ones to learn from.
_WHOLE_ARTICLE = ("content", ".doc.")


def read_clef(release: Path) -> Iterator[ReleasedRow]:
    """One row for each judged pair of topic and document, undivided; a judgement above 0 is relevant.

    A pair without a document, or whose topic has no title, is left out: documents can be a part of all. Of a pair that
    is judged twice the first judgement counts. Raises InputError where qrels, topics or documents are missing, or
    broken.
    """
    titles = _titles(release)
    documents = _documents(release)
    seen: set[tuple[str, str]] = set()
    for path in _found(release, ("*.qrels", "qrels/*"), "qrels"):
        for number, line in read_lines(path):
            topic, pmid, judgement = _judgement(line, place(path, number))
            if (topic, pmid) in seen:
                continue
            seen.add((topic, pmid))
            fields = {"document": documents.get(pmid, ""), "topic": titles.get(topic, "")}
            label = "relevant" if judgement > 0 else "not relevant"
            yield ReleasedRow(f"{topic}-{pmid}", fields, label, "train+dev+test")


def _found(release: Path, patterns: tuple[str, ...], what: str) -> list[Path]:
    """All files of one kind, up to two folders deep."""
    if not release.is_dir():
        raise InputError(f"{release}: expected a folder with qrels, topics and documents; found none; {SOURCE}")
    files = {file for pattern in patterns for depth in DEPTHS for file in release.glob(depth + pattern)}
    kept = sorted(
        file
        for file in files
        if file.is_file() and file.name[0] != "." and not any(part in file.name for part in _WHOLE_ARTICLE)
    )
    if not kept:
        raise InputError(f"{release}: expected {what} ({' or '.join(patterns)}); found {listing(release)}; {SOURCE}")
    return kept


def _judgement(line: str, where: str) -> tuple[str, str, int]:
    cells = line.split()
    try:
        topic, _, pmid, judgement = cells
        return topic, pmid, int(judgement)
    except ValueError:
        raise InputError(f"{where}: expected 'topic 0 PMID judgement'; found {line.strip()!r}; {SOURCE}") from None


def _titles(release: Path) -> dict[str, str]:
    """Topic -> the title of its review."""
    titles: dict[str, str] = {}
    for path in _found(release, ("topics/*",), "topics"):
        topic = ""
        for _, line in read_lines(path):
            key, _, value = line.partition(":")
            if key == "Topic":
                topic = value.strip()
            elif key == "Title" and topic:
                titles[topic] = value.strip()
    if not titles:
        raise InputError(f"{release}: expected topics with lines 'Topic:' and 'Title:'; found none; {SOURCE}")
    return titles


def _documents(release: Path) -> dict[str, str]:
    """PMID -> title and abstract."""
    names = ("documents*.xml", "documents/*.xml", "documents*.jsonl", "documents*.csv", "documents*.parquet")
    documents: dict[str, str] = {}
    for path in _found(release, names, "documents"):
        articles = _xml_articles(path) if path.suffix == ".xml" else _table_articles(path)
        for pmid, title, abstract in tqdm(articles, desc=f"reading {path}", unit=" articles", delay=2, disable=None):
            # Without an abstract nothing is there to judge by: the pair is left out.
            documents[pmid] = f"{title.strip()} {abstract.strip()}".strip() if abstract.strip() else ""
    return documents


def _table_articles(path: Path) -> Iterator[tuple[str, str, str]]:
    for number, row in read_table(path):
        where = place(path, number)
        pmid, title, abstract = (cell(row, (name,), where, SOURCE) for name in ("pmid", "title", "abstract"))
        yield pmid.strip(), title, abstract


def _xml_articles(path: Path) -> Iterator[tuple[str, str, str]]:
    """Article by article, for a collection of PubMed takes gigabytes as a tree."""
    try:
        for _, element in ElementTree.iterparse(path):
            if element.tag == "PubmedArticle":
                pmid = (element.findtext("MedlineCitation/PMID") or "").strip()
                title = _inner_text(element.find("MedlineCitation/Article/ArticleTitle"))
                parts = element.iterfind("MedlineCitation/Article/Abstract/AbstractText")
                yield pmid, title, " ".join(_inner_text(part) for part in parts)
                element.clear()
    except (ElementTree.ParseError, OSError, UnicodeError) as error:
        raise InputError(f"{path}: expected PubMed's XML; it cannot be read ({error}); fetch the file again") from error


def _inner_text(element: ElementTree.Element | None) -> str:
    """The text of an element with that of its mark-up (<i>, <sub>), single blanks within."""
    return "" if element is None else " ".join("".join(element.itertext()).split())
