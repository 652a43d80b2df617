"""A large language model as the judge of explanations, as in the paper's study of consistency."""

from __future__ import annotations

from collections.abc import Sequence

import httpx2

from service.model.task import Task
from training.judge import Judge
from training.llm.label_choice import NONE, LabelChoice
from training.survey import JUDGE, Surveyor
from training.teacher import Usage, clean
from training.teacher_api import TeacherConfig


class LLMJudge(Judge):
    """Asks an LLM once per explanation which label it argues for, within the cap of its cache (see survey.py).

    It is told what the labels say of a text, and sees the explanation, never the text. An answer that names no label,
    or several, counts as "", for none. transport: replaces the network below the client, for tests.

    usage: what asking took since this judge was made.
    """

    def __init__(
        self,
        task: Task,
        config: TeacherConfig,
        *,
        progress: bool = True,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self.name = f"llm:{config.model}"
        self.usage = Usage()
        self._choice = LabelChoice(task, offers_none=True)
        self._surveyor = Surveyor(config, JUDGE, takes_silence=True, progress=progress, transport=transport)

    def prompt(self, explanation: str) -> str:
        """What is asked of one explanation."""
        return (
            f"Somebody explained which of the statements below is true of a text. The explanation: {clean(explanation)}"
            f"\n\nWhich statement does this explanation argue for?\n{self._choice.listing}"
        )

    def _judge(self, explanations: Sequence[str]) -> list[str]:
        """Raises TeacherError as ``Surveyor.ask`` does, and is as little to be called inside a running event loop."""
        questions = {n: (f"explanation {n}", self.prompt(text)) for n, text in enumerate(explanations)}
        found = self._surveyor.ask(questions)
        self.usage += found.usage
        return [self._choice.named(answer) or NONE for answer in found.answers.values()]
