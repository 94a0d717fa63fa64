"""`Bulkhead`: so many calls at a time, the others in one line, and no place is ever lost."""

import asyncio
import random
import subprocess
import sys
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.policies.crowd import PATIENCE, THREADS, Inside, at_once, settled, until

from resilient_agents import deadline, events
from resilient_agents.errors import ApiError, BulkheadFull, DeadlineExceeded
from resilient_agents.policies._waits import report
from resilient_agents.policies.bulkhead import Bulkhead
from resilient_agents.testing import FakeClock

A_MOMENT = 0.001
"""Time in seconds that somebody waits in vain in a test."""


@pytest.fixture
def heard() -> Iterator[list[events.PolicyEvent]]:
    """Hear what policies say."""
    told: list[events.PolicyEvent] = []
    events.subscribe(events.PolicyEvent)(told.append)
    yield told
    events.unsubscribe(told.append)


def empty(bulkhead: Bulkhead) -> bool:
    """Tell whether nobody is left, and all places can be had."""
    places = [bulkhead.try_enter() for _ in range(bulkhead.limit)]
    full = bulkhead.running == bulkhead.limit
    for place in places:
        bulkhead.leave(place, None)
    return full and None not in places and (0, 0) == (bulkhead.running, bulkhead.waiting)


class Visitor:
    """A task that goes in, and stays until it is told to leave."""

    def __init__(self, bulkhead: Bulkhead, entered: list["Visitor"]) -> None:
        self._bulkhead = bulkhead
        self._entered = entered
        self._out = asyncio.Event()
        self.task = asyncio.ensure_future(self._visit())

    async def _visit(self) -> None:
        async with self._bulkhead:
            self._entered.append(self)
            await self._out.wait()

    def leave(self) -> None:
        """Leave."""
        self._out.set()


# --- Places


def test_limit(heard: list[events.PolicyEvent]) -> None:
    """Those who find no place are refused at once; the error says how many there are."""
    bulkhead = Bulkhead(2, name="crm")

    with bulkhead, bulkhead:
        assert (2, 0) == (bulkhead.running, bulkhead.waiting)
        with pytest.raises(BulkheadFull) as caught, bulkhead:
            raise AssertionError
    with bulkhead:
        assert 1 == bulkhead.running

    assert (
        "bulkhead 'crm' is full and nothing was sent: 2 calls are under way, of 2 at a time, and 0 wait, of 0"
    ) == str(caught.value)
    assert caught.value.retry_after is None
    assert [events.CallRefused(policy="bulkhead", name="crm", wait=None)] == heard


@pytest.mark.parametrize("exc", [KeyError, asyncio.CancelledError, KeyboardInterrupt])
async def test_calls_that_fail_leave(exc: type[BaseException]) -> None:
    """However a call ends, its place is free again."""
    bulkhead = Bulkhead(1)

    @bulkhead
    def call() -> None:
        raise exc

    @bulkhead
    async def acall() -> None:
        raise exc

    for _ in range(3):
        with pytest.raises(exc):
            call()
        with pytest.raises(exc):
            await acall()

    assert empty(bulkhead)


# --- The line


async def test_line_is_full() -> None:
    """Those who find the line full are refused, and so is who finds it so on his way to it."""
    bulkhead = Bulkhead(1, queue=2)
    entered: list[Visitor] = []
    visitors = [Visitor(bulkhead, entered) for _ in range(3)]
    await settled()

    assert (1, 2) == (bulkhead.running, bulkhead.waiting)
    with pytest.raises(BulkheadFull, match=r"1 calls are under way, of 1 at a time, and 2 wait, of 2"):
        await bulkhead(settled)()
    with pytest.raises(BulkheadFull):
        next(bulkhead.enter(waiting=Silent()))

    for visitor in visitors:
        visitor.leave()
    await asyncio.gather(*(visitor.task for visitor in visitors))
    assert visitors == entered
    assert empty(bulkhead)


class Silent:
    """A way to wait whose bells nobody hears, of a task that is never performed."""

    heard = True

    def ring(self) -> bool:
        """Ring."""
        return self.heard

    def wait(self, seconds: float | None) -> None:
        """Wait."""

    def bell(self) -> "Silent":
        """Return a bell."""
        return self

    def sleep(self, seconds: float) -> None:
        """Sleep."""

    def call(self, function: Any) -> None:
        """Call."""


