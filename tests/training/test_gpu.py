"""Training and scoring on a GPU, in bfloat16 where it computes in it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from service.model.classification import Item, Prediction
from service.model.predictor import Predictor
from tests.training_fixtures import SMALL
from training.loop import Loop
from training.round_model import model_directory

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("family", ["t5", "composed-llama", "llama"])
def test_a_run_on_a_gpu_gives_a_model_that_answers_alike_on_gpu_and_cpu(
    make_loop: Callable[..., Loop], backbone_dir: Callable[[str], Path], tmp_path: Path, family: str
) -> None:
    trainer = {**SMALL, "conditioning": "label", "decoder_tuning": "lora-2"}
    loop = make_loop(
        tmp_path / "run", device="cuda", budget=12, model=str(backbone_dir(family)), trainer=trainer, adapt=True
    )
    assert [entry["n_labeled"] for entry in loop.rounds()] == [6, 12]
    items = [Item(example.fields) for example in loop.splits.test]
    directory = model_directory(tmp_path / "run", 1)
    on_gpu = Predictor.load(directory, device="cuda", dtype="float32").predict(items, explain=True)
    in_bfloat16 = Predictor.load(directory, device="cuda", dtype="bfloat16").predict(items)
    on_cpu = Predictor.load(directory, device="cpu").predict(items, explain=True)
    for gpu, half, cpu in zip(on_gpu, in_bfloat16, on_cpu, strict=True):
        assert isinstance(gpu, Prediction)
        assert isinstance(half, Prediction)
        assert isinstance(cpu, Prediction)
        assert gpu.probabilities == pytest.approx(cpu.probabilities, abs=1e-3)
        assert gpu.explanation_score == pytest.approx(cpu.explanation_score, abs=1e-2)
        assert half.probabilities == pytest.approx(cpu.probabilities, abs=5e-2)
