"""Monte Carlo dropout (Gal and Ghahramani 2016): a classifier asked several times, other units left out each time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm

from service.model.encoding import batches_by_length
from service.model.errors import InputError
from service.model.predictor import BATCH_TOKENS, Predictor
from training.data import Example

PASSES = 10
OF_OTHER_PARTS = ("classifier", "decoder", "pooler", "summary")  # whose dropout an encoder's configuration names too


def dropout_probabilities(
    predictor: Predictor, examples: Sequence[Example], seed: int, *, passes: int = PASSES, progress: bool = True
) -> NDArray[np.float64]:
    """P(y|x) of ``passes`` passes with the encoder's own dropout, as in training. -> (n, passes, C), rows add up to 1.

    seed: of the masks; the caller's generators are left alone. Raises InputError for an encoder without dropout, whose
    passes would all be the same.
    """
    network, encoder, device = predictor.network, predictor.encoder, predictor.device
    check_dropout(network.encoder)
    texts = [encoder.encode_fields(example.fields) for example in examples]
    found = np.empty((len(texts), passes, len(predictor.task.labels)))
    with (
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        torch.inference_mode(),
        _dropping_out(network.encoder),
        tqdm(total=len(texts), desc="dropout", unit="text", disable=None if progress else True) as bar,
    ):
        torch.manual_seed(seed)
        for rows in batches_by_length([len(text.ids) for text in texts], BATCH_TOKENS):
            batch = encoder.inputs([texts[row] for row in rows], device)
            for number in range(passes):
                logits = network.classify(network.encode(batch))  # (rows, C)
                found[rows, number] = torch.softmax(logits.double(), dim=-1).cpu().numpy()
            bar.update(len(rows))
    return found


def check_dropout(encoder: nn.Module) -> None:
    """Raise InputError for an encoder that leaves nothing out in training either."""
    rates = [
        value
        for name, value in vars(encoder.config).items()
        if "drop" in name and isinstance(value, float) and not name.startswith(OF_OTHER_PARTS)
    ]
    if not any(rates) and all(module.p == 0 for module in encoder.modules() if isinstance(module, nn.Dropout)):
        raise InputError(
            "the model's encoder has no dropout, so that several passes of it are all the same; choose a strategy that "
            "needs none (not bald, not bemps), or a model with dropout such as BERT, MiniLM or T5"
        )


@contextmanager
def _dropping_out(encoder: nn.Module) -> Iterator[None]:
    encoder.train()
    try:
        yield
    finally:
        encoder.eval()