async def test_no_newcomer_takes_the_place_of_who_waits() -> None:
    """A place that becomes free belongs to the first in the line, before he has noticed."""
    bulkhead = Bulkhead(1, queue=1)
    place = bulkhead.try_enter()
    first = Visitor(bulkhead, [])
    await settled()

    bulkhead.leave(place, None)

    assert (1, 0) == (bulkhead.running, bulkhead.waiting)
    assert bulkhead.try_enter() is None
    first.leave()
    await first.task
    assert empty(bulkhead)


def test_place_that_becomes_free_on_the_way_to_the_line() -> None:
    """Who was sent to the line finds a place when he gets there, and does not wait."""
    bulkhead = Bulkhead(1, queue=1)
    place = bulkhead.try_enter()
    assert bulkhead.try_enter() is None
    bulkhead.leave(place, None)

    with pytest.raises(StopIteration) as caught:
        next(bulkhead.enter(waiting=Silent()))

    bulkhead.leave(caught.value.value, None)
    assert empty(bulkhead)


async def test_threads_and_tasks_in_one_line() -> None:
    """Threads and tasks go in as they came, whatever they are."""
    bulkhead = Bulkhead(1, queue=THREADS)
    place, entered = bulkhead.try_enter(), list[int]()

    async def task(number: int) -> None:
        async with bulkhead:
            entered.append(number)

    def thread(number: int) -> None:
        with bulkhead:
            entered.append(number)

    def has_waiting(count: int) -> bool:
        return count == bulkhead.waiting

    comers: list[Any] = []
    with ThreadPoolExecutor(THREADS) as pool:
        for number in range(THREADS):
            if number % 2:
                comers.append(asyncio.wrap_future(pool.submit(thread, number)))
            else:
                comers.append(asyncio.ensure_future(task(number)))
            await until(partial(has_waiting, number + 1))
        bulkhead.leave(place, None)
        await asyncio.gather(*comers)

    assert list(range(THREADS)) == entered
    assert empty(bulkhead)


async def test_waits_are_told(heard: list[events.PolicyEvent]) -> None:
    """Who waited, and for how long; who found a place did not."""
    bulkhead = Bulkhead(1, queue=1, name="crm")

    with FakeClock() as clock, report() as told:
        visitors = [Visitor(bulkhead, []) for _ in range(2)]
        await settled()
        clock.advance(2.5)
        for visitor in visitors:
            visitor.leave()
        await asyncio.gather(*(visitor.task for visitor in visitors))

    assert [events.CallWaited(policy="bulkhead", name="crm", seconds=2.5, dictated_by="queue")] == heard
    assert [("bulkhead", "crm", 2.5, "queue")] == [
        (wait.policy, wait.name, wait.seconds, wait.dictated_by) for wait in told.waits
    ]


# --- Those who stop waiting


def wait_blocking(bulkhead: Bulkhead) -> None:
    """Wait in this thread."""
    with bulkhead:
        raise AssertionError


def wait_awaiting(bulkhead: Bulkhead) -> None:
    """Wait in a task."""

    async def wait() -> None:
        async with bulkhead:
            raise AssertionError

    asyncio.run(wait())


waits = pytest.mark.parametrize("wait", [wait_blocking, wait_awaiting], ids=lambda it: it.__name__)


@waits
def test_queue_timeout(wait: Any, heard: list[events.PolicyEvent]) -> None:
    """Who waits too long is refused, and is not in the line any more."""
    bulkhead = Bulkhead(1, queue=5, queue_timeout=A_MOMENT, name="crm")

    with bulkhead, pytest.raises(BulkheadFull) as caught:
        wait(bulkhead)

    assert str(caught.value).endswith("and 0 wait, of 5; none was done within 0.001 s")
    assert [events.CallRefused(policy="bulkhead", name="crm", wait=None)] == heard
    assert empty(bulkhead)


