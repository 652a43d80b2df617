"""The queue in front of the model: what shares it, whose turn it is, and what happens when things go wrong."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from service.batching import Batcher
from service.errors import DeadlineExceeded, InternalError, NotReady, QueueFull
from service.lanes import LANES, Work
from service.model.classification import Item, Outcome, Prediction
from service.model.encoding import TokenBatch
from service.model.errors import ItemError
from service.model.network import Memory
from service.model.predictor import Predictor

CLASSIFY = Work()
EXPLAIN = Work(explain=True)
TWO, FOUR = Work(True, num_beams=2), Work(True, num_beams=4, max_new_tokens=9)


class Engine:
    """Answers a text with its capitals. Holds every batch of labels and every step of explaining until ``release``;
    time passes only as told.

    A text costs as many tokens as it has characters, and its explanation takes as many steps. batches: the labels'.
    steps: the texts at work in each. seconds: model time of one batch, and of one step. capacity: of an explainer.
    """

    def __init__(self, seconds: float = 1.0, capacity: int = 100) -> None:
        self.batches: list[list[str]] = []
        self.steps: list[list[str]] = []
        self.explainers: list[tuple[Work, int | None]] = []  # and their budgets
        self.now = 0.0
        self.failure: Exception | None = None  # of what is running or comes next
        self.missing = 0  # outcomes that it forgets
        self.capacity = capacity
        self._seconds = seconds
        self._gates = {lane: threading.Semaphore(0) for lane in LANES}
        self._running = {lane: threading.Lock() for lane in LANES}

    def predict(self, items: Sequence[str]) -> list[str]:
        self.run("classify", self.batches, list(items))
        return [item.upper() for item in items[self.missing :]]

    def explainer(self, *, num_beams: int | None, max_new_tokens: int | None, budget: int | None) -> "Explainer":
        self._fail()
        self.explainers.append((Work(True, num_beams, max_new_tokens), budget))
        return Explainer(self)

    def estimated_tokens(self, item: str) -> int:
        return len(item)

    def run(self, lane: str, heard: list[list[str]], texts: list[str]) -> None:
        assert self._running[lane].acquire(blocking=False), "two at once"
        heard.append(texts)
        assert self._gates[lane].acquire(timeout=10)
        self.now += self._seconds
        self._running[lane].release()
        self._fail()

    def _fail(self) -> None:
        failure, self.failure = self.failure, None
        if failure is not None:
            raise failure

    def release(self, times: int = 1, work: Work = CLASSIFY) -> None:
        self._gates[work.lane].release(times)


class Explainer:
    """Takes in all that it is given and writes a character of each at a step."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._at_work: dict[int, str] = {}
        self._left: dict[int, int] = {}

    @property
    def busy(self) -> bool:
        return bool(self._at_work)

    def wanted(self, waiting: int) -> int:
        return min(waiting, self._engine.capacity - len(self._at_work))

    def add(self, items: Iterable[tuple[int, str]]) -> None:
        for number, text in items:
            self._at_work[number], self._left[number] = text, len(text)

    def advance(self) -> list[tuple[int, str]]:
        self._engine.run("explain", self._engine.steps, list(self._at_work.values()))
        for number in self._at_work:
            self._left[number] -= 1
        done = [(number, self._at_work.pop(number).upper()) for number, left in self._left.items() if left == 0]
        for number, _ in done:
            del self._left[number]
        return done[self._engine.missing :]


class Watch:
    """An observer that keeps what it hears."""

    def __init__(self) -> None:
        self.queue: dict[str, int] = {}
        self.batches: list[tuple[str, int, int, float]] = []

    def queue_changed(self, lane: str, items: int) -> None:
        self.queue[lane] = items

    def batch_done(self, lane: str, items: int, tokens: int, seconds: float) -> None:
        self.batches.append((lane, items, tokens, seconds))


def threads() -> dict[str, ThreadPoolExecutor]:
    return {lane: ThreadPoolExecutor(max_workers=1) for lane in LANES}


