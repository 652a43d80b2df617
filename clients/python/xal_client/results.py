"""What the service answers, typed and frozen. Fields that a newer service adds are ignored."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict


class Answer(BaseModel):
    """Part of an answer. `strict`: a number that comes as a string is an error here, not a surprise later."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, allow_inf_nan=False, protected_namespaces=())


class Classification(Answer):
    """The label of one item.

    label: the most probable label id. probabilities: label id -> probability, over every label of the task.
    entropy: of these probabilities, in nats, 0 to log(number of labels). truncated: the text was longer than the
    model reads, and its end went unread.
    """

    id: str
    label: str
    probabilities: dict[str, float]
    entropy: float
    truncated: bool


class Explanation(Classification):
    """A label with the model's written reason.

    explanation_score: mean log-probability of the explanation's tokens (<= 0; nearer 0 = more likely).
    candidate_scores: the same for each of the item's `candidates`, in their order.
    """

    explanation: str
    explanation_score: float
    candidate_scores: tuple[float, ...] = ()


class Acquisition(Explanation):
    """A label, a reason, and how much a human label of this item would teach.

    acquisition_score: higher = ask for this one first. rank: 1 = ask first, within one response.
    """

    acquisition_score: float
    rank: int


class ItemError(Answer):
    """Why one item has no answer. code: a stable word for programs; message: a sentence for people."""

    code: str
    message: str


class ItemFailure(Answer):
    """Stands in the place of the result of an item that could not be answered; its neighbours were."""

    id: str
    error: ItemError


R = TypeVar("R", bound=Classification)


class Response(Answer, Generic[R]):
    """One result per item, in the items' order; iterating, indexing and len() go over `results`.

    model_version: content hash of the model that answered. request_id: as in the service's log.
    """

    model_version: str
    results: tuple[R | ItemFailure, ...]
    request_id: str | None = None

    @property
    def ok(self) -> bool:
        """Whether every item got an answer."""
        return not self.failures

    @property
    def answers(self) -> tuple[R, ...]:
        """The results of the items that were answered."""
        return tuple(result for result in self.results if not isinstance(result, ItemFailure))

    @property
    def failures(self) -> tuple[ItemFailure, ...]:
        """The items that were not answered, each with its error."""
        return tuple(result for result in self.results if isinstance(result, ItemFailure))

    def __iter__(self) -> Iterator[R | ItemFailure]:  # type: ignore[override]  # pydantic's own goes over field names
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)

    def __getitem__(self, index: int) -> R | ItemFailure:
        return self.results[index]


class ClassifyResponse(Response[Classification]):
    """Answer of `classify`."""


class ExplainResponse(Response[Explanation]):
    """Answer of `explain`."""


class AcquisitionResponse(Response[Acquisition]):
    """Answer of `acquisition_score`.

    normalization: "pool", scores comparable with every other such score of this model version; "request", only within
    this response. acquisition: "paper", Eq. 8 as it stands, positive; "standardized", each of its terms with zero mean
    and unit variance, so that scores may be negative. selected: ids of the top_k items, the first to ask first; None
    where no top_k was asked for.
    """

    normalization: Literal["pool", "request"]
    acquisition: Literal["paper", "standardized"] = "paper"
    selected: tuple[str, ...] | None = None

    @property
    def ranked(self) -> tuple[Acquisition, ...]:
        """The answers, the one to ask first in front."""
        return tuple(sorted(self.answers, key=lambda answer: answer.rank))
