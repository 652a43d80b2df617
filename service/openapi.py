"""The OpenAPI document: BentoML's own, with what it gets wrong or does not know put right."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from service.errors import PROBLEM_JSON
from service.schemas import ModelCard, Problem

REFERENCE = "#/components/schemas/{model}"


def complete(document: dict[str, Any], description: str) -> dict[str, Any]:
    """The document with GET /model added, and every error documented as the problem details that it is."""
    _, definitions = models_json_schema(
        [(ModelCard, "serialization"), (Problem, "serialization")], ref_template=REFERENCE
    )
    problem = {"description": "Error", "content": _content(PROBLEM_JSON, Problem)}
    for path in document["paths"].values():
        for operation in path.values():
            success = next(iter(operation["responses"].values()))  # 200 comes first
            operation["responses"] = {"200": success, "default": problem}
    document["paths"]["/model"] = {
        "get": {
            "description": "The served model, its limits and where it comes from.",
            "operationId": "xal__model",
            "responses": {
                "200": {"description": "The model", "content": _content("application/json", ModelCard)},
                "default": problem,
            },
        }
    }
    document["components"]["schemas"].update(definitions["$defs"])
    document["info"] = {"title": "XAL", "description": description, "version": document["info"]["version"]}
    return document


def _content(media_type: str, model: type[BaseModel]) -> dict[str, Any]:
    return {media_type: {"schema": {"$ref": REFERENCE.format(model=model.__name__)}}}
