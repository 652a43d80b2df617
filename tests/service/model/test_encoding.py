"""Texts to token batches: [CLS] first, truncation, special tokens out of reach of a text, length order."""

import dataclasses
import time
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import ByT5Tokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from service.model.encoding import TextEncoder, batches_by_length, check_fields, check_text, pad
from service.model.errors import ItemError
from service.model.predictor import Predictor
from service.model.task import Task
from tests import tiny

CLS_WORDS = {**dict.fromkeys(tiny.FAMILIES, "[CLS]"), "bart": "<s>"}
LAST_WORDS = {**dict.fromkeys(tiny.FAMILIES, "[SEP]"), "t5": "</s>", "bart": "</s>", "t5gemma": None, "llama": None}
LIMIT = tiny.TASK.max_input_tokens


@pytest.fixture
def encoder(predictor: Predictor) -> TextEncoder:
    return predictor.encoder


def plain_ids(encoder: TextEncoder, text: str) -> list[int]:
    """The whole text's tokens without any special ones, straight from the tokenizer."""
    return encoder.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]


def room_of(family: str) -> int:
    """How many tokens of a text itself fit into the task's limit."""
    return LIMIT - (1 if LAST_WORDS[family] is None else 2)


def word_tokenizer(*words: str, **specials: str) -> PreTrainedTokenizerBase:
    """One token a word, "good" and "bad" or the given ones, then the special ones."""
    every = [*(words or ("good", "bad")), *dict.fromkeys(specials.values())]
    vocabulary = {word: index for index, word in enumerate(every)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=specials["unk_token"]))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **specials)


# --------------------------------------------------------------------------------------------------------- one text


def test_cls_stands_first_and_the_familys_own_token_last(family: str, encoder: TextEncoder) -> None:
    ids = encoder.encode_fields({"text": "i love this camera"}).ids
    words = encoder.tokenizer.convert_ids_to_tokens(ids)
    assert words[0] == CLS_WORDS[family]
    middle = words[1:-1] if LAST_WORDS[family] else words[1:]
    assert encoder.tokenizer.convert_tokens_to_ids(middle) == plain_ids(encoder, "i love this camera")
    if LAST_WORDS[family]:
        assert words[-1] == LAST_WORDS[family]


def test_a_longer_text_is_cut_keeps_its_last_special_token_and_says_so(family: str, encoder: TextEncoder) -> None:
    encoded = encoder.encode_fields({"text": "a b " * 100})
    words = encoder.tokenizer.convert_ids_to_tokens(encoded.ids)
    assert encoded.truncated
    assert len(encoded.ids) == LIMIT
    assert words[0] == CLS_WORDS[family]
    assert LAST_WORDS[family] is None or words[-1] == LAST_WORDS[family]


def test_a_text_of_exactly_the_limit_is_not_truncated(family: str, encoder: TextEncoder) -> None:
    text = "a" + " a" * (room_of(family) - 1)  # every "a" is one token
    assert len(plain_ids(encoder, text)) == room_of(family)
    exact = encoder.encode_fields({"text": text})
    assert (len(exact.ids), exact.truncated) == (LIMIT, False)
    over = encoder.encode_fields({"text": text + " a"})
    assert (len(over.ids), over.truncated) == (LIMIT, True)
    assert over.ids == exact.ids


def test_an_explanation_is_its_own_tokens_and_one_end(encoder: TextEncoder) -> None:
    tokens = encoder.encode_explanation("the reviewer is happy")
    writer = encoder.decoder_tokenizer or encoder.tokenizer
    assert tokens == (*writer("the reviewer is happy", add_special_tokens=False)["input_ids"], encoder.eos_id)


def test_a_longer_explanation_is_cut_and_still_ends(encoder: TextEncoder) -> None:
    tokens = encoder.encode_explanation("a b " * 100)
    assert len(tokens) == tiny.TASK.max_explanation_tokens
    assert tokens.count(encoder.eos_id) == 1
    assert tokens[-1] == encoder.eos_id


def test_a_generated_explanation_comes_back_as_its_text(encoder: TextEncoder) -> None:
    tokens = encoder.encode_explanation("the reviewer is happy")
    assert encoder.decode([*tokens, encoder.pad_id, encoder.pad_id]) == "the reviewer is happy"


def test_two_fields_are_read_through_the_template(predictor_of: Callable[..., Predictor]) -> None:
    pair = dataclasses.replace(
        tiny.TASK, fields=("premise", "hypothesis"), input="{premise} So: {hypothesis}", prompt="{label}?"
    )
    encoder = TextEncoder(predictor_of("t5").encoder.tokenizer, pair)
    encoded = encoder.encode_fields({"hypothesis": "it works", "premise": "i love it"})
    assert encoder.decode(encoded.ids) == "i love it so: it works"


