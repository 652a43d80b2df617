"""A training epoch side by side: the same losses over the same texts, in the same optimizer steps.

    python -m benchmarks.training

The authors' procedure, rebuilt from its description, runs one text at a time, encodes it once for each of its
explanations, pads texts to 128 tokens and explanations to 60, and computes in float32. Ours encodes a text once, packs
texts of a step by length, pads no further than to the longest, and computes in the number format that it chooses by
itself. Both are measured with the gradients of eight texts added up for a step, and with a step for each text.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice

import torch
from torch import Tensor

from benchmarks import shapes
from benchmarks.rivals import AUTHORS_LENGTH
from benchmarks.shapes import DECODING, Shape
from benchmarks.side_by_side import Comparison, device_name, medians, record, table
from service.model.classification import Item
from service.model.encoding import TokenBatch
from service.model.errors import XalError
from service.model.hardware import choose_device
from service.model.network import Network
from service.model.scoring import explanation_score
from training.losses import total_loss
from training.trainer import TrainerConfig, TrainingText, accumulate_gradients


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description="Compare training's speed.")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default auto)")
    parser.add_argument("--texts", type=int, default=16, help="in the epoch (default 16)")
    parser.add_argument("--turns", type=int, default=3, help="of which the median counts (default 3)")
    options = parser.parse_args(arguments)
    try:
        device = choose_device(options.device)
        make = shapes.flan_t5_small if device.type == "cpu" else shapes.flan_t5_large
        comparisons = list(_measure(make(options.texts, device), options.turns))
    except XalError as error:
        print(error, file=sys.stderr)
        return 2
    record(comparisons)
    print(table(comparisons))
    return 0


def _measure(shape: Shape, turns: int) -> Iterator[Comparison]:
    contestants = {(name, size): run(shape, size) for size in STEPS for name, run in EPOCHS.items()}
    for epoch in contestants.values():
        epoch(shape.first(max(STEPS)))  # to warm up
    seconds = medians({key: partial(epoch, shape) for key, epoch in contestants.items()}, turns)
    per_text = {key: 1000 * taken / len(shape.items) for key, taken in seconds.items()}
    for size, note in STEPS.items():
        ours, other = per_text["ours", size], per_text["authors", size]
        device = device_name(shape.predictor.device)
        yield Comparison("training_vs_authors", ours, other, "ms/text", other / ours, device, f"{shape.name}, {note}")


class OurEpoch:
    """An epoch as the trainer runs it. size: texts of an optimizer step."""

    def __init__(self, shape: Shape, size: int) -> None:
        self.network = _fresh(shape)
        self.optimizer = _optimizer(self.network)
        self.config = TrainerConfig(batch_size=size, micro_batch_size=size)

    def __call__(self, shape: Shape) -> float:
        """-> the last step's loss."""
        encoder = shape.predictor.encoder
        texts = (
            TrainingText(encoder.encode_fields(item.fields), label, explanations)
            for item, label, explanations in zip(shape.items, shape.labels, shape.explanations, strict=True)
        )
        loss = 0.0
        while batch := list(islice(texts, self.config.batch_size)):
            loss = accumulate_gradients(self.network, encoder, batch, self.config)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
        return loss


class AuthorsEpoch:
    """An epoch as the authors' code runs it: everything padded, every text encoded for each of its explanations."""

    def __init__(self, shape: Shape, size: int) -> None:
        self.network = _fresh(shape)
        self.optimizer = _optimizer(self.network)
        self.size = size

    def __call__(self, shape: Shape) -> float:
        """-> the last step's loss."""
        rows = zip(shape.items, shape.labels, shape.explanations, strict=True)
        loss = 0.0
        while batch := list(islice(rows, self.size)):
            loss = 0.0
            for item, label, explanations in batch:
                share = self._loss(shape, item, label, explanations) / len(batch)
                share.backward()
                loss += share.item()
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
        return loss

    def _loss(self, shape: Shape, item: Item, label: int, explanations: Sequence[Sequence[int]]) -> Tensor:
        network, config, copies = self.network, TrainerConfig(), len(explanations)
        ids = shape.predictor.encoder.encode_fields(item.fields).ids
        written = _padded(explanations, DECODING.max_new_tokens, network)
        memory = network.encode(_padded([ids] * copies, AUTHORS_LENGTH, network))
        logits = network.classify(memory)[:1]
        log_probs = network.explanation_log_probs(memory, written)
        # Padding is computed like all else, and left out of the mean.
        scores = explanation_score(log_probs, written.mask).view(1, copies)
        labels = torch.tensor([label], device=network.device)
        return total_loss(logits, labels, scores, config.lambda1, config.lambda2, network.conditioning)


EPOCHS: dict[str, type[OurEpoch] | type[AuthorsEpoch]] = {"ours": OurEpoch, "authors": AuthorsEpoch}
STEPS = {8: "a step for 8 texts", 1: "a step for each text"}


def _padded(sequences: Sequence[Sequence[int]], length: int, network: Network) -> TokenBatch:
    ids = torch.full((len(sequences), length), network.pad_id)
    mask = torch.zeros(len(sequences), length, dtype=torch.bool)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)], mask[row, : len(sequence)] = torch.tensor(sequence), True
    return TokenBatch(ids.to(network.device), mask.to(network.device))


def _fresh(shape: Shape) -> Network:
    """The shape's network in training mode, with weights of its own."""
    return copy.deepcopy(shape.predictor.network).train()


def _optimizer(network: Network) -> torch.optim.Optimizer:
    return torch.optim.Adam(network.parameters(), lr=1e-4, fused=True)


if __name__ == "__main__":
    sys.exit(main())
