"""`deadline`, `remaining` and `check`, and `timeout` on both kinds of functions."""

import asyncio
import gc
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_agents import deadline, timeout
from resilient_agents.errors import DeadlineExceeded
from resilient_agents.policies import check, remaining
from resilient_agents.testing import FakeClock

FOREVER = 3600.0
AN_INSTANT = 0.001


@pytest.fixture
def clock() -> Iterator[FakeClock]:
    """Put a clock in force that no test has to wait for."""
    with FakeClock() as fake:
        yield fake


def test_no_deadline() -> None:
    """Without a deadline there is no end of time."""
    check()

    assert remaining() is None


def test_remaining_runs_down(clock: FakeClock) -> None:
    """What a deadline leaves shrinks as time goes by, and is never less than nothing."""
    with deadline(10):
        left = [remaining()]
        for _ in range(3):
            clock.advance(4)
            left.append(remaining())

    assert [10, 6, 2, 0] == left
    assert remaining() is None


def test_check_raises_when_the_time_is_up(clock: FakeClock) -> None:
    """`check` is silent while there is time left, and raises when there is none."""
    with deadline(10):
        check()
        clock.advance(10)
        with pytest.raises(DeadlineExceeded, match="the deadline passed"):
            check()
    check()


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=5))
def test_nested_deadlines_only_shorten(seconds: list[float]) -> None:
    """Of nested deadlines the earliest counts, and each block gives back the one around it."""

    def descend(depth: int) -> None:
        if depth == len(seconds):
            return
        with deadline(seconds[depth]):
            expected = min(seconds[: depth + 1])
            assert expected == pytest.approx(remaining())
            descend(depth + 1)
            assert expected == pytest.approx(remaining())

    with FakeClock():
        descend(0)
    assert remaining() is None


def test_deadline_ends_with_an_exception(clock: FakeClock) -> None:
    """A block that fails ends its deadline and hides nothing."""
    with pytest.raises(LookupError), deadline(10):
        raise LookupError

    assert remaining() is None


async def test_tasks_inherit_the_deadline(clock: FakeClock) -> None:
    """Tasks that are started in a block obey its deadline; those beside it do not."""

    async def look() -> float | None:
        return remaining()

    beside = asyncio.create_task(look())
    with deadline(10):
        inside = asyncio.create_task(look())

    assert [None, 10] == [await beside, await inside]


@pytest.mark.parametrize("seconds", [-1, float("nan")])
def test_wrong_seconds(seconds: float) -> None:
    """What is no time is refused."""
    with pytest.raises(ValueError, match="must be 0 or more"):
        deadline(seconds)
    with pytest.raises(ValueError, match="must be 0 or more"):
        timeout(seconds)


def test_timeout_without_parentheses() -> None:
    """A timeout without seconds says what is missing."""
    with pytest.raises(TypeError, match=r"write @timeout\(seconds\)"):
        timeout(test_no_deadline)  # type: ignore[arg-type]


def test_timeout_refuses_generators() -> None:
    """A generator function is refused: its body runs after the call has returned."""

    async def pages() -> AsyncIterator[int]:
        yield 1

    with pytest.raises(TypeError, match="pages, a generator function"):
        timeout(1)(pages)


def test_timeout_keeps_the_function() -> None:
    """Name, signature and kind are those of the function."""

    @timeout(1)
    async def fetch(number: int) -> int:
        return number

    assert (True, "(number: int) -> int") == (
        inspect.iscoroutinefunction(fetch),
        str(inspect.signature(fetch)),
    )


def test_plain_function_gets_a_deadline(clock: FakeClock) -> None:
    """A plain function runs under a deadline, and its late result is a result."""

    @timeout(10)
    def work(seconds: float) -> tuple[float | None, float | None]:
        before = remaining()
        clock.advance(seconds)
        return before, remaining()

    assert (10, 8) == work(2)
    assert (10, 0) == work(20)


