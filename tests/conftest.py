"""Fixtures that several rooms' tests share: tiny backbones and a model directory in the fixed format."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from service.model import checkpoint
from service.model.checkpoint import ModelSettings, Provenance
from service.model.decoding import Decoding
from service.model.families import load_network
from service.model.network import Conditioning
from service.model.scoring import Normaliser
from tests import tiny

pytest_plugins = ["tests.service_fixtures", "tests.training_fixtures"]

torch.set_num_threads(1)  # tiny models: a second thread only costs
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
os.environ.setdefault("OMP_NUM_THREADS", str(min(4, CORES)))  # commands: as many every time, or rounding may differ
for name in ("NO_PROXY", "no_proxy"):  # services and servers of the tests are here, whatever proxy there is for others
    os.environ[name] = ",".join(filter(None, (os.environ.get(name), "127.0.0.1,localhost")))

# Examples neither differ from one run of the tests to the next nor fail for a busy machine.
settings.register_profile("repeatable", deadline=None, derandomize=True, database=None)
settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def backbone_dir(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Family name -> directory of a tiny random backbone of that family, made once."""
    made: dict[str, Path] = {}

    def make(family: str) -> Path:
        if family not in made:
            made[family] = tiny.save_backbone(family, tmp_path_factory.mktemp("backbones") / family)
        return made[family]

    return make


@pytest.fixture(scope="session")
def make_model_dir(
    backbone_dir: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """Family name and conditioning (none unless said) -> a fresh, untrained model directory in the fixed format."""

    def make(family: str, conditioning: Conditioning = "none") -> Path:
        with torch.random.fork_rng():
            torch.manual_seed(11)
            network, encoder = load_network(backbone_dir(family), tiny.TASK, "cls", conditioning)
            torch.nn.init.normal_(network.head.weight)  # probabilities that differ from text to text
        directory = tmp_path_factory.mktemp("models") / family
        checkpoint.save(
            directory,
            network.eval(),
            encoder,
            ModelSettings(
                task=tiny.TASK,
                pooling="cls",
                conditioning=conditioning,
                decoding=Decoding(num_beams=3, max_new_tokens=12),
                normaliser=Normaliser(log_z_p=9.5, log_z_c=4.5, size=50),
                trained_on_explanations=True,
            ),
            Provenance(metrics={"macro_f1": 0.5}, lineage={"run": "tiny", "round": 0}),
        )
        return directory

    return make


@pytest.fixture(scope="session")
def model_dir(make_model_dir: Callable[[str], Path]) -> Path:
    """A model directory around a tiny T5; read-only for tests (copy it to damage it)."""
    return make_model_dir("t5")
