"""Encoder, head and decoder of every family against the plainest way to compute the same."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForSeq2SeqLM,
    BertConfig,
    BertLMHeadModel,
    BertModel,
    EncoderDecoderModel,
    RobertaConfig,
    RobertaForCausalLM,
    RobertaModel,
    T5Config,
    T5ForConditionalGeneration,
)
from transformers.modeling_outputs import BaseModelOutput

from service.model.encoding import TextEncoder, pad
from service.model.errors import InputError
from service.model.network import Network, build_network, hidden_size, load_network, positions
from service.model.predictor import Predictor
from service.model.scoring import explanation_score
from service.model.task import Task
from tests import tiny

TEXTS = ("it works", "i love this camera , and the battery lasts all day long", "no")
EXPLANATIONS = ("the reviewer is happy", "good", "the reviewer complains about the price of the battery")
TWO_LABELS = Task.from_dict({**tiny.TASK.to_dict(), "labels": {"no": "bad", "yes": "good"}})


@pytest.fixture
def network(predictor: Predictor) -> Network:
    return predictor.network


@pytest.fixture
def encoder(predictor: Predictor) -> TextEncoder:
    return predictor.encoder


def ids_of(encoder: TextEncoder, text: str) -> tuple[int, ...]:
    return encoder.encode_fields({"text": text}).ids


# ------------------------------------------------------------------------------------------------------ encoder, head


@torch.inference_mode()
def test_h0_is_the_encoders_state_at_cls(network: Network, encoder: TextEncoder) -> None:
    ids = ids_of(encoder, TEXTS[1])
    memory = network.encode(encoder.batch([ids]))
    states = network.backbone.get_encoder()(input_ids=torch.tensor([ids])).last_hidden_state
    assert memory.h0.shape == (1, 32)
    torch.testing.assert_close(memory.h0[0], states[0, 0], atol=1e-5, rtol=0)
    torch.testing.assert_close(memory.states, states, atol=1e-5, rtol=0)


@torch.inference_mode()
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_a_padded_batch_encodes_each_text_as_if_alone(network: Network, encoder: TextEncoder, pooling: str) -> None:
    pooled = Network(network.backbone, 3, pooling, network.start_id, network.eos_id, network.pad_id)
    sequences = [ids_of(encoder, text) for text in (*TEXTS, "hm " * 60)]
    together = pooled.encode(encoder.batch(sequences))
    for row, ids in enumerate(sequences):
        alone = pooled.encode(encoder.batch([ids]))
        torch.testing.assert_close(together.h0[row], alone.h0[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(together.states[row, : len(ids)], alone.states[0], atol=1e-5, rtol=0)


@torch.inference_mode()
def test_mean_pooling_is_the_mean_of_the_texts_own_states(network: Network, encoder: TextEncoder) -> None:
    pooled = Network(network.backbone, 3, "mean", network.start_id, network.eos_id, network.pad_id)
    sequences = [ids_of(encoder, text) for text in TEXTS]
    memory = pooled.encode(encoder.batch(sequences))
    for row, ids in enumerate(sequences):
        expected = memory.states[row, : len(ids)].double().numpy().mean(axis=0)
        np.testing.assert_allclose(memory.h0[row].numpy(), expected, atol=1e-6)


@torch.inference_mode()
def test_what_stands_in_the_padding_changes_nothing(network: Network, encoder: TextEncoder) -> None:
    batch = encoder.batch([ids_of(encoder, text) for text in TEXTS])
    other = dataclasses.replace(batch, ids=batch.ids.masked_fill(~batch.mask, 17))
    texts, others = network.encode(batch), network.encode(other)
    torch.testing.assert_close(others.h0, texts.h0, atol=1e-6, rtol=0)
    explanations = encoder.batch([encoder.encode_explanation(text) for text in EXPLANATIONS])
    absurd = dataclasses.replace(texts, states=texts.states.masked_fill(~texts.mask.unsqueeze(-1), 1e4))
    changed = dataclasses.replace(explanations, ids=explanations.ids.masked_fill(~explanations.mask, 17))
    found = explanation_score(network.explanation_log_probs(absurd, changed), explanations.mask)
    expected = explanation_score(network.explanation_log_probs(texts, explanations), explanations.mask)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_the_logits_are_w_h0_plus_b(network: Network, encoder: TextEncoder) -> None:
    memory = network.encode(encoder.batch([ids_of(encoder, text) for text in TEXTS]))
    w, b = network.head.weight.double().numpy(), network.head.bias.double().numpy()
    expected = [[sum(w[c] * h0) + b[c] for c in range(3)] for h0 in memory.h0.double().numpy()]
    np.testing.assert_allclose(network.classify(memory).numpy(), expected, atol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize(("task", "c"), [(tiny.TASK, 3), (TWO_LABELS, 2)])
def test_the_head_has_exactly_as_many_outputs_as_the_task_has_labels(
    predictor_of: Callable[[str], Predictor], task: Task, c: int
) -> None:
    loaded = predictor_of("bart")
    encoder = TextEncoder(loaded.encoder.tokenizer, task)
    network = build_network(loaded.network.backbone, encoder, "cls")
    assert network.head.weight.shape == (c, 32)
    assert network.classify(network.encode(encoder.batch([ids_of(encoder, "good")]))).shape == (1, c)


@torch.inference_mode()
def test_an_untrained_head_has_almost_no_opinion(family: str, backbone_dir: Callable[[str], Path]) -> None:
    network, encoder = load_network(backbone_dir(family), tiny.TASK, "cls")
    network.eval()
    logits = network.classify(network.encode(encoder.batch([ids_of(encoder, "good")])))
    assert torch.softmax(logits, dim=-1)[0].tolist() == pytest.approx([1 / 3] * 3, abs=0.15)
    assert not network.head.bias.any()


@torch.inference_mode()
def test_the_logits_are_float32_even_where_the_rest_computes_in_less(
    predictor_of: Callable[[str], Predictor],
) -> None:
    network, encoder = predictor_of("bart").network, predictor_of("bart").encoder
    memory = network.encode(encoder.batch([ids_of(encoder, "good")]))
    exact = network.classify(memory)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = network.classify(memory)
    assert found.dtype == torch.float32
    assert torch.equal(found, exact)


def test_selecting_from_a_memory_repeats_and_reorders_texts(
    predictor_of: Callable[[str], Predictor],
) -> None:
    network, encoder = predictor_of("t5").network, predictor_of("t5").encoder
    memory = network.encode(encoder.batch([ids_of(encoder, text) for text in TEXTS]))
    chosen = memory.select(torch.tensor([2, 0, 2]))
    for part in ("states", "mask", "h0"):
        assert torch.equal(getattr(chosen, part), getattr(memory, part)[[2, 0, 2]])


# ------------------------------------------------------------------------------------------------------------ decoder


def step_by_step(network: Network, ids: tuple[int, ...], explanation: tuple[int, ...]) -> list[float]:
    """log P of each token, the decoder fed one prefix after the other, nothing padded, the text encoded anew."""
    log_probs = []
    for t, token in enumerate(explanation):
        logits = network.backbone(
            input_ids=torch.tensor([ids]),
            decoder_input_ids=torch.tensor([[network.start_id, *explanation[:t]]]),
        ).logits[0, -1]
        log_probs.append(torch.log_softmax(logits.double(), dim=-1)[token].item())
    return log_probs


@torch.inference_mode()
def test_explanation_log_probs_equal_a_decoder_fed_prefix_by_prefix(network: Network, encoder: TextEncoder) -> None:
    sequences = [ids_of(encoder, text) for text in TEXTS]
    explanations = [encoder.encode_explanation(text) for text in EXPLANATIONS]
    memory = network.encode(encoder.batch(sequences))
    # Each text with each explanation: different lengths on both sides, texts repeated out of order.
    pairs = [(2, 0), (0, 2), (1, 1), (0, 0), (2, 2), (1, 0)]
    batch = encoder.batch([explanations[e] for _, e in pairs])
    log_probs = network.explanation_log_probs(memory.select(torch.tensor([text for text, _ in pairs])), batch)
    scores = explanation_score(log_probs, batch.mask)
    for row, (text, e) in enumerate(pairs):
        expected = step_by_step(network, sequences[text], explanations[e])
        assert log_probs[row, : len(expected)].tolist() == pytest.approx(expected, abs=2e-5)
        assert scores[row].item() == pytest.approx(sum(expected) / len(expected), abs=2e-5)


@torch.inference_mode()
def test_log_probs_of_all_next_tokens_are_those_of_one_distribution(network: Network, encoder: TextEncoder) -> None:
    memory = network.encode(encoder.batch([ids_of(encoder, TEXTS[0])]))
    everything = pad([[token] for token in range(tiny.VOCABULARY)], network.pad_id)
    log_probs = network.explanation_log_probs(memory.select(torch.zeros(tiny.VOCABULARY, dtype=torch.long)), everything)
    assert log_probs.exp().sum().item() == pytest.approx(1.0, abs=1e-4)


@torch.inference_mode()
def test_the_padding_token_inside_an_explanation_is_a_token_like_any_other(
    network: Network, encoder: TextEncoder
) -> None:
    # An untrained decoder may write it; the search that wrote it did see it, so the score has to.
    ids = ids_of(encoder, TEXTS[0])
    explanation = (20, network.pad_id, 30, 40)
    memory = network.encode(encoder.batch([ids]))
    log_probs = network.explanation_log_probs(memory, pad([explanation], network.pad_id))
    seen = network.backbone(
        encoder_outputs=BaseModelOutput(last_hidden_state=memory.states),
        attention_mask=memory.mask.long(),
        decoder_input_ids=torch.tensor([[network.start_id, *explanation[:-1]]]),
        decoder_attention_mask=torch.ones(1, 4, dtype=torch.long),
    ).logits
    expected = torch.log_softmax(seen, dim=-1)[0, range(4), explanation]
    torch.testing.assert_close(log_probs[0], expected, atol=2e-5, rtol=0)


def test_the_ranking_reaches_encoder_decoder_and_head(family: str, backbone_dir: Callable[[str], Path]) -> None:
    network, encoder = load_network(backbone_dir(family), tiny.TASK, "cls")
    memory = network.encode(encoder.batch([ids_of(encoder, text) for text in TEXTS]))
    batch = encoder.batch([encoder.encode_explanation(text) for text in EXPLANATIONS])
    scores = explanation_score(network.explanation_log_probs(memory, batch), batch.mask)
    (scores.sum() + network.classify(memory).square().sum()).backward()
    without = [name for name, value in network.named_parameters() if value.grad is None]
    assert [name for name in without if "pooler" not in name] == []  # BERT's own pooler is not h_0
    assert all(value.grad.isfinite().all() for value in network.parameters() if value.grad is not None)


# ------------------------------------------------------------------------------------------------------------ loading


def test_the_start_token_is_the_checkpoints_or_else_cls(family: str, network: Network, encoder: TextEncoder) -> None:
    words = {"t5": "<pad>", "bart": "</s>", "bert2bert": "[CLS]", "t5gemma": "<bos>"}
    ends = {"t5": "</s>", "bart": "</s>", "bert2bert": "[SEP]", "t5gemma": "<eos>"}
    assert encoder.tokenizer.convert_ids_to_tokens(network.start_id) == words[family]
    assert encoder.tokenizer.convert_ids_to_tokens(network.eos_id) == ends[family]


def test_one_seed_makes_one_head(backbone_dir: Callable[[str], Path]) -> None:
    def head(seed: int) -> torch.Tensor:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return load_network(backbone_dir("t5"), tiny.TASK, "cls")[0].head.weight

    assert torch.equal(head(1), head(1))
    assert not torch.equal(head(1), head(2))


def test_an_added_cls_gets_an_embedding_where_the_table_is_full(tmp_path: Path) -> None:
    tokenizer = tiny.make_tokenizer("t5")
    full = len(tokenizer)
    config = T5Config(vocab_size=full, d_model=16, d_kv=4, d_ff=16, num_layers=1, num_heads=2, decoder_start_token_id=0)
    T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    network, encoder = load_network(tmp_path, tiny.TASK, "cls")
    assert encoder.cls_id == full
    assert network.backbone.get_input_embeddings().num_embeddings == full + 1
    memory = network.encode(encoder.batch([ids_of(encoder, "good")]))
    log_probs = network.explanation_log_probs(memory, encoder.batch([encoder.encode_explanation("good")]))
    assert log_probs.isfinite().all()


def test_the_width_is_the_encoders_where_encoder_and_decoder_differ() -> None:
    shape = {"vocab_size": 50, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    encoder = BertModel(BertConfig(hidden_size=16, **shape))
    decoder = BertLMHeadModel(BertConfig(hidden_size=8, is_decoder=True, add_cross_attention=True, **shape))
    assert hidden_size(EncoderDecoderModel(encoder=encoder, decoder=decoder)) == 16


def test_a_task_longer_than_the_positions_is_refused_with_the_number(
    family: str, backbone_dir: Callable[[str], Path]
) -> None:
    long_input = dataclasses.replace(tiny.TASK, max_input_tokens=65)
    long_explanation = dataclasses.replace(tiny.TASK, max_explanation_tokens=65)
    if family == "t5":  # relative positions
        load_network(backbone_dir(family), long_input, "cls")
        return
    with pytest.raises(InputError, match="max_input_tokens is 65, but the model has only 64 positions"):
        load_network(backbone_dir(family), long_input, "cls")
    with pytest.raises(InputError, match="max_explanation_tokens is 65, but the model has only 64 positions"):
        load_network(backbone_dir(family), long_explanation, "cls")


@torch.inference_mode()
def test_robertas_positions_begin_behind_the_padding() -> None:
    # 22 rows of positions, pad id 1: row 0 unused, row 1 the padding's, 20 for tokens.
    config = RobertaConfig(
        vocab_size=30,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        max_position_embeddings=22,
    )
    decoder_config = RobertaConfig(**{**config.to_dict(), "is_decoder": True, "add_cross_attention": True})
    assert positions(config) == 20
    model = EncoderDecoderModel(encoder=RobertaModel(config), decoder=RobertaForCausalLM(decoder_config)).eval()
    assert model.get_encoder()(input_ids=torch.full((1, 20), 5)).last_hidden_state.shape == (1, 20, 8)
    with pytest.raises((IndexError, RuntimeError)):
        model.get_encoder()(input_ids=torch.full((1, 21), 5))


def encoder_only(directory: Path) -> None:
    BertModel(BertConfig(vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2)).save_pretrained(
        directory
    )


def pickled(directory: Path) -> None:
    (directory / "model.safetensors").unlink()
    torch.save({}, directory / "pytorch_model.bin")


def cut_off(directory: Path) -> None:
    whole = (directory / "model.safetensors").read_bytes()
    (directory / "model.safetensors").write_bytes(whole[:5000])


def bringing_code(directory: Path) -> None:
    config = json.loads((directory / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.C", "AutoModelForSeq2SeqLM": "evil.M"}}
    (directory / "config.json").write_text(json.dumps(config))
    (directory / "evil.py").write_text("raise SystemExit('this code must not run')")


@pytest.mark.parametrize("spoil", [shutil.rmtree, encoder_only, pickled, cut_off, bringing_code])
def test_a_source_that_is_no_safe_encoder_decoder_is_refused_in_one_line(
    backbone_dir: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[Path], None],
) -> None:
    monkeypatch.setattr("builtins.input", lambda _prompt="": "y")  # transformers would ask whether to run its code
    source = shutil.copytree(backbone_dir("t5"), tmp_path / "source")
    spoil(source)
    with pytest.raises(InputError, match="expected a transformers encoder-decoder with safetensors weights") as raised:
        load_network(source, tiny.TASK, "cls")
    assert str(source) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_the_backbones_weights_are_not_changed_by_loading(family: str, backbone_dir: Callable[[str], Path]) -> None:
    network, _ = load_network(backbone_dir(family), tiny.TASK, "cls")
    plain = AutoModelForSeq2SeqLM.from_pretrained(backbone_dir(family))
    for (name, ours), theirs in zip(network.backbone.state_dict().items(), plain.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), name