@waits
@pytest.mark.parametrize("queue_timeout", [None, 60.0])
def test_deadline_in_the_line(
    wait: Any, queue_timeout: float | None, heard: list[events.PolicyEvent]
) -> None:
    """Nobody waits past his deadline, and he is told that it was his deadline."""
    bulkhead = Bulkhead(1, queue=5, queue_timeout=queue_timeout)

    with bulkhead, deadline(A_MOMENT), pytest.raises(DeadlineExceeded, match="this bulkhead is full and"):
        wait(bulkhead)

    assert [events.CallRefused(policy="bulkhead", name="", wait=None)] == heard
    assert empty(bulkhead)


@waits
def test_deadline_that_has_passed(wait: Any) -> None:
    """Who has no time left does not line up."""
    bulkhead = Bulkhead(1, queue=5)

    with FakeClock() as clock, bulkhead, deadline(5):
        clock.advance(5)
        with pytest.raises(DeadlineExceeded, match="the deadline passed"):
            wait(bulkhead)

    assert empty(bulkhead)


async def test_cancelled_in_the_line() -> None:
    """Who is cancelled while he waits is not in the line any more."""
    bulkhead, entered = Bulkhead(1, queue=5), list[Visitor]()
    visitors = [Visitor(bulkhead, entered) for _ in range(3)]
    await settled()

    visitors[1].task.cancel()
    await settled()
    assert (1, 1) == (bulkhead.running, bulkhead.waiting)
    visitors[0].leave()
    visitors[2].leave()
    await settled()

    assert [visitors[0], visitors[2]] == entered
    assert empty(bulkhead)


async def test_cancelled_at_the_hand_over() -> None:
    """A place that was handed to somebody who is cancelled at that moment goes to the next one."""
    bulkhead, entered = Bulkhead(1, queue=5), list[Visitor]()
    place = bulkhead.try_enter()
    visitors = [Visitor(bulkhead, entered) for _ in range(3)]
    await settled()

    bulkhead.leave(place, None)
    visitors[0].task.cancel()
    visitors[1].task.cancel()
    await settled()

    assert [visitors[2]] == entered
    visitors[2].leave()
    await visitors[2].task
    assert empty(bulkhead)


async def test_time_up_at_the_hand_over() -> None:
    """A place that is handed over while the time runs out is kept, or passed on; it is not lost."""
    bulkhead = Bulkhead(1, queue=1)
    place = bulkhead.try_enter()
    flow = bulkhead.enter(waiting=Silent())
    next(flow)
    bulkhead.leave(place, None)

    with pytest.raises(StopIteration) as caught:  # the bell did not ring in time
        flow.send(False)
    bulkhead.leave(caught.value.value, None)

    assert empty(bulkhead)


def test_interrupted_by_a_subscriber() -> None:
    """Whatever happens between the hand-over and the call, the place is passed on."""
    bulkhead = Bulkhead(1, queue=1)

    @events.subscribe(events.CallWaited)
    def interrupt(event: events.CallWaited) -> None:
        raise KeyboardInterrupt

    place = bulkhead.try_enter()
    flow = bulkhead.enter(waiting=Silent())
    next(flow)
    bulkhead.leave(place, None)
    with pytest.raises(KeyboardInterrupt):
        flow.send(True)

    assert empty(bulkhead)


def test_loop_that_is_gone() -> None:
    """A place is not handed to a task whose event loop was closed, but to the next in the line."""
    bulkhead = Bulkhead(1, queue=2)
    place = bulkhead.try_enter()
    gone, living = Silent(), Silent()
    gone.heard = False
    flows = [bulkhead.enter(waiting=gone), bulkhead.enter(waiting=living)]
    for flow in flows:
        next(flow)

    bulkhead.leave(place, None)

    assert (1, 0) == (bulkhead.running, bulkhead.waiting)
    with pytest.raises(StopIteration) as caught:
        flows[1].send(True)
    flows[0].close()
    bulkhead.leave(caught.value.value, None)
    assert empty(bulkhead)


