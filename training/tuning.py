"""How much of the decoder a round trains: all of it, its top layers, or low-rank updates of its weights (LoRA)."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from peft import LoraConfig
from peft.tuners.lora import LoraModel
from torch import nn

from service.model.errors import InputError
from service.model.network import Network

PATTERN = r"^(full|(top|lora)-[1-9][0-9]*)$"


@contextmanager
def tuned(network: Network, tuning: str) -> Iterator[None]:
    """Within the block only what ``tuning`` says of the decoder is trained; all beside the decoder always is.

    tuning: ``full``; ``top-K``, the K layers next to the output and the norm behind them; ``lora-R``, updates of rank R
    of all linear layers (Hu et al. 2021, arXiv 2106.09685; alpha is 2 R), which are added to the weights at the end, so
    that nothing of them is left in the network. Where the encoder is the decoder (prefix-LM), so is it trained.
    Raises InputError where the decoder has fewer than K layers.
    """
    kind, _, size = tuning.partition("-")
    if kind == "full":
        yield
        return
    frozen = _decoders_own(network)
    trained = _top(network.decoder, int(size)) if kind == "top" else []
    adapter = None if kind == "top" else _low_rank(network.decoder, int(size))
    _train(network.parameters(), True)
    _train(frozen, False)
    _train(trained, True)
    try:
        yield
    finally:
        if adapter is not None:
            adapter.merge_and_unload()
        _train(network.parameters(), True)


def _decoders_own(network: Network) -> list[nn.Parameter]:
    """The decoder's pre-trained parameters, but for those that it shares with an encoder beside it."""
    shared = {id(parameter) for parameter in network.encoder.parameters()} if network.encoder_is_apart else set()
    return [p for name, p in network.decoder.named_parameters() if id(p) not in shared and ".lora_" not in name]


def _top(decoder: nn.Module, size: int) -> list[nn.Parameter]:
    """Parameters of the last layers, and of what stands behind them but for the head, which is the embeddings' twin."""
    # The outermost list: within a layer may be others (T5's parts, experts), longer ones even.
    layers = next(m for m in decoder.modules() if isinstance(m, nn.ModuleList))
    if size > len(layers):
        raise InputError(
            f"decoder_tuning: expected at most top-{len(layers)}, all of the decoder's layers; found {size}"
        )
    elsewhere = [layers, *(m for m in decoder.modules() if isinstance(m, nn.Embedding))]
    if (head := getattr(decoder, "get_output_embeddings", lambda: None)()) is not None:
        elsewhere.append(head)
    taken = {id(parameter) for module in elsewhere for parameter in module.parameters()}
    # BERT and BART have a norm of their embeddings, too: it stands in front of the layers.
    norms = [p for name, p in decoder.named_parameters() if id(p) not in taken and "embed" not in name]
    return [*(parameter for layer in layers[-size:] for parameter in layer.parameters()), *norms]


def _low_rank(decoder: nn.Module, rank: int) -> LoraModel:
    """Put updates beside all linear layers; new ones change nothing yet. Drawn from torch's global generator."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="fan_in_fan_out")  # peft sets it right for GPT-2's layers by itself
        config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear")
        return LoraModel(decoder, config, "default")


def _train(parameters: Iterable[nn.Parameter], trained: bool) -> None:
    for parameter in parameters:
        parameter.requires_grad_(trained)
