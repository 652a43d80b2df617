"""The prefix-LM family: one decoder-only language model that reads the text in both directions, then writes.

Its states of the text make h_0, and the keys and values behind them are the memory: the text is read once for both.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from service.model.attention import attended
from service.model.encoding import TextEncoder, TokenBatch
from service.model.network import Conditioning, Memory, Pooling, pool, width
from service.model.prefix import Prefix, PrefixMemory, PrefixNetwork, check_room, cues, places, plain_generation, room


class PrefixLM(PrefixNetwork):
    """A network over a causal language model. Its row: the text with [CLS] first, cue, explanation, end."""

    def __init__(self, *settings: Any, max_input_tokens: int) -> None:
        super().__init__(*settings)
        self.longest_prefix = max_input_tokens

    @property
    def hidden_size(self) -> int:
        return width(self.backbone.config)

    @property
    def encoder(self) -> PreTrainedModel:
        """The language model without its head: here the encoder is the decoder."""
        return self.backbone.base_model

    @property
    def decoder(self) -> PreTrainedModel:
        return self.backbone

    @property
    def decoder_positions(self) -> int | None:
        return room(self.backbone.config, self.longest_prefix, self.cues)

    def encode(self, batch: TokenBatch) -> PrefixMemory:
        cache = DynamicCache()
        length = batch.mask.shape[1]
        itself = torch.eye(length, dtype=torch.bool, device=self.device)  # padding too must see something
        visible = (batch.mask.unsqueeze(1) | itself).unsqueeze(1)  # (batch, 1, query, key): both directions
        states = self.encoder(
            input_ids=batch.ids,
            attention_mask=attended(self.backbone, visible),
            past_key_values=cache,
            use_cache=True,
            position_ids=places(batch.mask),
        ).last_hidden_state  # (batch, source, hidden)
        h0 = pool(states, batch.mask, self.pooling)
        return PrefixMemory(states, batch.mask, h0, batch, Prefix(cache, batch.mask))

    def explanation_log_probs(
        self, memory: Memory, explanations: TokenBatch, owners: Tensor | None = None, labels: Tensor | None = None
    ) -> Tensor:
        assert isinstance(memory, PrefixMemory)
        if owners is None:
            owners = torch.arange(len(explanations.ids), device=self.device)
        branches = self.branches(explanations, labels)
        return self.cached_log_probs(self.read(memory).select(owners), branches, explanations.ids.shape[1])


def prefix_lm(
    backbone: PreTrainedModel, encoder: TextEncoder, pooling: Pooling, conditioning: Conditioning
) -> PrefixLM:
    """Put a new head on a causal language model whose tokenizer is the encoder's.

    Raises InputError where the task's lengths do not fit the model's positions.
    """
    task = encoder.task
    network = PrefixLM(
        backbone,
        len(task.labels),
        pooling,
        cues(encoder, conditioning, "\n"),
        encoder.eos_id,
        encoder.pad_id,
        max_input_tokens=task.max_input_tokens,
    )
    check_room(network, task)
    plain_generation(backbone, encoder.eos_id, encoder.pad_id)
    return network
