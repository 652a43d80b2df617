"""What holds for every family's network: encoder, head, decoder against the plainest way to compute the same."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import RobertaConfig, T5Config

from service.model.decoding import Decoding, beam_search
from service.model.encoding import EncodedText, TextEncoder, pad
from service.model.errors import InputError
from service.model.families import load_network
from service.model.network import Network, check_length, positions
from service.model.predictor import Predictor
from service.model.scoring import explanation_score
from service.model.task import Task
from tests import tiny
from tests.service.model import plain

TEXTS = ("it works", "i love this camera , and the battery lasts all day long", "no")
EXPLANATIONS = ("the reviewer is happy", "good", "the reviewer complains about the price of the battery")
TWO_LABELS = Task.from_dict({**tiny.TASK.to_dict(), "labels": {"no": "bad", "yes": "good"}})


@pytest.fixture
def network(predictor: Predictor) -> Network:
    return predictor.network


@pytest.fixture
def encoder(predictor: Predictor) -> TextEncoder:
    return predictor.encoder


def encoded(encoder: TextEncoder, texts: Sequence[str] = TEXTS) -> list[EncodedText]:
    return [encoder.encode_fields({"text": text}) for text in texts]


# ------------------------------------------------------------------------------------------------------ encoder, head


@torch.inference_mode()
def test_h0_is_the_encoders_state_at_cls(family: str, network: Network, encoder: TextEncoder) -> None:
    text = encoded(encoder)[1]
    memory = network.encode(encoder.inputs([text]))
    inputs = {"input_ids": torch.tensor([text.ids])}
    if family == "llama":  # both directions
        inputs["attention_mask"] = torch.ones(1, 1, len(text.ids), len(text.ids), dtype=torch.bool)
    states = network.encoder(**inputs).last_hidden_state
    assert memory.h0.shape == (1, 32)
    torch.testing.assert_close(memory.h0[0], states[0, 0], atol=1e-5, rtol=0)
    torch.testing.assert_close(memory.states, states, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_every_state_depends_on_the_whole_text(network: Network, encoder: TextEncoder) -> None:
    one, other = (network.encode(encoder.inputs(encoded(encoder, [text]))) for text in ("it is good", "it is bad"))
    assert (one.h0 - other.h0).abs().max() > 1e-3  # at [CLS], which stands before what differs


@torch.inference_mode()
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_a_padded_batch_encodes_each_text_as_if_alone(
    network: Network, encoder: TextEncoder, pooling: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "pooling", pooling)
    texts = encoded(encoder, (*TEXTS, "hm " * 60))
    together = network.encode(encoder.inputs(texts))
    for row, text in enumerate(texts):
        alone = network.encode(encoder.inputs([text]))
        torch.testing.assert_close(together.h0[row], alone.h0[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(together.states[row, : len(text.ids)], alone.states[0], atol=1e-5, rtol=0)


@torch.inference_mode()
def test_mean_pooling_is_the_mean_of_the_texts_own_states(
    network: Network, encoder: TextEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "pooling", "mean")
    texts = encoded(encoder)
    memory = network.encode(encoder.inputs(texts))
    for row, text in enumerate(texts):
        expected = memory.states[row, : len(text.ids)].double().numpy().mean(axis=0)
        np.testing.assert_allclose(memory.h0[row].numpy(), expected, atol=1e-6)


@torch.inference_mode()
def test_what_stands_in_the_padding_changes_nothing(family: str, network: Network, encoder: TextEncoder) -> None:
    batch = encoder.inputs(encoded(encoder))
    other = dataclasses.replace(batch, ids=batch.ids.masked_fill(~batch.mask, 17))
    if batch.decoder is not None:
        read = batch.decoder
        other = dataclasses.replace(other, decoder=dataclasses.replace(read, ids=read.ids.masked_fill(~read.mask, 17)))
    texts, others = network.encode(batch), network.encode(other)
    torch.testing.assert_close(others.h0, texts.h0, atol=1e-6, rtol=0)
    explanations = encoder.batch([encoder.encode_explanation(text) for text in EXPLANATIONS])
    if family != "llama":  # whose decoder has read the text already
        others = dataclasses.replace(others, states=others.states.masked_fill(~others.mask.unsqueeze(-1), 1e4))
    changed = dataclasses.replace(explanations, ids=explanations.ids.masked_fill(~explanations.mask, 17))
    found = explanation_score(network.explanation_log_probs(others, changed), explanations.mask)
    expected = explanation_score(network.explanation_log_probs(texts, explanations), explanations.mask)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_the_logits_are_w_h0_plus_b(network: Network, encoder: TextEncoder) -> None:
    memory = network.encode(encoder.inputs(encoded(encoder)))
    w, b = network.head.weight.double().numpy(), network.head.bias.double().numpy()
    expected = [[sum(w[c] * h0) + b[c] for c in range(3)] for h0 in memory.h0.double().numpy()]
    np.testing.assert_allclose(network.classify(memory).numpy(), expected, atol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize(("task", "c"), [(tiny.TASK, 3), (TWO_LABELS, 2)])
@pytest.mark.parametrize("family", ["bart", "composed-llama", "llama"])
def test_the_head_has_exactly_as_many_outputs_as_the_task_has_labels(
    family: str, backbone_dir: Callable[[str], Path], task: Task, c: int
) -> None:
    network, encoder = load_network(backbone_dir(family), task, "cls")
    assert network.head.weight.shape == (c, 32)
    assert network.classify(network.encode(encoder.inputs(encoded(encoder)))).shape == (3, c)


@torch.inference_mode()
def test_an_untrained_head_has_almost_no_opinion(family: str, backbone_dir: Callable[[str], Path]) -> None:
    network, encoder = load_network(backbone_dir(family), tiny.TASK, "cls")
    network.eval()
    logits = network.classify(network.encode(encoder.inputs(encoded(encoder, ["good"]))))
    assert torch.softmax(logits, dim=-1)[0].tolist() == pytest.approx([1 / 3] * 3, abs=0.15)
    assert not network.head.bias.any()


@torch.inference_mode()
def test_the_logits_are_float32_even_where_the_rest_computes_in_less(
    predictor_of: Callable[..., Predictor],
) -> None:
    network, encoder = predictor_of("bart").network, predictor_of("bart").encoder
    memory = network.encode(encoder.inputs(encoded(encoder, ["good"])))
    exact = network.classify(memory)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = network.classify(memory)
    assert found.dtype == torch.float32
    assert torch.equal(found, exact)


def test_selecting_from_a_memory_repeats_and_reorders_texts(
    predictor_of: Callable[..., Predictor],
) -> None:
    network, encoder = predictor_of("t5").network, predictor_of("t5").encoder
    memory = network.encode(encoder.inputs(encoded(encoder)))
    chosen = memory.select(torch.tensor([2, 0, 2]))
    for part in ("states", "mask", "h0"):
        assert torch.equal(getattr(chosen, part), getattr(memory, part)[[2, 0, 2]])


# ------------------------------------------------------------------------------------------------------------ decoder

# Each text with explanations in different numbers: lengths differ on both sides, owners repeat, ascending.
PAIRS = ((0, 2), (0, 0), (1, 1), (1, 0), (1, 2), (2, 0))
SHUFFLED = (4, 0, 5, 2, 1, 3)


def log_probs_of(
    network: Network, encoder: TextEncoder, pairs: Sequence[tuple[int, int]], labels: list[int] | None, ready: bool
) -> list[list[float]]:
    """log P of each explanation's tokens, each pair a text and an explanation; ready: once the texts have been read."""
    memory = network.encode(encoder.inputs(encoded(encoder)))
    if ready:
        memory = network.remember(memory)
    explanations = [encoder.encode_explanation(EXPLANATIONS[e]) for _, e in pairs]
    owners = torch.tensor([text for text, _ in pairs])
    given = None if labels is None else torch.tensor(labels)
    log_probs = network.explanation_log_probs(memory, encoder.batch(explanations), owners, given)
    assert log_probs.dtype == torch.float32
    return [row[: len(tokens)].tolist() for row, tokens in zip(log_probs, explanations, strict=True)]


