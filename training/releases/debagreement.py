"""DEBA: pairs of a Reddit comment and a reply that agrees or disagrees (DEBAGREEMENT, Pougué-Biyong et al., 2021).

Format: ``labeled_data.csv`` with the columns ``label`` (0 disagree, 1 neutral, 2 agree), ``subreddit``,
``body_parent``, ``body_child`` and others, as public code reads it; no such file was at hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.records import place
from training.releases.files import cell, find, read_table
from training.releases.rows import ReleasedRow

SOURCE = "get DEBAGREEMENT from https://scale.com/open-av-datasets/oxford"
LABELS = {"0": "disagree", "1": "neutral", "2": "agree"}

# Inferred: the release has 42,894 pairs of five subreddits, and only this one has about as many as the paper, 5,775.
SUBREDDIT = "climate"
# What a spreadsheet made of a comment that begins like a formula.
_LOST = "#NAME?"


def read_debagreement(release: Path) -> Iterator[ReleasedRow]:
    """One row a pair, undivided; pairs of other subreddits are left out. release: the CSV file or its folder."""
    path = release if release.is_file() else find(release, ("labeled_data.csv", "debagreement.csv"), SOURCE)
    for index, (number, row) in enumerate(read_table(path)):
        where = place(path, number)
        fields = {"sentence1": _body(row, "body_parent", where), "sentence2": _body(row, "body_child", where)}
        subreddit = cell(row, ("subreddit",), where, SOURCE).strip()
        other = None if subreddit.lower() == SUBREDDIT else f"of r/{subreddit}"
        label = cell(row, ("label",), where, SOURCE)
        yield ReleasedRow(str(index), fields, label, "train+dev+test", left_out=other)


def _body(row: dict[str, object], column: str, where: str) -> str:
    text = cell(row, (column,), where, SOURCE)
    return "" if text.strip() == _LOST else text
