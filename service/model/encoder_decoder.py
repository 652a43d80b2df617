"""The family of the paper: transformers' encoder-decoders (FLAN-T5, BART, T5Gemma, EncoderDecoderModel).

The decoder attends to the encoder's states; these are the memory.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import DynamicCache, EncoderDecoderCache, GenerationConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from service.model.attention import added, tree_attention
from service.model.encoding import TextEncoder, TokenBatch
from service.model.errors import InputError
from service.model.network import (
    Conditioning,
    Memory,
    Network,
    Pooling,
    check_length,
    counts_from_padding,
    pool,
    positions,
    width,
)
from service.model.scoring import token_log_probs
from service.model.tree import Opening, Source, Tree


class EncoderDecoder(Network):
    """A network over a transformers encoder-decoder. Its cues begin with the decoder's start token."""

    @property
    def hidden_size(self) -> int:
        return width(getattr(self.backbone.config, "encoder", None) or self.backbone.config)

    @property
    def encoder(self) -> nn.Module:
        module: nn.Module = self.backbone.get_encoder()
        return module

    @property
    def decoder(self) -> nn.Module:
        module: nn.Module = self.backbone.get_decoder()
        return module

    @property
    def decoder_positions(self) -> int | None:
        available = positions(getattr(self.backbone.config, "decoder", self.backbone.config))
        return None if available is None else available - max(map(len, self.cues)) + 1

    def encode(self, batch: TokenBatch) -> Memory:
        states = self.encoder(
            input_ids=batch.ids, attention_mask=batch.mask.long(), return_dict=True
        ).last_hidden_state  # (batch, source, hidden)
        return Memory(states, batch.mask, pool(states, batch.mask, self.pooling))

    def explanation_log_probs(
        self, memory: Memory, explanations: TokenBatch, owners: Tensor | None = None, labels: Tensor | None = None
    ) -> Tensor:
        if owners is not None:
            memory = memory.select(owners)
        branches = self.branches(explanations, labels)
        logits = self.backbone(
            encoder_outputs=BaseModelOutput(last_hidden_state=memory.states),
            attention_mask=memory.mask.long(),
            decoder_input_ids=branches.ids,
            # All ones: padding stands last, where a causal decoder cannot see it. Without it T5Gemma hides every token
            # equal to the padding, which beam search does not.
            decoder_attention_mask=torch.ones_like(branches.ids),
            use_cache=False,
            return_dict=True,
        ).logits  # (n, width, vocab)
        return branches.explanations(token_log_probs(logits, branches.targets), explanations.ids.shape[1])

    def begin(self, memory: Memory, rows: Tensor, cue: Sequence[int]) -> Opening:
        memory = memory.select(rows)
        ids = torch.tensor([cue] * len(rows), device=self.device)
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        logits = self.backbone(
            encoder_outputs=BaseModelOutput(last_hidden_state=memory.states),
            attention_mask=memory.mask.long(),
            decoder_input_ids=ids,
            decoder_attention_mask=torch.ones_like(ids),
            past_key_values=cache,
            use_cache=True,
            return_dict=True,
        ).logits
        mask = torch.ones_like(ids, dtype=torch.bool)
        numbers = torch.arange(len(cue), device=self.device).expand(len(rows), -1)
        source = Source(cache.cross_attention_cache, memory.mask)
        return Opening(cache.self_attention_cache, mask, numbers, logits[:, -1], source)

    def grow(self, tree: Tree, tokens: Tensor) -> Tensor:
        assert tree.source is not None
        # The keys and values of the states are in the cache; the states themselves are asked for, but not read.
        states = torch.zeros(*tree.source.mask.shape, self.hidden_size, device=self.device, dtype=self.backbone.dtype)
        mask = added(self.decoder, tree.mask)
        with tree_positions(self.decoder, tree) as positions, tree_attention(self.decoder):
            logits: Tensor = self.backbone(
                encoder_outputs=BaseModelOutput(last_hidden_state=states),
                attention_mask=tree.source.mask.long(),
                decoder_input_ids=tokens,
                decoder_attention_mask=mask,
                past_key_values=EncoderDecoderCache(tree, tree.source.cache),
                use_cache=True,
                return_dict=True,
                **positions,
            ).logits
        return logits


