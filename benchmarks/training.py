"""A training epoch side by side: the same losses over the same texts, one optimizer step for each text.

    python -m benchmarks.training

The authors' procedure, rebuilt from its description, encodes a text once for each of its explanations, pads texts to
128 tokens and explanations to 60, and computes in float32. Ours encodes a text once, pads nothing, and computes in the
number format that it chooses by itself; where a row says so, in float32.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Iterator, Sequence
from functools import partial

import torch

from benchmarks import shapes
from benchmarks.rivals import AUTHORS_LENGTH
from benchmarks.shapes import DECODING, Shape
from benchmarks.side_by_side import Comparison, device_name, medians, record, table
from service.model.encoding import TokenBatch
from service.model.errors import XalError
from service.model.hardware import choose_device
from service.model.network import Network
from service.model.scoring import explanation_score
from training.losses import total_loss
from training.trainer import Precision, TrainerConfig, TrainingText, accumulate_gradients


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
    per_text = {
        name: seconds / len(shape.items) * 1000
        for name, seconds in medians(
            {
                "ours": partial(our_epoch, shape, "auto"),
                "ours, float32": partial(our_epoch, shape, "float32"),
                "authors": partial(authors_epoch, shape),
            },
            turns,
        ).items()
    }
    for ours, model in (("ours", ""), ("ours, float32", ", both float32")):
        yield Comparison(
            "training_vs_authors",
            per_text[ours],
            per_text["authors"],
            "ms/text",
            per_text["authors"] / per_text[ours],
            device_name(shape.predictor.device),
            shape.name + model,
        )


def our_epoch(shape: Shape, precision: Precision) -> float:
    """One epoch as the trainer runs it, with batches of one text. -> the last text's loss."""
    network, encoder = _fresh(shape), shape.predictor.encoder
    config = TrainerConfig(batch_size=1, micro_batch_size=1, precision=precision)
    optimizer = _optimizer(network)
    loss = 0.0
    for item, label, explanations in zip(shape.items, shape.labels, shape.explanations, strict=True):
        text = TrainingText(encoder.encode_fields(item.fields), label, explanations)
        loss = accumulate_gradients(network, encoder, [text], config)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return loss


def authors_epoch(shape: Shape) -> float:
    """One epoch as the authors' code runs it: everything padded, every text encoded for each of its explanations."""
    network, encoder = _fresh(shape), shape.predictor.encoder
    config = TrainerConfig()
    optimizer = _optimizer(network)
    loss = 0.0
    for item, label, explanations in zip(shape.items, shape.labels, shape.explanations, strict=True):
        copies = len(explanations)
        texts = _padded([encoder.encode_fields(item.fields).ids] * copies, AUTHORS_LENGTH, network)
        written = _padded(explanations, DECODING.max_new_tokens, network)
        memory = network.encode(texts)
        logits = network.classify(memory)[:1]
        log_probs = network.explanation_log_probs(memory, written)
        # Padding is computed like all else, and left out of the mean.
        scores = explanation_score(log_probs, written.mask).view(1, copies)
        labels = torch.tensor([label], device=network.device)
        total = total_loss(logits, labels, scores, config.lambda1, config.lambda2, network.conditioning)
        total.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss = total.item()
    return loss


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
