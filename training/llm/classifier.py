"""A large language model as the classifier, zero-shot or with a few labeled texts in its prompt (paper, Table 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import httpx2
import numpy as np

from service.model.errors import InputError
from service.model.task import Task
from training.data import Example
from training.llm.label_choice import LabelChoice, spoken
from training.survey import Surveyor
from training.teacher import Usage, clean
from training.teacher_api import TeacherConfig

RECIPE = 3  # raise it when the prompt or the reading of answers changes: results of another recipe are not taken over
SHOTS_STREAM = 7  # keeps the draw of shots apart from every other generator that is seeded with a small number


@dataclass(frozen=True)
class Classified:
    """labels: text id -> label id, None where the answer names no label or several. usage: what asking took."""

    labels: dict[str, str | None]
    usage: Usage

    @property
    def unparsable(self) -> int:
        """Texts whose answer names no label or several."""
        return sum(label is None for label in self.labels.values())


class LLMClassifier:
    """Asks an LLM once per text which of the task's labels it has, within the cap of its cache (see survey.py).

    shots: labeled texts that every prompt shows first, with their labels; none is zero-shot. transport: replaces the
    network below the client, for tests. Raises ValueError for a shot without a label.
    """

    def __init__(
        self,
        task: Task,
        config: TeacherConfig,
        shots: Sequence[Example] = (),
        *,
        progress: bool = True,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self.name = f"llm:{config.model}"
        self._task = task
        self._choice = LabelChoice(task)
        self._shots = "".join(f"{self._shown(shot.fields)}\n{self._answer(shot)}\n\n" for shot in shots)
        self._which = "the last text" if shots else "this text"
        self._surveyor = Surveyor(config, "classifier", takes_silence=True, progress=progress, transport=transport)

    def classify(self, texts: Mapping[str, Mapping[str, str]]) -> Classified:
        """Text id -> fields, to one label for each. Raises TeacherError as ``Surveyor.ask`` does, and is as little to
        be called inside a running event loop."""
        found = self._surveyor.ask({id_: (f"text {id_}", self.prompt(fields)) for id_, fields in texts.items()})
        return Classified({id_: self._choice.named(answer) for id_, answer in found.answers.items()}, found.usage)

    def prompt(self, fields: Mapping[str, str]) -> str:
        """What is asked of one text. What all prompts share comes first, for servers that keep what they have read."""
        question = f"Which of these statements about {self._which} is true?"
        return f"{self._shots}{self._shown(fields)}\n\n{question}\n{self._choice.listing}"

    def _shown(self, fields: Mapping[str, str]) -> str:
        return "\n".join(f"{spoken(name)}: {clean(fields[name])}" for name in self._task.fields)

    def _answer(self, shot: Example) -> str:
        if shot.label is None:
            raise ValueError(f"a text that a prompt shows needs its label, found none for {shot.id!r}")
        return self._choice.statements[shot.label]


def draw_shots(labeled: Sequence[Example], count: int, seed: int) -> list[Example]:
    """``count`` labeled texts for a prompt, drawn at random, as many of each label as there are or one fewer, in random
    order; where a label has too few, others take their places. It takes the labels of all ``labeled`` to draw so.

    Raises InputError where there are fewer texts than ``count``, or ``count`` is below 1.
    """
    if not 1 <= count <= len(labeled):
        raise InputError(f"expected 1 to {len(labeled)} shots, as many as there are labeled texts; found {count}")
    rng = np.random.default_rng([SHOTS_STREAM, seed])
    shuffled = [labeled[index] for index in rng.permutation(len(labeled))]
    drawn: dict[str | None, int] = {}
    turns: list[tuple[int, int]] = []  # (how many of its label were drawn before, place in the random order)
    for place, example in enumerate(shuffled):
        turns.append((drawn.setdefault(example.label, 0), place))
        drawn[example.label] += 1
    chosen = [place for _, place in sorted(turns)[:count]]
    return [shuffled[place] for place in rng.permutation(chosen)]
