"""The queue in front of the model: what shares a batch, whose turn it is, and what happens when things go wrong."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from service.batching import Batcher, Work
from service.errors import DeadlineExceeded, InternalError, NotReady, QueueFull
from service.model.classification import Item, Outcome, Prediction
from service.model.errors import ItemError
from service.model.predictor import Predictor

CLASSIFY = Work()
EXPLAIN = Work(explain=True)


class Engine:
    """Answers a text with its capitals. Holds every batch until ``release``; time passes only as told.

    A text costs as many tokens as it has characters. seconds: model time of one batch, by whether it explains.
    """

    def __init__(self, seconds: dict[bool, float] | None = None) -> None:
        self.batches: list[list[str]] = []
        self.works: list[Work] = []
        self.now = 0.0
        self.failure: Exception | None = None
        self.missing = 0
        self._seconds = seconds or {False: 1.0, True: 1.0}
        self._gate = threading.Semaphore(0)
        self._busy = threading.Lock()

    def predict(
        self, items: Sequence[str], *, explain: bool, num_beams: int | None, max_new_tokens: int | None
    ) -> list[str]:
        assert self._busy.acquire(blocking=False), "two batches at once"
        self.batches.append(list(items))
        self.works.append(Work(explain, num_beams, max_new_tokens))
        assert self._gate.acquire(timeout=10)
        self.now += self._seconds[explain]
        self._busy.release()
        if self.failure is not None:
            raise self.failure
        return [item.upper() for item in items[self.missing :]]

    def estimated_tokens(self, item: str) -> int:
        return len(item)

    def release(self, batches: int = 1) -> None:
        self._gate.release(batches)


class Watch:
    """An observer that keeps what it hears."""

    def __init__(self) -> None:
        self.queue: dict[str, int] = {}
        self.batches: list[tuple[str, int, int, float]] = []

    def queue_changed(self, lane: str, items: int) -> None:
        self.queue[lane] = items

    def batch_done(self, lane: str, items: int, tokens: int, seconds: float) -> None:
        self.batches.append((lane, items, tokens, seconds))


class Bench:
    """A running batcher around an engine, and shorthand to use it."""

    def __init__(self, engine: Engine, **settings: int) -> None:
        self.engine = engine
        self.watch = Watch()
        limits = {"classify_batch_tokens": 100, "explain_batch_tokens": 100, "max_queue_items": 1000, **settings}
        self._executor = ThreadPoolExecutor(max_workers=1)
        self.batcher: Batcher[str, str] = Batcher(
            engine, self._executor, self.watch, clock=lambda: engine.now, **limits
        )
        self.batcher.start()

    async def submit(self, *items: str, work: Work = CLASSIFY, seconds: float = 10.0) -> asyncio.Task[list[str]]:
        """A submitted request, queued by the time this returns."""
        deadline = asyncio.get_running_loop().time() + seconds
        task = asyncio.create_task(self.batcher.submit(items, work, deadline=deadline))
        await asyncio.sleep(0)
        return task

    async def busy(self, work: Work = CLASSIFY) -> asyncio.Task[list[str]]:
        """A request whose only item is in the model, so that whatever is submitted next has to wait."""
        before = len(self.engine.batches)
        task = await self.submit("first", work=work)
        while len(self.engine.batches) == before:
            await asyncio.sleep(0.001)
        return task


def run(scenario: Callable[[Bench], Awaitable[None]], engine: Engine | None = None, **settings: int) -> Bench:
    async def main() -> Bench:
        bench = Bench(engine or Engine(), **settings)
        await scenario(bench)
        bench.engine.release(1000)
        await bench.batcher.close()
        return bench

    return asyncio.run(main())


def test_requests_that_wait_together_share_the_next_batch_and_each_gets_its_own_outcomes_in_order() -> None:
    async def scenario(bench: Bench) -> None:
        first = await bench.busy()
        pair, single = await bench.submit("a", "b"), await bench.submit("c")
        bench.engine.release(2)
        assert await first == ["FIRST"]
        assert (await pair, await single) == (["A", "B"], ["C"])

    bench = run(scenario)
    assert [sorted(batch) for batch in bench.engine.batches] == [["first"], ["a", "b", "c"]]


def test_an_idle_model_starts_without_waiting_for_company() -> None:
    async def scenario(bench: Bench) -> None:
        bench.engine.release()
        assert await (await bench.submit("a")) == ["A"]

    run(scenario)


def test_a_batch_holds_no_more_tokens_than_allowed_and_a_longer_item_goes_alone() -> None:
    async def scenario(bench: Bench) -> None:
        first = await bench.busy()
        waiting = await bench.submit("aaaa", "bbbb", "cccc", "d" * 30, "eeee")
        bench.engine.release(10)
        assert await first == ["FIRST"]
        assert await waiting == ["AAAA", "BBBB", "CCCC", "D" * 30, "EEEE"]

    bench = run(scenario, classify_batch_tokens=10)
    assert bench.engine.batches == [["first"], ["aaaa", "bbbb"], ["cccc"], ["d" * 30], ["eeee"]]


def test_a_single_text_does_not_wait_behind_a_long_list() -> None:
    async def scenario(bench: Bench) -> None:
        first = await bench.busy()
        long = await bench.submit(*[f"l{number}" for number in range(6)])
        single = await bench.submit("s0")
        bench.engine.release(10)
        await asyncio.gather(first, long, single)

    bench = run(scenario, classify_batch_tokens=4)
    assert bench.engine.batches == [["first"], ["l0", "s0"], ["l1", "l2"], ["l3", "l4"], ["l5"]]


def test_only_equal_work_shares_a_batch_and_its_options_reach_the_engine() -> None:
    two, four = Work(True, num_beams=2), Work(True, num_beams=4, max_new_tokens=9)

    async def scenario(bench: Bench) -> None:
        first = await bench.busy()
        tasks = [await bench.submit(text, work=work) for text, work in [("a", two), ("b", four), ("c", two)]]
        bench.engine.release(10)
        await asyncio.gather(first, *tasks)

    bench = run(scenario)
    assert list(zip(bench.engine.works, bench.engine.batches, strict=True))[1:] == [(two, ["a", "c"]), (four, ["b"])]


def test_requests_with_different_options_take_turns() -> None:
    two, four = Work(True, num_beams=2), Work(True, num_beams=4)

    async def scenario(bench: Bench) -> None:
        first = await bench.busy()
        long, other = await bench.submit("l0", "l1", "l2", work=two), await bench.submit("s0", work=four)
        bench.engine.release(10)
        await asyncio.gather(first, long, other)

    assert run(scenario, explain_batch_tokens=2).engine.batches == [["first"], ["l0"], ["s0"], ["l1"], ["l2"]]


def test_labels_go_before_explanations_when_both_wait() -> None:
    async def scenario(bench: Bench) -> None:
        first = await bench.busy(EXPLAIN)
        slow, quick = await bench.submit("slow", work=EXPLAIN), await bench.submit("quick")
        bench.engine.release(10)
        await asyncio.gather(first, slow, quick)

    assert run(scenario).engine.batches == [["first"], ["quick"], ["slow"]]


@pytest.mark.parametrize(("explain_seconds", "expected"), [(1.0, 4), (4.0, 4)])
def test_under_full_load_labels_get_three_quarters_of_the_time(explain_seconds: float, expected: int) -> None:
    """12 batches of labels go with 4 of explanations of a second each, 48 with 4 of four seconds each: 3 to 1."""
    labels = int(3 * expected * explain_seconds)

    async def scenario(bench: Bench) -> None:
        first = await bench.busy()
        quick = await bench.submit(*["q"] * 100)
        slow = await bench.submit(*["s"] * 100, work=EXPLAIN)
        bench.engine.release(1000)
        await asyncio.gather(first, quick, slow)

    engine = Engine({False: 1.0, True: explain_seconds})
    bench = run(scenario, engine, classify_batch_tokens=1, explain_batch_tokens=1)
    seen = bench.engine.batches[1 : 1 + labels + expected]
    assert abs(seen.count(["s"]) - expected) <= 1


def test_time_that_a_lane_did_not_ask_for_is_not_saved_up() -> None:
    async def scenario(bench: Bench) -> None:
        bench.engine.release(1000)
        for _ in range(50):  # explanations have the model to themselves for 50 s
            await (await bench.submit("s", work=EXPLAIN))
        quick, slow = await bench.submit(*["q"] * 100), await bench.submit("last", work=EXPLAIN)
        await asyncio.gather(quick, slow)

    bench = run(scenario, classify_batch_tokens=1, explain_batch_tokens=1)
    assert bench.engine.batches.index(["last"]) <= 50 + 5


def test_past_its_deadline_a_request_fails_and_its_waiting_items_are_dropped() -> None:
    async def scenario(bench: Bench) -> None:
        first = await bench.busy()
        late, patient = await bench.submit("late", seconds=0.05), await bench.submit("patient")
        with pytest.raises(DeadlineExceeded):
            await late
        bench.engine.release(10)
        await asyncio.gather(first, patient)

    assert run(scenario).engine.batches == [["first"], ["patient"]]


def test_past_its_deadline_a_request_in_the_model_fails_and_the_next_is_answered() -> None:
    async def scenario(bench: Bench) -> None:
        running = await bench.submit("running", seconds=0.05)
        with pytest.raises(DeadlineExceeded):
            await running
        bench.engine.release(2)
        assert await (await bench.submit("next")) == ["NEXT"]

    run(scenario)


def test_what_a_client_abandons_never_reaches_the_model() -> None:
    async def scenario(bench: Bench) -> None:
        first = await bench.busy()
        gone, stays = await bench.submit("gone", "gone too"), await bench.submit("stays")
        gone.cancel()
        await asyncio.wait([gone])
        assert bench.watch.queue["classify"] == 1
        bench.engine.release(10)
        await asyncio.gather(first, stays)

    assert run(scenario).engine.batches == [["first"], ["stays"]]


def test_a_full_queue_refuses_and_says_when_to_come_back() -> None:
    async def scenario(bench: Bench) -> None:
        bench.engine.release()
        await (await bench.submit("12345"))  # 5 tokens in 3 s: 0.6 s per token
        first = await bench.busy()
        waiting = await bench.submit("aa", "bb", "cc")
        with pytest.raises(QueueFull) as refusal:
            await (await bench.submit("dd"))
        assert refusal.value.retry_after == pytest.approx(6 * 0.6)
        bench.engine.release(10)
        await asyncio.gather(first, waiting)
        assert await (await bench.submit("dd")) == ["DD"]

    run(scenario, Engine({False: 3.0, True: 3.0}), max_queue_items=3)


def test_a_failing_engine_fails_its_batch_and_nothing_else() -> None:
    async def scenario(bench: Bench) -> None:
        bench.engine.failure = RuntimeError("out of memory at 'some text'")
        failing = await bench.busy()
        waiting = await bench.submit("a")
        bench.engine.release()
        with pytest.raises(InternalError) as failure:
            await failing
        assert "some text" not in str(failure.value)
        bench.engine.failure = None
        bench.engine.release(10)
        assert await waiting == ["A"]
        assert bench.batcher.alive

    run(scenario)


def test_a_request_that_failed_in_one_batch_is_in_no_other() -> None:
    async def scenario(bench: Bench) -> None:
        bench.engine.failure = RuntimeError("no")
        failing = await bench.submit("aa", "bb", "cc")
        bench.engine.release(10)
        with pytest.raises(InternalError):
            await failing

    assert run(scenario, classify_batch_tokens=2).engine.batches == [["aa"]]


def test_an_engine_that_gives_too_few_outcomes_is_an_internal_error_not_a_short_answer() -> None:
    async def scenario(bench: Bench) -> None:
        bench.engine.missing = 1
        task = await bench.submit("a", "b")
        bench.engine.release()
        with pytest.raises(InternalError):
            await task

    run(scenario)


def test_closing_answers_what_waits_and_refuses_what_comes() -> None:
    async def scenario(bench: Bench) -> None:
        first = await bench.busy()
        waiting = await bench.submit("a")
        closing = asyncio.create_task(bench.batcher.close())
        await asyncio.sleep(0)
        with pytest.raises(NotReady):
            await (await bench.submit("b"))
        bench.engine.release(10)
        assert (await first, await waiting) == (["FIRST"], ["A"])
        await closing
        assert not bench.batcher.alive

    run(scenario)


def test_the_observer_hears_of_queues_and_batches() -> None:
    async def scenario(bench: Bench) -> None:
        first = await bench.busy()
        waiting = await bench.submit("aa", "bbb", work=EXPLAIN)
        assert bench.watch.queue == {"classify": 0, "explain": 2}
        bench.engine.release(2)
        await asyncio.gather(first, waiting)

    bench = run(scenario, Engine({False: 1.0, True: 2.5}))
    assert bench.watch.queue == {"classify": 0, "explain": 0}
    assert bench.watch.batches == [("classify", 1, 5, 1.0), ("explain", 2, 5, 2.5)]


def test_the_real_predictor_answers_together_as_it_answers_alone(model_dir: Path) -> None:
    predictor = Predictor.load(model_dir, device="cpu")
    texts = ["too heavy to carry", " ", "it works and it is small", "the screen broke after a week of use", "fine"]
    items = [Item({"text": text}) for text in texts]

    async def main() -> list[list[Outcome]]:
        limits = {"classify_batch_tokens": 64, "explain_batch_tokens": 64, "max_queue_items": 100}
        batcher: Batcher[Item, Outcome] = Batcher(predictor, ThreadPoolExecutor(max_workers=1), Watch(), **limits)
        batcher.start()
        deadline = asyncio.get_running_loop().time() + 60
        work = [CLASSIFY, EXPLAIN, Work(True, num_beams=2, max_new_tokens=5)]
        answers = await asyncio.gather(*[batcher.submit(items, each, deadline=deadline) for each in work * 3])
        await batcher.close()
        return list(answers)

    arguments: list[dict[str, Any]] = [{}, {"explain": True}, {"explain": True, "num_beams": 2, "max_new_tokens": 5}]
    alone = [[predictor.predict([item], **each)[0] for item in items] for each in arguments * 3]
    for together, expected in zip(asyncio.run(main()), alone, strict=True):
        assert [_numbers(outcome) for outcome in together] == [
            pytest.approx(_numbers(outcome), abs=1e-5) for outcome in expected
        ]


def _numbers(outcome: Outcome) -> list[float]:
    if isinstance(outcome, ItemError):
        return [-1.0]
    assert isinstance(outcome, Prediction)
    return [*outcome.probabilities.values(), outcome.entropy, outcome.explanation_score or 0.0]
