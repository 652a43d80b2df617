"""The composed family: any encoder beside any decoder-only language model.

The decoder reads a soft prefix, the encoder's states projected into its own embeddings, then the text in its own
tokens, then a cue, and writes the explanation. The explanation losses reach the encoder through the soft prefix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    DynamicCache,
    EncoderDecoderConfig,
    PreTrainedModel,
)

from service.model.attention import attended
from service.model.encoding import TextEncoder, TokenBatch
from service.model.network import Branches, Conditioning, Memory, Pooling, check_length, pool, positions, width
from service.model.prefix import (
    Prefix,
    PrefixMemory,
    PrefixNetwork,
    behind,
    check_room,
    cues,
    places,
    plain_generation,
    room,
)
from service.model.scoring import token_log_probs
from service.model.tree import Opening


class ComposedModel(PreTrainedModel):
    """An encoder, a decoder-only language model, and the bridge between them, saved and loaded as one model.

    bridge: encoder states, normalised, -> the decoder's embeddings. Its configuration is transformers' own for pairs
    of an encoder and a decoder, so that AutoConfig reads it; ``opening`` and ``closing`` in it are what the decoder
    expects before a question and between a question and its answer.
    """

    config_class = EncoderDecoderConfig
    base_model_prefix = "composed"
    main_input_name = "input_ids"
    _supports_sdpa = True

    def __init__(
        self,
        config: EncoderDecoderConfig,
        encoder: PreTrainedModel | None = None,
        decoder: PreTrainedModel | None = None,
    ) -> None:
        super().__init__(config)
        self.encoder = encoder if encoder is not None else AutoModel.from_config(config.encoder)
        self.decoder = decoder if decoder is not None else AutoModelForCausalLM.from_config(config.decoder)
        embeddings = self.decoder.get_input_embeddings()
        self.bridge = nn.Linear(width(config.encoder), embeddings.embedding_dim)  # OPT-350m's states are wider
        self.post_init()

    @classmethod
    def of(
        cls, encoder: PreTrainedModel, decoder: PreTrainedModel, opening: str = "", closing: str = "\n"
    ) -> ComposedModel:
        """Compose two pre-trained models. The bridge is new, drawn from torch's global generator."""
        # Where the halves came from is no part of the model: the same model would get another hash on every machine.
        halves = [{**half.config.to_dict(), "_name_or_path": ""} for half in (encoder, decoder)]
        config = EncoderDecoderConfig(encoder=halves[0], decoder=halves[1], opening=opening, closing=closing)
        model = cls(config, encoder, decoder)
        # A soft prefix as large as the decoder's own embeddings is the least surprise for its first layer.
        scale = decoder.get_input_embeddings().weight.detach().double().square().mean().sqrt().item()
        nn.init.normal_(model.bridge.weight, std=scale / model.bridge.in_features**0.5)
        nn.init.zeros_(model.bridge.bias)
        return model

    def get_input_embeddings(self) -> nn.Module:
        embeddings: nn.Module = self.encoder.get_input_embeddings()
        return embeddings

    def get_output_embeddings(self) -> nn.Module:
        embeddings: nn.Module = self.decoder.get_output_embeddings()
        return embeddings


