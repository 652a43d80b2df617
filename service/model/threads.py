"""How many threads torch has on a CPU, and how they wait for each other where the machine has other work to do."""

import os
import time
from functools import cache

SPINS = 3000  # of a waiting thread before it sleeps; about a tenth of a millisecond
ROUNDS = 5
CLEARLY = 1.25  # so many times as quick must fewer threads be: as a rule all cores are the better choice


def wait_briefly() -> None:
    """Let threads that wait for others soon sleep instead of spin on; call it before torch is imported.

    OpenMP's threads spin between two pieces of work. Where something else wants the same cores, the spinning threads
    take the time that the slowest one needs; those that sleep at once are late for the next piece
    (docs/decisions/0005-threads-wait-briefly.md has figures). Where OMP_WAIT_POLICY is set, all is left as it is.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # OpenMP of other compilers than GNU's
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))


@cache
def limit_threads() -> None:
    """Let torch have fewer threads where they are clearly quicker, as in a container that may use some of the cores
    only: measured once in a process, in a few hundredths of a second. OMP_NUM_THREADS, where it is set, is obeyed."""
    import torch

    if "OMP_NUM_THREADS" in os.environ:
        return
    count = torch.get_num_threads()
    while count > 1:
        half = count // 2
        seconds = {threads: _seconds_with(threads) for _ in range(2) for threads in (count, half)}
        if seconds[half] * CLEARLY > seconds[count]:
            break
        count = half
    torch.set_num_threads(count)


def _seconds_with(threads: int) -> float:
    """What a few products of matrices take, as large as those of a decoder's step: the quickest of some."""
    import torch

    torch.set_num_threads(threads)
    rows, weights = torch.ones(256, 512), torch.ones(512, 512)
    taken = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for _ in range(4):
            rows @ weights
        taken.append(time.perf_counter() - started)
    return min(taken)
