"""One round's training: what is learned, from which texts, and that batching changes nothing."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from service.model.encoding import TextEncoder
from service.model.errors import InputError, XalError
from service.model.families import load_network
from service.model.network import Conditioning, Network
from service.model.scoring import explanation_score
from tests import tiny
from tests.service.model import plain
from training import trainer
from training.data import Example
from training.losses import total_loss
from training.trainer import TrainerConfig, accumulate_gradients, batch_loss, fit

LABELS = tiny.TASK.label_ids
TEXTS = ["good", "bad and very much longer than the other one, broken on the second day", "it has a plug", "great"]
EXAMPLES = [Example(str(i), {"text": text}, LABELS[i % 3], None) for i, text in enumerate(TEXTS)]
EXPLANATIONS = {
    e.id: {label: f"the writer says {label} {'indeed ' * i}" for label in LABELS} for i, e in enumerate(EXAMPLES)
}
CPU = torch.device("cpu")


@pytest.fixture(params=["none", "label"])
def conditioning(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=tiny.FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def network(
    family: str, conditioning: Conditioning, backbone_dir: Callable[[str], Path]
) -> tuple[Network, TextEncoder]:
    torch.manual_seed(3)
    loaded, encoder = load_network(backbone_dir(family), tiny.TASK, "mean", conditioning)
    return loaded.eval(), encoder  # no dropout: gradients can be compared


def tokens(encoder: TextEncoder) -> list[trainer.TrainingText]:
    return [trainer._tokens(example, EXPLANATIONS, encoder) for example in EXAMPLES]


def gradients(network: Network) -> list[Tensor]:
    found = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in network.parameters()]
    network.zero_grad()
    return found


def test_explanations_are_ordered_with_the_gold_labels_first(network: tuple[Network, TextEncoder]) -> None:
    _, encoder = network
    for example, text in zip(EXAMPLES, tokens(encoder), strict=True):
        gold = encoder.encode_explanation(EXPLANATIONS[example.id][str(example.label)])
        assert text.explanations[0] == gold
        assert len(text.explanations) == len(set(text.explanations)) == 3
        assert text.label == LABELS.index(str(example.label))


def test_the_loss_of_a_packed_batch_is_that_of_its_texts_one_by_one(network: tuple[Network, TextEncoder]) -> None:
    model, encoder = network
    config = TrainerConfig(lambda1=0.7, lambda2=0.4)
    texts = tokens(encoder)
    logits, scores = [], []
    with torch.no_grad():
        packed = batch_loss(model, encoder, texts, config)
        for text in texts:
            logits.append(model.classify(model.encode(encoder.inputs([text.text]))))
            pairs = zip(text.explanations, text.candidates, strict=True)
            scores.append(torch.tensor([plain.score(model, text.text, tokens, label) for tokens, label in pairs]))
        labels = torch.tensor([text.label for text in texts])
        alone = total_loss(torch.cat(logits), labels, torch.stack(scores), 0.7, 0.4, model.conditioning)
    assert packed.item() == pytest.approx(alone.item(), abs=1e-5)


def test_each_explanation_is_given_the_label_that_it_was_written_for(
    network: tuple[Network, TextEncoder], conditioning: str
) -> None:
    _, encoder = network
    for example, text in zip(EXAMPLES, tokens(encoder), strict=True):
        for candidate, explanation in zip(text.candidates, text.explanations, strict=True):
            written = EXPLANATIONS[example.id][LABELS[candidate]]
            assert explanation == encoder.encode_explanation(written)
        assert text.candidates[0] == text.label
    assert network[0].conditioning == conditioning


@pytest.mark.parametrize("conditioning", ["label"])
@pytest.mark.parametrize("micro_batch_size", [1, 3])
def test_accumulated_gradients_are_those_of_the_whole_batch(
    network: tuple[Network, TextEncoder], micro_batch_size: int
) -> None:
    model, encoder = network
    texts = tokens(encoder)
    exact = {"lambda2": 0.5, "precision": "float32"}
    whole = accumulate_gradients(model, encoder, texts, TrainerConfig(micro_batch_size=8, **exact))
    expected = gradients(model)
    parts = accumulate_gradients(model, encoder, texts, TrainerConfig(micro_batch_size=micro_batch_size, **exact))
    assert parts == pytest.approx(whole, abs=1e-5)
    for found, wanted in zip(gradients(model), expected, strict=True):
        assert torch.allclose(found, wanted, atol=1e-5)


def test_each_text_is_encoded_once_for_head_and_all_explanations(
    family: str, network: tuple[Network, TextEncoder]
) -> None:
    model, encoder = network
    rows = []
    hook = model.encoder.register_forward_hook(lambda _m, _a, out: rows.append(len(out[0])))
    batch_loss(model, encoder, tokens(encoder), TrainerConfig())
    hook.remove()
    written = [3 * len(EXAMPLES)] if family == "llama" else []  # whose encoder writes, too: behind the texts' cache
    assert rows == [len(EXAMPLES), *written]


@pytest.mark.parametrize("conditioning", ["label"])
@pytest.mark.parametrize("family", [*tiny.COMPOSED, "llama"])
def test_the_explanation_losses_reach_encoder_bridge_and_decoder(network: tuple[Network, TextEncoder]) -> None:
    model, encoder = network
    texts = tokens(encoder)
    flat = encoder.batch([text.explanations[0] for text in texts])
    given = torch.tensor([text.label for text in texts])
    memory = model.encode(encoder.inputs([text.text for text in texts]))
    scores = explanation_score(model.explanation_log_probs(memory, flat, torch.arange(len(texts)), given), flat.mask)
    scores.sum().backward()  # L_gen alone, without the head
    for name, parameter in model.named_parameters():
        if name.startswith("head.") or "pooler" in name:
            assert parameter.grad is None
        else:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name


def fit_tiny(
    backbone: Path, explanations: dict[str, dict[str, str]] | None, seed: int = 0, **config: object
) -> Network:
    settings = {"epochs": 2, "batch_size": 2, "learning_rate": 3e-3, **config}
    network, _ = fit(
        EXAMPLES,
        explanations,
        task=tiny.TASK,
        source=backbone,
        config=TrainerConfig.model_validate(settings),
        seed=seed,
        device=CPU,
        progress=False,
    )
    return network


def same(one: Network, other: Network) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_a_seed_repeats_a_training_whatever_the_global_generator_does(backbone_dir: Callable[[str], Path]) -> None:
    backbone = backbone_dir("bart")
    first = fit_tiny(backbone, EXPLANATIONS)
    torch.rand(10)
    state = torch.get_rng_state()
    second = fit_tiny(backbone, EXPLANATIONS)
    assert same(first, second)
    assert torch.equal(state, torch.get_rng_state())  # and leaves that generator alone
    assert not same(first, fit_tiny(backbone, EXPLANATIONS, seed=1))


def test_without_explanations_the_decoder_stays_as_it_was(backbone_dir: Callable[[str], Path]) -> None:
    trained = fit_tiny(backbone_dir("bert2bert"), None).backbone
    before, _ = load_network(backbone_dir("bert2bert"), tiny.TASK, "cls")
    decoders = zip(trained.decoder.parameters(), before.backbone.decoder.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in decoders)
    encoders = zip(trained.encoder.parameters(), before.backbone.encoder.parameters(), strict=True)
    assert not all(torch.equal(a, b) for a, b in encoders)


@pytest.mark.parametrize(("family", "conditioning"), [("bart", "none"), ("composed-llama", "label"), ("llama", "none")])
def test_training_learns_labels_and_explanations(
    family: str, conditioning: Conditioning, backbone_dir: Callable[[str], Path]
) -> None:
    def loss(network: Network) -> float:
        with torch.no_grad():
            return batch_loss(network, encoder, tokens(encoder), TrainerConfig(lambda1=1)).item()

    _, encoder = load_network(backbone_dir(family), tiny.TASK, "cls")
    short = fit_tiny(backbone_dir(family), EXPLANATIONS, epochs=1, lambda1=1, conditioning=conditioning)
    long = fit_tiny(backbone_dir(family), EXPLANATIONS, epochs=40, lambda1=1, conditioning=conditioning)
    assert loss(long) < 0.3 * loss(short)


def test_each_part_trains_at_its_own_rate(backbone_dir: Callable[[str], Path]) -> None:
    model, _ = load_network(backbone_dir("t5"), tiny.TASK, "cls")
    config = TrainerConfig(learning_rate=1e-4, decoder_learning_rate=5e-4, head_learning_rate=1e-2)
    groups = trainer._parameter_groups(model, config)
    assert [group["lr"] for group in groups] == [1e-4, 5e-4, 1e-2]
    counts = [sum(p.numel() for p in group["params"]) for group in groups]  # type: ignore[attr-defined]
    assert sum(counts) == sum(p.numel() for p in model.parameters())
    assert counts[2] == 32 * 3 + 3


def test_the_bridge_trains_at_the_decoders_rate_and_a_prefix_lm_at_the_encoders(
    backbone_dir: Callable[[str], Path],
) -> None:
    config = TrainerConfig(learning_rate=1e-4, decoder_learning_rate=5e-4)
    model, _ = load_network(backbone_dir("composed-llama"), tiny.TASK, "cls")
    encoder, decoder, _ = (group["params"] for group in trainer._parameter_groups(model, config))
    assert {id(p) for p in encoder} == {id(p) for p in model.encoder.parameters()}  # type: ignore[attr-defined]
    beside = [*model.decoder.parameters(), *model.backbone.bridge.parameters()]
    assert {id(p) for p in decoder} == {id(p) for p in beside}  # type: ignore[attr-defined]
    alone, _ = load_network(backbone_dir("llama"), tiny.TASK, "cls")
    counts = [len(group["params"]) for group in trainer._parameter_groups(alone, config)]  # type: ignore[arg-type]
    assert counts == [len([*alone.backbone.parameters()]), 0, 2]


def test_a_diverging_training_says_what_to_do(backbone_dir: Callable[[str], Path]) -> None:
    with pytest.raises(XalError, match="lower the learning rate"):
        fit_tiny(backbone_dir("t5"), EXPLANATIONS, epochs=30, learning_rate=1e30, max_gradient_norm=1e30)


def test_a_text_without_a_label_cannot_be_trained_on(backbone_dir: Callable[[str], Path]) -> None:
    with pytest.raises(InputError, match="'7': expected a label"):
        fit(
            [Example("7", {"text": "good"}, None, None)],
            None,
            task=tiny.TASK,
            source=backbone_dir("t5"),
            config=TrainerConfig(),
            seed=0,
            device=CPU,
            progress=False,
        )