def test_plain_function_is_not_begun_too_late(clock: FakeClock) -> None:
    """A plain function is not begun when the time is up already."""
    begun: list[int] = []

    with deadline(5):
        clock.advance(5)
        with pytest.raises(DeadlineExceeded):
            timeout(10)(begun.append)(1)

    assert [] == begun


async def test_coroutine_in_time(clock: FakeClock) -> None:
    """A coroutine that ends in time returns its result, and sees the deadline."""

    @timeout(10)
    async def work() -> float | None:
        await asyncio.sleep(0)
        return remaining()

    assert 10 == await work()


async def test_coroutine_is_cancelled() -> None:
    """A coroutine that hangs is cancelled, and the caller hears that the time was up."""
    ended = []

    @timeout(AN_INSTANT)
    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    with pytest.raises(DeadlineExceeded, match=r"hang was cancelled: its time was up") as raised:
        await hang()

    assert isinstance(raised.value.__cause__, TimeoutError)
    assert [True] == ended


async def test_shorter_deadline_cancels() -> None:
    """A deadline in force that is shorter than the timeout is what counts."""

    @timeout(FOREVER)
    async def hang() -> None:
        await asyncio.Event().wait()

    with pytest.raises(DeadlineExceeded), deadline(AN_INSTANT):
        await hang()


async def test_coroutine_is_not_begun_too_late() -> None:
    """A coroutine is not begun when the time is up already."""
    begun = []

    @timeout(0)
    async def work() -> None:
        begun.append(True)

    with pytest.raises(DeadlineExceeded):
        await work()

    assert [] == begun


async def test_own_timeout_error_passes() -> None:
    """A `TimeoutError` that is not ours comes out unchanged."""
    error = TimeoutError("the socket's")

    @timeout(FOREVER)
    async def fail() -> None:
        raise error

    with pytest.raises(TimeoutError) as raised:
        await fail()

    assert error is raised.value


async def test_cancellation_from_outside_passes() -> None:
    """A task that is cancelled by somebody else is cancelled, not late."""

    @timeout(FOREVER)
    async def hang() -> None:
        await asyncio.Event().wait()

    task = asyncio.create_task(hang())
    await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_call_that_waits_more_than_once() -> None:
    """A call is awaited step by step: what it waits for answers, or fails, inside of it."""
    loop = asyncio.get_running_loop()
    first, second, third = (loop.create_future() for _ in range(3))

    @timeout(30)
    async def call() -> list[object]:
        answers: list[object] = [await first]
        try:
            await second
        except KeyError as exc:
            answers.append(exc)
        answers.append(await third)
        return answers

    task = asyncio.ensure_future(call())
    failure = KeyError()
    steps: list[tuple[Any, Any]] = [
        (first.set_result, 1),
        (second.set_exception, failure),
        (third.set_result, 3),
    ]
    for settle, answer in steps:
        await asyncio.sleep(0)
        settle(answer)

    assert [1, failure, 3] == await task


async def test_call_that_is_left_behind() -> None:
    """A call that nobody awaits to its end is closed, and cleans up."""
    cleaned = []

    @timeout(30)
    async def call() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append(remaining() is not None)

    coroutine: Any = call()
    coroutine.send(None)
    coroutine.close()

    assert [True] == cleaned
    assert remaining() is None


async def test_failures_leave_no_garbage() -> None:
    """A call that fails while it waits leaves no reference cycles."""

    def broken() -> "asyncio.Future[None]":
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        loop.call_soon(future.set_exception, ConnectionResetError())
        return future

    @timeout(30)
    async def fail() -> None:
        await broken()

    async def call() -> None:
        with suppress(ConnectionResetError):
            await fail()

    await call()
    gc.collect()
    gc.disable()
    try:
        await call()
        assert 0 == gc.collect()
    finally:
        gc.enable()


async def test_deadline_that_ends_in_another_context() -> None:
    """A generator that is closed by somebody else than its reader closes quietly."""

    async def pages() -> AsyncGenerator[int]:
        with deadline(5):
            yield 1

    reader = pages()
    assert 1 == await anext(reader)

    await asyncio.create_task(reader.aclose())
