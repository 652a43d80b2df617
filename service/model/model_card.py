"""The model card: what a model directory's README.md says of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from service.model.scoring import Acquisition

if TYPE_CHECKING:
    from service.model.checkpoint import ModelSettings

_ACQUISITIONS: dict[Acquisition, str] = {
    "paper": "`paper`, Eq. 8 as it stands",
    "standardized": "`standardized`, Eq. 8 with zero mean and unit variance for each term (so it may be negative)",
}


def model_card(settings: ModelSettings, manifest: Mapping[str, Any]) -> str:
    """The model directory's README: what it is, how good it was, where it comes from, how to use it."""
    task = settings.task
    explanations = (
        "It was trained on explanations: `/explain` and `/acquisition_score` mean what they say."
        if settings.trained_on_explanations
        else "It was trained WITHOUT explanations: its labels are meaningful, its explanations and scores are not."
    )
    given = "the predicted label" if settings.conditioning == "label" else "the text alone"
    n = settings.normaliser
    pool = f", over a pool of {n.size} texts" if n else ", over each request by itself, as no pool is known"
    return (
        f"# {task.name}, version {manifest['model_version']}\n\n"
        f"A classifier with explanations (explainable active learning, arXiv 2310.05502). {explanations}\n\n"
        f"- labels: {', '.join(task.label_ids)}\n- fields: {', '.join(task.fields)}\n"
        f"- input: at most {task.max_input_tokens} tokens, pooling `{settings.pooling}`\n"
        f"- explanations: given {given}, beam search with {settings.decoding.num_beams} beams, "
        f"at most {settings.decoding.max_new_tokens} tokens\n- acquisition score: {_ACQUISITIONS[settings.acquisition]}"
        f"{pool}\n\n"
        f"## Metrics\n\n| metric | value |\n|---|---|\n{_table_rows(manifest['metrics'])}\n"
        f"## Lineage\n\n| what | value |\n|---|---|\n{_table_rows(manifest['lineage'])}\n"
        "## Use\n\n```\nxal serve --model DIR\nxal score --model DIR --input FILE --output FILE\n```\n\n"
        "The weights load with the class that `config.json` names, one of transformers' or "
        "`service.model.composed.ComposedModel`; the classification head is `head.safetensors`.\n"
    )


def _table_rows(table: Mapping[str, Any]) -> str:
    return "".join(f"| {name} | {value} |\n" for name, value in table.items())
