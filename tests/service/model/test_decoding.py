"""Beam search against greedy and exhaustive searches written out by hand, and its scores against Eq. 6 recomputed."""

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    GenerationConfig,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)
from transformers.modeling_outputs import BaseModelOutput

from service.model import decoding
from service.model.decoding import Decoding, beam_search, score_explanations
from service.model.encoding import pad
from service.model.encoder_decoder import EncoderDecoder
from service.model.families import load_network
from service.model.network import Memory, Network
from service.model.predictor import Predictor
from tests import tiny

TEXTS = ("it works", "i love this camera , and the battery lasts all day long", "no", "the price is fair")


def memory_of(predictor: Predictor, texts: tuple[str, ...] = TEXTS) -> Memory:
    encoder = predictor.encoder
    return predictor.network.encode(encoder.batch([encoder.encode_fields({"text": text}).ids for text in texts]))


def one(memory: Memory, row: int) -> Memory:
    return memory.select(torch.tensor([row]))


def next_log_probs(network: Network, memory: Memory, prefix: list[int]) -> torch.Tensor:
    """log P(next token | one text, prefix), the decoder run over the whole prefix anew. -> (vocab,) float64."""
    logits = network.backbone(
        encoder_outputs=BaseModelOutput(last_hidden_state=memory.states),
        attention_mask=memory.mask.long(),
        decoder_input_ids=torch.tensor([[network.cues[0][0], *prefix]]),
        decoder_attention_mask=torch.ones(1, 1 + len(prefix), dtype=torch.long),
    ).logits[0, -1]
    return torch.log_softmax(logits.double(), dim=-1)


def eq_6(network: Network, memory: Memory, tokens: list[int]) -> float:
    log_probs = [next_log_probs(network, memory, tokens[:t])[token].item() for t, token in enumerate(tokens)]
    return sum(log_probs) / len(log_probs)


def greedy_loop(network: Network, memory: Memory, max_new_tokens: int) -> list[int]:
    tokens: list[int] = []
    while len(tokens) < max_new_tokens and network.eos_id not in tokens:
        tokens.append(int(next_log_probs(network, memory, tokens).argmax()))
    return tokens


@torch.inference_mode()
def test_one_beam_is_a_greedy_loop(predictor: Predictor) -> None:
    network, memory = predictor.network, memory_of(predictor)
    hypotheses = beam_search(network, memory, Decoding(num_beams=1, max_new_tokens=10))
    for row in range(len(TEXTS)):
        assert hypotheses.tokens[row] == greedy_loop(network, one(memory, row), 10)


@torch.inference_mode()
def test_scores_are_eq_6_of_the_hypotheses_and_nothing_of_the_search(predictor: Predictor) -> None:
    network, memory = predictor.network, memory_of(predictor)
    hypotheses = beam_search(network, memory, Decoding(num_beams=4, max_new_tokens=9))
    for row, tokens in enumerate(hypotheses.tokens):
        assert 1 <= len(tokens) <= 9
        assert hypotheses.scores[row] == pytest.approx(eq_6(network, one(memory, row), tokens), abs=2e-5)


@torch.inference_mode()
def test_the_search_over_many_texts_is_the_search_over_each(predictor: Predictor) -> None:
    network, memory = predictor.network, memory_of(predictor)
    together = beam_search(network, memory, Decoding(num_beams=3, max_new_tokens=8))
    for row, text in enumerate(TEXTS):
        alone = beam_search(network, memory_of(predictor, (text,)), Decoding(num_beams=3, max_new_tokens=8))
        assert together.tokens[row] == alone.tokens[0]
        assert together.scores[row] == pytest.approx(alone.scores[0], abs=1e-5)


# --------------------------------------------------------------------------------- a vocabulary that can be exhausted

VOCABULARY, EOS, START, LENGTH = 7, 1, 0, 3


def small(family: str, seed: int) -> PreTrainedModel:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if family == "t5":
            model: PreTrainedModel = T5ForConditionalGeneration(
                T5Config(vocab_size=VOCABULARY, d_model=16, d_kv=4, d_ff=16, num_layers=1, num_heads=2)
            )
            model.lm_head.weight.data *= 0.3  # random T5s are sure of one token; these are in doubt
        else:
            model = BartForConditionalGeneration(
                BartConfig(
                    vocab_size=VOCABULARY,
                    d_model=16,
                    encoder_layers=1,
                    decoder_layers=1,
                    encoder_attention_heads=2,
                    decoder_attention_heads=2,
                    encoder_ffn_dim=16,
                    decoder_ffn_dim=16,
                    max_position_embeddings=16,
                    init_std=0.5,
                    pad_token_id=START,
                    bos_token_id=START,
                    eos_token_id=EOS,
                    forced_eos_token_id=None,
                )
            )
    model.generation_config = GenerationConfig(decoder_start_token_id=START, eos_token_id=EOS, pad_token_id=START)
    return model.eval()


def every_explanation() -> list[list[int]]:
    """All that can be written in LENGTH tokens: finished at any point, or cut off at the end."""
    others = [token for token in range(VOCABULARY) if token != EOS]
    finished = [[*words, EOS] for n in range(LENGTH) for words in itertools.product(others, repeat=n)]
    return finished + [list(words) for words in itertools.product(others, repeat=LENGTH)]


