"""A model of its own answers as one that a run would keep, and leaves nothing behind."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from service.model.decoding import Decoding
from tests import tiny
from tests.training_fixtures import SMALL
from training.data import Example
from training.fitted import fitted_predictor
from training.predictions import predict_examples
from training.trainer import TrainerConfig, fit

TEXTS = [Example(str(n), {"text": f"text {n}"}, tiny.TASK.label_ids[n % 3], "train") for n in range(6)]
EXPLANATIONS = {text.id: {label: f"{label} because of it" for label in tiny.TASK.label_ids} for text in TEXTS}


@pytest.mark.parametrize("explanations", [EXPLANATIONS, None])
def test_it_has_the_weights_and_settings_of_its_training(
    backbone_dir: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    explanations: dict[str, dict[str, str]] | None,
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    config = TrainerConfig(**SMALL | {"pooling": "mean"})
    training = {"task": tiny.TASK, "source": backbone_dir("t5"), "config": config, "seed": 3}
    predictor = fitted_predictor(
        TEXTS,
        explanations,
        **training,
        device="cpu",
        decoding=Decoding(2, 5),
        precision="float32",
        progress=False,
    )
    assert list(tmp_path.iterdir()) == []
    network, _ = fit(TEXTS, explanations, **training, device=torch.device("cpu"), progress=False)
    found, expected = predictor.network.state_dict(), network.state_dict()
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight.to(found[name].dtype), msg=name)
    assert predictor.decoding == Decoding(2, 5)
    assert predictor.network.pooling == "mean"
    assert predictor.manifest["lineage"] == {}
    assert len(predict_examples(predictor, TEXTS, explain=False, progress=False, stage="classify")) == 6
