"""The network: a pre-trained encoder and decoder with a classification head (Eq. 1, 2 of arXiv 2310.05502).

One interface for every family of backbones (families.py lists them): token batch -> Memory, computed once per text;
class logits, explanation log-probabilities and beam search all read that memory.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from service.model.encoding import TokenBatch, pad
from service.model.errors import InputError
from service.model.tree import Opening, Tree

Pooling = Literal["cls", "mean"]
Conditioning = Literal["none", "label"]


@dataclass(frozen=True)
class Memory:
    """What the encoder made of a batch of texts.

    states: (batch, source, hidden), all encoder states. mask: (batch, source) bool. h0: (batch, hidden) float32, the
    text's vector: the state at [CLS], or the mean of all states, by the network's pooling.
    """

    states: Tensor
    mask: Tensor
    h0: Tensor

    def select(self, rows: Tensor) -> Memory:
        """The memory of the given texts, a row per entry (repeats allowed). rows: (n,) int64."""
        return Memory(self.states.index_select(0, rows), self.mask.index_select(0, rows), self.h0.index_select(0, rows))


@dataclass(frozen=True)
class Branches:
    """Explanations as the decoder reads and predicts them: each behind its cue, right-padded.

    ids: (n, width), what is read. targets: (n, width), the next token of each. mask: (n, width) bool, true where a
    token is read. first: (n,), the place whose target is the explanation's first token.
    """

    ids: Tensor
    targets: Tensor
    mask: Tensor
    first: Tensor

    @property
    def predicts(self) -> Tensor:
        """Where a token of the explanation is predicted; what is read before is the cue's. (n, width) bool."""
        places = torch.arange(self.mask.shape[1], device=self.first.device)
        return self.mask & (places >= self.first.unsqueeze(1))

    def explanations(self, log_probs: Tensor, length: int) -> Tensor:
        """Of what was found for all targets, the explanations' part. (n, width) -> (n, length)."""
        places = self.first.unsqueeze(1) + torch.arange(length, device=self.first.device)
        return log_probs.gather(1, places.clamp(max=log_probs.shape[1] - 1))  # beyond the end nothing means anything


