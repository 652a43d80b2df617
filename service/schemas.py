"""What requests and responses look like."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

# ---------------------------------------------------------------------------------------------------------- requests


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, populate_by_name=False)


class TextItem(Strict):
    """One text to answer: `text` for a task with one field, `fields` for any task; not both.

    null counts as not given. An item whose text is not given is answered with the error `missing_field`.
    """

    id: str | None = Field(default=None, min_length=1, max_length=256, description="default: the item's index")
    text: str | None = None
    fields: dict[str, str | None] | None = None

    @model_validator(mode="after")
    def _text_or_fields(self) -> TextItem:
        if self.text is not None and self.fields is not None:
            raise ValueError("expected either text or fields, not both")
        return self


class CandidateItem(TextItem):
    """A text and, if wanted, explanations to score beside the generated one."""

    candidates: list[str] | None = Field(default=None, min_length=1)


class ClassifyOptions(Strict):
    """/classify has no options."""


class ExplainOptions(Strict):
    """How explanations are generated; what is left out is as the model was exported."""

    num_beams: int | None = Field(default=None, ge=1)
    max_new_tokens: int | None = Field(default=None, ge=1)


class AcquisitionOptions(Strict):
    """How acquisition scores are computed (Eq. 8). top_k: also answer with the ids of the k items to ask for first."""

    lambda_: float = Field(default=0.5, alias="lambda", ge=0, allow_inf_nan=False)
    normalization: Literal["pool", "request"] = "pool"
    top_k: int | None = Field(default=None, ge=1)


class ClassifyRequest(Strict):
    items: list[TextItem] = Field(min_length=1)
    options: ClassifyOptions = ClassifyOptions()


class ExplainRequest(Strict):
    items: list[CandidateItem] = Field(min_length=1)
    options: ExplainOptions = ExplainOptions()


class AcquisitionRequest(Strict):
    items: list[CandidateItem] = Field(min_length=1)
    options: AcquisitionOptions = AcquisitionOptions()


AnyRequest = ClassifyRequest | ExplainRequest | AcquisitionRequest


def item_id(item: TextItem, index: int) -> str:
    """The id under which an item is answered."""
    return str(index) if item.id is None else item.id


# --------------------------------------------------------------------------------------------------------- responses


class Answer(BaseModel):
    """Part of a response. These classes document the shapes; the service writes its rows as they come."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class ItemFault(Answer):
    code: str
    message: str


class FailedResult(Answer):
    """Stands in the place of an item that could not be answered; its neighbours were."""

    id: str
    error: ItemFault


class ClassifyResult(Answer):
    """entropy: of the probabilities, in nats. truncated: the text was longer than the model reads."""

    id: str
    label: str
    probabilities: dict[str, float]
    entropy: float
    truncated: bool


class ExplainResult(ClassifyResult):
    """explanation_score: mean log-probability of the explanation's tokens, at most 0 (Eq. 6).

    candidate_scores: the same for each of the item's candidates, only where it has any.
    """

    explanation: str
    explanation_score: float
    candidate_scores: list[float] = []


class AcquisitionResult(ExplainResult):
    """acquisition_score: higher = ask for this one first (Eq. 8). rank: 1 = first, within this response."""

    acquisition_score: float
    rank: int


class ClassifyResponse(Answer):
    """results: as many as items came, in their order."""

    model_version: str
    results: list[ClassifyResult | FailedResult]


class ExplainResponse(Answer):
    """results: as many as items came, in their order."""

    model_version: str
    results: list[ExplainResult | FailedResult]


class AcquisitionResponse(Answer):
    """results: as many as items came, in their order. normalization: the one used. acquisition: the model's.

    selected: ids of the top_k items, first to ask first; only where top_k was given.
    """

    model_version: str
    normalization: Literal["pool", "request"]
    acquisition: Literal["paper", "standardized"]
    results: list[AcquisitionResult | FailedResult]
    selected: list[str] = []


class Decoding(Answer):
    """How explanations are generated where a request does not say."""

    num_beams: int
    max_new_tokens: int


class Limits(Answer):
    """What one request may hold and ask for. deadline_seconds: from its arrival to its answer."""

    max_items: int
    max_body_bytes: int
    max_candidates: int
    max_num_beams: int
    max_new_tokens: int
    max_input_tokens: int
    deadline_seconds: float


class ModelCard(Answer):
    """The served model. pool_size: texts in the pool that it was exported with, null if none: scores are then
    normalised over the request only. conditioning: `label` where explanations are generated and scored given the
    predicted label, `none` where the model explains whatever it finds likely. acquisition: how the terms of Eq. 8 enter
    the acquisition score, as in the `paper` or `standardized`, each with zero mean and unit variance over the pool.
    metrics, lineage: as written at export."""

    model_version: str
    task: str
    labels: list[str]
    fields: list[str]
    trained_on_explanations: bool
    conditioning: Literal["none", "label"]
    acquisition: Literal["paper", "standardized"]
    pool_size: int | None
    decoding: Decoding
    limits: Limits
    metrics: dict[str, Any]
    lineage: dict[str, Any]
    device: str


class ProblemFault(Answer):
    """pointer: JSON Pointer (RFC 6901) to what is wrong in the request's body."""

    pointer: str
    detail: str


class Problem(Answer):
    """Every error's body (RFC 9457, application/problem+json). errors: only with status 422."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    request_id: str
    errors: list[ProblemFault] = []