def test_task_that_is_collected_as_garbage() -> None:
    """A task that nobody awaits leaves the line when it is collected, even where the lock is held."""
    bulkhead = Bulkhead(1, queue=1)
    place = bulkhead.try_enter()
    flow = bulkhead.enter(waiting=Silent())
    next(flow)

    def collect() -> None:
        with bulkhead._lock:
            flow.close()

    collector = threading.Thread(target=collect, daemon=True)
    collector.start()
    collector.join(PATIENCE)

    assert not collector.is_alive()
    bulkhead.leave(place, None)
    assert empty(bulkhead)


# --- Whatever comes


class Model:
    """A bulkhead, and the list that says who must be inside."""

    def __init__(self, limit: int, queue: int) -> None:
        self.bulkhead = Bulkhead(limit, queue=queue)
        self.entered: list[Visitor] = []
        self._queue = queue
        self._inside: list[Visitor] = []
        self._line: list[Visitor] = []
        self._went_in: list[Visitor] = []

    def come(self, _: int) -> None:
        """Let somebody come, who finds a place, or waits, or is refused."""
        visitor = Visitor(self.bulkhead, self.entered)
        if len(self._inside) < self.bulkhead.limit or len(self._line) < self._queue:
            self._line.append(visitor)
        else:
            visitor.task.add_done_callback(lambda task: isinstance(task.exception(), BulkheadFull))

    def leave(self, number: int) -> None:
        """Let somebody leave who is inside."""
        if self._inside:
            self._inside.pop(number % len(self._inside)).leave()

    def cancel(self, number: int) -> None:
        """Cancel somebody, inside or in the line."""
        if visitors := self._inside + self._line:
            visitor = visitors[number % len(visitors)]
            visitor.task.cancel()
            (self._inside if visitor in self._inside else self._line).remove(visitor)

    async def hand_over(self, number: int) -> None:
        """Let somebody leave, and cancel the first in the line before he notices that the place is his."""
        if self._inside and self._line:
            self.leave(number)
            await asyncio.sleep(0)
            self._line.pop(0).task.cancel()

    async def check(self) -> None:
        """Look whether the bulkhead is as the list says."""
        while self._line and len(self._inside) < self.bulkhead.limit:
            self._inside.append(self._line.pop(0))
            self._went_in.append(self._inside[-1])
        await settled()
        assert (len(self._inside), len(self._line)) == (self.bulkhead.running, self.bulkhead.waiting)
        assert self._went_in == self.entered

    async def close(self) -> None:
        """Let everybody leave."""
        left = self._inside + self._line
        for visitor in left:
            visitor.leave()
        await asyncio.gather(*(visitor.task for visitor in left))
        assert empty(self.bulkhead)


@given(
    limit=st.integers(1, 3),
    queue=st.integers(0, 4),
    steps=st.lists(
        st.tuples(st.sampled_from(["come", "come", "leave", "cancel", "hand_over"]), st.integers(0, 9)),
        max_size=40,
    ),
)
def test_tasks(limit: int, queue: int, steps: list[tuple[str, int]]) -> None:
    """However tasks come, leave and are cancelled, they go in as a list of them says, and none is lost."""

    async def live() -> None:
        model = Model(limit, queue)
        for step, number in steps:
            outcome = getattr(model, step)(number)
            if outcome is not None:
                await outcome
            await model.check()
        await model.close()

    asyncio.run(live())


def test_threads() -> None:
    """Threads that wait, give up and come back are never too many, and leave nothing behind."""
    bulkhead, inside = Bulkhead(3, queue=8, queue_timeout=A_MOMENT / 10), Inside()
    refused = [0] * THREADS

    def work(number: int) -> None:
        for turn in range(150):
            try:
                with deadline(A_MOMENT / 20 if turn % 3 else 60), bulkhead, inside:
                    pass
            except ApiError:
                refused[number] += 1

    at_once(work)

    assert inside.most <= 3
    assert sum(refused) < 150 * THREADS
    assert empty(bulkhead)


@pytest.mark.parametrize(("threads", "limit", "turns"), [(THREADS, 3, 150), (2, 1, 3000)])
def test_patient_threads(threads: int, limit: int, turns: int) -> None:
    """Threads that wait as long as it takes all get in, never too many at a time."""
    bulkhead, inside = Bulkhead(limit, queue=threads), Inside()

    def work(_: int) -> None:
        for _ in range(turns):
            with deadline(PATIENCE), bulkhead, inside:
                pass

    at_once(work, threads)

    assert inside.most <= limit
    assert empty(bulkhead)


