"""The service over HTTP, side by side with its own engine, with itself at rest, and with a server without a queue.

    python -m benchmarks.serving [--model flan-t5-small] [--device cuda] [--turns 5] [--seconds 10]

Weights are random, so explanations do not end by themselves. Here they all have the mean length of the recorded ones,
for every contestant alike: the end's row of the output embedding is zero, a logit far below those that a beam search
looks at, and ``max_new_tokens`` ends them. That is fair to both, and hardest for ours: texts that end at different
times leave their places to others in our service, and only there.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import re
import signal
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import torch
from transformers.utils import logging

from benchmarks import shapes
from benchmarks.load import bodies, connection, crowd, latencies, percentile, throughput
from benchmarks.servers import Server, floor_service, our_service, plain_service
from benchmarks.shapes import Shape
from benchmarks.side_by_side import Comparison, device_name, record, table
from service.model import checkpoint
from service.model.checkpoint import ModelSettings, Provenance
from service.model.classification import Item
from service.model.decoding import Decoding
from service.model.errors import XalError
from service.model.hardware import choose_device
from service.model.predictor import Predictor

SHAPES = {"default": "default_backbone", "flan-t5-small": "flan_t5_small", "flan-t5-large": "flan_t5_large"}
TEXTS = 512
REQUESTS, REQUEST_TEXTS = 16, 32  # in flight at saturation, and texts of each: all TEXTS are on their way
CLIENTS = 32  # that want explanations, of one text each
RATE = 20.0  # single texts a second, far from saturation

Figures = dict[str, list[float]]  # of each contestant, in turns


@dataclass(frozen=True)
class Plan:
    """How long to measure. turns: of each contestant. seconds: of each turn."""

    turns: int
    seconds: float


@dataclass(frozen=True)
class Bench:
    """What is measured. texts: what every contestant is asked about. name, device: of the model, and where it runs."""

    name: str
    device: str
    texts: Sequence[str]

    def compared(self, name: str, ours: float, other: float, unit: str, ratio: float) -> Comparison:
        return Comparison(name, ours, other, unit, ratio, self.device, self.name)


def classify_goodput(bench: Bench, ours: Server, floor: Server, engine: Predictor, plan: Plan) -> Comparison:
    """Texts per second of /classify at saturation, against the engine alone in one process, in batches of the size that
    the service has just formed. ratio: ours / engine, at most about 1; the target is 0.85 or more.

    The floor, printed beside them, is the framework without a model: what HTTP alone would allow.
    """
    requests = bodies(bench.texts, REQUEST_TEXTS)
    figures: Figures = {"ours": [], "engine": [], "floor": [], "batch": []}
    _warm_up(ours, "/classify", requests, REQUESTS, plan)
    _warm_up(floor, "/classify", requests, REQUESTS, plan)
    for _ in range(plan.turns):
        before = _classified(ours)
        figures["ours"].append(REQUEST_TEXTS * _throughput(ours, "/classify", requests, REQUESTS, plan))
        batches, items = (now - then for now, then in zip(_classified(ours), before, strict=True))
        figures["batch"].append(items / batches)
        figures["engine"].append(engine_throughput(engine, bench.texts, round(items / batches), plan.seconds))
        figures["floor"].append(REQUEST_TEXTS * _throughput(floor, "/classify", requests, REQUESTS, plan))
    medians = medians_of("classify_goodput_vs_engine", "texts/s; batch: texts", figures)
    rate, other = medians["ours"], medians["engine"]
    return bench.compared("classify_goodput_vs_engine", rate, other, "texts/s", rate / other)


def p99_under_explain(bench: Bench, ours: Server, plan: Plan) -> Comparison:
    """p99 in ms of single texts sent to /classify one after another, RATE a second at most, while CLIENTS saturate
    /explain (ours) and while nothing else is asked (other). ratio: idle / loaded, below 1; the target is 0.2 or more:
    at most five times as long. Turns last twice as long as others, as one request in a hundred decides.
    """
    requests = bodies(bench.texts, 1)
    figures: Figures = {"idle p99": [], "loaded p99": [], "idle median": [], "loaded median": [], "loaded requests": []}

    async def idle() -> list[float]:
        return await latencies(ours.url, "/classify", requests, rate=RATE, seconds=2 * plan.seconds)

    async def loaded() -> list[float]:
        async with crowd(ours.url, "/explain", requests, CLIENTS):
            await asyncio.sleep(1)  # until all are at work
            return await idle()

    _warm_up(ours, "/classify", requests, 1, plan)
    for _ in range(plan.turns):
        for name, contestant in {"idle": idle, "loaded": loaded}.items():
            taken = [1000 * seconds for seconds in asyncio.run(contestant())]
            ours.wait_until_quiet()
            figures[f"{name} p99"].append(percentile(taken, 99))
            figures[f"{name} median"].append(statistics.median(taken))
        figures["loaded requests"].append(len(taken))
    medians = medians_of("classify_p99_under_explain", "ms", figures)
    slow, fast = medians["loaded p99"], medians["idle p99"]
    return bench.compared("classify_p99_under_explain", slow, fast, "ms", fast / slow)


def explain_clients(bench: Bench, ours: Server, plain: Server, plan: Plan) -> Comparison:
    """Texts per second of /explain to CLIENTS in a closed loop, one text each, against FastAPI and ``generate``, which
    serves one request at a time. ratio: ours / other."""
    requests = bodies(bench.texts, 1)
    figures: Figures = {"ours": [], "one at a time": []}
    _warm_up(ours, "/explain", requests, CLIENTS, plan)
    _warm_up(plain, "/explain", requests, 1, plan)
    for _ in range(plan.turns):
        figures["ours"].append(_throughput(ours, "/explain", requests, CLIENTS, plan))
        figures["one at a time"].append(_throughput(plain, "/explain", requests, CLIENTS, plan, hang_up=True))
        plain.wait_until_quiet()
    medians = medians_of("explain_32_clients_vs_one", "texts/s", figures)
    rate, other = medians["ours"], medians["one at a time"]
    return bench.compared("explain_32_clients_vs_one", rate, other, "texts/s", rate / other)


def engine_throughput(engine: Predictor, texts: Sequence[str], batch: int, seconds: float) -> float:
    """Texts per second of ``predict`` in batches of so many texts, for so many seconds, after one that does not
    count."""
    field = engine.task.fields[0]
    items = itertools.cycle([Item({field: text}) for text in texts])
    engine.predict(list(itertools.islice(items, batch)))
    done, started = 0, perf_counter()
    while (taken := perf_counter() - started) < seconds:
        done += len(engine.predict(list(itertools.islice(items, batch))))
    return done / taken


def medians_of(name: str, unit: str, figures: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The median of each contestant's turns. Prints them all."""
    print(f"\n{name} ({unit}): median, and every turn", flush=True)
    for contestant, found in figures.items():
        print(f"  {contestant:15} {statistics.median(found):9.4g}   {' '.join(f'{value:.4g}' for value in found)}")
    return {contestant: statistics.median(found) for contestant, found in figures.items()}


