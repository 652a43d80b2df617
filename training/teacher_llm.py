"""A large language model as the teacher: one explanation for each (text, candidate label)."""

from __future__ import annotations

from collections.abc import Mapping

import httpx2

from service.model.task import Task
from training.survey import Surveyor
from training.teacher import Explained, clean
from training.teacher_api import TeacherConfig


class LLMTeacher:
    """Asks an LLM once per (text, candidate label), within the cap of its cache (see survey.py).

    Explanations are its answers with their white space collapsed. transport: replaces the network below the client,
    for tests.
    """

    covered = None

    def __init__(
        self,
        task: Task,
        config: TeacherConfig,
        *,
        progress: bool = True,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self.name = f"llm:{config.model}"
        self._task = task
        self._surveyor = Surveyor(config, "teacher", progress=progress, transport=transport)

    def explain(self, texts: Mapping[str, Mapping[str, str]]) -> Explained:
        """Ask for what the cache does not hold yet. Raises TeacherError as ``Surveyor.ask`` does, and is as little to
        be called inside a running event loop."""
        found = self._surveyor.ask(
            {
                (key, label): (f"text {key}, label {label}", self._task.render_prompt(fields, label))
                for key, fields in texts.items()
                for label in self._task.label_ids
            }
        )
        explanations: dict[str, dict[str, str]] = {key: {} for key in texts}
        for (key, label), answer in found.answers.items():
            explanations[key][label] = clean(answer)
        return Explained(explanations, found.usage)
