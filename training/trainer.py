"""Fits the network to one round's labeled texts and their explanations (Algorithm 1, lines 9 and 10)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from tqdm import tqdm
from transformers import get_linear_schedule_with_warmup

from service.model import checkpoint
from service.model.encoding import TextEncoder
from service.model.errors import InputError, XalError
from service.model.network import Network, Pooling, load_network
from service.model.scoring import explanation_score
from service.model.task import Task
from training.data import Example
from training.losses import total_loss


class TrainerConfig(BaseModel):
    """How a round is trained; the defaults are the paper's (FLAN-T5-large, Adam, linear schedule).

    learning_rate: the encoder's, and everything else's where decoder_learning_rate (cross-attention included) or
    head_learning_rate is None. batch_size: texts per optimizer step; micro_batch_size: texts held in memory at once,
    whose gradients add up to the batch's. warmup: share of the steps in which the rate rises. max_gradient_norm: a
    step's gradient is scaled down to it (the paper says nothing of clipping). lambda1, lambda2: Eq. 7.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    epochs: int = Field(10, ge=1)
    learning_rate: float = Field(1e-4, gt=0)
    decoder_learning_rate: float | None = Field(None, gt=0)
    head_learning_rate: float | None = Field(None, gt=0)
    batch_size: int = Field(1, ge=1)
    micro_batch_size: int = Field(8, ge=1)
    warmup: float = Field(0.0, ge=0, lt=1)
    max_gradient_norm: float = Field(1.0, gt=0)
    lambda1: float = Field(0.1, ge=0)
    lambda2: float = Field(0.01, ge=0)
    pooling: Pooling = "cls"


@dataclass(frozen=True)
class _TrainingText:
    """One labeled text in tokens. explanations: one per candidate label, the gold label's first; empty without any."""

    ids: tuple[int, ...]
    label: int
    explanations: list[tuple[int, ...]]


def fit(
    examples: Sequence[Example],
    explanations: Mapping[str, Mapping[str, str]] | None,
    *,
    task: Task,
    source: str | Path,
    config: TrainerConfig,
    seed: int,
    device: torch.device,
    warm_start: Path | None = None,
    progress: bool = True,
) -> tuple[Network, TextEncoder]:
    """Train on labeled examples and return the network, on the CPU and in evaluation mode.

    explanations: id -> {label id: explanation} for every example, or None to learn the labels alone. source: the
    pre-trained weights that every round starts from, unless warm_start names an earlier round's model directory.
    All randomness (new parameters, order, dropout) comes from ``seed``; the caller's generators are left alone.
    Raises XalError where the loss stops being a number.
    """
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        if warm_start is None:
            network, encoder = load_network(source, task, config.pooling)
        else:
            loaded = checkpoint.load(warm_start)
            network, encoder = loaded.network, loaded.encoder
        texts = [_tokens(example, explanations, encoder) for example in examples]
        _optimise(network.to(device).train(), encoder, texts, config, seed, progress)
    return network.cpu().eval(), encoder


def batch_loss(network: Network, encoder: TextEncoder, batch: Sequence[_TrainingText], config: TrainerConfig) -> Tensor:
    """Eq. 7 over one batch: each text encoded once, for the head and for all of its explanations. -> scalar."""
    device = network.device
    memory = network.encode(encoder.batch([text.ids for text in batch], device))
    logits = network.classify(memory)  # (batch, C)
    labels = torch.tensor([text.label for text in batch], device=device)
    scores = None
    if batch[0].explanations:
        k = len(batch[0].explanations)
        flat = encoder.batch([tokens for text in batch for tokens in text.explanations], device)  # (batch * k, length)
        owners = torch.arange(len(batch), device=device).repeat_interleave(k)
        log_probs = network.explanation_log_probs(memory.select(owners), flat)
        scores = explanation_score(log_probs, flat.mask).view(len(batch), k)
    return total_loss(logits, labels, scores, config.lambda1, config.lambda2)


def accumulate_gradients(
    network: Network, encoder: TextEncoder, batch: Sequence[_TrainingText], config: TrainerConfig
) -> float:
    """Add the batch's gradient up over micro-batches, as if it had been run at once; returns the batch's loss."""
    total = 0.0
    for first in range(0, len(batch), config.micro_batch_size):
        part = batch[first : first + config.micro_batch_size]
        with _precision(network.device):
            loss = batch_loss(network, encoder, part, config) * (len(part) / len(batch))
        loss.backward()
        total += loss.item()
    return total


def _optimise(
    network: Network,
    encoder: TextEncoder,
    texts: Sequence[_TrainingText],
    config: TrainerConfig,
    seed: int,
    progress: bool,
) -> None:
    steps = math.ceil(len(texts) / config.batch_size) * config.epochs
    optimizer = torch.optim.Adam(_parameter_groups(network, config), fused=True)
    schedule = get_linear_schedule_with_warmup(optimizer, int(config.warmup * steps), steps)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    batches = _epochs(texts, config, seed)
    for step, batch in enumerate(
        tqdm(batches, desc="train", total=steps, unit="step", disable=None if progress else True)
    ):
        loss = accumulate_gradients(network, encoder, batch, config)
        if not math.isfinite(loss):
            raise XalError(
                f"training: the loss is {loss} at step {step + 1} of {steps}; "
                f"lower the learning rate (now {config.learning_rate:g})"
            )
        torch.nn.utils.clip_grad_norm_(parameters, config.max_gradient_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)


def _epochs(texts: Sequence[_TrainingText], config: TrainerConfig, seed: int) -> Iterator[list[_TrainingText]]:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(config.epochs):
        order = torch.randperm(len(texts), generator=generator).tolist()
        for first in range(0, len(order), config.batch_size):
            yield [texts[index] for index in order[first : first + config.batch_size]]


def _parameter_groups(network: Network, config: TrainerConfig) -> list[dict[str, object]]:
    """Encoder, head and decoder with their own learning rates; embeddings that both halves share are the encoder's."""
    encoder = list(network.backbone.get_encoder().parameters())
    head = list(network.head.parameters())
    taken = {id(parameter) for parameter in (*encoder, *head)}
    decoder = [parameter for parameter in network.parameters() if id(parameter) not in taken]
    return [
        {"params": encoder, "lr": config.learning_rate},
        {"params": decoder, "lr": config.decoder_learning_rate or config.learning_rate},
        {"params": head, "lr": config.head_learning_rate or config.learning_rate},
    ]


def _tokens(
    example: Example, explanations: Mapping[str, Mapping[str, str]] | None, encoder: TextEncoder
) -> _TrainingText:
    task = encoder.task
    if example.label is None:
        raise InputError(f"text {example.id!r}: expected a label to train on, found none")
    ids = encoder.encode_fields(example.fields).ids
    label = task.label_ids.index(example.label)
    if explanations is None:
        return _TrainingText(ids, label, [])
    own = explanations[example.id]
    gold_first = sorted(task.label_ids, key=lambda candidate: candidate != example.label)
    return _TrainingText(ids, label, [encoder.encode_explanation(own[candidate]) for candidate in gold_first])


def _precision(device: torch.device) -> torch.autocast | nullcontext[None]:
    """bfloat16 where a GPU computes in it; the weights and the head stay float32."""
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.autocast("cuda", dtype=torch.bfloat16)
    return nullcontext()
