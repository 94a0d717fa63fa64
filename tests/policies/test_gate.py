"""What all policies that admit calls have in common: three uses, one way in and one way out."""

import asyncio
import inspect
import threading
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any

import pytest

from resilient_agents._flow import Flow, arun, run
from resilient_agents.errors import LimitReached, Unreachable
from resilient_agents.policies._gate import Gate, _blocks
from resilient_agents.policies._waiting import AWAITING, BLOCKING, Waiting, pause
from resilient_agents.testing import FakeClock

PATIENCE = 30.0
"""Time in seconds after which a test gives up on a thread."""


class Turnstile(Gate):
    """Lets every second call wait a second, and notes how each call left."""

    kind = "turnstile"

    def __init__(self, *, closed: bool = False) -> None:
        self.closed = closed
        self.entered = 0
        self.left: list[tuple[object, object]] = []

    def describe(self) -> str:
        """Say what it does."""
        return "a turnstile"

    def try_enter(self) -> int | None:
        """Let every second call in at once."""
        if self.closed:
            raise LimitReached
        self.entered += 1
        return self.entered if self.entered % 2 else None

    def enter(self, waiting: Waiting) -> Flow[int]:
        """Let the others in after a second."""
        permit = self.entered
        yield pause(waiting, 1.0)
        return permit

    def leave(self, permit: object, exc: BaseException | None) -> None:
        """Note how a call left."""
        self.left.append((permit, exc))


class Hasty(Turnstile):
    """Forgets that calls may have to wait."""

    enter = Gate.enter


@pytest.fixture
def clock() -> Generator[FakeClock]:
    """Put a clock in force that no test has to wait for."""
    with FakeClock() as fake:
        yield fake


async def test_every_use(clock: FakeClock) -> None:
    """Functions, coroutine functions and blocks of both kinds enter, wait and leave alike."""
    gate = Turnstile()

    @gate
    def call() -> str:
        return "called"

    @gate
    async def acall() -> str:
        return "awaited"

    assert ["called", "called"] == [call(), call()]
    assert ["awaited", "awaited"] == [await acall(), await acall()]
    for _ in range(2):
        with gate as entered:
            assert entered is gate
    for _ in range(2):
        async with gate as entered:
            assert entered is gate

    assert [(number, None) for number in range(1, 9)] == gate.left
    assert [1.0] * 4 == clock.sleeps
    assert inspect.iscoroutinefunction(acall)
    assert not inspect.iscoroutinefunction(call)


async def test_failures_are_heard_of(clock: FakeClock) -> None:
    """What a call raises reaches the gate and the caller, cancellation and Ctrl-C too."""
    gate = Turnstile()
    for failure in (Unreachable(), KeyboardInterrupt(), asyncio.CancelledError()):

        def fail(failure: BaseException = failure) -> None:
            raise failure

        async def afail(failure: BaseException = failure) -> None:
            raise failure

        with pytest.raises(type(failure)):
            gate(fail)()
        with pytest.raises(type(failure)):
            await gate(afail)()
        with pytest.raises(type(failure)), gate:
            fail()
        with pytest.raises(type(failure)):
            async with gate:
                fail()
        assert [failure] * 4 == [exc for _, exc in gate.left]
        gate.left.clear()


async def test_refusal() -> None:
    """A call that is refused is not made, and does not leave."""
    gate = Turnstile(closed=True)

    def never() -> None:
        raise AssertionError

    async def anever() -> None:
        raise AssertionError

    with pytest.raises(LimitReached):
        gate(never)()
    with pytest.raises(LimitReached):
        await gate(anever)()
    with pytest.raises(LimitReached), gate:
        never()
    with pytest.raises(LimitReached):
        async with gate:
            never()
    assert [] == gate.left


async def test_blocks_inside_blocks(clock: FakeClock) -> None:
    """Each block gives back what it was let in with, in other tasks and gates too."""
    outer, inner = Turnstile(), Turnstile()

    async def work() -> None:
        async with outer, inner, outer:
            await asyncio.sleep(0)

    await asyncio.gather(work(), work())

    assert [1, 2, 3, 4] == sorted(permit for permit, _ in outer.left if isinstance(permit, int))
    assert [1, 2] == sorted(permit for permit, _ in inner.left if isinstance(permit, int))