class Bench:
    """A running batcher around an engine, and shorthand to use it."""

    def __init__(self, engine: Engine, **settings: Any) -> None:
        self.engine = engine
        self.watch = Watch()
        limits = {"classify_batch_tokens": 100, "explain_batch_tokens": None, "max_queue_items": 1000, **settings}
        self.batcher: Batcher[str, str] = Batcher(engine, threads(), self.watch, clock=lambda: engine.now, **limits)
        self.batcher.start()

    async def submit(self, *items: str, work: Work = CLASSIFY, seconds: float = 10.0) -> asyncio.Task[list[str]]:
        """A submitted request, queued by the time this returns."""
        deadline = asyncio.get_running_loop().time() + seconds
        task = asyncio.create_task(self.batcher.submit(items, work, deadline=deadline))
        await asyncio.sleep(0)
        return task

    async def busy(self, work: Work = CLASSIFY, text: str = "first") -> asyncio.Task[list[str]]:
        """A request whose only item is in the model, so that whatever is submitted next comes later."""
        heard = self.engine.steps if work.explain else self.engine.batches
        task, before = await self.submit(text, work=work), len(heard)
        await until(lambda: len(heard) > before)
        return task

    async def step(self, times: int = 1) -> None:
        """Let the explainer finish some steps and begin the next."""
        after = len(self.engine.steps) + times
        self.engine.release(times, EXPLAIN)
        await until(lambda: len(self.engine.steps) == after)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


def run(scenario: Callable[[Bench], Awaitable[None]], engine: Engine | None = None, **settings: Any) -> Bench:
    async def main() -> Bench:
        bench = Bench(engine or Engine(), **settings)
        await scenario(bench)
        bench.engine.release(1000)
        bench.engine.release(1000, EXPLAIN)
        await bench.batcher.close()
        return bench

    return asyncio.run(main())


# -------------------------------------------------------------------------------------------------------------- labels


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


def test_a_label_is_answered_while_an_explanation_is_at_work() -> None:
    async def scenario(bench: Bench) -> None:
        explained = await bench.busy(EXPLAIN)
        bench.engine.release()
        assert await (await bench.submit("quick")) == ["QUICK"]
        assert not explained.done()

    run(scenario)


# -------------------------------------------------------------------------------------------------------- explanations


def test_a_short_explanation_is_answered_before_a_long_one_that_came_earlier() -> None:
    async def scenario(bench: Bench) -> None:
        long, short = await bench.busy(EXPLAIN, "long" * 5), await bench.submit("s", work=EXPLAIN)
        bench.engine.release(2, EXPLAIN)
        assert await short == ["S"]
        assert not long.done()
        bench.engine.release(20, EXPLAIN)
        assert await long == ["LONG" * 5]

    run(scenario)


def test_outcomes_of_a_request_stand_in_its_order_however_long_each_takes() -> None:
    async def scenario(bench: Bench) -> None:
        bench.engine.release(10, EXPLAIN)
        assert await (await bench.submit("aaaa", "b", "ccc", work=EXPLAIN)) == ["AAAA", "B", "CCC"]

    run(scenario)


def test_what_arrives_while_others_are_at_work_joins_them() -> None:
    async def scenario(bench: Bench) -> None:
        first = await bench.busy(EXPLAIN)
        later = await bench.submit("late", work=EXPLAIN)
        await bench.step()
        assert bench.engine.steps == [["first"], ["first", "late"]]
        bench.engine.release(10, EXPLAIN)
        await asyncio.gather(first, later)

    assert len(run(scenario).engine.explainers) == 1


def test_only_so_many_are_at_work_as_there_is_room_for_and_who_is_done_leaves_it_to_the_next() -> None:
    async def scenario(bench: Bench) -> None:
        bench.engine.release(10, EXPLAIN)
        assert await (await bench.submit("a", "bbb", "cc", "d", work=EXPLAIN)) == ["A", "BBB", "CC", "D"]

    bench = run(scenario, Engine(capacity=2), explain_batch_tokens=7)
    assert bench.engine.steps == [["a", "bbb"], ["bbb", "cc"], ["bbb", "cc"], ["d"]]
    assert bench.engine.explainers == [(EXPLAIN, 7)]


def test_one_that_waits_alone_joins_however_many_are_at_work() -> None:
    async def scenario(bench: Bench) -> None:
        many = await bench.submit(*["many"] * 7, work=EXPLAIN)
        await until(lambda: len(bench.engine.steps) == 1)
        single = await bench.submit("s", work=EXPLAIN)
        bench.engine.release(10, EXPLAIN)
        await asyncio.gather(many, single)

    assert run(scenario, Engine(capacity=8)).engine.steps[1] == [*["many"] * 7, "s"]


