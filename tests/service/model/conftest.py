"""Predictors over the tiny backbones, each loaded once."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from service.model.network import Conditioning
from service.model.predictor import Predictor
from tests import tiny


@pytest.fixture(scope="session")
def predictor_of(make_model_dir: Callable[..., Path]) -> Callable[..., Predictor]:
    """Family name and conditioning -> a predictor on the CPU; read-only for tests (load another to change it)."""
    loaded: dict[tuple[str, Conditioning], Predictor] = {}

    def load(family: str, conditioning: Conditioning = "none") -> Predictor:
        if (family, conditioning) not in loaded:
            with torch.inference_mode(False):  # a test that is in it may be the first to ask
                loaded[family, conditioning] = Predictor.load(make_model_dir(family, conditioning), device="cpu")
        return loaded[family, conditioning]

    return load


@pytest.fixture(scope="session", params=tiny.FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    """Every family of backbones in turn."""
    return str(request.param)


@pytest.fixture(scope="session")
def predictor(family: str, predictor_of: Callable[..., Predictor]) -> Predictor:
    """The predictor of every family in turn."""
    return predictor_of(family)
