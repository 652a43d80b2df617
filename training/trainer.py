"""Fits the network to one round's labeled texts and their explanations (Algorithm 1, lines 9 and 10)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from tqdm import tqdm

from service.model import checkpoint
from service.model.encoding import EncodedText, TextEncoder
from service.model.errors import InputError, XalError
from service.model.families import load_network
from service.model.hardware import multiplies_bfloat16
from service.model.network import Conditioning, Network, Pooling
from service.model.scoring import explanation_score
from service.model.task import Task
from service.model.threads import limit_threads
from training.data import Example
from training.losses import total_loss
from training.tuning import PATTERN, tuned

Precision = Literal["auto", "float32", "bfloat16"]


class TrainerConfig(BaseModel):
    """How a round is trained; the defaults are the paper's (FLAN-T5-large, Adam, linear schedule).

    learning_rate: the encoder's, and everything else's where decoder_learning_rate (cross-attention included) or
    head_learning_rate is None. batch_size: texts per optimizer step; micro_batch_size: texts held in memory at once,
    whose gradients add up to the batch's. warmup: share of the steps in which the rate rises. max_gradient_norm: a
    step's gradient is scaled down to it (the paper says nothing of clipping). lambda1, lambda2: Eq. 7.
    explanation_epochs: the last so many epochs learn explanations too, all of them (as in the paper) if None; a
    pre-trained language model learns to explain sooner than a new head learns the labels. conditioning: ``label`` where
    each explanation is given its label. decoder_tuning: see tuning.py. precision: see ``precision``; what a
    round's texts are scored in, too.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    epochs: int = Field(default=10, ge=1)
    learning_rate: float = Field(default=1e-4, gt=0)
    decoder_learning_rate: float | None = Field(default=None, gt=0)
    head_learning_rate: float | None = Field(default=None, gt=0)
    batch_size: int = Field(default=1, ge=1)
    micro_batch_size: int = Field(default=8, ge=1)
    warmup: float = Field(default=0.0, ge=0, lt=1)
    max_gradient_norm: float = Field(default=1.0, gt=0)
    lambda1: float = Field(default=0.1, ge=0)
    lambda2: float = Field(default=0.01, ge=0)
    pooling: Pooling = "cls"
    explanation_epochs: int | None = Field(default=None, ge=1)
    conditioning: Conditioning = "none"
    decoder_tuning: str = Field(default="full", pattern=PATTERN)
    precision: Precision = "auto"

    @property
    def silent_epochs(self) -> int:
        """Epochs before the first that learns explanations."""
        return 0 if self.explanation_epochs is None else max(0, self.epochs - self.explanation_epochs)


@dataclass(frozen=True)
class TrainingText:
    """One labeled text in tokens. explanations: one per candidate label, the gold label's first; empty without any."""

    text: EncodedText
    label: int
    explanations: list[tuple[int, ...]]

    @property
    def candidates(self) -> list[int]:
        """The label that each explanation was written for."""
        others = [label for label in range(len(self.explanations)) if label != self.label]
        return [self.label, *others]


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
    if device.type == "cpu":
        limit_threads()
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        if warm_start is None:
            network, encoder = load_network(source, task, config.pooling, config.conditioning)
        else:
            loaded = checkpoint.load(warm_start)
            network, encoder = loaded.network, loaded.encoder
        texts = [_tokens(example, explanations, encoder) for example in examples]
        with tuned(network.to(device).train(), config.decoder_tuning):
            _optimise(network, encoder, texts, config, seed, progress)
    return network.cpu().eval(), encoder


def batch_loss(network: Network, encoder: TextEncoder, batch: Sequence[TrainingText], config: TrainerConfig) -> Tensor:
    """Eq. 7 over one batch: each text encoded once, for the head and for all of its explanations. -> scalar."""
    device = network.device
    memory = network.encode(encoder.inputs([text.text for text in batch], device))
    logits = network.classify(memory)  # (batch, C)
    labels = torch.tensor([text.label for text in batch], device=device)
    scores = None
    if batch[0].explanations:
        k = len(batch[0].explanations)
        flat = encoder.batch([tokens for text in batch for tokens in text.explanations], device)  # (batch * k, length)
        owners = torch.arange(len(batch), device=device).repeat_interleave(k)
        own = torch.tensor([candidate for text in batch for candidate in text.candidates])
        log_probs = network.explanation_log_probs(memory, flat, owners, own)
        scores = explanation_score(log_probs, flat.mask).view(len(batch), k)
    return total_loss(logits, labels, scores, config.lambda1, config.lambda2, network.conditioning)


