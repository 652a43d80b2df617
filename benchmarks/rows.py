"""The rows of the comparison: which backbone, trained how."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from benchmarks.datasets import DataSet
from service.model.errors import InputError
from service.model.hardware import choose_device
from training.adaptation import RECIPE, REPORT, Corpus, adaptation_config, adapted
from training.backbones import Backbone, resolve
from training.trainer import TrainerConfig


@dataclass(frozen=True)
class Row:
    """One way to build and train a model.

    backbone: what --model would name. explains: whether it trains on explanations; without, it is the floor that
    explanations are measured against. adapted: whether the backbone is first adapted to the unlabeled pool (and to
    explanations of another task, where they are at hand). training: TrainerConfig fields over the backbone's own.
    """

    name: str
    backbone: str
    explains: bool = True
    adapted: bool = False
    training: Mapping[str, Any] = field(default_factory=dict)


_NONE = {"conditioning": "none"}
_LABEL = {"conditioning": "label"}

ROWS = {
    row.name: row
    for row in (
        Row("encoder-only", "minilm-minilm", explains=False, training=_NONE),
        Row("minilm-minilm", "minilm-minilm", training=_NONE),
        Row("minilm-minilm-label", "minilm-minilm", training=_LABEL),
        Row("minilm-minilm-label-adapted", "minilm-minilm", adapted=True, training=_LABEL),
        Row("minilm-smollm2", "minilm-smollm2", training=_NONE),
        Row("minilm-smollm2-label", "minilm-smollm2", training=_LABEL),
        Row("minilm-smollm2-adapted", "minilm-smollm2", adapted=True, training=_NONE),
        Row("minilm-smollm2-label-adapted", "minilm-smollm2", adapted=True, training=_LABEL),
        Row("smollm2-prefix-label", "smollm2", training=_LABEL),
    )
}


@dataclass(frozen=True)
class Settled:
    """A row whose names are resolved. backbone: the pre-trained weights; config: all that training depends on."""

    row: Row
    backbone: Backbone
    config: TrainerConfig

    def settings(self, corpus: DataSet | None) -> dict[str, Any]:
        """What decides the row's numbers, as plain values; a backbone's folder name says which recipe made it.

        corpus: see ``adapted_to``.
        """
        adaptation = None
        if self.row.adapted:
            other = {"recipe": RECIPE, "corpus": corpus.digest if corpus else None}
            adaptation = adaptation_config(self.config).model_dump() | other
        return {
            "backbone": self.row.backbone,
            "source": Path(self.backbone.source).name,
            "explains": self.row.explains,
            "adaptation": adaptation,
            "trainer": self.config.model_dump(),
        }

    def adapted_to(self, data: DataSet, corpus: DataSet | None, *, cache: Path, device: str, progress: bool) -> Settled:
        """The same row upon the backbone that it trains on this data set: itself, unless the row is an adapted one.

        corpus: a data set of another task, from whose pool explaining is learned beforehand. The adapted backbone is
        made once and kept in the cache.
        """
        if not self.row.adapted:
            return self
        lessons = Corpus(corpus.task, corpus.pool, corpus.explained(corpus.pool)) if corpus is not None else None
        backbone = adapted(
            self.backbone,
            data.pool,
            lessons,
            task=data.task,
            config=adaptation_config(self.config),
            device=choose_device(device),
            cache=cache,
            progress=progress,
        )
        return replace(self, backbone=backbone)

    def adaptation_report(self) -> dict[str, Any] | None:
        """What the adaptation took and how its loss fell, of a row that ``adapted_to`` returned; None without one."""
        if not self.row.adapted:
            return None
        report: dict[str, Any] = json.loads((Path(self.backbone.source) / REPORT).read_text(encoding="utf-8"))
        return report


def settle(row: Row, cache: Path) -> Settled:
    """Find (or make) the row's backbone and put its training settings together.

    Raises InputError, naming the row, where this version lacks a part of it.
    """
    try:
        backbone = resolve(row.backbone, cache)
        config = TrainerConfig.model_validate({**backbone.training, **row.training})
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        raise InputError(f"row {row.name}: {'.'.join(map(str, problem['loc']))}: {problem['msg'].lower()}") from None
    except InputError as error:
        raise InputError(f"row {row.name}: {error}") from None
    return Settled(row, backbone, config)


def digest(settings: Mapping[str, Any]) -> str:
    """Sixteen hexadecimal digits that change with any setting."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
