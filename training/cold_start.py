"""A first set of labels that covers the pool: texts spread over what the pre-trained encoder makes of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from service.model.encoding import batches_by_length
from service.model.errors import InputError
from service.model.families import load_network
from service.model.hardware import choose_device
from service.model.predictor import BATCH_TOKENS
from service.model.task import Task
from service.model.threads import limit_threads
from training.data import Example
from training.strategies.initial import spread_out


def diverse_initial_set(
    examples: Sequence[Example], size: int, seed: int, *, task: Task, source: str, device: str = "auto"
) -> list[str]:
    """Ids of the first texts to label: those nearest to the centres of ``size`` clusters of the pool's embeddings.

    seed: the initial set's own number, at least 0; nothing else decides. source: pre-trained weights, whose mean state
    embeds a text; no label is looked at. Raises InputError where the pool holds fewer than ``size`` examples.
    """
    if size > len(examples):
        raise InputError(
            f"cannot choose {size} texts to begin with from a pool of {len(examples)}; lower the query size"
        )
    return [examples[place].id for place in spread_out(embeddings(examples, task, source, device), size, seed)]


def embeddings(examples: Sequence[Example], task: Task, source: str, device: str = "auto") -> NDArray[np.float32]:
    """The mean of the pre-trained encoder's states of each text, (n, H)."""
    place = choose_device(device)
    if place.type == "cpu":
        limit_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # a new head is drawn, and not used, but so is an added [CLS], which the encoder reads
        network, encoder = load_network(source, task, "mean")
    network.to(place).eval()
    texts = [encoder.encode_fields(example.fields) for example in examples]
    found = np.empty((len(texts), network.hidden_size), dtype=np.float32)
    with torch.inference_mode():
        for rows in batches_by_length([len(text.ids) for text in texts], BATCH_TOKENS):
            found[rows] = network.encode(encoder.inputs([texts[row] for row in rows], place)).h0.cpu().numpy()
    return found
