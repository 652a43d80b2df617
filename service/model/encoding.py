"""Texts -> token batches: [CLS] first, truncation noticed, padding only up to the longest of the batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from service.model.errors import ItemError
from service.model.task import Task

CLS = "[CLS]"  # added to tokenizers that have no such token of their own, as T5's
HEAD_MARGIN = 64  # tokens beyond the last one kept, so that cutting a long text cannot change those kept


@dataclass(frozen=True)
class EncodedText:
    """One encoder input. ids: [CLS] first, at most max_input_tokens long. truncated: whether the text was longer."""

    ids: tuple[int, ...]
    truncated: bool


@dataclass(frozen=True)
class TokenBatch:
    """Padded token ids on one device. ids: (batch, length) int64; mask: (batch, length) bool, true on real tokens."""

    ids: Tensor
    mask: Tensor


class TextEncoder:
    """Turns a task's texts and explanations into token ids of one backbone's tokenizer.

    Explanations are always their own tokens followed by one end-of-sequence token, whatever else the tokenizer would
    put around them, so that Eq. 6 counts the same tokens for every backbone.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, task: Task) -> None:
        if tokenizer.cls_token_id is None:
            tokenizer.add_special_tokens({"cls_token": CLS})
        self.tokenizer = tokenizer
        self.task = task
        self.cls_id: int = tokenizer.cls_token_id
        # Decoders started from an encoder (BERT) end with [SEP].
        self.eos_id: int = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id
        # T5-like tokenizers pad with 0; without a pad token any id will do, as the mask hides it.
        self.pad_id: int = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else self.eos_id
        self._prefix, self._suffix = self._special_tokens_around()
        # A text that spells "</s>" must not end itself: nothing but the encoder and the decoder set special tokens.
        self._reserved = {*tokenizer.all_special_ids} - {tokenizer.unk_token_id} | {self.cls_id, self.eos_id}

    def _special_tokens_around(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        marked = self.tokenizer("a", return_special_tokens_mask=True)
        ids, special = marked["input_ids"], marked["special_tokens_mask"]
        first = special.index(0)
        last = len(special) - special[::-1].index(0)
        prefix = tuple(ids[:first])
        return (prefix if prefix[:1] == (self.cls_id,) else (self.cls_id, *prefix)), tuple(ids[last:])

    def _content(self, text: str, room: int) -> list[int]:
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

    def encode_fields(self, fields: Mapping[str, str]) -> EncodedText:
        """Encoder input of one example; raises ItemError for fields that the task cannot use."""
        check_fields(fields, self.task)
        room = self.task.max_input_tokens - len(self._prefix) - len(self._suffix)
        content = self._content(self.task.render_input(fields), room)
        ids = (*self._prefix, *content[:room], *self._suffix)
        return EncodedText(ids, truncated=len(content) > room)

    def encode_explanation(self, text: str) -> tuple[int, ...]:
        """Token ids of an explanation, end-of-sequence last, at most max_explanation_tokens long."""
        check_text(text, "candidate explanation")
        room = self.task.max_explanation_tokens - 1
        return (*self._content(text, room)[:room], self.eos_id)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of generated token ids, special tokens left out."""
        # Cleaned up: word pieces would otherwise come out as "the device ' s battery".
        text: str = self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=True)
        return " ".join(text.split())

    def batch(self, sequences: Sequence[Sequence[int]], device: torch.device | str = "cpu") -> TokenBatch:
        """Pad to the longest sequence, on the right. -> (len(sequences), longest)."""
        return pad(sequences, self.pad_id, device)


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
