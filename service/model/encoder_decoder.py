"""The family of the paper: transformers' encoder-decoders (FLAN-T5, BART, T5Gemma, EncoderDecoderModel).

The decoder attends to the encoder's states; these are the memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from service.model.encoding import TextEncoder, TokenBatch
from service.model.network import Conditioning, Memory, Network, Pooling, check_length, pool, positions, width
from service.model.scoring import token_log_probs


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

    def search(self, memory: Memory, cue: Sequence[int], num_beams: int, max_new_tokens: int) -> list[list[int]]:
        sequences = self.backbone.generate(
            encoder_outputs=BaseModelOutput(last_hidden_state=memory.states),
            attention_mask=memory.mask.long(),
            decoder_input_ids=torch.tensor([cue] * len(memory.mask), device=self.device),
            num_beams=num_beams,
            max_new_tokens=max_new_tokens,
            early_stopping=num_beams > 1,
            length_penalty=1.0,
            do_sample=False,
        )  # (batch, cue + length)
        found: list[list[int]] = sequences[:, len(cue) :].tolist()
        return found


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
