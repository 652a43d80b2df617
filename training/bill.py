"""What the open round of a run has paid for so far: written down, so that a run killed in it does not forget."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from training.records import write_atomically
from training.teacher import Usage

BILL_FILE = ".bill.json"


def billed(run: Path, training: str, purpose: str, usage: Usage) -> Usage:
    """What a purpose took in this round, all starts of the round together.

    training: digest of what the round's model learns from. usage: of this start. What an earlier one has paid for came
    out of the cache now, and is no cached answer of the round: that start knew which were. A start that was killed
    while it still asked has written nothing down here; the teacher's cache has its requests.
    """
    bills = _read(run / BILL_FILE, training)
    if purpose in bills:
        usage = Usage(**bills[purpose]) + replace(usage, cached=0)
    if usage.requests:
        bills[purpose] = asdict(usage)
        write_atomically(run / BILL_FILE, json.dumps({"training": training, "bills": bills}))
    return usage


def close_bill(run: Path) -> None:
    """Forget it: the round is finished, and metrics.json holds what it took."""
    (run / BILL_FILE).unlink(missing_ok=True)


def _read(path: Path, training: str) -> dict[str, Any]:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return dict(kept["bills"]) if kept["training"] == training else {}