def save_model(shape: Shape, directory: Path) -> None:
    """A model directory of the shape, whose explanations never end before ``max_new_tokens``, the mean of the recorded
    lengths."""
    network = shape.predictor.network
    network.backbone.get_output_embeddings().weight.data[network.eos_id] = 0.0
    decoding = Decoding(num_beams=5, max_new_tokens=round(statistics.mean(shape.lengths)))
    settings = ModelSettings(
        shape.predictor.task, network.pooling, decoding, None, True, conditioning=network.conditioning
    )
    checkpoint.save(directory, network, shape.predictor.encoder, settings, Provenance())


def _throughput(
    server: Server, path: str, requests: Sequence[bytes], clients: int, plan: Plan, *, hang_up: bool = False
) -> float:
    asking = throughput(server.url, path, requests, clients=clients, seconds=plan.seconds, hang_up=hang_up)
    return asyncio.run(asking)


def _warm_up(server: Server, path: str, requests: Sequence[bytes], clients: int, plan: Plan) -> None:
    _throughput(server, path, requests, clients, replace(plan, seconds=min(1.0, plan.seconds)))


def _classified(server: Server) -> tuple[float, float]:
    """Batches of labels so far, and texts in them."""
    exposition = asyncio.run(_ask(server, "/metrics")).decode()
    found = [re.search(rf'xal_batch_items_{name}{{lane="classify"}} (\S+)', exposition) for name in ("count", "sum")]
    batches, items = (0.0 if match is None else float(match[1]) for match in found)
    return batches, items


async def _ask(server: Server, path: str, body: bytes | None = None) -> bytes:
    async with connection(server.url) as opened:
        return await opened.ask(path, body)


def _measure(options: argparse.Namespace) -> None:
    logging.disable_progress_bar()
    device, plan = choose_device(options.device), Plan(options.turns, options.seconds)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="xal-serving-")))
        shape = getattr(shapes, SHAPES[options.model])(TEXTS, torch.device("cpu"))
        save_model(shape, model := scratch / "model")
        texts = [next(iter(item.fields.values())) for item in shape.items]
        bench = Bench(shape.name, device_name(device), texts)
        del shape
        ours = stack.enter_context(our_service(model, str(device), scratch))
        plain = stack.enter_context(plain_service(model, str(device), scratch))
        engine = Predictor.load(model, device=str(device))
        ours.wait_until_ready()
        answer = asyncio.run(_ask(ours, "/classify", bodies(texts, REQUEST_TEXTS)[0]))
        floor = stack.enter_context(floor_service(answer, scratch))
        floor.wait_until_ready()
        plain.wait_until_ready()
        found = [
            classify_goodput(bench, ours, floor, engine, plan),
            p99_under_explain(bench, ours, plan),
            explain_clients(bench, ours, plain, plan),
        ]
    record(found)
    print(f"\n{bench.device}\n\n{table(found)}")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 0 done, 1 failure, 130 interrupted."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description="Measure the service over HTTP.")
    parser.add_argument("--model", choices=SHAPES, default="default", help="the shape to serve")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default auto)")
    parser.add_argument("--turns", type=int, default=3, help="of each contestant (default 3)")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each turn (default 4)")
    options = parser.parse_args(arguments)
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, lambda number, _: sys.exit(128 + number))  # by way of all that ends the servers
    try:
        _measure(options)
    except XalError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
