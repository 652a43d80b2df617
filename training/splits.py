"""Examples -> pool, development set and test set, without a text that stands in two of them."""

from collections.abc import Hashable
from dataclasses import dataclass, field, replace

import numpy as np

from service.model.errors import InputError
from training.data import Example

HELD_OUT_SEED = 231005502  # one test set for every run, whatever its seeds are
HELD_OUT_EVERY = 5


class EmptySplitError(InputError):
    """Nothing is left to label, or nothing to measure on."""


@dataclass(frozen=True)
class Splits:
    """train: the pool; dev: choices are made on it, may be empty; test: curves are measured on it.

    notes: what was held out, left out or dropped, in sentences for the user. explained: texts outside of the pool whose
    explanations are measured (see held_out.py), none unless asked for.
    """

    train: list[Example]
    dev: list[Example]
    test: list[Example]
    notes: list[str]
    explained: list[Example] = field(default_factory=list)


def split_examples(data: list[Example], test: list[Example] | None = None, dev: list[Example] | None = None) -> Splits:
    """Pool, development set and test set of a run.

    data: the rows of the data file; test, dev: those of separate files, taken whole. A separate file replaces the rows
    of its split in the data. Without a test file the rows of split test are the test set; without a column ``split``
    either, a fifth of the data is held out, the same for every run, each label in proportion.

    The test set stays as it is; a pool text that also stands in dev or test, and a dev text that also stands in test,
    is dropped. Ids are made unique: those of a separate file get a prefix where they meet others.
    Raises EmptySplitError where the pool or the test set is empty.
    """
    notes: list[str] = []
    parts = {
        name: [example for example in data if (example.split or "train") == name] for name in ("train", "dev", "test")
    }
    for name, separate in (("dev", dev), ("test", test)):
        if separate is None:
            continue
        if parts[name]:
            notes.append(f"left out {_count(parts[name])} of split {name} in the data: --{name} names another file")
        taken = {example.id for part in parts if part != name for example in parts[part]}
        parts[name] = _with_own_ids(separate, name, taken, notes)
    if test is None and all(example.split is None for example in data):
        parts["train"], parts["test"] = _hold_out(parts["train"])
        notes.append(
            f"held out {len(parts['test'])} of {_count(data)} as the test set (a seeded fifth, each label in "
            "proportion); a column split or --test FILE chooses another"
        )
    if not parts["test"]:
        raise EmptySplitError("the test set is empty; mark rows with split test, or name a file with --test")
    parts["dev"] = _without_repeats(parts["dev"], "development set", parts["test"], "test set", notes)
    parts["train"] = _without_repeats(parts["train"], "pool", parts["test"], "test set", notes)
    parts["train"] = _without_repeats(parts["train"], "pool", parts["dev"], "development set", notes)
    if not parts["train"]:
        why = "; ".join(["", *notes])
        raise EmptySplitError(
            f"the pool is empty: no example is left for training{why}; mark rows with split train, or add data"
        )
    return Splits(parts["train"], parts["dev"], parts["test"], notes)


def _hold_out(examples: list[Example]) -> tuple[list[Example], list[Example]]:
    """Every fifth of a random order sorted by label: each label's share differs from a fifth by less than one."""
    shuffled = np.random.default_rng(HELD_OUT_SEED).permutation(len(examples)).tolist()
    by_label = sorted(shuffled, key=lambda index: examples[index].label or "")
    held_out = set(by_label[HELD_OUT_EVERY // 2 :: HELD_OUT_EVERY])
    kept = [example for index, example in enumerate(examples) if index not in held_out]
    return kept, [example for index, example in enumerate(examples) if index in held_out]


def _without_repeats(
    examples: list[Example], place: str, others: list[Example], other_place: str, notes: list[str]
) -> list[Example]:
    texts = {_text_key(example) for example in others}
    kept = [example for example in examples if _text_key(example) not in texts]
    if dropped := len(examples) - len(kept):
        notes.append(f"dropped {dropped} of {_count(examples)} from the {place}: the same text is in the {other_place}")
    return kept


def _text_key(example: Example) -> Hashable:
    return tuple(example.fields.values())


def _with_own_ids(examples: list[Example], prefix: str, taken: set[str], notes: list[str]) -> list[Example]:
    if not any(example.id in taken for example in examples):
        return examples
    notes.append(f"the ids of the {prefix} file got the prefix '{prefix}:', for some stand in other files too")
    while any(example.id in taken for example in examples):
        examples = [replace(example, id=f"{prefix}:{example.id}") for example in examples]
    return examples


def _count(examples: list[Example]) -> str:
    return f"{len(examples)} example{'' if len(examples) == 1 else 's'}"
