"""The decoder's keys and values in a search: all beams of a text stand in one row, behind what they have in common.

A beam is a path through its row's tree of tokens: it sees those of its own past by a mask. So what is common is kept
once per text, and to choose beams moves no keys or values. Rows are slots: a text that is finished leaves its own to
another, whatever the other rows are doing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin


@dataclass(frozen=True)
class Source:
    """What a decoder that looks back at an encoder's states has of them: keys and values, (n, heads, source, head
    width) in every layer, and their (n, source) mask."""

    cache: Cache
    mask: Tensor


@dataclass(frozen=True)
class Opening:
    """What the decoder has of n texts when it is about to write.

    cache: keys and values of what it has read, (n, heads, prefix, head width) in every layer. mask: (n, prefix) bool,
    false on padding. numbers: (n, prefix), the position of each token. logits: (n, vocab) of the first token to write.
    source: of an encoder's states, where the decoder looks back at them.
    """

    cache: Cache
    mask: Tensor
    numbers: Tensor
    logits: Tensor
    source: Source | None = None

    @property
    def first(self) -> Tensor:
        """(n,), the position of the first token to write."""
        return self.numbers.max(dim=1).values + 1


class Tree(Cache):
    """Rows of keys and values: the tokens of all beams, the latest first, then what was read before them.

    slots: rows. beams: of each. length: tokens that a beam may write. What of the columns is in use lies together: the
    decoder sees no more than that. source: rows of an encoder's states, if the decoder looks back at them.
    """

    def __init__(self, opening: Opening, slots: int, beams: int, length: int) -> None:
        super().__init__(layers=[_Branches(self) for _ in opening.cache.layers])
        device = opening.mask.device
        self.slots, self.beams = slots, beams
        self.prefix = beams * length  # the column where what was read begins
        self.visible = torch.zeros(slots, beams, self.prefix, dtype=torch.bool, device=device)
        self.numbers = torch.zeros(slots, self.prefix, dtype=torch.long, device=device)
        self.columns = torch.zeros(slots, beams, dtype=torch.long, device=device)
        self.begin = self.end = self.prefix  # of the columns in use
        self.source: Source | None = None
        if opening.source is not None:
            rows = Cache(layers=[_Rows(slots) for _ in opening.source.cache.layers])
            self.source = Source(rows, torch.zeros(slots, 0, dtype=torch.bool, device=device))

    def admit(self, rows: Tensor, opening: Opening) -> None:
        """Give slots to other texts. rows: (n,)."""
        width = opening.mask.shape[1]
        self._widen(self.prefix + width)
        for layer, read in zip(self.layers, opening.cache.layers, strict=True):
            layer.admit(rows, read, self.prefix, self.end)
        if self.source is not None and opening.source is not None:
            length = max(self.source.mask.shape[1], opening.source.mask.shape[1])
            mask = _wider(self.source.mask, 1, length).index_copy(0, rows, _wider(opening.source.mask, 1, length))
            for layer, read in zip(self.source.cache.layers, opening.source.cache.layers, strict=True):
                layer.admit(rows, read, 0, length)
            self.source = Source(self.source.cache, mask)
        part = slice(self.prefix, self.prefix + width)
        self.visible[rows] = False
        self.visible[rows, :, part] = opening.mask.unsqueeze(1)
        self.numbers[rows, part] = opening.numbers

    def write(self, steps: Tensor, longest: int, numbers: Tensor) -> None:
        """Make room for one token of each beam. steps: (slots,), tokens that the beams have written before, at most
        ``longest``. numbers: (slots,), the position of this one."""
        beams = torch.arange(self.beams, device=steps.device)
        self.columns = self.prefix - (steps.unsqueeze(1) + 1) * self.beams + beams  # (slots, beams)
        self.begin = self.prefix - (longest + 1) * self.beams
        self.visible.scatter_(2, self.columns.unsqueeze(2), True)
        self.numbers.scatter_(1, self.columns, numbers.unsqueeze(1).expand(-1, self.beams))

    def follow(self, parents: Tensor) -> None:
        """Let every beam go on from another of its text. parents: (slots, beams)."""
        self.visible = self.visible.gather(1, parents.unsqueeze(2).expand(-1, -1, self.visible.shape[2]))

    def keep(self, rows: Tensor) -> None:
        """Let go of all other slots. rows: (n,)."""
        self.slots = len(rows)
        self.visible, self.numbers = self.visible[rows], self.numbers[rows]
        for layer in self.layers:
            layer.keep(rows)
        if self.source is not None:
            for layer in self.source.cache.layers:
                layer.keep(rows)
            self.source = Source(self.source.cache, self.source.mask[rows])

    @property
    def positions(self) -> Tensor:
        """Those of the tokens to write, (slots, beams)."""
        return self.numbers.gather(1, self.columns)

    @property
    def mask(self) -> Tensor:
        """What each beam sees of the columns in use, (slots, 1, beams, columns) bool."""
        return self.visible[:, None, :, self.begin : self.end]

    @property
    def distances(self) -> Tensor:
        """How far back each column in use stands of the tokens to write, (slots, columns)."""
        return self.positions[:, :1] - self.numbers[:, self.begin : self.end]

    def _widen(self, width: int) -> None:
        self.end = max(self.end, width)
        self.visible, self.numbers = _wider(self.visible, 2, self.end), _wider(self.numbers, 1, self.end)


class _Rows(CacheLayerMixin):
    """Keys and values of one layer, (slots, heads, columns, head width); what was read stays as it is."""

    is_sliding = False

    def __init__(self, slots: int) -> None:
        super().__init__()
        self.slots = slots

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.keys, self.values = (
            new.new_zeros(self.slots, new.shape[1], 0, new.shape[3]) for new in (key_states, value_states)
        )
        self.is_initialized = True

    def admit(self, rows: Tensor, read: Any, first: int, width: int) -> None:
        """Put what n texts have read into their rows, from a column on; there are ``width`` of these."""
        if not self.is_initialized:
            self.lazy_initialization(read.keys, read.values)
        self.keys, self.values = _wider(self.keys, 2, width), _wider(self.values, 2, width)
        part = slice(first, first + read.keys.shape[2])
        self.keys[rows, :, part], self.values[rows, :, part] = read.keys, read.values

    def keep(self, rows: Tensor) -> None:
        self.slots = len(rows)
        self.keys, self.values = self.keys[rows], self.values[rows]

    def update(self, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        raise AssertionError("what was read is never written again")

    def get_mask_sizes(self, *_: Any) -> tuple[int, int]:
        return self.get_seq_length(), 0

    def get_seq_length(self) -> int:
        return int(self.keys.shape[2])

    def get_max_length(self) -> int:
        return -1


class _Branches(_Rows):
    """The same of a layer whose beams write."""

    def __init__(self, tree: Tree) -> None:
        super().__init__(0)
        self.tree = tree

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.slots = self.tree.slots
        super().lazy_initialization(key_states, value_states)

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        tree = self.tree
        for kept, new in ((self.keys, key_states), (self.values, value_states)):
            kept.scatter_(2, tree.columns[:, None, :, None].expand_as(new), new)
        return self.keys[:, :, tree.begin : tree.end], self.values[:, :, tree.begin : tree.end]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0

    def get_seq_length(self) -> int:
        return self.tree.end - self.tree.begin - self.tree.beams  # before what is being written


def _wider(values: Tensor, dim: int, width: int) -> Tensor:
    shape = list(values.shape)
    shape[dim] = width - shape[dim]
    if not shape[dim]:
        return values
    return torch.cat([values, values.new_zeros(shape)], dim=dim)