class Composed(PrefixNetwork):
    """A network over a ComposedModel. The decoder's row: opening, soft prefix, text, cue, explanation, end."""

    def __init__(self, *settings: Any, opening: Sequence[int], max_input_tokens: int) -> None:
        super().__init__(*settings)
        self.opening = tuple(opening)  # language models lean on their first token: no place for a soft prefix
        self.longest_prefix = 2 * max_input_tokens + len(self.opening)

    @property
    def hidden_size(self) -> int:
        return width(self.backbone.config.encoder)

    @property
    def encoder(self) -> nn.Module:
        module: nn.Module = self.backbone.encoder
        return module

    @property
    def decoder(self) -> PreTrainedModel:
        return self.backbone.decoder

    @property
    def decoder_positions(self) -> int | None:
        return room(self.backbone.config.decoder, self.longest_prefix, self.cues)

    def encode(self, batch: TokenBatch) -> PrefixMemory:
        if batch.decoder is None:
            raise ValueError("this decoder reads the texts too; make the batch with TextEncoder.inputs")
        states = self.encoder(
            input_ids=batch.ids, attention_mask=batch.mask.long(), return_dict=True
        ).last_hidden_state  # (batch, source, hidden)
        return PrefixMemory(states, batch.mask, pool(states, batch.mask, self.pooling), batch.decoder, None)

    def remember(self, memory: Memory) -> PrefixMemory:
        assert isinstance(memory, PrefixMemory)
        if memory.prefix is not None:
            return memory
        embeddings, mask = self._prefix(memory)
        return replace(memory, prefix=Prefix(self._read(embeddings, mask)[0], mask))

    def explanation_log_probs(
        self, memory: Memory, explanations: TokenBatch, owners: Tensor | None = None, labels: Tensor | None = None
    ) -> Tensor:
        assert isinstance(memory, PrefixMemory)
        branches, length = self.branches(explanations, labels), explanations.ids.shape[1]
        if owners is None:
            owners = torch.arange(len(explanations.ids), device=self.device)
        if memory.prefix is None:
            return self._packed_log_probs(memory, branches, length, owners)
        return self.cached_log_probs(memory.prefix.select(owners), branches, length)

    def begin(self, memory: Memory, rows: Tensor, cue: Sequence[int]) -> Opening:
        assert isinstance(memory, PrefixMemory)
        if memory.prefix is not None:
            return super().begin(memory, rows, cue)
        embeddings, mask = self._prefix(memory.select(rows))
        ids = torch.tensor([cue] * len(rows), device=self.device)
        embeddings = torch.cat([embeddings, self.decoder.get_input_embeddings()(ids).to(embeddings.dtype)], dim=1)
        mask = torch.cat([mask, torch.ones_like(ids, dtype=torch.bool)], dim=1)
        cache, logits = self._read(embeddings, mask)
        return Opening(cache, mask, places(mask), logits)

    def _read(self, embeddings: Tensor, mask: Tensor) -> tuple[DynamicCache, Tensor]:
        """Keys and values of a row, and the (batch, vocab) logits behind it."""
        cache = DynamicCache()
        logits = self.decoder(
            inputs_embeds=embeddings,
            attention_mask=mask.long(),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
            position_ids=places(mask),
        ).logits
        return cache, logits[:, -1]

    def _prefix(self, memory: PrefixMemory) -> tuple[Tensor, Tensor]:
        """What the decoder reads before any cue: (batch, prefix, width) embeddings and their (batch, prefix) mask."""
        embed = self.decoder.get_input_embeddings()
        normal = F.layer_norm(memory.states, memory.states.shape[-1:])
        parts, masks = [self.backbone.bridge(normal), embed(memory.text.ids)], [memory.mask, memory.text.mask]
        if self.opening:
            opening = torch.tensor(self.opening, device=self.device).expand(len(memory.mask), -1)
            parts, masks = [embed(opening), *parts], [torch.ones_like(opening, dtype=torch.bool), *masks]
        dtype = parts[-1].dtype
        return torch.cat([part.to(dtype) for part in parts], dim=1), torch.cat(masks, dim=1)

    def _packed_log_probs(self, memory: PrefixMemory, branches: Branches, length: int, owners: Tensor) -> Tensor:
        """All explanations of a text behind its prefix in one row, none of which sees another. -> (n, length)."""
        prefix, prefix_mask = self._prefix(memory)
        # First the cues of all, then what predicts explanations: only that needs logits, most of the memory and time.
        predicts = branches.predicts
        cue = branches.mask & ~predicts
        cue_row, cue_place, cue_own = pack(cue, owners, len(prefix_mask))
        row, place, own = pack(predicts, owners, len(prefix_mask))

        def packed(values: Tensor) -> Tensor:
            cues, explanations = torch.zeros_like(cue_own), torch.zeros_like(own)
            cues[cue_row, cue_place], explanations[row, place] = values[cue], values[predicts]
            return torch.cat([cues, explanations], dim=1)

        embeddings = self.decoder.get_input_embeddings()(packed(branches.ids)).to(prefix.dtype)
        numbers = packed(behind(prefix_mask, branches.ids.shape[1])[owners])
        numbers = torch.cat([places(prefix_mask), numbers], dim=1)
        visible = branch_mask(prefix_mask, torch.cat([cue_own, own], dim=1), numbers)
        logits = self.decoder(
            inputs_embeds=torch.cat([prefix, embeddings], dim=1),
            attention_mask=attended(self.decoder, visible),
            use_cache=False,
            logits_to_keep=own.shape[1],
            position_ids=numbers,
        ).logits  # (batch, packed explanations, vocab)
        targets = packed(branches.targets)[:, -own.shape[1] :]
        log_probs = torch.zeros(branches.mask.shape, device=self.device)
        log_probs[predicts] = token_log_probs(logits, targets)[row, place]
        return branches.explanations(log_probs, length)