@torch.inference_mode()
@pytest.mark.parametrize("family", ["t5", "bart"])
@pytest.mark.parametrize("seed", range(4))
def test_enough_beams_find_what_an_exhaustive_search_finds(family: str, seed: int) -> None:
    network = EncoderDecoder(small(family, seed), 2, "cls", [(START,)], EOS, START)
    memory = network.encode(pad([(2, 3, 4), (5, 6), (6, 2, 2, 5)], START))
    hypotheses = beam_search(network, memory, Decoding(num_beams=VOCABULARY**LENGTH, max_new_tokens=LENGTH))
    everything = every_explanation()
    assert len(everything) == 1 + 6 + 36 + 216
    for row in range(3):
        scores = score_explanations(network, memory, [row] * len(everything), everything)
        best = max(range(len(everything)), key=scores.__getitem__)
        assert hypotheses.tokens[row] == everything[best]
        assert hypotheses.scores[row] == pytest.approx(scores[best], abs=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("family", ["t5", "bart"])
def test_one_beam_is_a_greedy_loop_where_texts_end_at_different_lengths(family: str) -> None:
    lengths = set()
    for seed in range(6):
        network = EncoderDecoder(small(family, seed), 2, "cls", [(START,)], EOS, START)
        memory = network.encode(pad([(2, 3, 4), (5, 6), (6, 2, 2, 5)], START))
        hypotheses = beam_search(network, memory, Decoding(num_beams=1, max_new_tokens=8))
        assert hypotheses.tokens == [greedy_loop(network, one(memory, row), 8) for row in range(3)]
        lengths |= {len(tokens) for tokens in hypotheses.tokens}
    assert len(lengths) > 1


@torch.inference_mode()
def test_the_exhaustive_searches_end_at_different_lengths() -> None:
    # Guards the test above: were all winners equally long, it would not see a wrong length in the ranking.
    lengths = set()
    for family, seed in itertools.product(["t5", "bart"], range(4)):
        network = EncoderDecoder(small(family, seed), 2, "cls", [(START,)], EOS, START)
        memory = network.encode(pad([(2, 3, 4), (5, 6), (6, 2, 2, 5)], START))
        lengths |= {len(tokens) for tokens in beam_search(network, memory, Decoding(343, LENGTH)).tokens}
    assert len(lengths) > 1


@torch.inference_mode()
def test_more_beams_find_nothing_less_probable_than_a_greedy_search_of_one_token(predictor: Predictor) -> None:
    network, memory = predictor.network, memory_of(predictor)
    greedy = beam_search(network, memory, Decoding(num_beams=1, max_new_tokens=1))
    beams = beam_search(network, memory, Decoding(num_beams=5, max_new_tokens=1))
    assert greedy.tokens == beams.tokens
    assert all(len(tokens) == 1 for tokens in greedy.tokens)


# --------------------------------------------------------------------------------- a checkpoint's own decoding habits


@torch.inference_mode()
def test_a_checkpoints_own_generation_settings_change_nothing(
    backbone_dir: Callable[[str], Path], tmp_path: Path
) -> None:
    plain_dir = backbone_dir("bart")
    habits_dir = shutil.copytree(plain_dir, tmp_path / "habits")
    GenerationConfig(
        decoder_start_token_id=2,
        bos_token_id=0,
        eos_token_id=[2, 17],
        pad_token_id=1,
        forced_bos_token_id=33,
        forced_eos_token_id=2,
        no_repeat_ngram_size=1,
        repetition_penalty=5.0,
        suppress_tokens=list(range(50, 300)),
        num_beams=5,
        num_return_sequences=2,
        length_penalty=-3.0,
        min_new_tokens=4,
        max_length=3,
        do_sample=True,
        temperature=9.0,
    ).save_pretrained(habits_dir)

    def answer(directory: Path, searched: Decoding) -> tuple[list[list[int]], list[float]]:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network, encoder = load_network(directory, tiny.TASK, "cls")
        network.eval()
        ids = [encoder.encode_fields({"text": text}).ids for text in TEXTS]
        hypotheses = beam_search(network, network.encode(encoder.batch(ids)), searched)
        return hypotheses.tokens, hypotheses.scores

    for searched in (Decoding(1, 12), Decoding(3, 12)):
        assert answer(habits_dir, searched) == answer(plain_dir, searched)
    written = {token for row in answer(plain_dir, Decoding(3, 12))[0] for token in row}
    assert written & set(range(50, 300))  # which those settings would suppress


# ------------------------------------------------------------------------------------------------ given explanations


@torch.inference_mode()
def test_scores_of_given_explanations_do_not_depend_on_how_they_are_grouped(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, memory = predictor.network, memory_of(predictor)
    sentences = ("good", "the reviewer is happy", "it is bad , and the reviewer says so at length")
    explanations = [predictor.encoder.encode_explanation(text) for text in sentences]
    owners, flat = [0, 0, 0, 3, 1, 2, 2], [explanations[index] for index in (0, 1, 2, 2, 0, 1, 0)]
    together = score_explanations(network, memory, owners, flat)
    monkeypatch.setattr(decoding, "SCORED_TOKENS", 5)
    assert score_explanations(network, memory, owners, flat) == pytest.approx(together, abs=1e-5)
    for owner, tokens, score in zip(owners, flat, together, strict=True):
        assert score == pytest.approx(eq_6(network, one(memory, owner), list(tokens)), abs=2e-5)


def test_no_explanations_have_no_scores(predictor_of: Callable[[str], Predictor]) -> None:
    predictor = predictor_of("t5")
    with torch.inference_mode():
        assert score_explanations(predictor.network, memory_of(predictor), [], []) == []


@pytest.mark.parametrize("wrong", [(0, 5), (5, 0)])
def test_a_search_without_beams_or_tokens_is_refused(wrong: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Decoding(*wrong)
