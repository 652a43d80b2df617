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
    BertConfig,
    BertModel,
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from service.model import decoding
from service.model.composed import Composed, ComposedModel
from service.model.decoding import Decoding, Search, beam_search, likeliest, score_explanations
from service.model.encoder_decoder import EncoderDecoder
from service.model.encoding import EncodedText, TokenBatch, pad
from service.model.families import load_network
from service.model.network import Memory, Network
from service.model.predictor import Predictor
from service.model.prefix import plain_generation
from service.model.prefix_lm import PrefixLM
from tests import tiny
from tests.service.model import plain

TEXTS = ("it works", "i love this camera , and the battery lasts all day long", "no", "the price is fair")


def encoded(predictor: Predictor, texts: tuple[str, ...] = TEXTS) -> list[EncodedText]:
    return [predictor.encoder.encode_fields({"text": text}) for text in texts]


def memory_of(predictor: Predictor, texts: tuple[str, ...] = TEXTS) -> Memory:
    return predictor.network.encode(predictor.encoder.inputs(encoded(predictor, texts)))


def greedy_loop(network: Network, text: EncodedText, max_new_tokens: int, label: int | None = None) -> list[int]:
    tokens: list[int] = []
    while len(tokens) < max_new_tokens and network.eos_id not in tokens:
        tokens.append(int(plain.next_log_probs(network, text, tokens, label).argmax()))
    return tokens


@torch.inference_mode()
@pytest.mark.parametrize("conditioning", ["none", "label"])
def test_one_beam_is_a_greedy_loop(family: str, conditioning: str, predictor_of: Callable[..., Predictor]) -> None:
    predictor = predictor_of(family, conditioning)
    labels = [2, 0, 2, 1] if conditioning == "label" else None
    hypotheses = beam_search(predictor.network, memory_of(predictor), Decoding(1, 6), labels)
    for row, text in enumerate(encoded(predictor)):
        label = labels[row] if labels else None
        assert hypotheses.tokens[row] == greedy_loop(predictor.network, text, 6, label)


@torch.inference_mode()
@pytest.mark.parametrize("conditioning", ["none", "label"])
def test_scores_are_eq_6_of_the_hypotheses_and_nothing_of_the_search(
    family: str, conditioning: str, predictor_of: Callable[..., Predictor]
) -> None:
    predictor = predictor_of(family, conditioning)
    labels = [2, 0, 2, 1] if conditioning == "label" else None
    hypotheses = beam_search(predictor.network, memory_of(predictor), Decoding(4, 6), labels)
    for row, (text, tokens) in enumerate(zip(encoded(predictor), hypotheses.tokens, strict=True)):
        assert 1 <= len(tokens) <= 6
        label = labels[row] if labels else None
        assert hypotheses.scores[row] == pytest.approx(plain.score(predictor.network, text, tokens, label), abs=2e-5)


@torch.inference_mode()
def test_a_search_without_labels_where_they_are_needed_is_refused(predictor_of: Callable[..., Predictor]) -> None:
    predictor = predictor_of("composed-llama", "label")
    with pytest.raises(ValueError, match="name one for each"):
        beam_search(predictor.network, memory_of(predictor), Decoding(1, 2))


@torch.inference_mode()
@pytest.mark.parametrize("family", ["composed-llama", "composed-gpt2"])
def test_a_search_over_the_cache_is_generates_own_over_the_whole_sequence(
    family: str, predictor_of: Callable[..., Predictor]
) -> None:
    predictor = predictor_of(family)
    network, encoder = predictor.network, predictor.encoder
    assert isinstance(network, Composed)
    found = beam_search(network, memory_of(predictor), Decoding(3, 8))
    for row, text in enumerate(encoded(predictor)):
        prefix, _ = network._prefix(network.encode(encoder.inputs([text])))  # type: ignore[arg-type]
        cue = network.decoder.get_input_embeddings()(torch.tensor([network.cues[0]]))
        sequences = network.decoder.generate(
            inputs_embeds=torch.cat([prefix, cue], dim=1),
            attention_mask=torch.ones(1, prefix.shape[1] + cue.shape[1], dtype=torch.long),
            num_beams=3,
            max_new_tokens=8,
            early_stopping=True,
            length_penalty=1.0,
            do_sample=False,
        )
        expected = sequences[0].tolist()  # of inputs_embeds, generate returns what is new
        assert found.tokens[row] == expected[: len(found.tokens[row])]


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


IDS = ((2, 3, 4), (5, 6), (6, 2, 2, 5))
READ = ((3, 3), (4, 5, 6, 2), (2,))  # the same texts in the tokens of a composed decoder
CUE = (3, 6)
SMALL = ("t5", "bart", "composed-llama", "composed-gpt2", "llama")