def pack(mask: Tensor, owners: Tensor, batch: int) -> tuple[Tensor, Tensor, Tensor]:
    """Where the tokens of n branches stand if those of one text share a row, one branch behind the other.

    mask: (n, width) bool, true on the tokens to pack. owners: (n,), the branches' rows, ascending. -> (tokens,) rows
    and (tokens,) places of the true entries of ``mask``, and (batch, packed): which branch stands in each place, -1 for
    none.
    """
    lengths = mask.sum(dim=1)
    ends = lengths.cumsum(dim=0)
    totals = torch.zeros(batch, dtype=torch.long, device=mask.device).index_add(0, owners, lengths)
    starts = ends - lengths - (totals.cumsum(dim=0) - totals)[owners]  # (n,), within the owner's row
    place = (starts.unsqueeze(1) + mask.long().cumsum(dim=1) - 1)[mask]
    row = owners.unsqueeze(1).expand_as(mask)[mask]
    own = torch.full((batch, int(totals.max())), -1, device=mask.device)
    own[row, place] = torch.arange(len(mask), device=mask.device).unsqueeze(1).expand_as(mask)[mask]
    return row, place, own


def branch_mask(prefix: Tensor, own: Tensor, numbers: Tensor) -> Tensor:
    """Who sees whom in packed rows: the prefix is causal, a branch sees the prefix and itself as far as it goes.

    prefix: (batch, prefix) bool. own: (batch, packed), branch numbers. numbers: (batch, length), the position of each
    token of prefix and packed part. -> (batch, 1, length, length) bool.
    """
    # The prefix is everybody's, -2; padding of either part is seen by itself alone: a softmax over nothing is NaN.
    common = torch.full_like(prefix, -2, dtype=torch.long).masked_fill(~prefix, -1)
    part = torch.cat([common, own], dim=1)  # (batch, length)
    visible = (part.unsqueeze(1) == part.unsqueeze(2)) | (part.unsqueeze(1) == -2)  # (batch, query, key)
    visible &= (part != -1).unsqueeze(1) & (numbers.unsqueeze(1) <= numbers.unsqueeze(2))
    itself = torch.eye(part.shape[1], dtype=torch.bool, device=own.device)
    return (visible | itself).unsqueeze(1)


def composed(backbone: ComposedModel, encoder: TextEncoder, pooling: Pooling, conditioning: Conditioning) -> Composed:
    """Put a new head on a composed model whose tokenizers are the encoder's.

    Raises InputError where the task's lengths do not fit the positions of either half.
    """
    task = encoder.task
    network = Composed(
        backbone,
        len(task.labels),
        pooling,
        cues(encoder, conditioning, getattr(backbone.config, "closing", "\n")),
        encoder.eos_id,
        encoder.pad_id,
        opening=encoder.decoder_tokens(getattr(backbone.config, "opening", "")),
        max_input_tokens=task.max_input_tokens,
    )
    check_length("max_input_tokens", task.max_input_tokens, positions(backbone.config.encoder))
    check_room(network, task)
    plain_generation(backbone.decoder, encoder.eos_id, encoder.pad_id)
    return network
