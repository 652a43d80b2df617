"""The composed family: its rows, its packing, its bridge, and how it is made, saved and loaded."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    MistralConfig,
    OPTConfig,
    PreTrainedConfig,
)

from service.model.composed import Composed, ComposedModel, branch_mask, composed, pack
from service.model.decoding import Decoding, beam_search
from service.model.encoding import TextEncoder
from service.model.errors import InputError
from service.model.families import load_network
from service.model.network import Network
from service.model.predictor import Predictor
from service.model.prefix import PrefixMemory
from service.model.scoring import explanation_score
from tests import tiny
from tests.service.model import plain

TEXTS = ("it works", "i love this camera , and the battery lasts all day long", "no")
EXPLANATIONS = ("the reviewer is happy", "good", "the reviewer complains about the price of the battery")
BOTH = pytest.mark.parametrize("family", tiny.COMPOSED)


def memory_of(network: Network, encoder: TextEncoder) -> PrefixMemory:
    memory = network.encode(encoder.inputs([encoder.encode_fields({"text": text}) for text in TEXTS]))
    assert isinstance(memory, PrefixMemory)
    return memory


# ---------------------------------------------------------------------------------------------------------------- rows


@pytest.mark.parametrize(("family", "start"), [("composed-llama", "<|im_start|>"), ("composed-gpt2", "<|endoftext|>")])
def test_the_decoders_row_is_start_soft_prefix_text_cue(
    predictor_of: Callable[..., Predictor], family: str, start: str
) -> None:
    network, encoder = predictor_of(family).network, predictor_of(family).encoder
    assert isinstance(network, Composed)
    decoder = encoder.decoder_tokenizer
    assert decoder is not None
    assert network.opening == (decoder.convert_tokens_to_ids(start),)
    memory = memory_of(network, encoder)
    embeddings, mask = network._prefix(memory)
    table = network.decoder.get_input_embeddings().weight
    assert torch.equal(embeddings[:, 0], table[network.opening[0]].expand(3, -1))
    source = memory.mask.shape[1]
    assert torch.equal(embeddings[:, 1 + source :], table[memory.text.ids])
    assert mask.tolist() == [
        [True, *own, *read] for own, read in zip(memory.mask.tolist(), memory.text.mask.tolist(), strict=True)
    ]
    for row, text in enumerate(TEXTS):
        ids = decoder(text, add_special_tokens=False)["input_ids"]
        assert memory.text.ids[row, : len(ids)].tolist() == ids
        assert memory.text.mask[row].sum() == len(ids)
    assert decoder.decode(network.cues[0]) == "\nExplain the reason.\n"
    labelled = predictor_of(family, "label").network
    assert [decoder.decode(cue) for cue in labelled.cues] == [
        f"\nThe sentiment of this review is {word}, explain the reason within 30 words.\n"
        for word in ("negative", "neutral", "positive")
    ]


@BOTH
def test_the_soft_prefix_reaches_the_scores_and_so_does_the_text(
    predictor_of: Callable[..., Predictor], family: str
) -> None:
    network, encoder = predictor_of(family).network, predictor_of(family).encoder
    one, other = (encoder.encode_fields({"text": text}) for text in TEXTS[::2])
    tokens = encoder.encode_explanation(EXPLANATIONS[0])
    mixed = [one, type(one)(one.ids, False, other.decoder_ids), type(one)(other.ids, False, one.decoder_ids)]
    with torch.inference_mode():
        memory = network.encode(encoder.inputs(mixed))
        batch = encoder.batch([tokens] * 3)
        scores = explanation_score(network.explanation_log_probs(memory, batch), batch.mask).tolist()
    assert abs(scores[0] - scores[1]) > 1e-3
    assert abs(scores[0] - scores[2]) > 1e-3


def test_a_batch_without_the_decoders_tokens_is_refused(predictor_of: Callable[..., Predictor]) -> None:
    network, encoder = predictor_of("composed-llama").network, predictor_of("composed-llama").encoder
    with pytest.raises(ValueError, match=r"make the batch with TextEncoder\.inputs"):
        network.encode(encoder.batch([(1, 2)]))


@torch.inference_mode()
def test_without_an_opening_the_soft_prefix_stands_first(
    predictor_of: Callable[..., Predictor], monkeypatch: pytest.MonkeyPatch
) -> None:
    # As Qwen2's tokenizer, which has none.
    network, encoder = predictor_of("composed-llama").network, predictor_of("composed-llama").encoder
    monkeypatch.setattr(network, "opening", ())
    text, tokens = encoder.encode_fields({"text": TEXTS[1]}), encoder.encode_explanation(EXPLANATIONS[0])
    expected = plain.score(network, text, tokens)
    memory, batch = memory_of(network, encoder), encoder.batch([tokens])
    for kept in (memory, network.remember(memory)):
        found = explanation_score(network.explanation_log_probs(kept, batch, torch.tensor([1])), batch.mask)
        assert found.item() == pytest.approx(expected, abs=1e-5)


# -------------------------------------------------------------------------------------------------------------- packing


def test_branches_of_one_text_stand_one_behind_the_other() -> None:
    # Text 0 has branches of 2 and 1 tokens, text 1 none, text 2 one of 3.
    mask = torch.tensor([[True, True, False], [True, False, False], [True, True, True]])
    row, place, own = pack(mask, torch.tensor([0, 0, 2]), batch=3)
    assert row.tolist() == [0, 0, 0, 2, 2, 2]
    assert place.tolist() == [0, 1, 2, 0, 1, 2]
    assert own.tolist() == [[0, 0, 1], [-1, -1, -1], [2, 2, 2]]
    # What is packed need not begin a branch.
    row, place, own = pack(mask & torch.tensor([False, True, True]), torch.tensor([0, 0, 2]), batch=3)
    assert (row.tolist(), place.tolist(), own.tolist()) == ([0, 2, 2], [0, 0, 1], [[0, -1], [-1, -1], [2, 2]])


def test_a_branch_sees_the_prefix_and_itself_and_padding_is_seen_by_nobody_else() -> None:
    prefix = torch.tensor([[True, False, True]])
    # Branch 0 has its second token behind branch 1, whose place in the row says nothing.
    own = torch.tensor([[0, 1, 0, -1]])
    numbers = torch.tensor([[0, 0, 1, 2, 2, 3, 0]])
    visible = branch_mask(prefix, own, numbers)
    assert visible.shape == (1, 1, 7, 7)
    assert visible[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0],  # padding; what it sees is seen by none
        [1, 0, 1, 0, 0, 0, 0],
        [1, 0, 1, 1, 0, 0, 0],
        [1, 0, 1, 0, 1, 0, 0],
        [1, 0, 1, 1, 0, 1, 0],
        [1, 0, 0, 0, 0, 0, 1],  # padding too
    ]


@BOTH
def test_packed_explanations_take_one_row_a_text(predictor_of: Callable[..., Predictor], family: str) -> None:
    network, encoder = predictor_of(family).network, predictor_of(family).encoder
    memory = memory_of(network, encoder)
    batch = encoder.batch([encoder.encode_explanation(text) for text in EXPLANATIONS * 2])
    seen: list[tuple[int, ...]] = []
    hook = network.decoder.register_forward_hook(lambda _m, _a, out: seen.append(tuple(out.logits.shape)))
    network.explanation_log_probs(memory, batch, torch.tensor([0, 0, 0, 1, 1, 2]))
    hook.remove()
    longest = sum(len(encoder.encode_explanation(text)) for text in EXPLANATIONS)
    assert seen == [(3, longest, network.decoder.config.vocab_size)]  # logits of explanations, not of texts and cues


# ------------------------------------------------------------------------------------------------------------ selecting


@BOTH
@torch.inference_mode()
def test_selecting_from_a_memory_takes_text_keys_and_values_along(
    predictor_of: Callable[..., Predictor], family: str
) -> None:
    network, encoder = predictor_of(family).network, predictor_of(family).encoder
    read = network.remember(memory_of(network, encoder))
    assert network.remember(read) is read  # once is enough
    rows = [2, 0, 2]
    chosen = read.select(torch.tensor(rows))
    assert isinstance(read, PrefixMemory)
    assert isinstance(chosen, PrefixMemory)
    assert read.prefix is not None
    assert chosen.prefix is not None
    for part in ("states", "mask", "h0"):
        assert torch.equal(getattr(chosen, part), getattr(read, part)[rows])
    assert torch.equal(chosen.text.ids, read.text.ids[rows])
    assert torch.equal(chosen.prefix.mask, read.prefix.mask[rows])
    assert len(chosen.prefix.cache.layers) == len(read.prefix.cache.layers) == 3
    for new, old in zip(chosen.prefix.cache.layers, read.prefix.cache.layers, strict=True):
        assert torch.equal(new.keys, old.keys[rows])
        assert torch.equal(new.values, old.values[rows])
    batch = encoder.batch([encoder.encode_explanation(text) for text in EXPLANATIONS])
    own = explanation_score(network.explanation_log_probs(chosen, batch), batch.mask)
    owned = explanation_score(network.explanation_log_probs(read, batch, torch.tensor(rows)), batch.mask)
    torch.testing.assert_close(own, owned, atol=1e-6, rtol=0)


@torch.inference_mode()
def test_scoring_and_searching_leave_a_memory_as_it_was(predictor_of: Callable[..., Predictor]) -> None:
    network, encoder = predictor_of("composed-gpt2").network, predictor_of("composed-gpt2").encoder
    memory = network.remember(memory_of(network, encoder))
    assert isinstance(memory, PrefixMemory)
    assert memory.prefix is not None
    before = [(layer.keys.clone(), layer.values.clone()) for layer in memory.prefix.cache.layers]
    batch = encoder.batch([encoder.encode_explanation(text) for text in EXPLANATIONS])
    first = network.explanation_log_probs(memory, batch)
    found = beam_search(network, memory, Decoding(3, 6))
    assert beam_search(network, memory, Decoding(3, 6)) == found
    assert torch.equal(network.explanation_log_probs(memory, batch), first)
    for layer, (keys, values) in zip(memory.prefix.cache.layers, before, strict=True):
        assert torch.equal(layer.keys, keys)
        assert torch.equal(layer.values, values)


# ------------------------------------------------------------------------------------------- decoders of other kinds


def over(config: PreTrainedConfig) -> tuple[Composed, TextEncoder]:
    own, decoders_own = tiny.make_tokenizer("composed-llama"), tiny.make_tokenizer("llama")
    encoder = TextEncoder(own, tiny.TASK, decoders_own)
    with torch.random.fork_rng():
        torch.manual_seed(9)
        backbone = ComposedModel.of(tiny.bert(own), AutoModelForCausalLM.from_config(config), "<|im_start|>")
        return composed(backbone, encoder, "cls", "none").eval(), encoder


SHAPE = {
    "vocab_size": tiny.SIZES["llama"],
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 192,
}
# [BOS], 32 tokens of the encoder and 32 of the text, 12 of the cue, 15 of the explanation: its end is not read.
WINDOW = 1 + 32 + 32 + 12 + 15
GROUPED = {**SHAPE, "intermediate_size": 32, "num_key_value_heads": 1, "head_dim": 8, "initializer_range": 0.15}


@torch.inference_mode()
@pytest.mark.parametrize(
    "config",
    [
        # Attention without sdpa, which adds its masks; scaled embeddings; every second layer with a window.
        Gemma2Config(**GROUPED, query_pre_attn_scalar=8, sliding_window=WINDOW),
        MistralConfig(**GROUPED, sliding_window=WINDOW),
        # Embeddings narrower than the states, as OPT-350m's.
        OPTConfig(**SHAPE, ffn_dim=32, word_embed_proj_dim=16, do_layer_norm_before=False, init_std=0.15),
    ],
    ids=lambda config: config.model_type,
)
def test_decoders_of_other_kinds_give_the_same_numbers_packed_cached_and_plain(config: PreTrainedConfig) -> None:
    network, encoder = over(config)
    texts = [encoder.encode_fields({"text": text}) for text in (*TEXTS[:2], "a b " * 40)]
    memory = network.encode(encoder.inputs(texts))
    explanations = [encoder.encode_explanation(text) for text in (*EXPLANATIONS, EXPLANATIONS[0])]
    batch, owners = encoder.batch(explanations), [0, 0, 1, 2]
    expected = [plain.score(network, texts[o], tokens) for o, tokens in zip(owners, explanations, strict=True)]
    assert max(expected) - min(expected) > 0.01
    for kept in (memory, network.remember(memory)):
        log_probs = network.explanation_log_probs(kept, batch, torch.tensor(owners))
        assert explanation_score(log_probs, batch.mask).tolist() == pytest.approx(expected, abs=1e-5)


def test_what_does_not_fit_a_sliding_window_is_refused_with_the_number() -> None:
    with pytest.raises(InputError, match=f"take {WINDOW} tokens of the decoder, which reads {WINDOW - 1}; lower one"):
        over(MistralConfig(**GROUPED, sliding_window=WINDOW - 1))


# ------------------------------------------------------------------------------------------------ making and loading


@BOTH
def test_a_soft_prefix_is_as_large_as_the_decoders_embeddings(backbone_dir: Callable[[str], Path], family: str) -> None:
    network, encoder = load_network(backbone_dir(family), tiny.TASK, "cls")
    network.eval()
    assert isinstance(network, Composed)
    with torch.inference_mode():
        embeddings, _ = network._prefix(memory_of(network, encoder))
    soft, text = embeddings[:, 1:25].square().mean().sqrt(), network.decoder.get_input_embeddings().weight.square()
    assert soft.item() == pytest.approx(text.mean().sqrt().item(), rel=0.3)


def test_a_cls_that_the_encoder_lacked_is_saved_with_its_embedding(tmp_path: Path) -> None:
    own = tiny.make_tokenizer("t5")
    bert = tiny.bert(own)
    bert.resize_token_embeddings(len(own))
    ComposedModel.of(bert, tiny.llama(tiny.make_tokenizer("llama"), hidden=24)).save_pretrained(tmp_path / "full")
    own.save_pretrained(tmp_path / "full")
    tiny.make_tokenizer("llama").save_pretrained(tmp_path / "full" / "decoder")
    network, encoder = load_network(tmp_path / "full", tiny.TASK, "cls")
    assert encoder.cls_id == len(own)
    assert network.encoder.get_input_embeddings().num_embeddings == len(own) + 1
    assert network.decoder.get_input_embeddings().num_embeddings == tiny.SIZES["llama"]
    network.backbone.save_pretrained(tmp_path / "again")
    encoder.save(tmp_path / "again")
    again, _ = load_network(tmp_path / "again", tiny.TASK, "cls")
    table = again.encoder.get_input_embeddings().weight
    assert torch.equal(table, network.encoder.get_input_embeddings().weight)
    assert json.loads((tmp_path / "again" / "config.json").read_text())["encoder"]["vocab_size"] == len(own) + 1