def small(family: str, seed: int) -> Network:
    """A network over seven tokens. Causal language models pad with their end, as SmolLM2 and GPT-2 do."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if family in ("t5", "bart"):
            model = _small_t5() if family == "t5" else _small_bart()
            model.generation_config = GenerationConfig(
                decoder_start_token_id=START, eos_token_id=EOS, pad_token_id=START
            )
            return EncoderDecoder(model, 2, "cls", [(START,)], EOS, START).eval()
        decoder = _small_gpt2() if family.endswith("gpt2") else _small_llama()
        plain_generation(decoder, EOS, EOS)
        if family == "llama":
            return PrefixLM(decoder, 2, "cls", [CUE], EOS, EOS, max_input_tokens=4).eval()
        bert = BertModel(
            BertConfig(
                vocab_size=VOCABULARY,
                hidden_size=12,
                num_hidden_layers=1,
                num_attention_heads=2,
                intermediate_size=16,
                max_position_embeddings=8,
                initializer_range=0.4,
            )
        )
        model = ComposedModel.of(bert, decoder)
        return Composed(model, 2, "cls", [CUE], EOS, EOS, opening=(START,), max_input_tokens=4).eval()


def _small_t5() -> T5ForConditionalGeneration:
    model = T5ForConditionalGeneration(
        T5Config(vocab_size=VOCABULARY, d_model=16, d_kv=4, d_ff=16, num_layers=1, num_heads=2)
    )
    model.lm_head.weight.data *= 0.3  # random T5s are sure of one token; these are in doubt
    return model


def _small_bart() -> BartForConditionalGeneration:
    return BartForConditionalGeneration(
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


def _small_llama() -> LlamaForCausalLM:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=32,
            initializer_range=0.4,
            pad_token_id=EOS,
            bos_token_id=START,
            eos_token_id=EOS,
        )
    )


def _small_gpt2() -> GPT2LMHeadModel:
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=VOCABULARY,
            n_embd=16,
            n_layer=2,
            n_head=2,
            n_positions=32,
            initializer_range=0.4,
            bos_token_id=EOS,
            eos_token_id=EOS,
        )
    )


def texts_of(network: Network) -> list[EncodedText]:
    read = READ if isinstance(network, Composed) else [()] * 3
    return [EncodedText(ids, False, tokens) for ids, tokens in zip(IDS, read, strict=True)]


def small_memory(network: Network) -> Memory:
    texts = texts_of(network)
    batch = pad([text.ids for text in texts], START)
    if isinstance(network, Composed):
        batch = TokenBatch(batch.ids, batch.mask, pad([text.decoder_ids for text in texts], EOS))
    return network.encode(batch)


def every_explanation() -> list[list[int]]:
    """All that can be written in LENGTH tokens: finished at any point, or cut off at the end."""
    others = [token for token in range(VOCABULARY) if token != EOS]
    finished = [[*words, EOS] for n in range(LENGTH) for words in itertools.product(others, repeat=n)]
    return finished + [list(words) for words in itertools.product(others, repeat=LENGTH)]


@torch.inference_mode()
@pytest.mark.parametrize("family", SMALL)
@pytest.mark.parametrize("seed", range(4))
def test_enough_beams_find_what_an_exhaustive_search_finds(family: str, seed: int) -> None:
    network = small(family, seed)
    memory = network.remember(small_memory(network))
    hypotheses = beam_search(network, memory, Decoding(num_beams=VOCABULARY**LENGTH, max_new_tokens=LENGTH))
    everything = every_explanation()
    assert len(everything) == 1 + 6 + 36 + 216
    for row, text in enumerate(texts_of(network)):
        scores = score_explanations(network, memory, [row] * len(everything), everything)
        best = max(range(len(everything)), key=scores.__getitem__)
        assert hypotheses.tokens[row] == everything[best]
        assert hypotheses.scores[row] == pytest.approx(scores[best], abs=1e-5)
        assert hypotheses.scores[row] == pytest.approx(plain.score(network, text, everything[best]), abs=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("family", SMALL)
def test_one_beam_is_a_greedy_loop_where_texts_end_at_different_lengths(family: str) -> None:
    lengths = set()
    for seed in range(6):
        network = small(family, seed)
        hypotheses = beam_search(network, small_memory(network), Decoding(num_beams=1, max_new_tokens=8))
        assert hypotheses.tokens == [greedy_loop(network, text, 8) for text in texts_of(network)]
        lengths |= {len(tokens) for tokens in hypotheses.tokens}
    assert len(lengths) > 1


@torch.inference_mode()
@pytest.mark.parametrize("families", [SMALL[:2], SMALL[2:4], SMALL[4:]])
def test_the_exhaustive_searches_end_at_different_lengths(families: tuple[str, ...]) -> None:
    # Guards the test above: were all winners equally long, it would not see a wrong length in the ranking.
    lengths = set()
    for family, seed in itertools.product(families, range(4)):
        network = small(family, seed)
        lengths |= {len(tokens) for tokens in beam_search(network, small_memory(network), Decoding(343, LENGTH)).tokens}
    assert len(lengths) > 1


@torch.inference_mode()
@pytest.mark.parametrize("family", SMALL)
def test_what_a_text_leaves_behind_does_not_reach_the_next_in_its_place(family: str) -> None:
    network = small(family, 0)
    memory = small_memory(network)
    expected = beam_search(network, memory, Decoding(3, 8))
    search = Search(network, Decoding(3, 8))

    def admit(text: int) -> None:
        search.admit([text], network.begin(memory, torch.tensor([text]), network.cues[0]))

    waiting, found = [0, 2, 1], []
    admit(waiting.pop(0))
    search.step()
    search.step()  # the second is two steps behind the first, and so is the third behind the second, in one's place
    admit(waiting.pop(0))
    while len(found) < 3:
        search.step()
        found += search.collect()
        if waiting and search.free:
            assert search.tree is not None
            source = search.tree.source.cache.layers if search.tree.source else []
            for layer in (*search.tree.layers, *source):  # overflow leaves such numbers; masked, they are no zero
                layer.keys[search.free], layer.values[search.free] = float("nan"), float("nan")
            assert len(found) == 1
            admit(waiting.pop(0))
    assert len(search.texts) == 2
    for text, tokens, score in found:
        assert tokens == expected.tokens[text]
        assert score == pytest.approx(expected.scores[text], abs=1e-5)


@torch.inference_mode()
def test_more_beams_find_nothing_less_probable_than_a_greedy_search_of_one_token(predictor: Predictor) -> None:
    network, memory = predictor.network, memory_of(predictor)
    greedy = beam_search(network, memory, Decoding(num_beams=1, max_new_tokens=1))
    beams = beam_search(network, memory, Decoding(num_beams=5, max_new_tokens=1))
    assert greedy.tokens == beams.tokens
    assert all(len(tokens) == 1 for tokens in greedy.tokens)


# --------------------------------------------------------------------------------- a checkpoint's own decoding habits


@torch.inference_mode()
@pytest.mark.parametrize("family", ["bart", "llama"])
def test_a_checkpoints_own_generation_settings_change_nothing(
    family: str, backbone_dir: Callable[[str], Path], tmp_path: Path
) -> None:
    plain_dir = backbone_dir(family)
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
        texts = [encoder.encode_fields({"text": text}) for text in TEXTS]
        hypotheses = beam_search(network, network.encode(encoder.inputs(texts)), searched)
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
    texts = encoded(predictor)
    for owner, tokens, score in zip(owners, flat, together, strict=True):
        assert score == pytest.approx(plain.score(network, texts[owner], tokens), abs=2e-5)


@torch.inference_mode()
def test_cues_take_their_part_of_what_is_scored_at_once(
    predictor_of: Callable[..., Predictor], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = predictor_of("composed-llama", "label").network
    cue = max(map(len, network.cues)) - 1
    assert cue > 20  # much more than the explanations below
    monkeypatch.setattr(decoding, "SCORED_TOKENS", 2 * (cue + 2))
    scored: list[int] = []
    whole = network.explanation_log_probs

    def counted(memory: Memory, explanations: TokenBatch, *rest: torch.Tensor) -> torch.Tensor:
        scored.append(len(explanations.ids))
        return whole(memory, explanations, *rest)

    monkeypatch.setattr(network, "explanation_log_probs", counted)
    memory = memory_of(predictor_of("composed-llama", "label"))
    score_explanations(network, memory, [0] * 5, [(7, network.eos_id)] * 5, [0] * 5)
    assert scored == [2, 2, 1]


def test_no_explanations_have_no_scores(predictor_of: Callable[..., Predictor]) -> None:
    predictor = predictor_of("t5")
    with torch.inference_mode():
        assert score_explanations(predictor.network, memory_of(predictor), [], []) == []


# ------------------------------------------------------------------------------------------------- the likeliest tokens


@pytest.mark.parametrize("vocabulary", [7, 128, 1000, 5 * 128, 40 * 128, 40 * 128 + 1, 41 * 128 - 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_likeliest_tokens_are_those_of_a_sort_of_all(vocabulary: int, dtype: torch.dtype) -> None:
    logits = (torch.randn(19, vocabulary, generator=torch.Generator().manual_seed(vocabulary)) * 5).to(dtype)
    log_probs, tokens = likeliest(logits, 10)
    expected = logits.double().log_softmax(dim=-1).sort(dim=-1, descending=True)
    k = min(10, vocabulary)
    torch.testing.assert_close(log_probs.double(), expected.values[:, :k], atol=1e-5, rtol=0)
    # Equal logits (bfloat16 has many) may come in any order.
    torch.testing.assert_close(logits.gather(1, tokens), logits.gather(1, expected.indices[:, :k]))
    assert all(len(set(row)) == k for row in tokens.tolist())


def test_logits_hundreds_apart_neither_overflow_nor_vanish() -> None:
    logits = torch.zeros(1, 40 * 128)
    logits[0, 5], logits[0, 7], logits[0, 9] = 900.0, 899.0, -900.0
    log_probs, tokens = likeliest(logits, 2)
    assert tokens.tolist() == [[5, 7]]
    torch.testing.assert_close(log_probs, torch.tensor([[-0.313262, -1.313262]]))  # -ln(1 + e^-1)


@pytest.mark.parametrize("wrong", [(0, 5), (5, 0)])
def test_a_search_without_beams_or_tokens_is_refused(wrong: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Decoding(*wrong)