def accumulate_gradients(
    network: Network, encoder: TextEncoder, batch: Sequence[TrainingText], config: TrainerConfig
) -> float:
    """Add the batch's gradient up over micro-batches, as if it had been run at once; returns the batch's loss."""
    total = 0.0
    by_length = sorted(batch, key=lambda text: len(text.text.ids))  # similar ones together need little padding
    for first in range(0, len(batch), config.micro_batch_size):
        part = by_length[first : first + config.micro_batch_size]
        with precision(network.device, config.precision):
            loss = batch_loss(network, encoder, part, config) * (len(part) / len(batch))
        loss.backward()
        total += loss.item()
    return total


def _optimise(
    network: Network,
    encoder: TextEncoder,
    texts: Sequence[TrainingText],
    config: TrainerConfig,
    seed: int,
    progress: bool,
) -> None:
    steps = math.ceil(len(texts) / config.batch_size) * config.epochs
    silent = steps * config.silent_epochs // config.epochs
    optimizer = torch.optim.Adam(_parameter_groups(network, config), fused=True)
    of_decoder = partial(_linear, first=silent, steps=steps, warmup=config.warmup)
    of_others = partial(_linear, first=0, steps=steps, warmup=config.warmup)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, [of_others, of_decoder, of_others])
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    batches = _epochs(texts, config, seed)
    for step, batch in enumerate(
        tqdm(batches, desc="train", total=steps, unit="step", disable=None if progress else True)
    ):
        if step < silent:
            batch = [replace(text, explanations=[]) for text in batch]
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


def _linear(step: int, *, first: int, steps: int, warmup: float) -> float:
    """Share of its learning rate that a part has at a step: it rises during the warm-up, then falls to 0 at the end.
    A part that learns from step ``first`` on has its whole schedule in what is left."""
    done, total = step - first, steps - first
    if done < 0:
        return 0.0
    rising = int(warmup * total)
    return max(0.0, done / rising if done < rising else (total - done) / max(1, total - rising))


def _epochs(texts: Sequence[TrainingText], config: TrainerConfig, seed: int) -> Iterator[list[TrainingText]]:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(config.epochs):
        order = torch.randperm(len(texts), generator=generator).tolist()
        for first in range(0, len(order), config.batch_size):
            yield [texts[index] for index in order[first : first + config.batch_size]]


def _parameter_groups(network: Network, config: TrainerConfig) -> list[dict[str, object]]:
    """Encoder, head and decoder with their own learning rates; what both halves share is the encoder's."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    of_encoder = {id(parameter) for parameter in network.encoder.parameters()}
    of_head = {id(parameter) for parameter in network.head.parameters()}
    encoder = [parameter for parameter in trained if id(parameter) in of_encoder]
    head = [parameter for parameter in trained if id(parameter) in of_head]
    decoder = [parameter for parameter in trained if id(parameter) not in of_encoder | of_head]
    return [
        {"params": encoder, "lr": config.learning_rate},
        {"params": decoder, "lr": config.decoder_learning_rate or config.learning_rate},
        {"params": head, "lr": config.head_learning_rate or config.learning_rate},
    ]


def _tokens(
    example: Example, explanations: Mapping[str, Mapping[str, str]] | None, encoder: TextEncoder
) -> TrainingText:
    task = encoder.task
    if example.label is None:
        raise InputError(f"text {example.id!r}: expected a label to train on, found none")
    text = encoder.encode_fields(example.fields)
    label = task.label_ids.index(example.label)
    if explanations is None:
        return TrainingText(text, label, [])
    own = explanations[example.id]
    gold_first = sorted(task.label_ids, key=lambda candidate: candidate != example.label)
    return TrainingText(text, label, [encoder.encode_explanation(own[candidate]) for candidate in gold_first])


def precision(device: torch.device, wanted: Precision) -> torch.autocast | nullcontext[None]:
    """What the forward pass computes in; the weights, the head and the losses stay float32.

    ``auto`` is bfloat16 where the hardware multiplies matrices in it; elsewhere it is the slower one.
    """
    if wanted == "bfloat16" or (wanted == "auto" and multiplies_bfloat16(device)):
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()