def test_a_single_explanation_does_not_wait_behind_a_long_list() -> None:
    async def scenario(bench: Bench) -> None:
        first = await bench.busy(EXPLAIN, "f")
        long = await bench.submit(*"lmnop", work=EXPLAIN)
        single = await bench.submit("s", work=EXPLAIN)
        bench.engine.release(10, EXPLAIN)
        await asyncio.gather(first, long, single)

    assert run(scenario, Engine(capacity=1)).engine.steps[:3] == [["f"], ["l"], ["s"]]


def test_the_model_thread_is_back_after_a_hundredth_of_a_second_or_when_something_is_done() -> None:
    async def scenario(bench: Bench) -> None:
        bench.engine.release(20, EXPLAIN)
        await (await bench.submit("1234567", "12", work=EXPLAIN))

    runs = run(scenario, Engine(seconds=0.004)).watch.batches
    assert [(items, pytest.approx(seconds)) for _, items, _, seconds in runs] == [(2, 0.008), (1, 0.012), (1, 0.008)]


# -------------------------------------------------------------------------------------------------------- whose turn


def test_only_equal_work_is_explained_together_and_its_options_reach_the_engine() -> None:
    async def scenario(bench: Bench) -> None:
        first = await bench.busy(EXPLAIN, "f")
        tasks = [await bench.submit(text, work=work) for text, work in [("a", TWO), ("b", FOUR), ("c", TWO)]]
        bench.engine.release(10, EXPLAIN)
        await asyncio.gather(first, *tasks)

    bench = run(scenario)
    assert bench.engine.steps == [["f"], ["a", "c"], ["b"]]
    assert bench.engine.explainers == [(EXPLAIN, None), (TWO, None), (FOUR, None)]


def test_requests_with_different_options_take_turns() -> None:
    async def scenario(bench: Bench) -> None:
        first = await bench.busy(EXPLAIN, "f")
        long, other = await bench.submit("l", "m", "n", work=TWO), await bench.submit("s", work=FOUR)
        bench.engine.release(10, EXPLAIN)
        await asyncio.gather(first, long, other)

    assert run(scenario, Engine(capacity=1)).engine.steps == [["f"], ["l"], ["s"], ["m"], ["n"]]


def test_other_work_has_its_turn_under_a_steady_stream_and_the_stream_goes_on_after_it() -> None:
    async def scenario(bench: Bench) -> None:
        stream = [await bench.busy(TWO, "a0")]
        stream.append(await bench.submit("b0", work=TWO))
        await bench.step()
        assert bench.engine.steps[-1] == ["a0", "b0"]  # while nothing else waits, the stream joins itself
        other = await bench.submit("other", work=FOUR)
        for number in range(1, 9):
            stream.append(await bench.submit(f"a{number}", work=TWO))
            await bench.step()
        bench.engine.release(20, EXPLAIN)
        await asyncio.gather(*stream, other)

    bench = run(scenario)
    others = [place for place, texts in enumerate(bench.engine.steps) if texts == ["other"]]
    assert others == [3, 4, 5, 6, 7]  # as soon as a0 and b0 are done
    assert bench.engine.steps[8][0] == "a1"
    assert [work for work, _ in bench.engine.explainers] == [TWO, FOUR, TWO]


# ------------------------------------------------------------------------------------ deadlines, clients that leave


@pytest.mark.parametrize("work", [CLASSIFY, EXPLAIN])
def test_past_its_deadline_a_request_fails_and_its_waiting_items_are_dropped(work: Work) -> None:
    async def scenario(bench: Bench) -> None:
        first = await bench.busy(work, "f")
        late = await bench.submit("l", seconds=0.05, work=work)
        patient = await bench.submit("p", work=work)
        with pytest.raises(DeadlineExceeded):
            await late
        bench.engine.release(10, work)
        await asyncio.gather(first, patient)

    bench = run(scenario, Engine(capacity=1))
    assert (bench.engine.steps if work.explain else bench.engine.batches) == [["f"], ["p"]]


@pytest.mark.parametrize("work", [CLASSIFY, EXPLAIN])
def test_past_its_deadline_a_request_in_the_model_fails_and_the_next_is_answered(work: Work) -> None:
    async def scenario(bench: Bench) -> None:
        running = await bench.submit("running", seconds=0.05, work=work)
        with pytest.raises(DeadlineExceeded):
            await running
        bench.engine.release(20, work)
        assert await (await bench.submit("next", work=work)) == ["NEXT"]

    run(scenario, Engine(capacity=1))


