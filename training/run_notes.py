"""What a user is told of the texts before a run starts: labels that some part lacks, explanations that are missing."""

from collections.abc import Sequence

from service.model.errors import InputError
from service.model.task import Task
from training.data import Example
from training.splits import Splits
from training.teacher import Teacher


def label_notes(splits: Splits, task: Task) -> list[str]:
    """Labels that no text of the test set, or of the pool, has."""

    def missing(texts: Sequence[Example]) -> str:
        found = {str(example.label) for example in texts}
        return ", ".join(label for label in task.label_ids if label not in found)

    untested, unlearned = missing(splits.test), missing(splits.train)
    return [
        *([f"no test text has the label {untested}; its F1 counts as 0 in every macro-F1"] if untested else []),
        *([f"no pool text has the label {unlearned}; no model will learn it"] if unlearned else []),
    ]


def coverage_notes(splits: Splits, teacher: Teacher | None) -> list[str]:
    """Pool texts that a teacher cannot explain. Raises InputError where these are all."""
    if teacher is None or teacher.covered is None:
        return []
    missing = sum(example.id not in teacher.covered for example in splits.train)
    if not missing:
        return []
    if missing == len(splits.train):
        raise InputError(
            f"the teacher's recorded explanations are of none of the {missing} pool texts; check that the ids agree"
        )
    return [
        f"{missing} of {len(splits.train)} pool texts have no recorded explanations; the run stops if one of them is "
        "chosen (--only-explained keeps them out of the pool)"
    ]
