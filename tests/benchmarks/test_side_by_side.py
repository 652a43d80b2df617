"""Contestants take turns, medians count, and results are kept by name, device and model."""

import json
import platform
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import side_by_side
from benchmarks.side_by_side import Comparison, device_name, medians, quickest, record, table

ONE = Comparison("selection_vs_authors", 12.0, 60.0, "ms/text", 5.0, "a CPU", "a model")


def test_contestants_take_turns_and_their_medians_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    order: list[str] = []
    durations = {"ours": iter([3.0, 1.0, 2.0]), "other": iter([7.0, 9.0, 8.0])}

    def contestant(name: str) -> None:
        order.append(name)
        clock[0] += next(durations[name])

    found = medians({name: (lambda name=name: contestant(name)) for name in durations}, turns=3)
    assert found == {"ours": 2.0, "other": 8.0}
    assert order == ["ours", "other"] * 3


def test_the_quickest_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])

    def wait(seconds: float) -> None:
        clock[0] += seconds

    assert quickest({8: lambda: wait(3), 16: lambda: wait(1), 32: lambda: wait(2)}) == 16


def test_a_result_takes_the_place_of_its_predecessor_and_of_no_other(tmp_path: Path) -> None:
    path = tmp_path / "build" / "bench.json"
    other_model, later = replace(ONE, model="another"), replace(ONE, ours=10.0, ratio=6.0)
    record([ONE, other_model], path)
    record([later], path)
    rows = json.loads(path.read_text())
    assert [Comparison(**row) for row in rows] == [other_model, later]
    assert set(rows[0]) == {"name", "ours", "other", "unit", "ratio", "device", "model"}


def test_a_table_has_a_line_for_each() -> None:
    assert table([ONE]).splitlines()[-1] == "| selection_vs_authors | a model | 12 | 60 | ms/text | 5.00 |"


def test_a_processor_has_the_name_that_the_system_gives_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_by_side, "Path", lambda _: tmp_path / "cpuinfo")
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert side_by_side._processor() == "riscv64"  # no such file, as on macOS
    name = "Abacus(R) 9 @ 2.00GHz"
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nmodel\t\t: 207\nmodel name\t: {name}\nprocessor\t: 1\n")
    assert device_name(torch.device("cpu")) == f"{name}, {torch.get_num_threads()} threads"
