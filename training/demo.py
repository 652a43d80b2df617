"""``xal demo``: the whole way on real reviews, offline: pool, labels, explanations, rounds, export, service, client."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from xal_client import AcquisitionResponse, ClassifyResponse, ExplainResponse, XalClient

from service.model.errors import InputError, XalError
from training.clock import Clock
from training.export import export
from training.loop import Loop
from training.product_reviews import write_product_reviews
from training.records import write_atomically
from training.report import report
from training.run_request import RunOptions
from training.runs import CONFIG_FILE
from training.serving import command, environment
from training.setup import prepare
from training.teacher_api import TeacherConfig

EXAMPLE = Path(__file__).parents[1] / "examples" / "product-reviews"
STRATEGIES = ("xal", "random")
POOL_SIZE = 90
QUERY_SIZE = 16
BUDGET = 48
NUM_BEAMS = 2  # with five, scoring the pool takes more than twice as long
SERVICE_STARTS_WITHIN = 120.0  # seconds
QUESTIONS = ("the battery dies after an hour and nobody answers my mails", "it came with two cables and a manual")


def demo(*, cache: Path, output: Path = Path("build/demo"), live_teacher: bool = False) -> None:
    """Run everything and print what comes out. Interrupted, it goes on where it stopped when started again.

    live_teacher: explanations come from a small LLM that is served on this machine, not from the recorded ones.
    """
    output = output / "live-teacher" if live_teacher else output
    if not EXAMPLE.is_dir():
        raise InputError(f"{EXAMPLE} is not there; run the demo from a checkout of the project (make demo)")
    clock = Clock()
    with clock("data"):
        pool = _write_pool(output, cache)
    with _teacher(live_teacher, cache) as llm:
        for strategy in STRATEGIES:
            with clock(f"run {strategy}"):
                loop = _run(strategy, pool, output / strategy, llm, cache)
    with clock("report"):
        curve = report([output / strategy for strategy in STRATEGIES], output / "report")
    with clock("export"):
        model = output / "model"
        shutil.rmtree(model, ignore_errors=True)
        version = export(output / "xal", loop.config.n_rounds - 1, model)
    with (
        clock("service"),
        _service(model, output / "service.log") as url,
        XalClient(url, transport=httpx.HTTPTransport()) as client,
    ):
        answers = _ask(client, pool)
    _print_end(output, model, version, curve, answers, clock.seconds)


def _write_pool(output: Path, cache: Path) -> Path:
    """All reviews as a data file, and a smaller one that a demo has the time for: part of the pool, all of the rest."""
    reviews = output / "product-reviews.jsonl"
    write_product_reviews(reviews, EXAMPLE / "explanations.jsonl", cache)
    rows = [json.loads(line) for line in reviews.read_text(encoding="utf-8").splitlines()]
    train = [row for row in rows if row["split"] == "train"]
    drawn = np.random.default_rng(0).permutation(len(train))[:POOL_SIZE]
    kept = {train[index]["id"] for index in drawn}
    small = [row for row in rows if row["split"] != "train" or row["id"] in kept]
    counts = {split: sum(row["split"] == split for row in small) for split in ("train", "dev", "test")}
    print(f"product reviews: a pool of {counts['train']} sentences, {counts['dev']} for dev, {counts['test']} for test")
    pool = output / "demo.jsonl"
    write_atomically(pool, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in small))
    return pool


@contextmanager
def _teacher(live: bool, cache: Path) -> Iterator[TeacherConfig | None]:
    """The configuration of a live teacher, its server running meanwhile; None for the recorded one."""
    if not live:
        yield None
        return
    from training.local_llm import serve_local_llm

    with serve_local_llm(cache) as (url, model):
        yield TeacherConfig(
            base_url=url, model=model, cache_path=cache / "local-llm.sqlite", concurrency=1, timeout_s=300
        )


def _run(strategy: str, pool: Path, directory: Path, llm: TeacherConfig | None, cache: Path) -> Loop:
    """One run, as in the paper: ``xal`` learns from labels and explanations, ``random`` from labels alone."""
    loop, notes = prepare(
        RunOptions(
            task=EXAMPLE / "task.yaml",
            data=pool,
            strategy=strategy,
            output=directory,
            explanations=None if llm else EXAMPLE / "explanations.jsonl",
            llm=llm,
            num_beams=NUM_BEAMS,
            budget=BUDGET,
            query_size=QUERY_SIZE,
            keep_models="last",
        ),
        cache=cache,
    )
    learns = f"teacher {loop.config.teacher}" if loop.config.teacher else "from labels alone, as in the paper"
    print(f"\n{strategy}: {BUDGET} labels, {QUERY_SIZE} a round, {loop.config.model}, {learns}")
    for note in notes if loop.config.teacher else ():  # all that there is to say of the other run stands above
        print(f"note: {note}")
    _set_aside_an_older_demo(loop)
    for entry in loop.rounds():
        print(f"  round {entry['round']}: {entry['n_labeled']} labels, test macro-F1 {entry['macro_f1']:.3f}")
        if entry["selection"] and strategy == "xal":
            print(f"    {_selection(entry['selection'])}")
    return loop


def _set_aside_an_older_demo(loop: Loop) -> None:
    """A run of an earlier version of the demo cannot go on with this one's settings; it is kept under another name."""
    if not (loop.directory / CONFIG_FILE).exists():
        return
    try:
        loop.config.check_same_run(loop.directory)
    except InputError as error:
        older = loop.directory.with_name(f"{loop.directory.name}.older")
        shutil.rmtree(older, ignore_errors=True)
        loop.directory.rename(older)
        print(f"note: {error}; set aside as {older.name}")


