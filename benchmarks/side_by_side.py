"""Ours and another side by side: in one process, taking turns, several times; medians and their ratio."""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import torch

from training.records import write_atomically

T = TypeVar("T")

RESULTS = Path("build") / "bench.json"


@dataclass(frozen=True)
class Comparison:
    """Ours against another. name: see docs/performance.md. ours, other: in ``unit``. ratio: how many times better ours
    is. device: what it ran on. model: the shape that it ran with."""

    name: str
    ours: float
    other: float
    unit: str
    ratio: float
    device: str
    model: str


def medians(contestants: Mapping[T, Callable[[], object]], turns: int) -> dict[T, float]:
    """Median wall seconds of each; they take turns, so that what else happens on the machine meets all alike. The first
    turn counts as the others do: warm them up before."""
    seconds: dict[T, list[float]] = {name: [] for name in contestants}
    for _ in range(turns):
        for name, contestant in contestants.items():
            started = time.perf_counter()
            contestant()
            seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(taken) for name, taken in seconds.items()}


def quickest(contestants: Mapping[T, Callable[[], object]]) -> T:
    """Which of several takes the least time, each tried once."""
    seconds: dict[T, float] = {}
    for name, contestant in contestants.items():
        started = time.perf_counter()
        contestant()
        seconds[name] = time.perf_counter() - started
    return min(seconds, key=seconds.__getitem__)


def device_name(device: torch.device) -> str:
    """What figures were measured on."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_processor()}, {torch.get_num_threads()} threads"


def record(comparisons: Iterable[Comparison], path: Path = RESULTS) -> None:
    """Put comparisons among the results, in place of earlier ones of the same name, device and model."""
    kept = [Comparison(**row) for row in json.loads(path.read_text())] if path.exists() else []
    new = list(comparisons)
    keys = {(row.name, row.device, row.model) for row in new}
    rows = [row for row in kept if (row.name, row.device, row.model) not in keys] + new
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps([asdict(row) for row in rows], indent=1) + "\n")


def table(comparisons: Iterable[Comparison]) -> str:
    """The comparisons as Markdown."""
    lines = ["| | model | ours | other | unit | ratio |", "| --- | --- | --- | --- | --- | --- |"]
    lines += [
        f"| {row.name} | {row.model} | {row.ours:.3g} | {row.other:.3g} | {row.unit} | {row.ratio:.2f} |"
        for row in comparisons
    ]
    return "\n".join(lines)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