class Network(nn.Module, ABC):
    """Encoder, head of exactly C outputs, decoder.

    backbone: the pre-trained weights. pooling: what h_0 is (see Memory). cues: what the decoder reads right before an
    explanation, never scored: one cue for all, or one for each label, in the task's order, where explanations are
    given a label. eos_id: ends every explanation. pad_id: any id, always hidden by a mask.
    """

    def __init__(
        self,
        backbone: PreTrainedModel,
        n_labels: int,
        pooling: Pooling,
        cues: Sequence[Sequence[int]],
        eos_id: int,
        pad_id: int,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.pooling: Pooling = pooling
        self.cues = tuple(tuple(cue) for cue in cues)
        self.eos_id, self.pad_id = eos_id, pad_id
        self.head = nn.Linear(self.hidden_size, n_labels)
        # Small and zero: an untrained head says "no idea", not something at random.
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    @property
    def device(self) -> torch.device:
        return self.head.weight.device

    @property
    def conditioning(self) -> Conditioning:
        """Whether explanations are given a label (``label``) or none."""
        return "label" if len(self.cues) > 1 else "none"

    @property
    @abstractmethod
    def hidden_size(self) -> int:
        """Width of the encoder's states."""

    @property
    @abstractmethod
    def encoder(self) -> nn.Module:
        """The part that makes the states."""

    @property
    @abstractmethod
    def decoder(self) -> nn.Module:
        """The part that writes; its layers are what ``decoder_tuning`` speaks of."""

    @property
    def token_bytes(self) -> int:
        """Memory that the decoder takes for the keys and values of one token, in all of its layers."""
        return token_bytes(self.decoder.config, next(self.decoder.parameters()).dtype)

    @property
    def encoder_is_apart(self) -> bool:
        """Whether encoder and decoder are different modules; a prefix-LM is both in one."""
        return all(module is not self.encoder for module in self.decoder.modules())

    @property
    @abstractmethod
    def decoder_positions(self) -> int | None:
        """The longest explanation in tokens, None where it has no end; one token more could bring a GPU down."""

    @abstractmethod
    def encode(self, batch: TokenBatch) -> Memory:
        """Run the encoder once. batch: (batch, source) -> Memory."""

    def classify(self, memory: Memory) -> Tensor:
        """Class logits W h_0 + b, whose softmax is Eq. 2; always float32. -> (batch, C)."""
        with torch.autocast(memory.h0.device.type, enabled=False):
            logits: Tensor = self.head(memory.h0)
        return logits

    def remember(self, memory: Memory) -> Memory:
        """The memory with all in it that explanations of a text can share; call it once, before several of them."""
        return memory

    @abstractmethod
    def explanation_log_probs(
        self, memory: Memory, explanations: TokenBatch, owners: Tensor | None = None, labels: Tensor | None = None
    ) -> Tensor:
        """log P(e_t | x, e_<t) of given explanations under teacher forcing.

        owners: (n,), for each explanation its text's row in the memory, ascending where the memory has not been through
        ``remember``; None where there is one explanation per text. labels: (n,), the label that each is given, where
        the network is conditioned on labels.
        -> (n, length) float32; entries where ``explanations.mask`` is false mean nothing.
        """

    @abstractmethod
    def begin(self, memory: Memory, rows: Tensor, cue: Sequence[int]) -> Opening:
        """Read texts of a memory and a cue, and be about to write. rows: (n,) int64, in the memory."""

    @abstractmethod
    def grow(self, tree: Tree, tokens: Tensor) -> Tensor:
        """Read one token of every beam, after ``tree.write``. tokens: (slots, beams). -> (slots, beams, vocab), the
        logits of the next."""

    def with_cues(self, cues: Sequence[Sequence[int]]) -> Self:
        """This very network, all its weights shared, behind other cues."""
        other = copy.copy(self)
        other.cues = tuple(tuple(cue) for cue in cues)
        return other

    def cues_of(self, labels: Tensor | None, n: int) -> list[tuple[int, ...]]:
        """The cue of each of n explanations. Raises ValueError where a label is needed and none is given."""
        if self.conditioning == "none":
            return [self.cues[0]] * n
        if labels is None:
            raise ValueError("this network's explanations are given a label; name one for each explanation")
        return [self.cues[label] for label in labels.tolist()]

    def branches(self, explanations: TokenBatch, labels: Tensor | None) -> Branches:
        """Explanations behind their cues, as the decoder reads them."""
        cues = self.cues_of(labels, len(explanations.ids))
        lengths = explanations.mask.sum(dim=1).tolist()
        rows = [
            (*cue, *ids[:length]) for cue, ids, length in zip(cues, explanations.ids.tolist(), lengths, strict=True)
        ]
        whole = pad(rows, self.pad_id, self.device)  # (n, width + 1)
        first = torch.tensor([len(cue) - 1 for cue in cues], device=self.device)
        return Branches(whole.ids[:, :-1], whole.ids[:, 1:], whole.mask[:, 1:], first)


def pool(states: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """h_0 of Eq. 1. states: (batch, source, hidden), mask: (batch, source) -> (batch, hidden) float32."""
    if pooling == "cls":
        return states[:, 0].float()
    weights = mask.unsqueeze(-1).float()  # (batch, source, 1)
    return (states.float() * weights).sum(dim=1) / weights.sum(dim=1)


def width(config: Any) -> int:
    """Width of a half's states; T5Gemma and multimodal models keep it in a configuration of the text's own."""
    return int((getattr(config, "text_config", None) or config).hidden_size)


def positions(config: Any) -> int | None:
    """How many tokens a half of the backbone can number; None where its positions have no end."""
    family = getattr(config, "model_type", "")
    count = getattr(config, "max_position_embeddings", None)
    # T5's relative positions have no end: its configurations name none (n_positions is a training length).
    if family in {"t5", "mt5", "umt5", "longt5"} or not isinstance(count, int):
        return None
    return count - config.pad_token_id - 1 if counts_from_padding(config) else count


def token_bytes(config: Any, dtype: torch.dtype) -> int:
    """Memory for the keys and values of one token in all layers of a decoder."""
    config = config.get_text_config(decoder=True)  # of a pair, the decoder's half
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    head_width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_hidden_layers * heads * head_width * dtype.itemsize)


def counts_from_padding(config: Any) -> bool:
    """Whether positions begin one past the padding's id, as RoBERTa's and its kin's do."""
    family = getattr(config, "model_type", "")
    return "roberta" in family or family == "camembert"


def check_length(name: str, wanted: int, available: int | None) -> None:
    """Raise InputError where a backbone has fewer positions than the task asks for."""
    if available is not None and wanted > available:
        raise InputError(f"task: {name} is {wanted}, but the model has only {available} positions; lower it to that")
