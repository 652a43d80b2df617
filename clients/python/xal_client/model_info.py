"""What `GET /model` says of the model and of the service's limits."""

from __future__ import annotations

from typing import Any, Literal

from xal_client.results import Answer


class Decoding(Answer):
    """How explanations are generated where a request does not say."""

    num_beams: int
    max_new_tokens: int


class Limits(Answer):
    """What the service takes in one request.

    max_input_tokens: longer texts are cut, and their result is `truncated`. deadline_seconds: from a request's arrival
    to its answer; `DeadlineExceeded` beyond.
    """

    max_items: int
    max_body_bytes: int
    max_candidates: int
    max_num_beams: int
    max_new_tokens: int
    max_input_tokens: int
    deadline_seconds: float


class ModelInfo(Answer):
    """The served model.

    labels: label ids; fields: names of an item's fields. pool_size: texts over which normalization "pool" divides,
    None where the model was exported without a pool and only "request" can be asked for. conditioning: "label" where
    explanations are generated and scored given the predicted label, "none" where the model explains whatever it finds
    likely. acquisition: how it combines the terms of Eq. 8, see AcquisitionResponse. metrics, lineage: as written when
    the model was exported.
    """

    model_version: str
    task: str
    labels: tuple[str, ...]
    fields: tuple[str, ...]
    trained_on_explanations: bool
    pool_size: int | None
    conditioning: Literal["none", "label"] = "none"
    acquisition: Literal["paper", "standardized"] = "paper"
    decoding: Decoding
    limits: Limits
    metrics: dict[str, Any]
    lineage: dict[str, Any]
    device: str
