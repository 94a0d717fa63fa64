"""Calls that are begun once more beside themselves."""

import asyncio
import gc
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_agents import RetryPolicy, deadline, events
from resilient_agents.errors import Unreachable, ValidationFailed
from resilient_agents.policies.budget import RetryBudget
from resilient_agents.policies.hedges import ENOUGH, SAMPLES, Hedge, _Latencies, hedge
from resilient_agents.testing import FakeClock

SOON = 0.002
"""Time in seconds after which the tests hedge."""


class Halt(BaseException):
    """What must not be caught."""


class Replicas:
    """A service whose answers are futures: the test decides which comes when."""

    def __init__(self) -> None:
        self.calls: list[asyncio.Future[Any]] = []
        self.cancelled = 0
        self.begun = asyncio.Condition()

    async def __call__(self) -> Any:
        """Wait for an answer."""
        answer = asyncio.get_running_loop().create_future()
        async with self.begun:
            self.calls.append(answer)
            self.begun.notify_all()
        try:
            return await answer
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    async def called(self, times: int) -> None:
        """Wait until so many calls were made."""
        async with self.begun:
            await self.begun.wait_for(lambda: len(self.calls) >= times)


@pytest.fixture
async def replicas() -> AsyncIterator[Replicas]:
    """Return a service; afterwards nothing of a test runs any more."""
    yield Replicas()
    assert [] == [task for task in asyncio.all_tasks() if "fetch" in repr(task) or "hedged" in repr(task)]


def hedged(policy: Hedge, replicas: Replicas) -> Callable[[], Awaitable[Any]]:
    """Return the service as a hedged function."""

    @policy
    async def fetch() -> Any:
        return await replicas()

    return fetch


async def test_quick_answer(replicas: Replicas) -> None:
    """A call that answers in time is not hedged."""
    task = asyncio.ensure_future(hedged(hedge(30), replicas)())
    await replicas.called(1)
    replicas.calls[0].set_result("deal")

    assert "deal" == await task
    assert 1 == len(replicas.calls)


async def test_hedge_wins(replicas: Replicas) -> None:
    """The hedge's answer is taken, the call is cancelled, and both are told of."""
    told: list[events.Event] = []
    events.subscribe(events.HedgeStarted, events.HedgeWon)(told.append)
    task = asyncio.ensure_future(hedged(hedge(SOON, name="crm"), replicas)())
    await replicas.called(2)
    replicas.calls[1].set_result("deal")

    assert "deal" == await task
    assert 1 == replicas.cancelled
    target = "test_hedge.hedged.<locals>.fetch"
    assert [
        events.HedgeStarted(target=target, number=1, after=SOON, name="crm"),
        events.HedgeWon(target=target, number=1, name="crm"),
    ] == told


async def test_call_wins(replicas: Replicas) -> None:
    """The call may still answer first: the hedge is cancelled."""
    task = asyncio.ensure_future(hedged(hedge(SOON, most=2), replicas)())
    await replicas.called(3)
    replicas.calls[0].set_result("deal")

    assert "deal" == await task
    assert 2 == replicas.cancelled


async def test_failure_before_the_hedge(replicas: Replicas) -> None:
    """It is no retry: a call that fails early fails."""
    task = asyncio.ensure_future(hedged(hedge(30), replicas)())
    await replicas.called(1)
    replicas.calls[0].set_exception(Unreachable())

    with pytest.raises(Unreachable):
        await task
    assert 1 == len(replicas.calls)


async def test_failure_beside_a_hedge(replicas: Replicas) -> None:
    """While another one runs, a failure is waited over."""
    task = asyncio.ensure_future(hedged(hedge(SOON), replicas)())
    await replicas.called(2)
    replicas.calls[0].set_exception(Unreachable())
    await asyncio.sleep(0)
    replicas.calls[1].set_result("deal")

    assert "deal" == await task


async def test_all_fail(replicas: Replicas) -> None:
    """The first failure is raised, with the others as notes."""
    task = asyncio.ensure_future(hedged(hedge(SOON), replicas)())
    await replicas.called(2)
    first = Unreachable()
    replicas.calls[1].set_exception(first)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    replicas.calls[0].set_exception(ValidationFailed())

    with pytest.raises(Unreachable) as raised:
        await task
    assert first is raised.value
    assert ["a hedge failed too: validation.invalid"] == first.__notes__


async def test_cancellation(replicas: Replicas) -> None:
    """Who cancels the caller cancels the call and all its hedges."""
    task = asyncio.ensure_future(hedged(hedge(SOON), replicas)())
    await replicas.called(2)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert 2 == replicas.cancelled


