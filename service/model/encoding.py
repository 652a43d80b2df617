"""Texts -> token batches: [CLS] first, truncation noticed, padding only up to the longest of the batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from service.model.errors import ItemError
from service.model.task import Task

DECODER = "decoder"  # the folder of a model directory that holds the tokenizer of a decoder with tokens of its own
CLS = "[CLS]"  # added to tokenizers that have no such token of their own, as T5's
HEAD_MARGIN = 64  # tokens beyond the last one kept, so that cutting a long text cannot change those kept


@dataclass(frozen=True)
class EncodedText:
    """One encoder input. ids: [CLS] first, at most max_input_tokens long. truncated: whether the text was longer.

    decoder_ids: the same text in a decoder's own tokens, for decoders that read it too; empty for others.
    """

    ids: tuple[int, ...]
    truncated: bool
    decoder_ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class TokenBatch:
    """Padded token ids on one device. ids: (batch, length) int64; mask: (batch, length) bool, true on real tokens.

    decoder: the same texts in the decoder's own tokens, for decoders that read them too.
    """

    ids: Tensor
    mask: Tensor
    decoder: TokenBatch | None = None


class TextEncoder:
    """Turns a task's texts and explanations into token ids of one backbone's tokenizers.

    tokenizer: the encoder's. decoder_tokenizer: that of a decoder which reads the text in tokens of its own; None where
    encoder and decoder share one. Explanations are always their own tokens followed by one end-of-sequence token,
    whatever else the tokenizer would put around them, so that Eq. 6 counts the same tokens for every backbone.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, task: Task, decoder_tokenizer: PreTrainedTokenizerBase | None = None
    ) -> None:
        if tokenizer.cls_token_id is None:
            tokenizer.add_special_tokens({"cls_token": CLS})
        self.tokenizer = tokenizer
        self.decoder_tokenizer = decoder_tokenizer
        self.task = task
        self.cls_id: int = tokenizer.cls_token_id
        # T5-like tokenizers pad with 0; without a pad token any id will do, as the mask hides it.
        self._encoder_pad_id: int = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else self.cls_id
        self._reader = _Pieces(tokenizer)
        self._writer = _Pieces(decoder_tokenizer) if decoder_tokenizer is not None else self._reader
        writer = self._writer.tokenizer
        self.eos_id: int = _end_id(writer)
        self.pad_id: int = writer.pad_token_id if writer.pad_token_id is not None else self.eos_id
        self._prefix, self._suffix = self._special_tokens_around()

    def _special_tokens_around(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        marked = self.tokenizer("a", return_special_tokens_mask=True)
        ids, special = marked["input_ids"], marked["special_tokens_mask"]
        first = special.index(0)
        last = len(special) - special[::-1].index(0)
        prefix = tuple(ids[:first])
        return (prefix if prefix[:1] == (self.cls_id,) else (self.cls_id, *prefix)), tuple(ids[last:])

    def encode_fields(self, fields: Mapping[str, str]) -> EncodedText:
        """Encoder input of one example; raises ItemError for fields that the task cannot use."""
        check_fields(fields, self.task)
        text = self.task.render_input(fields)
        room = self.task.max_input_tokens - len(self._prefix) - len(self._suffix)
        content = self._reader.content(text, room)
        ids = (*self._prefix, *content[:room], *self._suffix)
        if self.decoder_tokenizer is None:
            return EncodedText(ids, truncated=len(content) > room)
        read = self._writer.content(text, self.task.max_input_tokens)
        truncated = len(content) > room or len(read) > self.task.max_input_tokens
        return EncodedText(ids, truncated, tuple(read[: self.task.max_input_tokens]))

    def encode_explanation(self, text: str) -> tuple[int, ...]:
        """Token ids of an explanation, end-of-sequence last, at most max_explanation_tokens long."""
        check_text(text, "candidate explanation")
        room = self.task.max_explanation_tokens - 1
        return (*self._writer.content(text, room)[:room], self.eos_id)

    def decoder_tokens(self, text: str) -> tuple[int, ...]:
        """Token ids of a text of our own for the decoder, such as a cue; no special tokens, nothing cut."""
        return tuple(self._writer.tokenizer(text, add_special_tokens=False)["input_ids"])

    def decode(self, ids: Sequence[int]) -> str:
        """The text of generated token ids, special tokens left out."""
        text: str = self._writer.tokenizer.decode(
            ids, skip_special_tokens=True, clean_up_tokenization_spaces=self._writer.of_word_pieces
        )
        return " ".join(text.split())

    def batch(self, sequences: Sequence[Sequence[int]], device: torch.device | str = "cpu") -> TokenBatch:
        """Explanations, padded to the longest on the right. -> (len(sequences), longest)."""
        return pad(sequences, self.pad_id, device)

    def inputs(self, texts: Sequence[EncodedText], device: torch.device | str = "cpu") -> TokenBatch:
        """Encoder inputs, padded to the longest on the right, and the decoder's where it reads the texts too."""
        batch = pad([text.ids for text in texts], self._encoder_pad_id, device)
        if self.decoder_tokenizer is None:
            return batch
        return replace(batch, decoder=pad([text.decoder_ids for text in texts], self.pad_id, device))

    def save(self, directory: Path) -> None:
        """Write the tokenizers into a model directory; ``load_tokenizers`` reads them."""
        self.tokenizer.save_pretrained(directory)
        if self.decoder_tokenizer is not None:
            self.decoder_tokenizer.save_pretrained(directory / DECODER)


def load_tokenizers(
    source: str | Path, *, own_decoder: bool, local_files_only: bool = False
) -> tuple[PreTrainedTokenizerBase, PreTrainedTokenizerBase | None]:
    """The tokenizers of a model directory or hub id: the encoder's, and the decoder's where it has one of its own."""
    local: dict[str, Any] = {"local_files_only": local_files_only, "trust_remote_code": False}
    tokenizer = AutoTokenizer.from_pretrained(str(source), **local)
    if not own_decoder:
        return tokenizer, None
    if Path(source).is_dir() and not (Path(source) / DECODER).is_dir():
        raise OSError(f"the decoder's tokenizer is missing: no folder {DECODER} there")
    return tokenizer, AutoTokenizer.from_pretrained(str(source), subfolder=DECODER, **local)


class _Pieces:
    """A tokenizer that finds nothing but text in a text."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        # A text that spells "</s>" must not end itself: nothing but the encoder and the decoder set special tokens.
        special = {*tokenizer.all_special_ids} - {tokenizer.unk_token_id}
        # Cleaned up, theirs would otherwise come out as "the device ' s battery"; others keep their blanks as tokens.
        backend = getattr(tokenizer, "backend_tokenizer", None)
        self.of_word_pieces = backend is not None and type(backend.model).__name__ == "WordPiece"
        self._reserved = special | {tokenizer.cls_token_id, _end_id(tokenizer)}  # GPT-2's unknown token ends texts, too

    def content(self, text: str, room: int) -> list[int]:
        """The text's token ids, special tokens never among them: all of them, or more than ``room``."""
        # The head of a long text is enough: only the tokens right before the cut could be others than in the whole.
        characters = 16 * (room + HEAD_MARGIN)
        while True:
            head = text[:characters]
            # Unigram tokenizers (T5) know special tokens as ordinary pieces too, so splitting them is not enough.
            ids = self.tokenizer(head, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
            ids = [token for token in ids if token not in self._reserved]
            if len(head) == len(text) or len(ids) >= room + HEAD_MARGIN:
                return ids
            characters *= 4


def _end_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Ends a text; decoders started from an encoder (BERT) end with [SEP]."""
    return int(tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id)


def pad(sequences: Sequence[Sequence[int]], pad_id: int, device: torch.device | str = "cpu") -> TokenBatch:
    """Pad to the longest sequence, on the right. -> (len(sequences), longest)."""
    longest = max(len(sequence) for sequence in sequences)
    ids = torch.full((len(sequences), longest), pad_id, dtype=torch.long)
    mask = torch.zeros((len(sequences), longest), dtype=torch.bool)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = torch.tensor(sequence, dtype=torch.long)
        mask[row, : len(sequence)] = True
    return TokenBatch(ids.to(device), mask.to(device))


def check_fields(fields: Mapping[str, str], task: Task) -> None:
    """Raise ItemError unless the fields are exactly the task's and hold text."""
    expected = ", ".join(task.fields)
    if missing := [name for name in task.fields if name not in fields]:
        raise ItemError("missing_field", f"the field {missing[0]!r} is missing; the task needs {expected}")
    if any(name not in task.fields for name in fields):
        raise ItemError("unknown_field", f"a field is not one of the task's; the task has {expected}")
    for name in task.fields:
        check_text(fields[name], f"field {name!r}")


def check_text(text: object, what: str) -> None:
    """Raise ItemError unless it is a non-empty text that can be encoded."""
    if not isinstance(text, str):
        raise ItemError("invalid_text", f"the {what} must be a text")
    if not text.strip():
        raise ItemError("empty_text", f"the {what} is empty; send a text with at least one visible character")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ItemError(
            "invalid_text", f"the {what} holds half of a surrogate pair, which is not valid Unicode"
        ) from None


def batches_by_length(lengths: Sequence[int], max_tokens: int) -> Iterator[list[int]]:
    """Indices in groups of similar length, each at most ``max_tokens`` wide once padded (or one index, if longer).

    Longest first: the largest batch comes before all others, so that a lack of memory shows at once.
    """
    group: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if group and (len(group) + 1) * lengths[group[0]] > max_tokens:
            yield group
            group = []
        group.append(index)
    if group:
        yield group
