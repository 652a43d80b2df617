import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import serving, shapes
from benchmarks.load import NotAnswered, bodies, latencies, percentile, throughput
from benchmarks.shapes import Shape
from service.model.classification import Item
from service.model.decoding import beam_search
from service.model.predictor import Predictor
from tests import tiny

TEXTS = tiny.sentences(limit=8)


@asynccontextmanager
async def answering(seconds: float, status: str = "200 OK") -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that answers {} after so many seconds; its address, and the bodies that it got."""
    got: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                got.append(await reader.readexactly(int(head.partition("Content-Length: ")[2].split("\r\n")[0])))
                await asyncio.sleep(seconds)
                writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\n{{}}".encode())
        except asyncio.IncompleteReadError:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", got
    finally:
        server.close()


def test_percentiles_by_hand() -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], 50) == 2.0
    assert percentile([4.0, 1.0, 3.0, 2.0], 51) == 3.0
    assert percentile([float(value) for value in range(1, 201)], 99) == 198.0
    assert percentile([5.0], 99) == percentile([5.0], 0) == 5.0


def test_medians_are_over_turns_and_all_turns_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert serving.medians_of("name", "texts/s", {"ours": [3.0, 9.0, 1.0], "other": [2.0, 4.0]}) == {
        "ours": 3.0,
        "other": 3.0,
    }
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["ours", "3", "3", "9", "1"] in lines
    assert ["other", "3", "2", "4"] in lines


def test_requests_hold_so_many_texts_each_and_no_leftovers() -> None:
    assert [json.loads(body) for body in bodies(["a", "b", "c", "d", "e"], 2)] == [
        {"items": [{"text": "a"}, {"text": "b"}]},
        {"items": [{"text": "c"}, {"text": "d"}]},
    ]


def test_each_client_has_one_request_in_flight_and_all_are_waited_for() -> None:
    async def measure() -> tuple[float, int]:
        async with answering(0.05) as (url, got):
            rate = await throughput(url, "/", [b"{}", b"[]"], clients=3, seconds=0.12)
            assert {*got} == {b"{}", b"[]"}
            return rate, len(got)

    rate, asked = asyncio.run(measure())
    assert asked % 3 == 0  # none was sent that nobody waited for
    assert 3 <= asked <= 9  # every client: sent at 0, 0.05 and 0.1
    assert 0 < rate <= 3 / 0.05


def test_who_hangs_up_counts_what_was_answered_until_then() -> None:
    async def measure() -> float:
        async with answering(0.3) as (url, _):
            return await throughput(url, "/", [b"{}"], clients=2, seconds=0.01, hang_up=True)

    assert 0 < asyncio.run(measure()) <= 2 / 0.3  # the first answer is waited for


def test_a_request_that_is_refused_ends_the_measurement() -> None:
    async def measure() -> None:
        async with answering(0, "503 Service Unavailable") as (url, _):
            await throughput(url, "/explain", [b"{}"], clients=2, seconds=5)

    with pytest.raises(ExceptionGroup) as refused:
        asyncio.run(measure())
    assert refused.group_contains(NotAnswered, match="/explain: expected status 200, found HTTP/1.1 503")


def test_latencies_are_of_requests_one_after_another_at_no_more_than_the_rate() -> None:
    async def measure() -> list[float]:
        async with answering(0.03) as (url, _):
            return await latencies(url, "/", [b"{}"], rate=10, seconds=0.35)

    taken = asyncio.run(measure())
    assert 1 <= len(taken) <= 4  # sent at 0, 0.1, 0.2 and 0.3
    assert min(taken) >= 0.03


def shape_of(directory: Path) -> Shape:
    """A shape around a tiny model. Its recorded explanations have 4 and 8 tokens."""
    items = [Item({"text": text}) for text in TEXTS] * 64
    lengths = [[(0,) * (4 + 4 * (number % 2))] for number in range(len(items))]
    return Shape("tiny", Predictor.load(directory, device="cpu"), items, [0] * len(items), lengths)


@pytest.mark.parametrize(("family", "conditioning"), [("t5", "none"), ("composed-llama", "label")])
def test_explanations_of_a_saved_model_all_have_the_mean_length(
    family: str, conditioning: str, make_model_dir: Callable[..., Path], tmp_path: Path
) -> None:
    serving.save_model(shape_of(make_model_dir(family, conditioning)), tmp_path / "model")
    predictor = Predictor.load(tmp_path / "model", device="cpu")
    encoded = [predictor.encoder.encode_fields({"text": text}) for text in TEXTS[:4]]
    with torch.inference_mode():
        memory = predictor.network.encode(predictor.encoder.inputs(encoded))
        found = beam_search(predictor.network, memory, predictor.decoding, [0] * len(encoded))
    assert [len(tokens) for tokens in found.tokens] == [6] * len(encoded)


@pytest.mark.slow
@pytest.mark.parametrize(("family", "conditioning"), [("t5", "none"), ("composed-llama", "label")])
def test_the_server_without_a_queue_says_what_the_service_says(
    family: str, conditioning: str, make_model_dir: Callable[..., Path]
) -> None:
    from benchmarks.plain_server import Writer

    directory = make_model_dir(family, conditioning)
    writer = Writer(directory, torch.device("cpu"))
    outcomes: list[Any] = Predictor.load(directory, device="cpu").predict(
        [Item({"text": t}) for t in TEXTS], explain=True
    )
    for text, outcome in zip(TEXTS, outcomes, strict=True):
        assert writer.explain(text) == {"label": outcome.label, "explanation": outcome.explanation}


@pytest.mark.slow
def test_the_command_measures_and_records_with_a_tiny_model(
    make_model_dir: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    directory = make_model_dir("t5")
    monkeypatch.setattr(shapes, "default_backbone", lambda *_: shape_of(directory))
    monkeypatch.chdir(tmp_path)
    assert serving.main(["--turns", "1", "--seconds", "0.5", "--device", "cpu"]) == 0
    rows = json.loads((tmp_path / "build" / "bench.json").read_text())
    assert [row["name"] for row in rows] == [
        "classify_goodput_vs_engine",
        "classify_p99_under_explain",
        "explain_32_clients_vs_one",
    ]
    assert all(row["ours"] > 0 and row["other"] > 0 and row["model"] == "tiny" for row in rows)
    assert "floor" in capsys.readouterr().out