async def test_no_time_left(replicas: Replicas) -> None:
    """No hedge begins when the deadline has passed."""
    with FakeClock() as clock, deadline(5):
        task = asyncio.ensure_future(hedged(hedge(SOON), replicas)())
        await replicas.called(1)
        clock.advance(5)
        await asyncio.wait([task], timeout=20 * SOON)
        replicas.calls[0].set_result("deal")

        assert "deal" == await task
    assert 1 == len(replicas.calls)


async def test_budget(replicas: Replicas) -> None:
    """Hedges take from the budget; one that wins gives back; without a token there is none."""
    budget = RetryBudget(ratio=0.0, floor=1)
    fetch = hedged(hedge(SOON, budget=budget), replicas)
    task = asyncio.ensure_future(fetch())
    await replicas.called(2)
    assert 0 == budget.balance
    replicas.calls[1].set_result("deal")
    await task
    assert 1 == budget.balance

    assert budget.take()
    task = asyncio.ensure_future(fetch())
    await replicas.called(3)
    await asyncio.wait([task], timeout=20 * SOON)
    replicas.calls[2].set_result("deal")
    await task
    assert 3 == len(replicas.calls)


async def test_budget_counts_calls_and_not_attempts(replicas: Replicas) -> None:
    """A repetition is no new call, whose share would feed more repetitions."""
    budget = RetryBudget(ratio=1.0, floor=1)

    @RetryPolicy(3, wait_initial=0.0)
    @hedge(30, budget=budget)
    async def fetch() -> None:
        raise Unreachable

    with pytest.raises(Unreachable):
        await fetch()

    assert 1 + 1 == budget.balance


async def test_quantile() -> None:
    """With enough calls known, the live quantile says what is slow; later ones take their place."""
    policy = Hedge(7.0, quantile=0.9)
    with FakeClock() as clock:

        @policy
        async def fetch(seconds: float) -> None:
            clock.advance(seconds)

        for number in range(ENOUGH - 1):
            await fetch(number)
        assert 7.0 == policy.delay(fetch)
        await fetch(ENOUGH - 1)
        assert 17.0 == policy.delay(fetch)
        for _ in range(SAMPLES):
            await fetch(0.5)
        assert 0.5 == policy.delay(fetch)


@given(calls=st.integers(ENOUGH, 2 * SAMPLES), random=st.randoms(), part=st.floats(0.01, 0.99))
def test_quantile_is_one(calls: int, random: Random, part: float) -> None:
    """So many of the latest calls took as long as the quantile at most, and no shorter time would do."""
    latencies = _Latencies()
    seconds = [random.choice([random.random(), 0.5]) for _ in range(calls)]
    for one in seconds:
        latencies.add(one)
    latest = seconds[-SAMPLES:]

    quantile = latencies.quantile(part)

    assert quantile in latest
    assert sum(one <= quantile for one in latest) >= part * len(latest)
    assert sum(one < quantile for one in latest) <= part * len(latest)


async def test_each_function_has_its_own_quantile() -> None:
    """The answers of a quick function do not let every call of a slow one pass for late."""
    policy = Hedge(quantile=0.9)
    with FakeClock() as clock:

        @policy
        async def quick() -> None:
            clock.advance(0.01)

        @policy
        async def slow() -> None:
            clock.advance(2.0)

        for _ in range(ENOUGH):
            await quick()
        assert policy.delay(slow) is None
        for _ in range(ENOUGH):
            await slow()

    assert [0.01, 2.0] == [pytest.approx(policy.delay(fn)) for fn in (quick, slow)]


async def test_what_is_not_known_is_not_hedged(replicas: Replicas) -> None:
    """Without a time of its own, a hedge waits until enough calls are known."""
    task = asyncio.ensure_future(hedged(hedge(quantile=0.5), replicas)())
    await replicas.called(1)
    await asyncio.wait([task], timeout=20 * SOON)
    replicas.calls[0].set_result("deal")

    assert "deal" == await task
    assert 1 == len(replicas.calls)


async def test_context_is_carried() -> None:
    """What is in force where the call is made is in force in the call and in its hedges."""
    from resilient_agents.policies import remaining

    seen: list[float | None] = []

    @hedge(0.0)
    async def fetch() -> None:
        seen.append(remaining())
        if len(seen) == 1:
            await asyncio.Event().wait()

    with FakeClock(), deadline(9):
        await fetch()

    assert [9, 9] == seen


@pytest.mark.parametrize("exc", [asyncio.CancelledError, Halt], ids=lambda it: it.__name__)
@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside a hedge"])
async def test_what_is_no_exception_passes_at_once(
    exc: type[BaseException], beside: bool, replicas: Replicas
) -> None:
    """A call that is cancelled from within is cancelled: it has not failed, and nothing makes it good."""
    task = asyncio.ensure_future(hedged(hedge(SOON if beside else 30), replicas)())
    await replicas.called(2 if beside else 1)
    replicas.calls[0].set_exception(exc())

    with pytest.raises(exc):
        await task
    assert beside + (exc is asyncio.CancelledError) == replicas.cancelled


