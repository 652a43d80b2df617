"""Runs side by side, each in a process with its share of the cores or a GPU of its own; one failure costs one run."""

from __future__ import annotations

import gc
import multiprocessing
import os
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import torch

from service.model.errors import InputError, XalError
from training.prefilter import Kept
from training.run_request import RunOptions
from training.setup import prepare

DONE, FAILED, WRONG_INPUT, INTERRUPTED = 0, 1, 2, 130


@dataclass(frozen=True)
class Job:
    """A run with the name that messages give it."""

    name: str
    options: RunOptions


def run_jobs(jobs: Sequence[Job], cache: Path, *, at_once: int | None = None) -> None:
    """Run them all, ``at_once`` of them at a time: in this process where that is 1, else each in a process of its own.

    at_once: None for as many as there are GPUs, or 1. With several GPUs they are dealt out; on a CPU each process has
    its share of the cores, unless OMP_NUM_THREADS says how many. A run that fails says why and leaves the others alone.
    Raises InputError or XalError naming what failed once all others are done.
    """
    check_at_once(at_once)
    devices = _devices(jobs[0].options.device)
    at_once = len(devices) if at_once is None else at_once
    if at_once == 1:
        said: set[str] = set()
        codes = {job.name: _run(job, cache, said, progress=True) for job in jobs}
    else:
        said = _prepare_once(jobs[0], cache)
        codes = _run_side_by_side(jobs, cache, said, min(at_once, len(jobs)), devices)
    failed = {name: code for name, code in codes.items() if code != DONE}
    if failed:
        kind = InputError if set(failed.values()) == {WRONG_INPUT} else XalError
        raise kind(
            f"{len(failed)} of {len(jobs)} runs did not finish: {', '.join(failed)}; what was finished is kept, and, "
            "once what stands above is mended, the same command goes on with the rest"
        )


def check_at_once(at_once: int | None) -> None:
    """Raise InputError for a number of runs at a time that is none."""
    if at_once is not None and at_once < 1:
        raise InputError(f"--jobs: expected at least 1, found {at_once}")


@contextmanager
def _within_memory() -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        reason = str(error).partition(". ")[0]
        raise XalError(f"{reason}; give --micro-batch-size or --num-beams a lower number and start again") from error


@_within_memory()
def run_loop(
    options: RunOptions, cache: Path, *, title: str = "", said: set[str] | None = None, progress: bool = True
) -> dict[str, Any]:
    """Prepare one run and go through its rounds, saying what happens, behind ``title``; returns the last round.

    said: notes that stand there already; what is said is added.
    """

    def say(line: str) -> None:
        print(f"{title}{line}", flush=True)

    loop, notes = prepare(options, cache=cache, progress=progress)
    said = set() if said is None else said
    for note in [note for note in notes if note not in said]:
        say(f"note: {note}")
    said.update(notes)
    entry: dict[str, Any] = {}
    for entry in loop.rounds():
        seconds = ", ".join(f"{stage} {value:.1f}" for stage, value in entry["seconds"].items())
        say(f"round {entry['round']}: {entry['n_labeled']} labels, macro-F1 {entry['macro_f1']:.3f} (s: {seconds})")
        if entry.get("prefilter"):
            say(f"         prefilter: {Kept(**entry['prefilter'])}")
    until = loop.config.until
    if until is not None:
        reached = entry["macro_f1"] >= until.target
        say(
            f"the target, macro-F1 {until.target:.3f}, is {'reached' if reached else 'not reached'} with "
            f"{entry['n_labeled']} labels"
        )
    return entry


def _prepare_once(job: Job, cache: Path) -> set[str]:
    """Make what most runs need (the backbone, its adaptation, the upper bound) once, with a progress bar, for each to
    find; returns the notes, which are said. What is wrong with this run, its own process says."""
    notes: list[str] = []
    with suppress(Exception):
        _, notes = prepare(job.options, cache=cache)
    for note in notes:
        print(f"note: {note}", flush=True)
    _free_memory()
    return set(notes)


def _free_memory() -> None:
    """Give back what a run has left on a GPU: the next one, perhaps in another process, needs it."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _run(job: Job, cache: Path, said: set[str], *, progress: bool) -> int:
    """One run from beginning to end; returns its exit code, what went wrong is said."""
    try:
        run_loop(job.options, cache, title=f"{job.name}: ", said=said, progress=progress)
    except Exception as error:
        if not isinstance(error, XalError | OSError):  # a defect: where it is says more than its message
            traceback.print_exc()
        print(f"xal run: {job.name}: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
        return WRONG_INPUT if isinstance(error, InputError) else FAILED
    finally:
        _free_memory()
    return DONE


def _run_side_by_side(
    jobs: Sequence[Job], cache: Path, said: set[str], at_once: int, devices: Sequence[str]
) -> dict[str, int]:
    """Name -> exit code of every run."""
    context = multiprocessing.get_context("spawn")  # a forked torch may hang
    waiting, running, codes = list(jobs), dict[SpawnProcess, tuple[Job, int]](), dict[str, int]()
    free = list(range(at_once))  # places, each with its device
    with _share_of_cores(at_once):
        try:
            while waiting or running:
                while waiting and free:
                    job, place = waiting.pop(0), free.pop(0)
                    options = replace(job.options, device=devices[place % len(devices)])
                    process = context.Process(target=_child, args=(replace(job, options=options), cache, said))
                    process.start()
                    running[process] = (job, place)
                wait([process.sentinel for process in running])
                for process in [process for process in running if process.exitcode is not None]:
                    job, place = running.pop(process)
                    codes[job.name] = process.exitcode if process.exitcode is not None else FAILED
                    free.append(place)
                    if codes[job.name] < 0:
                        killed = f"its process was ended by signal {-codes[job.name]}; was there enough memory?"
                        print(f"xal run: {job.name}: {killed}", file=sys.stderr, flush=True)
        finally:
            for process in running:
                process.terminate()
            for process in running:
                process.join()
    return codes


def _child(job: Job, cache: Path, said: set[str]) -> None:
    """What a process of its own does."""
    from training.cli import quiet_libraries

    threading.Thread(target=_end_with_parent, daemon=True).start()
    quiet_libraries()
    try:
        code = _run(job, cache, said, progress=False)
    except KeyboardInterrupt:
        code = INTERRUPTED
    sys.exit(code)


def _end_with_parent() -> None:
    """However the parent ends, its runs end too: the same command, given again, must find nobody at work on them."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # this runs in a child
    wait([parent.sentinel])
    os._exit(FAILED)


def _devices(device: str) -> list[str]:
    """What the runs are dealt out to."""
    if device == "auto" and torch.cuda.device_count() > 1:
        return [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return [device]


@contextmanager
def _share_of_cores(processes: int) -> Iterator[None]:
    """Each process that begins meanwhile has its share of the cores, unless the user said how many threads to have."""
    if "OMP_NUM_THREADS" in os.environ:
        yield
        return
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // processes))
    try:
        yield
    finally:
        del os.environ["OMP_NUM_THREADS"]
