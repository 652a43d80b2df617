"""The network: a pre-trained encoder-decoder with a classification head on its encoder (Eq. 1, 2 of arXiv 2310.05502).

One interface for every backbone: token batch -> Memory (encoder states and h_0), computed once per text; class logits,
explanation log-probabilities and beam search all read that memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, GenerationConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from service.model.encoding import TextEncoder, TokenBatch
from service.model.errors import InputError
from service.model.scoring import token_log_probs
from service.model.task import Task

Pooling = Literal["cls", "mean"]


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


class Network(nn.Module):
    """Encoder, head of exactly C outputs, decoder.

    backbone: any transformers encoder-decoder for generation. n_labels: C. pooling: what h_0 is (see Memory).
    start_id: the decoder's first input token, never scored; eos_id, pad_id: as TextEncoder has them.
    """

    def __init__(
        self, backbone: PreTrainedModel, n_labels: int, pooling: Pooling, start_id: int, eos_id: int, pad_id: int
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.pooling: Pooling = pooling
        self.start_id, self.eos_id, self.pad_id = start_id, eos_id, pad_id
        self.head = nn.Linear(hidden_size(backbone), n_labels)
        # Small and zero: an untrained head says "no idea", not something at random.
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    @property
    def device(self) -> torch.device:
        return self.head.weight.device

    @property
    def decoder_positions(self) -> int | None:
        """The longest explanation in tokens, None where it has no end; one token more could bring a GPU down."""
        return positions(getattr(self.backbone.config, "decoder", self.backbone.config))

    def encode(self, batch: TokenBatch) -> Memory:
        """Run the encoder once. batch: (batch, source) -> Memory."""
        states = self.backbone.get_encoder()(
            input_ids=batch.ids, attention_mask=batch.mask.long(), return_dict=True
        ).last_hidden_state  # (batch, source, hidden)
        if self.pooling == "cls":
            h0 = states[:, 0].float()
        else:
            weights = batch.mask.unsqueeze(-1).float()  # (batch, source, 1)
            h0 = (states.float() * weights).sum(dim=1) / weights.sum(dim=1)
        return Memory(states, batch.mask, h0)

    def classify(self, memory: Memory) -> Tensor:
        """Class logits W h_0 + b, whose softmax is Eq. 2; always float32. -> (batch, C)."""
        with torch.autocast(memory.h0.device.type, enabled=False):
            logits: Tensor = self.head(memory.h0)
        return logits

    def explanation_log_probs(self, memory: Memory, explanations: TokenBatch) -> Tensor:
        """log P(e_t | x, e_<t) of given explanations under teacher forcing.

        memory and explanations have a row per explanation (``memory.select`` repeats texts). -> (n, length) float32;
        entries where ``explanations.mask`` is false mean nothing.
        """
        start = torch.full_like(explanations.ids[:, :1], self.start_id)
        logits = self.backbone(
            encoder_outputs=BaseModelOutput(last_hidden_state=memory.states),
            attention_mask=memory.mask.long(),
            decoder_input_ids=torch.cat([start, explanations.ids[:, :-1]], dim=1),
            # All ones: padding stands last, where a causal decoder cannot see it. Without it T5Gemma hides every token
            # equal to the padding, which beam search does not.
            decoder_attention_mask=torch.ones_like(explanations.ids),
            use_cache=False,
            return_dict=True,
        ).logits  # (n, length, vocab)
        return token_log_probs(logits, explanations.ids)


def hidden_size(backbone: PreTrainedModel) -> int:
    """Width of the encoder's states; composed models and T5Gemma keep it in a configuration of the encoder's own."""
    config: Any = getattr(backbone.config, "encoder", None) or backbone.config
    config = getattr(config, "text_config", None) or config
    return int(config.hidden_size)


def load_network(source: str | Path, task: Task, pooling: Pooling) -> tuple[Network, TextEncoder]:
    """A network over the pre-trained weights of ``source`` (hub id or directory), its head new.

    New parameters (the head, an added [CLS]) are drawn from torch's global generator: fork and seed it around the
    call. Raises InputError where the source is no encoder-decoder or cannot be loaded.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(source), trust_remote_code=False)
        backbone = AutoModelForSeq2SeqLM.from_pretrained(
            str(source), use_safetensors=True, trust_remote_code=False, dtype=torch.float32
        )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"model {source}: expected a transformers encoder-decoder with safetensors weights, as a hub id or a "
            f"directory; loading it failed: {reason}"
        ) from None
    encoder = TextEncoder(tokenizer, task)
    if len(tokenizer) > backbone.get_input_embeddings().num_embeddings:
        backbone.resize_token_embeddings(len(tokenizer))
    return build_network(backbone, encoder, pooling), encoder


def build_network(backbone: PreTrainedModel, encoder: TextEncoder, pooling: Pooling) -> Network:
    """Put a new head on a backbone whose tokenizer is the encoder's; raises InputError where lengths cannot fit."""
    task = encoder.task
    network = Network(backbone, len(task.labels), pooling, _start_id(backbone, encoder), encoder.eos_id, encoder.pad_id)
    encoder_positions = positions(getattr(backbone.config, "encoder", backbone.config))
    check_length("max_input_tokens", task.max_input_tokens, encoder_positions)
    check_length("max_explanation_tokens", task.max_explanation_tokens, network.decoder_positions)
    # generate() fills what a call leaves open from here: a checkpoint's own settings (BART forces tokens and forbids
    # repeated n-grams) would make the hypothesis something else than the model's most probable explanation.
    backbone.generation_config = GenerationConfig(
        decoder_start_token_id=network.start_id, eos_token_id=encoder.eos_id, pad_token_id=encoder.pad_id
    )
    return network


def _start_id(backbone: PreTrainedModel, encoder: TextEncoder) -> int:
    """The decoder's first input token: what the checkpoint names, else [CLS], with which BERT begins."""
    named = (
        getattr(backbone.config, "decoder_start_token_id", None),
        getattr(backbone.generation_config, "decoder_start_token_id", None),
        getattr(backbone.generation_config, "bos_token_id", None),
    )
    return int(next((candidate for candidate in named if candidate is not None), encoder.cls_id))


def positions(config: Any) -> int | None:
    """How many tokens a half of the backbone can number; None where its positions have no end."""
    family = getattr(config, "model_type", "")
    count = getattr(config, "max_position_embeddings", None)
    # T5's relative positions have no end: its configurations name none (n_positions is a training length).
    if family in {"t5", "mt5", "umt5", "longt5"} or not isinstance(count, int):
        return None
    # RoBERTa and its kin count from one past the padding's id.
    return count - config.pad_token_id - 1 if "roberta" in family or family == "camembert" else count


def check_length(name: str, wanted: int, available: int | None) -> None:
    """Raise InputError where a backbone has fewer positions than the task asks for."""
    if available is not None and wanted > available:
        raise InputError(f"task: {name} is {wanted}, but the model has only {available} positions; lower it to that")
