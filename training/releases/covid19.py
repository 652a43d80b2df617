"""COVID19: tweets with a stance towards one of four targets (Glandt et al., ACL 2021).

Formats: ``dataset/{target}_{train,val,test}.csv`` of the authors' repository, with the columns ``Tweet Id, Target,
Stance, Opinion Towards, Sentiment``. It has no texts: whoever uses it fetches them by their ids and adds a column
``Tweet``. Copies with the texts, which the authors give on request, are often three files
``raw_{train,val,test}_all_onecol.csv`` with the columns ``Tweet, Target 1, Stance 1``, as public code reads them; no
such file was at hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.records import place
from training.releases.files import cell, find, read_table
from training.releases.rows import ReleasedRow

SOURCE = "get the dataset folder of https://github.com/kglandt/stance-detection-in-covid-19-tweets"
LABELS = {"FAVOR": "favor", "NONE": "neutral", "AGAINST": "against"}

# The files' names of the targets, and the names in the authors' paper, which annotators and teachers read.
TARGETS = {
    "face_masks": "Wearing a Face Mask",
    "fauci": "Anthony S. Fauci, M.D.",
    "school_closures": "Keeping Schools Closed",
    "stay_at_home_orders": "Stay at Home Orders",
}

_SPLITS = {"train": "train", "val": "dev", "test": "test"}
_TEXT = ("Tweet", "tweet", "Text", "text", "tweet_text", "full_text")
_NO_TEXT = (
    "the release has ids only: fetch the tweets by their ids from the platform (or ask the authors for the texts) and "
    "add them as a column 'Tweet'; leave it empty for a tweet that is gone"
)


def read_covid19(release: Path) -> Iterator[ReleasedRow]:
    """One row a tweet, in the release's own split; the noisy training files, labeled by a model, are not read.

    Raises InputError where the texts are not filled in.
    """
    for name, split in _SPLITS.items():
        index = 0
        for path in _files(release, name):
            for number, row in read_table(path):
                where = place(path, number)
                target = cell(row, ("Target", "Target 1"), where, SOURCE).strip()
                fields = {"text": cell(row, _TEXT, where, _NO_TEXT), "target": TARGETS.get(target, target)}
                yield ReleasedRow(f"{name}-{index}", fields, cell(row, ("Stance", "Stance 1"), where, SOURCE), split)
                index += 1


def _files(release: Path, name: str) -> list[Path]:
    """One file of all targets where there is one, else one for each target."""
    together = f"raw_{name}_all_onecol.csv"
    names = [f"{target}_{name}.csv" for target in TARGETS]
    first = find(release, (names[0], together), SOURCE)
    if first.name == together:
        return [first]
    return [first, *(find(release, (other,), SOURCE) for other in names[1:])]