@pytest.mark.parametrize("work", [CLASSIFY, EXPLAIN])
def test_what_a_client_abandons_never_reaches_the_model(work: Work) -> None:
    async def scenario(bench: Bench) -> None:
        first = await bench.busy(work, "f")
        gone, stays = await bench.submit("g", "h", work=work), await bench.submit("s", work=work)
        gone.cancel()
        await asyncio.wait([gone])
        assert bench.watch.queue[work.lane] == 1
        bench.engine.release(10, work)
        await asyncio.gather(first, stays)

    bench = run(scenario, Engine(capacity=1))
    assert (bench.engine.steps if work.explain else bench.engine.batches) == [["f"], ["s"]]


def test_what_a_client_abandons_at_work_is_finished_and_its_place_is_the_nexts() -> None:
    async def scenario(bench: Bench) -> None:
        gone = await bench.busy(EXPLAIN, "gg")
        gone.cancel()
        await asyncio.wait([gone])
        stays = await bench.submit("s", work=EXPLAIN)
        bench.engine.release(10, EXPLAIN)
        assert await stays == ["S"]

    assert run(scenario, Engine(capacity=1)).engine.steps == [["gg"], ["gg"], ["s"]]


@pytest.mark.parametrize("work", [CLASSIFY, EXPLAIN])
def test_a_full_queue_refuses_and_says_when_to_come_back(work: Work) -> None:
    async def scenario(bench: Bench) -> None:
        bench.engine.release(5 if work.explain else 1, work)
        await (await bench.submit("12345", work=work))  # 5 tokens in 5 steps of 3 s each, or in one batch of 3 s
        first = await bench.busy(work, "123")
        waiting = await bench.submit("aa", "bb", "cc", work=work)
        with pytest.raises(QueueFull) as refusal:
            await (await bench.submit("dd"))
        assert refusal.value.retry_after == pytest.approx(6 * (3.0 if work.explain else 0.6))
        bench.engine.release(50, work)
        await asyncio.gather(first, waiting)
        bench.engine.release(50, work)
        assert await (await bench.submit("dd", work=work)) == ["DD"]

    run(scenario, Engine(seconds=3.0, capacity=1), max_queue_items=3)


# -------------------------------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize("work", [CLASSIFY, EXPLAIN])
def test_a_failing_engine_fails_what_is_in_it_and_nothing_else(work: Work) -> None:
    async def scenario(bench: Bench) -> None:
        failing = await bench.busy(work)
        waiting = await bench.submit("a", work=work)
        bench.engine.failure = RuntimeError("out of memory at 'some text'")
        bench.engine.release(1, work)
        with pytest.raises(InternalError) as failure:
            await failing
        assert "some text" not in str(failure.value)
        bench.engine.release(10, work)
        assert await waiting == ["A"]
        assert bench.batcher.alive

    run(scenario, Engine(capacity=1))


def test_a_request_that_failed_in_one_batch_is_in_no_other() -> None:
    async def scenario(bench: Bench) -> None:
        bench.engine.failure = RuntimeError("no")
        failing = await bench.submit("aa", "bb", "cc")
        bench.engine.release(10)
        with pytest.raises(InternalError):
            await failing

    assert run(scenario, classify_batch_tokens=2).engine.batches == [["aa"]]


def test_where_there_is_no_explainer_what_waits_for_it_fails_and_the_next_request_is_answered() -> None:
    async def scenario(bench: Bench) -> None:
        bench.engine.failure = RuntimeError("no")
        failing = await bench.submit("aa", "bb", work=EXPLAIN)
        with pytest.raises(InternalError):
            await failing
        bench.engine.release(10, EXPLAIN)
        assert await (await bench.submit("c", work=EXPLAIN)) == ["C"]

    assert run(scenario).engine.steps == [["c"]]


@pytest.mark.parametrize("work", [CLASSIFY, EXPLAIN])
def test_an_engine_that_gives_too_few_outcomes_is_an_internal_error_not_a_short_answer(work: Work) -> None:
    async def scenario(bench: Bench) -> None:
        bench.engine.missing = 1
        task = await bench.submit("a", "b", work=work)
        bench.engine.release(1, work)
        with pytest.raises(InternalError):
            await task

    run(scenario)


