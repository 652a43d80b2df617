"""Memory and time of every query strategy over a large pool.

    python -m benchmarks.strategies_memory [--strategy NAME ...] [--n 100000]
    python -m benchmarks.strategies_memory --strategy badge            # beside scikit-learn too, over 5,000 texts

Each strategy chooses from random scores in a process of its own, whose peak memory is what the operating system says:
the interpreter, the arrays of the pool that the strategy needs and whatever it takes besides. ``spread_out``, which
chooses a varied initial set, is measured like a strategy. ``badge`` draws by a k-means++ of its own; beside it stands
scikit-learn's, given the gradient embeddings that ours never writes down: over 5,000 texts, or as many as --n says.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import kmeans_plusplus

from benchmarks.side_by_side import device_name
from service.model.hardware import choose_device
from training.strategies import STRATEGIES, LabeledScores, PoolScores, query_strategy
from training.strategies.initial import spread_out
from training.strategies.interface import NEEDS, Floats

INITIAL = "spread_out"
NAMES = (*STRATEGIES, INITIAL)
# scikit-learn's k-means++ over written gradients: the smaller ones, and those that it need not convert.
RIVALS: dict[str, type[np.floating]] = {"badge-sklearn-float32": np.float32, "badge-sklearn-float64": np.float64}
N, N_BESIDE = 100_000, 5_000  # a rival's array is C times as wide as ours, or 2C times
WIDTH, PASSES, CLASSES, LABELED, SIZE = 512, 10, 3, 500, 100


@dataclass(frozen=True)
class Measured:
    """One choice. before_mib, peak_mib: memory of the process with the pool's arrays, and at most. seconds: of the
    choice alone."""

    strategy: str
    n: int
    before_mib: float
    peak_mib: float
    seconds: float


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 0 done, 1 where a process failed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.strategies_memory", description="Measure the memory and time of query strategies."
    )
    parser.add_argument(
        "--strategy", nargs="+", choices=(*NAMES, *RIVALS), default=NAMES, metavar="NAME", help="default: all"
    )
    parser.add_argument("--n", type=int, help=f"texts of the pool (default {N}; beside a library {N_BESIDE})")
    parser.add_argument("--here", action="store_true", help="measure one strategy in this process, and print JSON")
    options = parser.parse_args(arguments)
    if options.here:
        print(json.dumps(asdict(measure(options.strategy[0], options.n or N))))
        return 0
    try:
        for line in _report(options.strategy, options.n):
            print(line, flush=True)
    except subprocess.CalledProcessError as error:
        print(f"{error}: {error.stderr}", file=sys.stderr)
        return 1
    return 0


def _report(strategies: Sequence[str], n: int | None) -> Iterator[str]:
    yield f"{n or N:,} texts, h_0 of {WIDTH}, {PASSES} passes, {CLASSES} labels, {LABELED} labeled, query of {SIZE}"
    yield f"{device_name(choose_device('cpu'))}\n"
    yield from table(in_a_process(name, n or N) for name in strategies)
    if "badge" in strategies:
        ours, *rivals = (in_a_process(name, n or N_BESIDE) for name in ("badge", *RIVALS))
        yield f"\nbadge beside scikit-learn, {n or N_BESIDE:,} texts\n"
        yield from table([ours, *rivals])
        yield ""
        yield from (ratios(ours, rival) for rival in rivals)


def in_a_process(strategy: str, n: int) -> Measured:
    """Measured in a new process. Raises CalledProcessError where it fails."""
    command = [sys.executable, "-m", __spec__.name, "--here", "--strategy", strategy, "--n", str(n)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return Measured(**json.loads(done.stdout))


def measure(strategy: str, n: int) -> Measured:
    """Measured in this process, whose peak so far counts too."""
    choose = _choice(strategy, n)
    before = _peak_mib()
    started = perf_counter()
    choose()
    return Measured(strategy, n, before, _peak_mib(), perf_counter() - started)


def table(rows: Iterable[Measured]) -> Iterable[str]:
    """Lines of a Markdown table, one as soon as a row is there."""
    yield "| strategy | pool MiB | peak MiB | s |"
    yield "| --- | --- | --- | --- |"
    for row in rows:
        yield f"| {row.strategy} | {row.before_mib:.0f} | {row.peak_mib:.0f} | {row.seconds:.2f} |"


def ratios(ours: Measured, rival: Measured) -> str:
    """What a rival takes for each second and each MiB of ours."""
    besides = [row.peak_mib - row.before_mib for row in (rival, ours)]
    return (
        f"{rival.strategy}: {rival.seconds / ours.seconds:.2f} times the seconds and "
        f"{rival.peak_mib / ours.peak_mib:.2f} times the peak memory of {ours.strategy}; beside the pool's arrays "
        f"{besides[0]:.0f} MiB, not {besides[1]:.0f}"
    )


def gradients(scores: PoolScores, dtype: type[np.floating]) -> NDArray[np.floating]:
    """BADGE's gradient embeddings (p - onehot(argmax p)) ⊗ h_0 written down. -> (n, C * H)."""
    assert scores.probabilities is not None
    assert scores.embeddings is not None
    residuals = scores.probabilities.astype(dtype)
    residuals[np.arange(scores.n), scores.probabilities.argmax(axis=1)] -= 1.0
    return (residuals[:, :, None] * scores.embeddings[:, None, :]).reshape(scores.n, -1)


def random_scores(n: int, needs: Iterable[str]) -> PoolScores:
    """Scores of a pool of so many texts that a strategy with these needs can choose from."""
    rng = np.random.default_rng(0)

    def probabilities(*shape: int) -> Floats:
        weights = rng.exponential(size=(*shape, CLASSES))
        weights /= weights.sum(axis=-1, keepdims=True)
        return weights

    arrays: dict[str, Callable[[], object]] = {
        "probabilities": lambda: probabilities(n),
        "explanation_scores": lambda: -rng.exponential(size=n),
        "embeddings": lambda: rng.standard_normal((n, WIDTH), dtype=np.float32),
        "dropout_probabilities": lambda: probabilities(n, PASSES),
        "labeled": lambda: LabeledScores(
            probabilities(LABELED),
            rng.standard_normal((LABELED, WIDTH), dtype=np.float32),
            rng.integers(CLASSES, size=LABELED),
        ),
    }
    return PoolScores(n, **{name: arrays[name]() for name in NEEDS if name in needs})  # type: ignore[arg-type]


def _choice(name: str, n: int) -> Callable[[], object]:
    """What is measured, its arrays made."""
    size = min(SIZE, n)
    if name == INITIAL:
        embeddings = random_scores(n, {"embeddings"}).embeddings
        assert embeddings is not None
        return lambda: spread_out(embeddings, size, 0)
    if name in RIVALS:
        pool, dtype = random_scores(n, query_strategy("badge").needs), RIVALS[name]
        return lambda: kmeans_plusplus(gradients(pool, dtype), size, random_state=0, n_local_trials=1)
    strategy = query_strategy(name)
    scores = random_scores(n, strategy.needs)
    return lambda: strategy.select(scores, size, np.random.default_rng(0))


def _peak_mib() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB, but bytes on macOS
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


if __name__ == "__main__":
    sys.exit(main())
