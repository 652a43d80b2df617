"""A causal language model alone: the text read once, in both directions, for its vector and for its explanations."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma2Config, GPT2Config, MistralConfig, PreTrainedConfig

from service.model.decoding import Decoding, beam_search
from service.model.encoding import TextEncoder
from service.model.errors import InputError
from service.model.families import load_network
from service.model.predictor import Predictor
from service.model.prefix import PrefixMemory
from service.model.prefix_lm import PrefixLM, prefix_lm
from service.model.scoring import explanation_score
from tests import tiny
from tests.service.model import plain

TEXTS = ("it works", "i love this camera , and the battery lasts all day long", "no")
EXPLANATIONS = ("the reviewer is happy", "good", "the reviewer complains about the price of the battery")


def test_cls_is_a_token_of_its_own_at_the_first_place(predictor_of: Callable[..., Predictor]) -> None:
    network, encoder = predictor_of("llama").network, predictor_of("llama").encoder
    assert isinstance(network, PrefixLM)
    text = encoder.encode_fields({"text": TEXTS[0]})
    assert text.ids == (encoder.cls_id, *encoder.tokenizer(TEXTS[0])["input_ids"])
    assert text.decoder_ids == ()
    assert encoder.cls_id not in (encoder.eos_id, encoder.pad_id)


@torch.inference_mode()
def test_one_run_makes_states_and_prefix(predictor_of: Callable[..., Predictor]) -> None:
    network, encoder = predictor_of("llama").network, predictor_of("llama").encoder
    runs: list[tuple[int, ...]] = []
    hook = network.encoder.register_forward_hook(lambda _m, _a, out: runs.append(tuple(out.last_hidden_state.shape)))
    memory = network.encode(encoder.inputs([encoder.encode_fields({"text": text}) for text in TEXTS]))
    assert network.remember(memory) is memory
    hook.remove()
    assert isinstance(memory, PrefixMemory)
    assert memory.prefix is not None
    assert torch.equal(memory.prefix.mask, memory.mask)
    assert [tuple(layer.keys.shape) for layer in memory.prefix.cache.layers] == [(3, 2, memory.mask.shape[1], 8)] * 3
    assert runs == [(3, memory.mask.shape[1], 32)]


def over(config: PreTrainedConfig) -> tuple[PrefixLM, TextEncoder]:
    encoder = TextEncoder(tiny.make_tokenizer("llama"), tiny.TASK)
    with torch.random.fork_rng():
        torch.manual_seed(9)
        return prefix_lm(AutoModelForCausalLM.from_config(config), encoder, "cls", "none").eval(), encoder


# 32 tokens of the text, 12 of the cue, 15 of the explanation: its end is not read.
WINDOW = 32 + 12 + 15
GROUPED = {
    "vocab_size": tiny.SIZES["llama"],
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 192,
    "intermediate_size": 32,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "initializer_range": 0.15,
}


@torch.inference_mode()
@pytest.mark.parametrize(
    "config",
    [
        GPT2Config(
            vocab_size=tiny.SIZES["llama"], n_embd=24, n_layer=2, n_head=2, n_positions=WINDOW, initializer_range=0.15
        ),
        Gemma2Config(**GROUPED, query_pre_attn_scalar=8, sliding_window=WINDOW),
        MistralConfig(**GROUPED, sliding_window=WINDOW),
    ],
    ids=lambda config: config.model_type,
)
def test_models_of_other_kinds_read_in_both_directions_and_write_the_plain_numbers(config: PreTrainedConfig) -> None:
    network, encoder = over(config)
    texts = [encoder.encode_fields({"text": text}) for text in (*TEXTS[:2], "a b " * 40)]
    memory = network.encode(encoder.inputs(texts))
    other = network.encode(encoder.inputs([encoder.encode_fields({"text": "it broke"})]))
    assert (memory.h0[0] - other.h0[0]).abs().max() > 1e-3  # at [CLS], before what differs
    explanations = [encoder.encode_explanation(text) for text in (*EXPLANATIONS, EXPLANATIONS[0])]
    batch, owners = encoder.batch(explanations), [0, 2, 1, 0]
    expected = [plain.score(network, texts[o], tokens) for o, tokens in zip(owners, explanations, strict=True)]
    log_probs = network.explanation_log_probs(memory, batch, torch.tensor(owners))
    assert explanation_score(log_probs, batch.mask).tolist() == pytest.approx(expected, abs=1e-5)


def test_what_does_not_fit_a_sliding_window_is_refused_with_the_number() -> None:
    with pytest.raises(InputError, match=f"take {WINDOW} tokens of the decoder, which reads {WINDOW - 1}; lower one"):
        over(MistralConfig(**GROUPED, sliding_window=WINDOW - 1))


def test_an_added_cls_gets_an_embedding_where_the_table_is_full(tmp_path: Path) -> None:
    tokenizer = tiny.make_tokenizer("llama")
    model = tiny.llama(tokenizer)
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    network, encoder = load_network(tmp_path, tiny.TASK, "cls")
    assert encoder.cls_id == len(tokenizer)
    assert network.backbone.get_input_embeddings().num_embeddings == len(tokenizer) + 1
    assert network.backbone.get_output_embeddings().weight is network.backbone.get_input_embeddings().weight
    with torch.inference_mode():
        memory = network.eval().encode(encoder.inputs([encoder.encode_fields({"text": "good"})]))
        assert beam_search(network, memory, Decoding(2, 4)).scores[0] < 0
