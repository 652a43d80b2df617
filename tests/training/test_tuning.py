"""How much of the decoder is trained: which parameters, and that nothing of it is left in the network."""

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from service.model.encoding import TextEncoder
from service.model.errors import InputError
from service.model.families import load_network
from service.model.network import Network
from tests import tiny
from training import trainer
from training.data import Example
from training.trainer import TrainerConfig, accumulate_gradients, fit
from training.tuning import tuned

LABELS = tiny.TASK.label_ids
EXAMPLES = [Example(str(i), {"text": text}, LABELS[i], None) for i, text in enumerate(("good", "bad and long", "fine"))]
EXPLANATIONS = {e.id: {label: f"the writer says {label}" for label in LABELS} for e in EXAMPLES}
# Of each kind of backbone: where its decoder's parameters are, and which of them stand at the top.
TOPS = {
    "t5": ("backbone.decoder.", ("block.1.", "final_layer_norm.")),
    "bart": ("backbone.model.decoder.", ("layers.1.",)),
    "bert2bert": ("backbone.decoder.", ("bert.encoder.layer.1.", "cls.predictions.transform.")),
    "composed-llama": ("backbone.decoder.", ("model.layers.2.", "model.norm.")),
    "composed-gpt2": ("backbone.decoder.", ("transformer.h.2.", "transformer.ln_f.")),
    "llama": ("backbone.", ("model.layers.2.", "model.norm.")),
}


@pytest.fixture(params=TOPS)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def loaded(family: str, backbone_dir: Callable[[str], Path]) -> tuple[Network, TextEncoder]:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network, encoder = load_network(backbone_dir(family), tiny.TASK, "mean")
    return network.eval(), encoder


def trained(network: Network) -> set[str]:
    return {name for name, parameter in network.named_parameters() if parameter.requires_grad}


def named(network: Network) -> set[str]:
    return {name for name, _ in network.named_parameters()}


def weights(network: Network) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def linear_weights(network: Network) -> set[str]:
    """Names of the weights of the decoder's linear layers, but for its output."""
    output = network.backbone.get_output_embeddings()
    modules = {id(module): name for name, module in network.named_modules()}
    linear = [m for m in network.decoder.modules() if isinstance(m, nn.Linear | Conv1D) and m is not output]
    return {f"{modules[id(module)]}.weight" for module in linear}


def step(network: Network, encoder: TextEncoder, steps: int = 2) -> None:
    """Some steps of plain gradient descent on all that is to be trained."""
    texts = [trainer._tokens(example, EXPLANATIONS, encoder) for example in EXAMPLES]
    for _ in range(steps):
        accumulate_gradients(network, encoder, texts, TrainerConfig(lambda1=1.0))
        with torch.no_grad():
            for parameter in network.parameters():
                if parameter.grad is not None:
                    assert parameter.requires_grad
                    parameter -= 0.05 * parameter.grad
        network.zero_grad()


def test_full_trains_everything(loaded: tuple[Network, TextEncoder]) -> None:
    network, _ = loaded
    with tuned(network, "full"):
        assert trained(network) == named(network)


def test_top_trains_the_last_layers_and_all_beside_the_decoder(
    family: str, loaded: tuple[Network, TextEncoder]
) -> None:
    network, encoder = loaded
    place, top = TOPS[family]
    own = {name for name in named(network) if name.startswith(place)}
    expected = named(network) - own | {name for name in own if name.removeprefix(place).startswith(top)}
    before = weights(network)
    with tuned(network, "top-1"):
        assert trained(network) == expected
        assert 0 < len(own & expected) < len(own)
        step(network, encoder)
    changed = {name for name, value in network.named_parameters() if not torch.equal(value, before[name])}
    assert changed == {name for name in expected if "pooler" not in name}
    assert trained(network) == named(network)


def test_lora_trains_updates_of_every_linear_layer_and_all_beside_the_decoder(
    family: str, loaded: tuple[Network, TextEncoder]
) -> None:
    network, _ = loaded
    place, _ = TOPS[family]
    beside = {name for name in named(network) if not name.startswith(place)}
    linear = {name.removesuffix(".weight") for name in linear_weights(network)}
    assert len(linear) >= 12
    with tuned(network, "lora-3"):
        updates = {f"{name}.lora_{matrix}.default.weight" for name in linear for matrix in "AB"}
        assert trained(network) == beside | updates
        ranks = {min(value.shape) for name, value in network.named_parameters() if ".lora_" in name}
        assert ranks == {3}


