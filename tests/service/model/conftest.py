"""Predictors over the tiny backbones, each loaded once."""

from collections.abc import Callable
from pathlib import Path

import pytest

from service.model.predictor import Predictor
from tests import tiny


@pytest.fixture(scope="session")
def predictor_of(make_model_dir: Callable[[str], Path]) -> Callable[[str], Predictor]:
    """Family name -> a predictor on the CPU; read-only for tests (load another to change it)."""
    loaded: dict[str, Predictor] = {}

    def load(family: str) -> Predictor:
        if family not in loaded:
            loaded[family] = Predictor.load(make_model_dir(family), device="cpu")
        return loaded[family]

    return load


@pytest.fixture(scope="session", params=tiny.FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    """Every family of backbones in turn."""
    return str(request.param)


@pytest.fixture(scope="session")
def predictor(family: str, predictor_of: Callable[[str], Predictor]) -> Predictor:
    """The predictor of every family in turn."""
    return predictor_of(family)
