"""Outcomes -> result rows, exactly as the HTTP API documents them; the service and ``xal score`` both write these."""

from __future__ import annotations

from typing import Any, Literal

from service.model.classification import Outcome
from service.model.errors import ItemError
from service.model.scoring import Acquisition, Normaliser, acquisition_score, pool_normaliser, ranks

Normalisation = Literal["pool", "request"]


def result_row(id: str, outcome: Outcome, *, with_candidates: bool = False) -> dict[str, Any]:
    """One row of ``results``: the error, or label, probabilities, entropy and truncated, then what was generated.

    The explanation fields are there if an explanation was asked for; candidate_scores only ``with_candidates``.
    """
    if isinstance(outcome, ItemError):
        return {"id": id, "error": {"code": outcome.code, "message": outcome.message}}
    row: dict[str, Any] = {
        "id": id,
        "label": outcome.label,
        "probabilities": outcome.probabilities,
        "entropy": outcome.entropy,
        "truncated": outcome.truncated,
    }
    if outcome.explanation is not None:
        row["explanation"] = outcome.explanation
        row["explanation_score"] = outcome.explanation_score
    if with_candidates:
        row["candidate_scores"] = list(outcome.candidate_scores)
    return row


def add_acquisition(
    rows: list[dict[str, Any]],
    lambda_: float,
    normalisation: Normalisation,
    normaliser: Normaliser | None,
    acquisition: Acquisition = "paper",
) -> None:
    """Add acquisition_score (Eq. 8) and rank (1 = ask first) to the rows, in place; rows with an error are passed over.

    normalisation: ``pool`` by the sums, means and spreads of the pool that the model was exported with (normaliser),
    so that scores of different requests compare; ``request`` by those of these rows. acquisition: the model's. Raises
    ValueError for ``pool`` without a normaliser.
    """
    answered = [row for row in rows if "error" not in row]
    p = [row["explanation_score"] for row in answered]
    c = [row["entropy"] for row in answered]
    if normalisation == "request":
        normaliser = pool_normaliser(p, c)
    if normaliser is None:
        raise ValueError("normalisation over the pool needs a model that was exported with a pool's sums")
    scores = acquisition_score(p, c, normaliser, lambda_, acquisition)
    for row, score, rank in zip(answered, scores.tolist(), ranks(scores).tolist(), strict=True):
        row["acquisition_score"] = score
        row["rank"] = rank