def test_lora_is_added_to_the_weights_and_leaves_no_trace(
    family: str, loaded: tuple[Network, TextEncoder], tmp_path: Path
) -> None:
    network, encoder = loaded
    place, _ = TOPS[family]
    kinds = [type(module) for module in network.modules()]
    before, attributes = weights(network), {*vars(network.decoder)}
    texts = [trainer._tokens(example, EXPLANATIONS, encoder) for example in EXAMPLES]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with tuned(network, "lora-2"):
            start = trainer.batch_loss(network, encoder, texts, TrainerConfig()).item()
            step(network, encoder)
            end = trainer.batch_loss(network, encoder, texts, TrainerConfig()).item()
    assert end != pytest.approx(start, abs=1e-4)
    assert trainer.batch_loss(network, encoder, texts, TrainerConfig()).item() == pytest.approx(end, abs=1e-5)
    assert [type(module) for module in network.modules()] == kinds
    assert network.state_dict().keys() == before.keys()
    assert trained(network) == named(network)
    assert {*vars(network.decoder)} == attributes
    own = {name for name in named(network) if name.startswith(place)}
    changed = {name for name, value in network.named_parameters() if not torch.equal(value, before[name])}
    assert changed & own == linear_weights(network)
    assert changed - own == {name for name in named(network) - own if "pooler" not in name}
    network.backbone.save_pretrained(tmp_path / "model")
    assert not [path.name for path in (tmp_path / "model").iterdir() if "adapter" in path.name]


def test_lora_changes_nothing_before_it_is_trained(loaded: tuple[Network, TextEncoder]) -> None:
    network, _ = loaded
    before = weights(network)
    with tuned(network, "lora-2"):
        pass
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("tuning", ["top-1", "lora-2"])
def test_a_training_that_raises_leaves_the_network_whole(tuning: str, loaded: tuple[Network, TextEncoder]) -> None:
    network, encoder = loaded
    names = list(network.state_dict())
    with pytest.raises(KeyboardInterrupt), tuned(network, tuning):  # noqa: PT012
        step(network, encoder, 1)
        raise KeyboardInterrupt
    assert list(network.state_dict()) == names
    assert trained(network) == named(network)


def test_more_layers_than_there_are_are_refused_with_their_number(
    family: str, loaded: tuple[Network, TextEncoder]
) -> None:
    network, _ = loaded
    layers = 3 if family in (*tiny.COMPOSED, "llama") else 2
    with tuned(network, f"top-{layers}"):
        pass
    with (
        pytest.raises(InputError, match=rf"decoder_tuning: expected at most top-{layers}, .* found {layers + 1}"),
        tuned(network, f"top-{layers + 1}"),
    ):
        pass
    assert trained(network) == named(network)


@pytest.mark.parametrize(
    "tuning", ["", "top", "top-0", "lora-0", "lora", "top-1.5", "lora--2", "TOP-2", "all", "top-01"]
)
def test_a_tuning_that_is_none_is_refused(tuning: str) -> None:
    with pytest.raises(ValidationError, match="decoder_tuning"):
        TrainerConfig(decoder_tuning=tuning)


@pytest.mark.parametrize("tuning", ["top-1", "lora-2"])
@pytest.mark.parametrize("family", ["composed-llama", "llama"])
def test_one_seed_makes_one_model(family: str, tuning: str, backbone_dir: Callable[[str], Path]) -> None:
    def model(seed: int) -> dict[str, Tensor]:
        config = TrainerConfig(epochs=1, batch_size=2, learning_rate=3e-3, conditioning="label", decoder_tuning=tuning)
        network, _ = fit(
            EXAMPLES,
            EXPLANATIONS,
            task=tiny.TASK,
            source=backbone_dir(family),
            config=config,
            seed=seed,
            device=torch.device("cpu"),
            progress=False,
        )
        return weights(network)

    first, second, other = model(0), model(0), model(1)
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert not all(torch.equal(value, other[name]) for name, value in first.items())