@pytest.mark.parametrize("thing", [int, Turnstile], ids=lambda it: it.__name__)
def test_class(thing: Any) -> None:
    """A gate on a class is refused, and the message says where it belongs."""
    with pytest.raises(TypeError, match="put Turnstile on the methods"):
        Turnstile()(thing)


def test_generator_function() -> None:
    """A gate on a generator function is refused: its body runs after the call has returned."""

    def pages() -> Generator[int]:
        yield 1

    with pytest.raises(TypeError, match="a generator function"):
        Turnstile()(pages)


def test_gate_that_knows_no_waiting() -> None:
    """A gate that lets nobody wait must not say that somebody should."""
    gate = Hasty()
    gate.entered = 1

    with pytest.raises(NotImplementedError, match="Hasty lets nobody wait"), gate:
        raise AssertionError


class TestBells:
    """A bell wakes one who waits, from any thread, before or during the wait."""

    def test_thread(self) -> None:
        """A thread is woken by another."""
        bell = BLOCKING.bell()
        assert not bell.wait(0.0)
        ringer = threading.Thread(target=bell.ring)
        ringer.start()

        assert bell.wait(PATIENCE)
        ringer.join()

    def test_thread_late(self) -> None:
        """A ring that came before the wait is not lost; a second one adds nothing."""
        bell = BLOCKING.bell()
        bell.ring()
        bell.ring()

        assert bell.wait(None)
        assert not bell.wait(0.0)

    def test_thread_with_all_the_time_in_the_world(self) -> None:
        """A time that is longer than threads can wait is as good as for ever."""
        bell = BLOCKING.bell()
        bell.ring()

        assert bell.wait(1e300)

    async def test_task(self) -> None:
        """A task is woken by a thread."""
        bell = AWAITING.bell()
        assert not await bell.wait(0.0)
        ringer = threading.Thread(target=bell.ring)
        ringer.start()

        assert await bell.wait(PATIENCE)
        ringer.join()

    async def test_task_late(self) -> None:
        """A ring that came before the wait is not lost, nor does a second one harm."""
        bell = AWAITING.bell()
        bell.ring()
        bell.ring()

        assert await bell.wait(None)

    def test_loop_that_is_gone(self) -> None:
        """A bell whose loop is closed may be rung all the same."""

        async def make() -> Any:
            return AWAITING.bell()

        assert not asyncio.run(make()).ring()


async def test_calls_that_block() -> None:
    """What blocks for a moment is called on the spot, or in another thread when a task waits."""

    def flow(waiting: Waiting) -> Flow[Any]:
        return (yield lambda: waiting.call(threading.get_ident))

    here = threading.get_ident()
    assert here == run(flow(BLOCKING))
    assert here != await arun(flow(AWAITING))


def test_block_that_ends_in_another_context() -> None:
    """A block that is opened in one context and closed in another gives its permit back."""
    gate = Turnstile()

    @contextmanager
    def dependency() -> Generator[None]:
        with gate:
            yield

    block = dependency()
    copy_context().run(block.__enter__)
    copy_context().run(block.__exit__, None, None, None)

    assert [(1, None)] == gate.left


async def test_block_in_a_generator_that_is_read_by_tasks(clock: FakeClock) -> None:
    """An asynchronous generator that is read in turns by several tasks gives its permit back."""
    gate = Turnstile()

    async def pages() -> AsyncGenerator[int]:
        async with gate:
            yield 1
            yield 2

    reader = pages()
    for page in (1, 2):
        assert page == await asyncio.create_task(anext(reader))
    with pytest.raises(StopAsyncIteration):
        await asyncio.create_task(anext(reader))

    assert [(1, None)] == gate.left


async def test_readers_that_leave_early_leave_nothing_behind(clock: FakeClock) -> None:
    """Blocks that were closed elsewhere are forgotten here."""
    gate = Turnstile()

    async def pages() -> AsyncGenerator[int]:
        async with gate:
            yield 1

    for _ in range(5):
        reader = pages()
        assert 1 == await anext(reader)
        await asyncio.create_task(reader.aclose())
    async with gate:
        assert 1 == len(_blocks.get())
    assert 6 == len(gate.left)