@pytest.mark.parametrize("seed", range(3))
async def test_tasks_and_threads(seed: int) -> None:
    """Tasks, some of them cancelled, and threads share one bulkhead; no place is lost or given twice."""
    bulkhead, inside, dice = Bulkhead(3, queue=100), Inside(), random.Random(seed)  # noqa: S311

    async def visit() -> None:
        async with bulkhead:
            with inside:
                await asyncio.sleep(0)

    async def come_and_go() -> None:
        for _ in range(25):
            visitor = asyncio.ensure_future(visit())
            for _ in range(dice.randrange(8)):
                await asyncio.sleep(0)
            if dice.random() < 0.5:
                visitor.cancel()
            with suppress(asyncio.CancelledError):
                await visitor

    def work(_: int) -> None:
        for _ in range(50):
            with bulkhead, inside:
                pass

    def many_tasks() -> Coroutine[Any, Any, Any]:
        return asyncio.wait_for(asyncio.gather(*(come_and_go() for _ in range(THREADS))), PATIENCE)

    threads = asyncio.to_thread(at_once, work, THREADS // 2)
    await asyncio.gather(threads, many_tasks())

    assert inside.most <= 3
    assert empty(bulkhead)


# --- The rest


FORK = """
import os, signal
from resilient_agents.policies.bulkhead import Bulkhead

bulkhead = Bulkhead(1, queue=1)
place = bulkhead.try_enter()
child = os.fork()
if not child:
    signal.alarm(10)
    first = bulkhead.try_enter()
    bulkhead.leave(place, None)
    full = first is not None and bulkhead.try_enter() is None
    bulkhead.leave(first, None)
    os._exit(not (full and bulkhead.running == 0))
print(os.waitpid(child, 0)[1], bulkhead.running)
"""


def test_fork() -> None:
    """In a child process all places are free, and what its parent holds is not given back there."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK]
    parent = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=30)

    assert "0 1\n" == parent.stdout


def test_at_rest() -> None:
    """A bulkhead may be forgotten when nobody is inside."""
    bulkhead = Bulkhead(1)
    assert bulkhead.at_rest

    with bulkhead:
        assert not bulkhead.at_rest


def test_in_words() -> None:
    """A bulkhead says what it does, to people who read code and to those who do not."""
    bulkheads = [Bulkhead(20), Bulkhead(20, queue=5), Bulkhead(20, queue=5, queue_timeout=1.5, name="crm")]

    assert [
        "Bulkhead(20, queue=0)",
        "Bulkhead(20, queue=5)",
        "Bulkhead(20, queue=5, queue_timeout=1.5, name='crm')",
    ] == list(map(repr, bulkheads))
    assert [
        "at most 20 calls at a time; nobody waits",
        "at most 20 calls at a time; 5 more wait",
        "at most 20 calls at a time; 5 more wait, each 1.5 s at most",
    ] == [bulkhead.describe() for bulkhead in bulkheads]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"limit": 0}, ValueError, "limit must be 1 or more calls, not 0"),
        ({"limit": 2.0}, TypeError, "limit must be a whole number of calls"),
        ({"queue": -1}, ValueError, "queue must be 0 or more calls, not -1"),
        ({"queue": None}, TypeError, "queue must be a whole number of calls"),
        ({"queue": 5, "queue_timeout": -1}, ValueError, "queue_timeout must be more than 0"),
        ({"queue": 5, "queue_timeout": float("nan")}, ValueError, "queue_timeout must be more than 0"),
        ({"queue": 5, "queue_timeout": 0}, ValueError, "queue_timeout must be more than 0"),
        ({"queue": 5, "queue_timeout": "1"}, TypeError, "queue_timeout must be a time in seconds, or None"),
        ({"queue_timeout": 1}, ValueError, "queue_timeout=1 says how long to wait, and with queue=0"),
        ({"name": 1}, TypeError, "name must be a text"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    """A wrong argument is refused, and the message says what is right."""
    with pytest.raises(error, match=message):
        Bulkhead(**{"limit": 20, **arguments})