def _selection(found: dict[str, Any]) -> str:
    p = found["explanation_score"]
    differs = round((1 - found["overlap_with_entropy"]) * found["size"])
    return (
        f"explanation score {p['min']:.2f} to {p['max']:.2f} (std {p['std']:.2f}), "
        f"{found['explanation_share']:.0%} of the acquisition score's variance; "
        f"{differs} of the next {found['size']} texts are not entropy's choice"
    )


@contextmanager
def _service(model: Path, log: Path) -> Iterator[str]:
    """The service on a free port; its log goes to a file."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with (
        log.open("w") as stream,
        subprocess.Popen(
            command("127.0.0.1", port), env=environment(model, log.parent / "bentoml"), stdout=stream, stderr=stream
        ) as process,
    ):
        try:
            _await_ready(url, process, log)
            yield url
        finally:
            process.terminate()


def _await_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + SERVICE_STARTS_WITHIN
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/readyz", timeout=2, trust_env=False).is_success:  # no proxy leads to this machine
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    raise XalError(f"the service did not start within {SERVICE_STARTS_WITHIN:.0f} s; its log is {log}")


def _ask(client: XalClient, pool: Path) -> tuple[ClassifyResponse, ExplainResponse, AcquisitionResponse]:
    """One question to each endpoint: two new sentences, and which of eight test sentences to have labeled next."""
    rows = [json.loads(line) for line in pool.read_text(encoding="utf-8").splitlines()]
    waiting = [{"id": row["id"], "text": row["text"]} for row in rows if row["split"] == "test"][:8]
    return client.classify(QUESTIONS), client.explain(QUESTIONS), client.acquisition_score(waiting, top_k=3)


def _print_end(
    output: Path,
    model: Path,
    version: str,
    curve: str,
    answers: tuple[ClassifyResponse, ExplainResponse, AcquisitionResponse],
    seconds: dict[str, float],
) -> None:
    classified, explained, scored = answers
    print(f"\n{curve}\n\none run of each: this shows how things work, not which strategy is better")
    print(f"learning curve: {output / 'report' / 'learning_curve.png'}")
    print(f"page:           {output / 'report' / 'report.html'}\n\nthe service answered:")
    print(f"\nPOST /classify\n{_answer(classified[0].model_dump())}\n\nPOST /explain")
    for question, answer in zip(QUESTIONS, explained.answers, strict=True):
        print(f'  "{question}"\n{_answer(answer.model_dump())}')
    first = next(answer for answer in scored.answers if answer.rank == 1)
    print(f"\nPOST /acquisition_score, selected {list(scored.selected or ())}\n{_answer(first.model_dump())}")
    print(f"\nmodel directory: {model} (version {version})")
    print("seconds: " + ", ".join(f"{stage} {value:.0f}" for stage, value in seconds.items()))
    print(
        f"\nnext, after: source .venv/bin/activate\n"
        f"  xal serve --model {model}\n"
        f"  xal score --model {model} --input {output / 'product-reviews.jsonl'} --output {output / 'scores.jsonl'}\n"
        f"  xal run --task examples/product-reviews/task.yaml --data {output / 'product-reviews.jsonl'} "
        f"--explanations examples/product-reviews/explanations.jsonl --strategy xal --budget 100 --query-size 50 "
        f"--output build/run"
    )


def _answer(answer: dict[str, Any]) -> str:
    rounded = {key: round(value, 4) if isinstance(value, float) else value for key, value in answer.items()}
    if "probabilities" in rounded:
        rounded["probabilities"] = {label: round(value, 3) for label, value in answer["probabilities"].items()}
    rounded.pop("candidate_scores", None)
    return f"  {json.dumps(rounded, ensure_ascii=False)}"