@given(steps=st.integers(0, 12), most=st.integers(1, 3), tidying=st.integers(0, 5), again=st.booleans())
def test_cancelled_at_any_moment(steps: int, most: int, tidying: int, again: bool) -> None:
    """Whenever the caller is cancelled, even twice, it is cancelled, and every call has ended before it."""

    async def main() -> None:
        running = 0

        @hedge(0.0, most=most)
        async def fetch() -> None:
            nonlocal running
            running += 1
            try:
                await asyncio.Event().wait()
            finally:
                for _ in range(tidying):
                    with suppress(asyncio.CancelledError):
                        await asyncio.sleep(0)
                running -= 1

        task = asyncio.ensure_future(fetch())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
        if again:
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert 0 == running
        assert {asyncio.current_task()} == asyncio.all_tasks()

    asyncio.run(main())


@given(
    answers=st.lists(st.sampled_from(["ok", "fail", "late"]), min_size=4, max_size=4), most=st.integers(1, 3)
)
def test_never_more_than_allowed(answers: list[str], most: int) -> None:
    """There are never more calls than one and its hedges, and none of them is left behind."""

    async def main() -> None:
        calls = 0

        @hedge(0.0, most=most)
        async def fetch() -> int:
            nonlocal calls
            calls += 1
            number = calls - 1
            answer = answers[number]
            for _ in range(50 if answer == "late" else 3):
                await asyncio.sleep(0)
            if answer == "fail":
                raise Unreachable
            return number

        try:
            assert "fail" != answers[await fetch()]
        except Unreachable:
            assert {"fail"} == set(answers[:calls])
        assert calls <= most + 1
        assert {asyncio.current_task()} == asyncio.all_tasks()

    asyncio.run(main())


async def test_failures_leave_no_garbage() -> None:
    """A call that fails leaves nothing to the garbage collector."""

    @hedge(0.0)
    async def fetch() -> None:
        await asyncio.sleep(0)
        raise Unreachable

    async def make(calls: int) -> None:
        for _ in range(calls):
            try:
                await fetch()
            except Unreachable:
                continue

    await make(20)
    gc.collect()
    gc.disable()
    try:
        await make(100)
        assert gc.collect() < 100
    finally:
        gc.enable()


FORK = """
import os, signal
from resilient_agents.policies.hedges import _Latencies

one = _Latencies()
one._lock.acquire()
child = os.fork()
if not child:
    signal.alarm(10)
    os._exit(not (one.quantile(0.5) is None))
print(os.waitpid(child, 0)[1])
"""


def test_fork() -> None:
    """A lock that was held at the fork keeps nobody waiting in the child."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK]
    parent = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=30)

    assert "0\n" == parent.stdout


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"after": len}, TypeError, r"write @hedge\(seconds\)"),
        ({"after": -1}, ValueError, "after must be 0 or more seconds"),
        ({"after": "soon"}, TypeError, "after must be a time in seconds"),
        ({"after": float("nan")}, ValueError, "after must be 0 or more seconds"),
        ({}, TypeError, r"or @hedge\(quantile=0.95\)"),
        ({"quantile": "most"}, TypeError, "quantile must be a number"),
        ({"after": 1, "name": None}, TypeError, "name must be a text"),
        ({"after": 1, "quantile": 1.5}, ValueError, "quantile must be between 0 and 1"),
        ({"after": 1, "most": 1.5}, TypeError, "most must be a whole number"),
        ({"after": 1, "most": 0}, ValueError, "most must be 1 or more"),
        ({"after": 1, "budget": 3}, TypeError, "budget must be a RetryBudget"),
    ],
    ids=repr,
)
def test_wrong_arguments(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    """A wrong argument is refused, and the message says what is right."""
    with pytest.raises(error, match=message):
        Hedge(**arguments)


def test_plain_function() -> None:
    """A plain function cannot be hedged, and the message says why."""
    with pytest.raises(TypeError, match="could not be cancelled"):
        hedge(1)(lambda: 1)


def test_it_says_what_it_does() -> None:
    """A hedge describes itself with its numbers."""
    assert "longer than 0.5 s" in Hedge(0.5).describe()
    assert (
        "95% of the calls answer (0.5 s at first), within a budget"
        in Hedge(0.5, quantile=0.95, budget=RetryBudget()).describe()
    )
    assert "Hedge(0.5, quantile=None, most=1, name='crm')" == repr(Hedge(0.5, name="crm"))
    assert "(none is hedged at first)" in Hedge(quantile=0.95).describe()