@contextmanager
def tree_positions(decoder: Any, tree: Tree) -> Iterator[dict[str, Tensor]]:
    """Inside, the decoder has the positions of a tree, where a beam's tokens do not stand one behind the other; yields
    what the backbone's call takes of them by name. ``takes_positions`` says for which decoders this works."""
    with ExitStack() as stack:
        relative, table = _position_parts(decoder)
        for module in relative:
            stack.enter_context(_replaced(module, "compute_bias", _bias_at(module, tree)))
        if table is not None:
            embeddings, weight, offset = table
            stack.enter_context(_replaced(embeddings, "forward", F.embedding(tree.positions + offset, weight)))
        yield {} if relative or table else {"decoder_position_ids": tree.positions + _first_position(decoder)}


def takes_positions(decoder: Any) -> bool:
    """Whether a decoder can be told the positions of the tokens that it reads."""
    return any(_position_parts(decoder)) or "position_ids" in inspect.signature(decoder.forward).parameters


def _position_parts(decoder: Any) -> tuple[list[nn.Module], tuple[nn.Module, Tensor, int] | None]:
    """T5's modules that know positions by distance, and BART's table of them with the row of the first."""
    relative = [module for module in decoder.modules() if getattr(module, "has_relative_attention_bias", False)]
    embeddings: Any = getattr(decoder, "embed_positions", None)
    if isinstance(embeddings, nn.Embedding):
        return relative, (embeddings, embeddings.weight, getattr(embeddings, "offset", 0))
    if isinstance(getattr(embeddings, "weights", None), Tensor):  # M2M100, counting as RoBERTa does
        return relative, (embeddings, embeddings.weights, embeddings.padding_idx + 1)
    return relative, None


def _first_position(decoder: Any) -> int:
    """The number of the first position: RoBERTa and its kin count from one past the padding's id."""
    return int(decoder.config.pad_token_id + 1 if counts_from_padding(decoder.config) else 0)


@contextmanager
def _replaced(module: nn.Module, method: str, result: Tensor) -> Iterator[None]:
    """Inside, a module's method has this result."""
    vars(module)[method] = lambda *_, **__: result
    try:
        yield
    finally:
        del vars(module)[method]


def _bias_at(module: Any, tree: Tree) -> Tensor:
    """What T5 adds to the attention scores of every column, by distance. -> (slots, heads, 1, columns)."""
    by_distance: Tensor = module.compute_bias(1, tree.farthest + 1, past_seen_tokens=tree.farthest)[0, :, 0].flip(-1)
    return by_distance[:, tree.distances.clamp(min=0)].transpose(0, 1).unsqueeze(2)  # by_distance: (heads, distances)


def encoder_decoder(
    backbone: PreTrainedModel, encoder: TextEncoder, pooling: Pooling, conditioning: Conditioning
) -> EncoderDecoder:
    """Put a new head on an encoder-decoder whose tokenizer is the encoder's.

    Given a label, an explanation stands behind the label's words and a colon. Raises InputError where the task's
    lengths do not fit the model's positions.
    """
    task, start = encoder.task, _start_id(backbone, encoder)
    cues: list[tuple[int, ...]] = [(start,)]
    if conditioning == "label":
        cues = [(start, *encoder.decoder_tokens(f"{words}:")) for words in task.labels.values()]
    network = EncoderDecoder(backbone, len(task.labels), pooling, cues, encoder.eos_id, encoder.pad_id)
    if not takes_positions(network.decoder):
        raise InputError(
            f"a decoder of type {backbone.config.model_type} cannot be told the positions of its tokens, which "
            "the search needs; use another model, of the T5, BART, M2M100 or T5Gemma kind, for instance"
        )
    check_length(
        "max_input_tokens", task.max_input_tokens, positions(getattr(backbone.config, "encoder", backbone.config))
    )
    check_length("max_explanation_tokens", task.max_explanation_tokens, network.decoder_positions)
    # generate() fills what a call leaves open from here: a checkpoint's own settings (BART forces tokens and forbids
    # repeated n-grams) would make the hypothesis something else than the model's most probable explanation.
    backbone.generation_config = GenerationConfig(
        decoder_start_token_id=start, eos_token_id=encoder.eos_id, pad_token_id=encoder.pad_id
    )
    return network


def _start_id(backbone: Any, encoder: TextEncoder) -> int:
    """The decoder's first input token: what the checkpoint names, else [CLS], with which BERT begins."""
    named = (
        getattr(backbone.config, "decoder_start_token_id", None),
        getattr(backbone.generation_config, "decoder_start_token_id", None),
        getattr(backbone.generation_config, "bos_token_id", None),
    )
    return int(next((candidate for candidate in named if candidate is not None), encoder.cls_id))