def plain_log_probs(
    network: Network, encoder: TextEncoder, pairs: Sequence[tuple[int, int]], labels: list[int] | None
) -> list[list[float]]:
    texts, explanations = encoded(encoder), [encoder.encode_explanation(text) for text in EXPLANATIONS]
    given = labels or [0] * len(pairs)
    return [
        plain.log_probs(network, texts[text], explanations[e], label)
        for (text, e), label in zip(pairs, given, strict=True)
    ]


@torch.inference_mode()
@pytest.mark.parametrize("conditioning", ["none", "label"])
def test_explanation_log_probs_equal_a_decoder_fed_prefix_by_prefix(
    family: str, conditioning: str, predictor_of: Callable[..., Predictor]
) -> None:
    predictor = predictor_of(family, conditioning)
    network, encoder = predictor.network, predictor.encoder
    labels = [2, 0, 1, 1, 0, 2] if conditioning == "label" else None
    expected = plain_log_probs(network, encoder, PAIRS, labels)
    for ready in (False, True):
        found = log_probs_of(network, encoder, PAIRS, labels, ready)
        for row, log_probs in zip(expected, found, strict=True):
            assert log_probs == pytest.approx(row, rel=1e-6, abs=1e-5)
    mixed = [PAIRS[place] for place in SHUFFLED]
    given = None if labels is None else [labels[place] for place in SHUFFLED]
    for place, log_probs in zip(SHUFFLED, log_probs_of(network, encoder, mixed, given, True), strict=True):
        assert log_probs == pytest.approx(expected[place], rel=1e-6, abs=1e-5)


