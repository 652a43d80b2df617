"""What the machine offers: its devices, and the number formats that it computes fastest in."""

from __future__ import annotations

import torch

from service.model.errors import InputError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
LARGE = 40_000_000  # bytes of weights, from which products of matrices take most of the time


def choose_device(name: str) -> torch.device:
    """The torch device for auto, cpu, cuda, cuda:N or mps; raises InputError where it is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"device {name!r}: expected auto, cpu, cuda, cuda:N or mps") from None
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not available.get(device.type, False):
        raise InputError(f"device {name!r} is not available here; use auto or cpu")
    return device


def choose_dtype(name: str, device: torch.device, size: int) -> torch.dtype:
    """The torch dtype for auto, float32, bfloat16 or float16 on a device, for weights of so many bytes.

    auto: bfloat16 where the hardware multiplies matrices in it, on a CPU for large weights only; else float32. Raises
    InputError for any other name.
    """
    if name != "auto":
        if name not in DTYPES:
            raise InputError(f"dtype {name!r}: expected auto, {', '.join(DTYPES)}")
        return DTYPES[name]
    small = device.type == "cpu" and size < LARGE
    return torch.bfloat16 if multiplies_bfloat16(device) and not small else torch.float32


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the hardware multiplies matrices of bfloat16, several times as fast as those of float32: newer GPUs, and
    CPUs with AMX, for which torch has no public question."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(torch.cpu._is_amx_tile_supported())
