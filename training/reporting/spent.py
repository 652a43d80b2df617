"""What a round took: seconds, tokens and money."""

from collections.abc import Iterable

from training.reporting.tables import Columns, Entry, Show, amount, part, value_at

STAGES = ("teach", "train", "evaluate", "score", "select", "map")


def seconds(entry: Entry, stages: Iterable[str] | None = None) -> float:
    """Of these stages of a round, of all by default."""
    known = part(entry, "seconds")
    return sum(value_at(known, stage) or 0.0 for stage in (known if stages is None else stages))


def tokens(entry: Entry) -> int:
    """Of a round's questions to the teacher and their answers."""
    return int(billed(entry, "prompt_tokens") + billed(entry, "completion_tokens"))


def cost(entry: Entry) -> float:
    return billed(entry, "cost")


def billed(entry: Entry, item: str) -> float:
    """An item of the teacher's bill; 0 where there was no teacher."""
    return value_at(entry, "teacher", item) or 0.0


def _stage(name: str) -> Show:
    return lambda entry: amount(seconds(entry, [name]), ",.1f")


def _item(name: str) -> Show:
    return lambda entry: amount(billed(entry, name), ",.0f")


BILL: Columns = {
    **{stage: _stage(stage) for stage in STAGES},
    "requests": _item("requests"),
    "cached": _item("cached"),
    "tokens": lambda entry: amount(tokens(entry), ","),
    "cost": lambda entry: amount(cost(entry), ",.4f"),
}