@torch.inference_mode()
def test_a_memory_without_owners_has_one_explanation_a_text(network: Network, encoder: TextEncoder) -> None:
    memory = network.encode(encoder.inputs(encoded(encoder)))
    batch = encoder.batch([encoder.encode_explanation(text) for text in EXPLANATIONS])
    for kept in (memory, network.remember(memory)):
        found = explanation_score(network.explanation_log_probs(kept, batch), batch.mask)
        owned = explanation_score(network.explanation_log_probs(kept, batch, torch.arange(3)), batch.mask)
        assert torch.equal(found, owned)


@torch.inference_mode()
def test_a_text_without_explanations_changes_nothing_for_the_others(network: Network, encoder: TextEncoder) -> None:
    pairs = [pair for pair in PAIRS if pair[0] != 1]
    for ready in (False, True):
        found = log_probs_of(network, encoder, pairs, None, ready)
        for row, log_probs in zip(plain_log_probs(network, encoder, pairs, None), found, strict=True):
            assert log_probs == pytest.approx(row, rel=1e-6, abs=1e-5)


@torch.inference_mode()
def test_log_probs_of_all_next_tokens_are_those_of_one_distribution(network: Network, encoder: TextEncoder) -> None:
    text = encoded(encoder)[0]
    memory = network.remember(network.encode(encoder.inputs([text])))
    distribution = plain.next_log_probs(network, text, [])
    everything = pad([[token] for token in range(len(distribution))], network.pad_id)
    log_probs = network.explanation_log_probs(memory, everything, torch.zeros(len(distribution), dtype=torch.long))
    assert log_probs.exp().sum().item() == pytest.approx(1.0, abs=1e-4)
    torch.testing.assert_close(log_probs[:, 0].double(), distribution, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_the_padding_token_inside_an_explanation_is_a_token_like_any_other(
    network: Network, encoder: TextEncoder
) -> None:
    # An untrained decoder may write it; the search that wrote it did see it, so the score has to. SmolLM2 and GPT-2
    # pad with their end: there it stands inside of nothing that a search returns, and must be told apart all the same.
    text, explanation = encoded(encoder)[0], (20, network.pad_id, 30, 40)
    memory = network.encode(encoder.inputs([text]))
    batch = pad([explanation, (50, 60)], network.pad_id)
    for kept in (memory, network.remember(memory)):
        log_probs = network.explanation_log_probs(kept, batch, torch.tensor([0, 0]))
        assert log_probs[0].tolist() == pytest.approx(plain.log_probs(network, text, explanation), abs=1e-5)
        assert log_probs[1, :2].tolist() == pytest.approx(plain.log_probs(network, text, (50, 60)), abs=1e-5)


def plain_loss(network: Network, encoder: TextEncoder, labels: list[int]) -> Tensor:
    """What test_the_gradients... wants the gradients of, every explanation in a row of its own."""
    texts = encoded(encoder)
    explanations = [encoder.encode_explanation(text) for text in EXPLANATIONS]
    loss = torch.tensor(0.0)
    for weight, ((owner, e), label) in enumerate(zip(PAIRS, labels, strict=True), start=1):
        alone = network.encode(encoder.inputs([texts[owner]]))
        batch = encoder.batch([explanations[e]])
        given = torch.tensor([label]) if network.conditioning == "label" else None
        log_probs = network.explanation_log_probs(network.remember(alone), batch, None, given)
        loss = loss + weight * explanation_score(log_probs, batch.mask).sum()
    logits = [network.classify(network.encode(encoder.inputs([text]))) for text in texts]
    return loss + torch.cat(logits).square().sum()


@pytest.mark.parametrize("conditioning", ["none", "label"])
def test_the_gradients_of_a_batch_are_those_of_each_explanation_alone_and_reach_everything(
    family: str, conditioning: str, backbone_dir: Callable[[str], Path]
) -> None:
    network, encoder = load_network(backbone_dir(family), tiny.TASK, "cls", conditioning)
    network.eval()
    labels = [2, 0, 1, 1, 0, 2]
    plain_loss(network, encoder, labels).backward()
    expected = {name: value.grad for name, value in network.named_parameters()}
    network.zero_grad()
    memory = network.encode(encoder.inputs(encoded(encoder)))
    batch = encoder.batch([encoder.encode_explanation(EXPLANATIONS[e]) for _, e in PAIRS])
    given = torch.tensor(labels) if conditioning == "label" else None
    owners = torch.tensor([text for text, _ in PAIRS])
    scores = explanation_score(network.explanation_log_probs(memory, batch, owners, given), batch.mask)
    ((scores * torch.arange(1, 7)).sum() + network.classify(memory).square().sum()).backward()
    for name, value in network.named_parameters():
        if "pooler" in name:  # BERT's own pooler is not h_0
            continue
        wanted = expected[name]
        assert wanted is not None, name
        assert wanted.abs().max() > 0, name
        assert value.grad is not None, name
        torch.testing.assert_close(value.grad, wanted, atol=1e-5 * max(1.0, wanted.abs().max().item()), rtol=0)


# ------------------------------------------------------------------------------------------------------- conditioning


@torch.inference_mode()
def test_an_explanation_given_another_label_has_another_score(
    family: str, predictor_of: Callable[..., Predictor]
) -> None:
    predictor = predictor_of(family, "label")
    network, encoder = predictor.network, predictor.encoder
    memory = network.remember(network.encode(encoder.inputs(encoded(encoder)[:1])))
    batch = encoder.batch([encoder.encode_explanation(EXPLANATIONS[0])] * 3)
    log_probs = network.explanation_log_probs(memory, batch, torch.zeros(3, dtype=torch.long), torch.tensor([0, 1, 2]))
    scores = explanation_score(log_probs, batch.mask).tolist()
    assert min(abs(one - other) for one, other in [scores[:2], scores[1:], scores[::2]]) > 1e-5


# Words of one token and of many: cues of different lengths.
UNEVEN = Task.from_dict({**tiny.TASK.to_dict(), "labels": {"a": "a", "b": "neither good nor bad", "c": "no good"}})


@torch.inference_mode()
def test_cues_name_the_label_differ_in_length_and_are_never_scored(
    family: str, backbone_dir: Callable[[str], Path]
) -> None:
    network, encoder = load_network(backbone_dir(family), UNEVEN, "cls", "label")
    network.eval()
    assert network.conditioning == "label"
    for cue, words in zip(network.cues, UNEVEN.labels.values(), strict=True):
        assert words in encoder.decode(cue)
    assert len({len(cue) for cue in network.cues}) == 3
    labels = [2, 0, 1, 0, 2, 1]
    expected = plain_log_probs(network, encoder, PAIRS, labels)
    assert [len(row) for row in expected] == [
        len(encoder.encode_explanation(EXPLANATIONS[e])) for _, e in PAIRS
    ]  # the cue's own tokens are not among them
    for ready in (False, True):
        found = log_probs_of(network, encoder, PAIRS, labels, ready)
        for row, log_probs in zip(expected, found, strict=True):
            assert log_probs == pytest.approx(row, rel=1e-6, abs=1e-5)


def test_a_network_that_wants_labels_says_so(family: str, predictor_of: Callable[..., Predictor]) -> None:
    predictor = predictor_of(family, "label")
    network, encoder = predictor.network, predictor.encoder
    memory = network.remember(network.encode(encoder.inputs(encoded(encoder))))
    batch = encoder.batch([encoder.encode_explanation(text) for text in EXPLANATIONS])
    with pytest.raises(ValueError, match="given a label; name one for each"):
        network.explanation_log_probs(memory, batch)


def test_without_conditioning_labels_change_nothing(network: Network, encoder: TextEncoder) -> None:
    assert network.conditioning == "none"
    assert len(network.cues) == 1
    found = (log_probs_of(network, encoder, PAIRS, labels, True) for labels in (None, [2, 0, 1, 1, 0, 2]))
    first, second = found
    assert first == second


# ------------------------------------------------------------------------------------------------------------ lengths


@torch.inference_mode()
@pytest.mark.parametrize("conditioning", ["label"])
def test_the_longest_texts_and_explanations_fit_and_one_token_more_is_refused_with_the_number(
    family: str, conditioning: str, backbone_dir: Callable[[str], Path]
) -> None:
    network, encoder = load_network(backbone_dir(family), tiny.TASK, "cls", conditioning)
    longest = network.decoder_positions
    if family == "t5":  # relative positions
        assert longest is None
        return
    assert longest is not None
    fitting = dataclasses.replace(tiny.TASK, max_explanation_tokens=longest)
    network, encoder = load_network(backbone_dir(family), fitting, "cls", conditioning)
    network.eval()
    text = encoded(encoder, ["a b " * 100])
    tokens = [encoder.encode_explanation("a b " * 100)]
    assert len(tokens[0]) == longest
    labels = [0] if conditioning == "label" else None
    memory = network.remember(network.encode(encoder.inputs(text)))
    assert log_probs_finite(network, memory, tokens, labels)
    assert len(beam_search(network, memory, Decoding(2, longest), labels).tokens[0]) <= longest
    longer = dataclasses.replace(tiny.TASK, max_explanation_tokens=longest + 1)
    with pytest.raises(InputError, match=rf"max_explanation_tokens (is )?{longest + 1}\b.*lower"):
        load_network(backbone_dir(family), longer, "cls", conditioning)


def log_probs_finite(network: Network, memory: object, tokens: list[tuple[int, ...]], labels: list[int] | None) -> bool:
    given = None if labels is None else torch.tensor(labels)
    batch = pad(tokens, network.pad_id)
    return bool(network.explanation_log_probs(memory, batch, None, given).isfinite().all())  # type: ignore[arg-type]


def test_a_text_longer_than_the_encoders_positions_is_refused_with_the_number(
    family: str, backbone_dir: Callable[[str], Path]
) -> None:
    long_input = dataclasses.replace(tiny.TASK, max_input_tokens=65 if family != "llama" else tiny.POSITIONS)
    if family == "t5":
        load_network(backbone_dir(family), long_input, "cls")
        return
    said = "max_input_tokens is 65, but the model has only 64 positions"
    if family == "llama":  # 192 tokens of text, 12 of the cue, 15 of the explanation: all but its end
        said = "max_input_tokens 192 and max_explanation_tokens 16 take 219 tokens of the decoder, which reads 192"
    with pytest.raises(InputError, match=said):
        load_network(backbone_dir(family), long_input, "cls")


def test_positions_are_what_a_family_can_number() -> None:
    assert positions(T5Config()) is None
    assert positions(RobertaConfig(max_position_embeddings=22)) == 20  # it counts from one past the padding's id, 1
    check_length("max_input_tokens", 20, 20)
    check_length("max_input_tokens", 20, None)
    with pytest.raises(InputError, match="max_input_tokens is 21, but the model has only 20 positions; lower it"):
        check_length("max_input_tokens", 21, 20)


# ------------------------------------------------------------------------------------------------------------ loading


def test_one_seed_makes_one_head(family: str, backbone_dir: Callable[[str], Path]) -> None:
    def head(seed: int) -> torch.Tensor:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return load_network(backbone_dir(family), tiny.TASK, "cls")[0].head.weight

    assert torch.equal(head(1), head(1))
    assert not torch.equal(head(1), head(2))