# --------------------------------------------------------------------------- special tokens are not a text's to write

SPELLED = "good </s> bad</s> [SEP] <s>[CLS] <pad> [PAD]<eos> <bos> <unk> [UNK] fine"


def unigram(task: Task) -> TextEncoder:
    """A tokenizer of the kind that T5 really has: special tokens are pieces of its vocabulary as well."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    specials = list(tiny.SPECIALS["t5"].values())
    tokenizer.train_from_iterator(
        tiny.sentences(),
        trainers.UnigramTrainer(vocab_size=300, special_tokens=specials, unk_token="<unk>", show_progress=False),
    )
    return TextEncoder(PreTrainedTokenizerFast(tokenizer_object=tokenizer, **tiny.SPECIALS["t5"]), task)


LONG_TASK = dataclasses.replace(tiny.TASK, max_input_tokens=256, max_explanation_tokens=256)


def assert_special_tokens_only_around(encoder: TextEncoder, family_ends: int) -> None:
    reserved = set(encoder.tokenizer.all_special_ids) - {encoder.tokenizer.unk_token_id}
    ids = encoder.encode_fields({"text": SPELLED}).ids
    assert ids[0] == encoder.cls_id
    assert not reserved & set(ids[1 : len(ids) - family_ends])
    explanation = encoder.encode_explanation(SPELLED)
    assert explanation[-1] == encoder.eos_id
    assert not reserved & set(explanation[:-1])


def test_a_text_cannot_write_special_tokens(family: str, encoder: TextEncoder) -> None:
    assert_special_tokens_only_around(TextEncoder(encoder.tokenizer, LONG_TASK), 0 if family == "t5gemma" else 1)


def test_a_text_cannot_write_special_tokens_of_a_unigram_vocabulary() -> None:
    encoder = unigram(LONG_TASK)
    spelled = encoder.tokenizer("</s>", add_special_tokens=False, split_special_tokens=True)["input_ids"]
    assert encoder.eos_id in spelled  # what makes this tokenizer dangerous
    assert_special_tokens_only_around(encoder, 0)


def test_a_text_cannot_write_special_tokens_of_a_pure_python_tokenizer() -> None:
    encoder = TextEncoder(ByT5Tokenizer(), LONG_TASK)
    assert_special_tokens_only_around(encoder, 1)
    assert encoder.decode(encoder.encode_explanation(SPELLED)) == SPELLED  # bytes: nothing had to be dropped


def test_a_tokenizers_unknown_token_may_stay_where_it_is_not_special_otherwise(
    predictor_of: Callable[..., Predictor],
) -> None:
    encoder = predictor_of("t5").encoder
    assert encoder.tokenizer.unk_token_id in encoder.encode_fields({"text": "\u2603"}).ids


# ------------------------------------------------------------------------------------------------------- long texts


@pytest.mark.parametrize("joint", [" ", "", "   ", "\n"])
def test_a_long_texts_first_tokens_are_those_of_the_whole_text(family: str, encoder: TextEncoder, joint: str) -> None:
    text = joint.join(tiny.sentences(60))
    text = text if joint else text.replace(" ", "")
    whole = encoder.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    encoded = encoder.encode_fields({"text": text})
    assert encoded.truncated
    assert list(encoded.ids[1 : 1 + room_of(family)]) == whole[: room_of(family)]


def test_leading_blanks_do_not_hide_a_text_behind_them() -> None:
    # Tokenizers that drop blanks, as BERT's: the head of such a text has no tokens, its end has.
    encoder = TextEncoder(word_tokenizer(unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"), tiny.TASK)
    encoded = encoder.encode_fields({"text": " " * 100_000 + "good"})
    assert encoded.ids == (encoder.cls_id, 0)
    assert not encoded.truncated


def test_no_word_is_cut_where_a_long_text_is() -> None:
    # 16 characters a token, as many as are looked at first, and the first word longer: the cut is inside a word.
    long, longer = "w" * 15, "v" * 18
    encoder = TextEncoder(word_tokenizer(long, longer, unk_token="[UNK]", sep_token="[SEP]"), tiny.TASK)
    encoded = encoder.encode_fields({"text": f"{longer} " + f"{long} " * 1000})
    assert encoded.ids == (encoder.cls_id, 1, *[0] * (LIMIT - 2))
    assert encoded.truncated


def test_texts_of_a_megabyte_take_no_longer_than_their_head(encoder: TextEncoder) -> None:
    sentences = " ".join(tiny.sentences())
    texts = [(text * (10**6 // len(text) + 1))[: 10**6] for text in (sentences, "a", "a ", "\u2603", sentences[:40])]
    began = time.process_time()
    for text in texts:
        assert encoder.encode_fields({"text": text}).truncated
        assert len(encoder.encode_explanation(text)) == tiny.TASK.max_explanation_tokens
    assert time.process_time() - began < 2  # in whole they take ten seconds and more


# -------------------------------------------------------------------------------------------- fields that cannot be

BAD_FIELDS = {
    "missing": ({}, "missing_field", "the field 'text' is missing; the task needs text"),
    "another": ({"body": "hello"}, "missing_field", "the field 'text' is missing"),
    "one more": ({"text": "a", "SECRET": "b"}, "unknown_field", "a field is not one of the task's; the task has text"),
    "empty": ({"text": ""}, "empty_text", "the field 'text' is empty; send a text with at least one visible character"),
    "blank": ({"text": " \t\n\u00a0\u2003"}, "empty_text", "the field 'text' is empty"),
    "a number": ({"text": 7}, "invalid_text", "the field 'text' must be a text"),
    "none": ({"text": None}, "invalid_text", "the field 'text' must be a text"),
    "bytes": ({"text": b"SECRET"}, "invalid_text", "the field 'text' must be a text"),
    "a lone surrogate": ({"text": "SECRET \ud83d"}, "invalid_text", "the field 'text' holds half of a surrogate pair"),
}


@pytest.mark.parametrize(("fields", "code", "message"), BAD_FIELDS.values(), ids=BAD_FIELDS.keys())
def test_fields_that_the_task_cannot_use_get_a_code_and_a_sentence(
    fields: dict[str, str], code: str, message: str
) -> None:
    with pytest.raises(ItemError) as raised:
        check_fields(fields, tiny.TASK)
    assert raised.value.code == code
    assert raised.value.message.startswith(message)
    assert "SECRET" not in raised.value.message


def test_a_bad_candidate_is_told_apart_from_a_bad_field(predictor_of: Callable[..., Predictor]) -> None:
    with pytest.raises(ItemError, match="the candidate explanation is empty") as raised:
        predictor_of("t5").encoder.encode_explanation("  ")
    assert raised.value.code == "empty_text"


@given(st.text(min_size=1).filter(str.strip))
def test_any_unicode_text_without_surrogates_is_good(text: str) -> None:
    check_text(text, "text")


@pytest.fixture(scope="module")
def bart_encoder(predictor_of: Callable[..., Predictor]) -> TextEncoder:
    return predictor_of("bart").encoder


@given(text=st.text(st.characters(codec="utf-8"), min_size=1, max_size=60).filter(str.strip))
def test_any_text_becomes_a_cls_and_no_more_tokens_than_the_limit(bart_encoder: TextEncoder, text: str) -> None:
    encoded = bart_encoder.encode_fields({"text": text})
    assert encoded.ids[0] == bart_encoder.cls_id
    assert encoded.ids.count(bart_encoder.cls_id) == 1
    assert encoded.ids.index(bart_encoder.eos_id) == len(encoded.ids) - 1
    assert len(encoded.ids) <= LIMIT


# ---------------------------------------------------------------------------------------------------------- batches


def test_batches_are_padded_on_the_right_and_masked() -> None:
    batch = pad([(5, 6, 7), (8,)], pad_id=9)
    assert batch.ids.tolist() == [[5, 6, 7], [8, 9, 9]]
    assert batch.mask.tolist() == [[True, True, True], [True, False, False]]
    assert (batch.ids.dtype, batch.mask.dtype) == (torch.int64, torch.bool)


def test_a_text_encoders_batches_are_padded_with_its_own_token(encoder: TextEncoder) -> None:
    batch = encoder.batch([(5,), (6, 7)])
    assert batch.ids.tolist() == [[5, encoder.pad_id], [6, 7]]
    writer = encoder.decoder_tokenizer or encoder.tokenizer
    assert encoder.pad_id == (encoder.eos_id if writer.pad_token_id is None else writer.pad_token_id)


def test_texts_are_padded_with_the_encoders_token_and_read_texts_with_the_decoders(
    predictor_of: Callable[..., Predictor],
) -> None:
    encoder = predictor_of("composed-gpt2").encoder
    texts = [encoder.encode_fields({"text": text}) for text in ("it works", "it works and works and works")]
    batch = encoder.inputs(texts)
    assert batch.decoder is not None
    for part, pad_id, sequences in (
        (batch, encoder.tokenizer.pad_token_id, [text.ids for text in texts]),
        (batch.decoder, encoder.eos_id, [text.decoder_ids for text in texts]),
    ):
        longest = len(sequences[1])
        assert part.ids.tolist() == [[*ids, *[pad_id] * (longest - len(ids))] for ids in sequences]
        assert part.mask.sum(dim=1).tolist() == [len(ids) for ids in sequences]


# ------------------------------------------------------------------------------------- a decoder that reads texts, too


def test_what_the_decoder_cannot_read_in_whole_is_truncated_too(predictor_of: Callable[..., Predictor]) -> None:
    # A rare character is one unknown token to the encoder, and three bytes to the decoder.
    encoder = predictor_of("composed-llama").encoder
    assert encoder.decoder_tokenizer is not None
    whole = encoder.encode_fields({"text": "\u2603" * 10})
    assert (whole.truncated, len(whole.decoder_ids)) == (False, 30)
    cut = encoder.encode_fields({"text": "\u2603" * 11})
    assert len(cut.ids) < LIMIT
    assert (cut.truncated, len(cut.decoder_ids)) == (True, LIMIT)
    assert cut.decoder_ids == tuple(encoder.decoder_tokenizer("\u2603" * 11)["input_ids"][:LIMIT])


def test_a_text_of_exactly_the_decoders_limit_is_whole(predictor_of: Callable[..., Predictor]) -> None:
    encoder = predictor_of("composed-llama").encoder
    exact = encoder.encode_fields({"text": "\u2603" * 10 + "ab"})
    assert (exact.truncated, len(exact.decoder_ids)) == (False, LIMIT)


@pytest.mark.parametrize("family", [*tiny.COMPOSED, "llama"])
def test_neither_texts_nor_explanations_spell_a_causal_models_special_tokens(
    family: str, predictor_of: Callable[..., Predictor]
) -> None:
    tokenizers = predictor_of(family).encoder
    encoder = TextEncoder(tokenizers.tokenizer, LONG_TASK, tokenizers.decoder_tokenizer)
    writer = encoder.decoder_tokenizer or encoder.tokenizer
    spelled = "good <|im_end|> bad<|endoftext|> <|im_start|> fine [CLS]"
    found = writer(spelled, add_special_tokens=False)["input_ids"]
    assert {*found} & {*writer.all_special_ids}  # left to itself, it does
    for tokens in (encoder.encode_explanation(spelled)[:-1], encoder.encode_fields({"text": spelled}).decoder_ids):
        assert not {*tokens} & {*writer.all_special_ids}
    assert encoder.encode_explanation(spelled).count(encoder.eos_id) == 1
    assert encoder.decode(encoder.encode_explanation(spelled)) == spelled  # split, not dropped


def test_batches_by_length_are_filled_from_the_longest() -> None:
    # Budget 12. 6+5: 2 * 6 = 12 fits, a third would be 18; then 4, 3, 2: 3 * 4 = 12; then 1.
    assert list(batches_by_length([1, 6, 2, 5, 3, 4], max_tokens=12)) == [[1, 3], [5, 4, 2], [0]]


def test_a_text_over_the_budget_is_a_batch_of_its_own() -> None:
    assert list(batches_by_length([50, 3, 70], max_tokens=10)) == [[2], [0], [1]]


def test_no_texts_are_no_batches() -> None:
    assert list(batches_by_length([], max_tokens=10)) == []


@given(st.lists(st.integers(1, 100), max_size=60), st.integers(1, 400))
def test_batches_by_length_hold_everything_once_within_the_budget(lengths: list[int], budget: int) -> None:
    batches = list(batches_by_length(lengths, budget))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert batch
        assert len(batch) == 1 or len(batch) * max(lengths[index] for index in batch) <= budget
    flat = [lengths[index] for batch in batches for index in batch]
    assert flat == sorted(lengths, reverse=True)


# -------------------------------------------------------------------------------------- tokenizers that lack a token


def test_a_tokenizer_without_cls_and_pad_gets_a_cls_and_pads_with_its_end() -> None:
    encoder = TextEncoder(word_tokenizer(unk_token="<unk>", eos_token="</s>"), tiny.TASK)
    assert encoder.encode_fields({"text": "good bad"}).ids == (encoder.cls_id, 0, 1)
    assert encoder.cls_id == len(encoder.tokenizer) - 1
    assert encoder.pad_id == encoder.eos_id == 3


def test_an_unknown_token_that_is_also_the_end_is_not_a_texts_to_write() -> None:
    # GPT-2's <|endoftext|> is all of these at once.
    encoder = TextEncoder(word_tokenizer(unk_token="<|end|>", eos_token="<|end|>", bos_token="<|end|>"), tiny.TASK)
    assert encoder.encode_explanation("good <|end|> strange bad") == (0, 1, 2)


def test_decoded_word_pieces_read_as_written_text() -> None:
    text = "the device's battery isn't good, it's bad."
    pieces = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "the", "device", "'", "s", "battery", "isn", "t", "good", ",", "it"]
    vocabulary = {piece: number for number, piece in enumerate([*pieces, "bad", "."])}
    inner = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.decoder = decoders.WordPiece(cleanup=False)
    specials = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}
    encoder = TextEncoder(PreTrainedTokenizerFast(tokenizer_object=inner, **specials), LONG_TASK)
    assert encoder.decode(encoder.encode_explanation(text)) == text
