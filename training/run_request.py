"""One ``xal run`` as its user states it, before any file is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from service.model.errors import InputError
from service.model.scoring import LAMBDA
from training.backbones import DEFAULT
from training.teacher_api import TeacherConfig

# Labels in all and a round, the paper's; where a run goes on until it is good enough, its pool is the budget.
BUDGET, QUERY_SIZE, QUERY_SIZE_UNTIL = 500, 100, 50


@dataclass(frozen=True)
class RunOptions:
    """One ``xal run`` as its user states it; see ``xal run --help``.

    explanations: a file of recorded ones; llm: a teacher to ask instead; with neither, only strategies that learn
    from labels alone can run. train_on_explanations: None leaves it to the strategy. trainer: TrainerConfig fields
    that the user sets; the backbone's own settings and the paper's fill the rest. adapt: adapt the backbone to the pool
    before round 0; adapt_corpus, adapt_corpus_task: and to the recorded explanations of another task. only_explained:
    keep texts that the teacher cannot explain out of the pool. prefilter, prefilter_sample: see Prefilter. until: stop
    at this share of the upper bound (see upper_bound.py). budget, query_size: None for 500 labels, 100 a round, or,
    with until, for the whole pool, 50 a round. initial: how the first texts are drawn, ``random`` or ``diverse``.
    measure_explanations: held-out texts to measure explanations on each round; judge: an LLM that judges them. shared:
    where runs of one experiment keep their first rounds' models.
    """

    task: Path
    data: Path
    strategy: str
    output: Path
    explanations: Path | None = None
    llm: TeacherConfig | None = None
    train_on_explanations: bool | None = None
    test: Path | None = None
    dev: Path | None = None
    model: str = DEFAULT
    budget: int | None = None
    query_size: int | None = None
    until: float | None = None
    initial: str = "random"
    initial_set: int = 0
    seed: int = 0
    lambda_: float = LAMBDA
    prefilter: float | None = None
    prefilter_sample: int | None = None
    num_beams: int = 5
    max_new_tokens: int | None = None
    trainer: Mapping[str, Any] = field(default_factory=dict)
    adapt: bool = False
    adapt_corpus: Path | None = None
    adapt_corpus_task: Path | None = None
    warm_start: bool = False
    keep_models: str = "all"
    only_explained: bool = False
    measure_explanations: int = 0
    judge: TeacherConfig | None = None
    device: str = "auto"
    shared: Path | None = None

    def within(self, pool: int) -> RunOptions:
        """The same with budget and query size settled for a pool of so many texts. Raises InputError for a share of
        the upper bound that is none."""
        until = self.until is not None
        if self.until is not None and not 0 < self.until <= 1:
            raise InputError(f"--until: expected a share of the upper bound, above 0 and at most 1, found {self.until}")
        budget, size = (pool, min(QUERY_SIZE_UNTIL, pool)) if until else (BUDGET, QUERY_SIZE)
        return replace(
            self,
            budget=budget if self.budget is None else self.budget,
            query_size=size if self.query_size is None else self.query_size,
        )