@pytest.mark.parametrize("work", [CLASSIFY, EXPLAIN])
def test_closing_answers_what_is_there_and_refuses_what_comes(work: Work) -> None:
    async def scenario(bench: Bench) -> None:
        first = await bench.busy(work)
        waiting = await bench.submit("a", work=work)
        other = await bench.submit("b", work=EXPLAIN if work == CLASSIFY else CLASSIFY)
        closing = asyncio.create_task(bench.batcher.close())
        await asyncio.sleep(0)
        with pytest.raises(NotReady):
            await (await bench.submit("c"))
        for each in (CLASSIFY, EXPLAIN):
            bench.engine.release(10, each)
        assert (await first, await waiting, await other) == (["FIRST"], ["A"], ["B"])
        await closing
        assert not bench.batcher.alive

    run(scenario, Engine(capacity=1))


def test_the_observer_hears_of_queues_batches_and_slices() -> None:
    async def scenario(bench: Bench) -> None:
        first = await bench.busy()
        waiting = await bench.submit("aa", "bbb")
        assert bench.watch.queue == {"classify": 2}
        bench.engine.release(2)
        await asyncio.gather(first, waiting)
        explained = await bench.submit("a", "bb", "c", work=EXPLAIN)
        assert bench.watch.queue == {"classify": 0, "explain": 3}
        bench.engine.release(3, EXPLAIN)
        await explained

    bench = run(scenario, Engine(seconds=2.5, capacity=2))
    assert bench.watch.queue == {"classify": 0, "explain": 0}
    # Texts at work and their tokens: a and bb, then bb and c.
    expected = [("classify", 1, 5), ("classify", 2, 5), ("explain", 2, 3), ("explain", 2, 3)]
    assert bench.watch.batches == [(*each, 2.5) for each in expected]


# -------------------------------------------------------------------------------------------------- the real predictor

TEXTS = ["too heavy to carry", " ", "it works and it is small", "the screen broke after a week of use", "fine"]
ITEMS = [Item({"text": text}) for text in TEXTS]


async def answered(predictor: Predictor, requests: Sequence[tuple[list[Item], Work]]) -> list[list[Outcome]]:
    limits = {"classify_batch_tokens": 64, "explain_batch_tokens": 200, "max_queue_items": 100}
    batcher: Batcher[Item, Outcome] = Batcher(predictor, threads(), Watch(), **limits)
    batcher.start()
    deadline = asyncio.get_running_loop().time() + 60
    answers = await asyncio.gather(*[batcher.submit(items, work, deadline=deadline) for items, work in requests])
    await batcher.close()
    return list(answers)


def test_the_real_predictor_answers_together_as_it_answers_alone(model_dir: Path) -> None:
    predictor = Predictor.load(model_dir, device="cpu")
    work = [CLASSIFY, EXPLAIN, Work(True, num_beams=2, max_new_tokens=5)] * 3
    arguments: list[dict[str, Any]] = [{}, {"explain": True}, {"explain": True, "num_beams": 2, "max_new_tokens": 5}]
    alone = [[predictor.predict([item], **each)[0] for item in ITEMS] for each in arguments * 3]
    found = asyncio.run(answered(predictor, [(ITEMS, each) for each in work]))
    for together, expected in zip(found, alone, strict=True):
        assert [_numbers(outcome) for outcome in together] == [
            pytest.approx(_numbers(outcome), abs=1e-5) for outcome in expected
        ]


def test_a_text_that_the_real_model_fails_on_hurts_no_other(model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = Predictor.load(model_dir, device="cpu")
    alone = predictor.predict(ITEMS, explain=True)
    encode, unknown = predictor.network.encode, predictor.encoder.tokenizer.unk_token_id

    def failing(batch: TokenBatch) -> Memory:
        if (batch.ids == unknown).any():
            raise RuntimeError("no memory")
        return encode(batch)

    monkeypatch.setattr(predictor.network, "encode", failing)
    found, bad = asyncio.run(answered(predictor, [(ITEMS, EXPLAIN), ([Item({"text": "\u2603"})], EXPLAIN)]))
    assert [getattr(outcome, "code", None) for outcome in bad] == ["model_failure"]
    assert [_numbers(outcome) for outcome in found] == [pytest.approx(_numbers(outcome), abs=1e-5) for outcome in alone]


def _numbers(outcome: Outcome) -> list[float]:
    if isinstance(outcome, ItemError):
        return [-1.0]
    assert isinstance(outcome, Prediction)
    return [*outcome.probabilities.values(), outcome.entropy, outcome.explanation_score or 0.0]
