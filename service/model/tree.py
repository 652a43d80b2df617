"""The decoder's keys and values in a search: all beams of a text stand in one row, behind what they have in common.

A beam is a path through its row's tree of tokens: it sees those of its own past by a mask. So what is common is kept
once per text, and to choose beams moves no keys or values. Rows are slots: a text that is finished leaves its own to
another, whatever the other rows are doing.
"""

from __future__ import annotations

import weakref
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

    like: what any text opens with, for the shapes. beams: of each row. length: tokens that a beam may write. What of
    the columns is in use lies together: the decoder sees no more than that. source: rows of an encoder's states, if the
    decoder looks back at them.
    """

    def __init__(self, like: Opening, beams: int, length: int) -> None:
        super().__init__(layers=[_Branches(read, beams * length, self) for read in like.cache.layers])
        device = like.mask.device
        self.beams = beams
        self.prefix = beams * length  # the column where what was read begins
        self.begin = self.end = self.prefix  # of the columns in use
        self.used = self.prefix  # from this column on they have been in use, and hold numbers
        self.visible = torch.zeros(0, beams, self.prefix, dtype=torch.bool, device=device)
        self.numbers = torch.zeros(0, self.prefix, dtype=torch.long, device=device)
        self.columns = torch.zeros(0, beams, dtype=torch.long, device=device)
        self.source: Source | None = None
        if like.source is not None:
            rows = Cache(layers=[_Rows(read, 0) for read in like.source.cache.layers])
            self.source = Source(rows, torch.zeros(0, 0, dtype=torch.bool, device=device))

    def resize(self, rows: Tensor, slots: int) -> None:
        """Keep some slots, and have free ones behind them. rows: (n,), those to keep. slots: at least n, in all."""
        self.visible, self.numbers = resized(self.visible, rows, slots), resized(self.numbers, rows, slots)
        for layer in self.layers:
            layer.resize(rows, slots, self.used)
        if self.source is not None:
            for layer in self.source.cache.layers:
                layer.resize(rows, slots, 0)
            self.source = Source(self.source.cache, resized(self.source.mask, rows, slots))

    def admit(self, rows: Tensor, opening: Opening) -> None:
        """Give slots to other texts. rows: (n,)."""
        width = opening.mask.shape[1]
        self._widen(self.prefix + width)
        for layer, read in zip(self.layers, opening.cache.layers, strict=True):
            layer.admit(rows, read, self.prefix, self.end, self.used)
        if self.source is not None and opening.source is not None:
            length = max(self.source.mask.shape[1], opening.source.mask.shape[1])
            mask = _wider(self.source.mask, 1, length).index_copy(0, rows, _wider(opening.source.mask, 1, length))
            for layer, read in zip(self.source.cache.layers, opening.source.cache.layers, strict=True):
                layer.admit(rows, read, 0, length, 0)
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
        if self.begin < self.used:
            for layer in self.layers:
                layer.clear(self.begin, self.used)
            self.used = self.begin
        self.visible.scatter_(2, self.columns.unsqueeze(2), True)
        self.numbers.scatter_(1, self.columns, numbers.unsqueeze(1).expand(-1, self.beams))

    def follow(self, parents: Tensor) -> None:
        """Let every beam go on from another of its text. parents: (slots, beams)."""
        self.visible = self.visible.gather(1, parents.unsqueeze(2).expand(-1, -1, self.visible.shape[2]))

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

    @property
    def farthest(self) -> int:
        """No column stands farther back than this."""
        return self.end - self.prefix + self.prefix // self.beams

    def _widen(self, width: int) -> None:
        self.end = max(self.end, width)
        self.visible, self.numbers = _wider(self.visible, 2, self.end), _wider(self.numbers, 1, self.end)


class _Rows(CacheLayerMixin):
    """Keys and values of one layer, (slots, heads, columns, head width); what was read stays as it is."""

    is_sliding = False

    def __init__(self, like: Any, columns: int) -> None:
        super().__init__()
        self.keys, self.values = (
            read.new_zeros(0, read.shape[1], columns, read.shape[3]) for read in (like.keys, like.values)
        )
        self.is_initialized = True

    def lazy_initialization(self, *_: Any) -> None:
        raise AssertionError("its shapes are known from the beginning")

    def resize(self, rows: Tensor, slots: int, used: int) -> None:
        """used: the column from which on there are numbers. What lies before takes no memory until it is written."""
        self.keys, self.values = _moved(self.keys, rows, slots, used), _moved(self.values, rows, slots, used)

    def clear(self, first: int, end: int) -> None:
        """Have numbers in some columns: what is masked has no weight, but nothing times not-a-number is no zero."""
        self.keys[:, :, first:end], self.values[:, :, first:end] = 0, 0

    def admit(self, rows: Tensor, read: Any, first: int, width: int, used: int) -> None:
        """Put what n texts have read into their rows, from column ``first`` on; there are ``width`` columns, with
        numbers in those from ``used`` on. Nothing is left of the texts before: it might be not-a-number."""
        self.keys, self.values = _wider(self.keys, 2, width), _wider(self.values, 2, width)
        self.keys[rows, :, used:], self.values[rows, :, used:] = 0, 0
        part = slice(first, first + read.keys.shape[2])
        self.keys[rows, :, part], self.values[rows, :, part] = read.keys, read.values

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

    def __init__(self, like: Any, columns: int, tree: Tree) -> None:
        super().__init__(like, columns)
        self._tree = weakref.ref(tree)  # or what a finished search held would stay until the next garbage collection

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        tree = self._tree()
        assert tree is not None
        slots = torch.arange(len(self.keys), device=self.keys.device).unsqueeze(1)
        self.keys[slots, :, tree.columns] = key_states.transpose(1, 2)  # (slots, beams, heads, head width)
        self.values[slots, :, tree.columns] = value_states.transpose(1, 2)
        return self.keys[:, :, tree.begin : tree.end], self.values[:, :, tree.begin : tree.end]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0

    def get_seq_length(self) -> int:
        tree = self._tree()
        assert tree is not None
        return tree.end - tree.begin - tree.beams  # before what is being written


def resized(values: Tensor, rows: Tensor, slots: int) -> Tensor:
    """Some rows of a tensor, and zeros behind them. rows: (n,). -> (slots, ...)."""
    return _wider(values[rows], 0, slots)


def _moved(values: Tensor, rows: Tensor, slots: int, used: int) -> Tensor:
    moved = values.new_empty(slots, *values.shape[1:])
    torch.index_select(values[:, :, used:], 0, rows, out=moved[: len(rows), :, used:])
    moved[len(rows) :, :, used:] = 0
    return moved


def _wider(values: Tensor, dim: int, width: int) -> Tensor:
    shape = list(values.shape)
    shape[dim] = width - shape[dim]
    if not shape[dim]:
        return values
    return torch.cat([values, values.new_zeros(shape)], dim=dim)
