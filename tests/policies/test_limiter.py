"""`RateLimiter`: an exact sliding window, in order, for threads and tasks."""

import asyncio
import inspect
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_agents import RateLimiter, deadline
from resilient_agents.errors import DeadlineExceeded
from resilient_agents.testing import FakeClock, no_waits

A_ROUNDING_ERROR = 1e-6


@pytest.fixture
def clock() -> Iterator[FakeClock]:
    """Put a clock in force that no test has to wait for."""
    with FakeClock() as fake:
        yield fake


@pytest.mark.parametrize("awaiting", [False, True])
@given(
    limit=st.integers(1, 5),
    per=st.floats(0.1, 10),
    gaps=st.lists(st.floats(0, 5) | st.just(0.0), max_size=40),
    parks=st.dictionaries(st.integers(0, 39), st.floats(0, 20), max_size=2),
)
def test_no_window_holds_more_than_the_limit(
    awaiting: bool, limit: int, per: float, gaps: list[float], parks: dict[int, float]
) -> None:
    """However the callers come, each starts as early as the window allows, and never earlier."""

    async def arrive() -> None:
        starts: list[float] = []
        limiter, parked_until = RateLimiter(limit, per=per), 0.0
        with FakeClock() as clock:
            for number, gap in enumerate(gaps):
                clock.advance(gap)
                if number in parks:
                    limiter.park(parks[number])
                    parked_until = max(parked_until, clock.monotonic() + parks[number])
                earliest = max(clock.monotonic(), parked_until)
                if len(starts) >= limit:
                    earliest = max(earliest, starts[-limit] + per)
                if awaiting:
                    await limiter.aacquire()
                else:
                    limiter.acquire()
                starts.append(clock.monotonic())
                assert earliest == pytest.approx(starts[-1], abs=A_ROUNDING_ERROR)
        assert all(
            later - sooner > per - A_ROUNDING_ERROR
            for sooner, later in zip(starts, starts[limit:], strict=False)
        )

    asyncio.run(arrive())


@given(limit=st.integers(1, 5), per=st.floats(0.1, 10), calls=st.integers(1, 40))
def test_reservations_are_in_order(limit: int, per: float, calls: int) -> None:
    """Those who come first start first: so many at once, so many a window later, and so on."""
    limiter = RateLimiter(limit, per=per)

    with FakeClock():
        waits = [limiter.reserve() for _ in range(calls)]

    assert [number // limit * per for number in range(calls)] == pytest.approx(waits)


def test_threads_share_the_window(clock: FakeClock) -> None:
    """No start is given to two threads."""
    limiter = RateLimiter(10)

    with ThreadPoolExecutor(8) as pool:
        waits = list(pool.map(lambda _: limiter.reserve(), range(200)))

    assert [number // 10 for number in range(200)] == pytest.approx(sorted(waits))


async def test_tasks_start_in_order(clock: FakeClock) -> None:
    """Tasks that wait start in the order in which they came."""
    limiter, started = RateLimiter(1), []

    async def work(number: int) -> None:
        await limiter.aacquire()
        started.append(number)

    await asyncio.gather(*map(work, range(9)))

    assert list(range(9)) == started


def test_try_acquire(clock: FakeClock) -> None:
    """`try_acquire` takes what is free now; a refusal costs nothing."""
    limiter = RateLimiter(2)

    assert [True, True, False, False] == [limiter.try_acquire() for _ in range(4)]
    clock.advance(1.0)
    assert [True, True, False] == [limiter.try_acquire() for _ in range(3)]
    assert [] == clock.sleeps


@pytest.mark.parametrize("seconds", [5, 9.9])
def test_deadline_refuses_the_wait(seconds: float, clock: FakeClock) -> None:
    """A start past the deadline is neither waited for nor booked."""
    limiter = RateLimiter(1, per=10)
    limiter.acquire()

    with deadline(seconds), pytest.raises(DeadlineExceeded, match=r"RateLimiter\(1, per=10\) .* in 10\.0 s"):
        limiter.acquire()

    assert [] == clock.sleeps
    assert 10 == limiter.reserve()


async def test_deadline_that_has_passed(clock: FakeClock) -> None:
    """Nobody starts when his time is up, even if nobody else does."""
    limiter = RateLimiter(1)

    with deadline(5):
        clock.advance(5)
        with pytest.raises(DeadlineExceeded):
            await limiter.aacquire()

    assert limiter.try_acquire()


def test_deadline_that_is_far_enough(clock: FakeClock) -> None:
    """A wait that ends within the deadline is waited for."""
    limiter = RateLimiter(1)

    with deadline(5):
        for _ in range(3):
            limiter.acquire()

    assert [1.0, 1.0] == clock.sleeps


def test_longest_park_counts(clock: FakeClock) -> None:
    """A shorter demand of the server does not end a longer one, and the end of it is the end."""
    limiter = RateLimiter(2)
    limiter.park(60)
    limiter.park(5)

    limiter.acquire()

    assert [60.0] == clock.sleeps
    assert limiter.try_acquire()


class ParkedMeanwhile(FakeClock):
    """A clock on which the server's demand arrives during the first wait."""

    def __init__(self, limiter: RateLimiter) -> None:
        super().__init__()
        self.limiter = limiter

    def sleep(self, seconds: float) -> None:
        """Wait as always, and hear the server's demand the first time."""
        if not self.sleeps:
            self.limiter.park(60)
        super().sleep(seconds)


@pytest.mark.parametrize("awaiting", [False, True])
async def test_parked_while_waiting(awaiting: bool) -> None:
    """Those who wait already do not start before the server's demand has passed."""
    limiter = RateLimiter(1)

    with ParkedMeanwhile(limiter) as clock:
        begin = clock.monotonic()
        for _ in range(3):
            if awaiting:
                await limiter.aacquire()
            else:
                limiter.acquire()

    assert [1.0, 59.0, 1.0] == clock.sleeps
    assert 61.0 == clock.monotonic() - begin


def test_no_waits_keeps_the_order() -> None:
    """Under `no_waits` a limiter lets everybody through at once, as though they had waited."""
    limiter = RateLimiter(1, per=3600)

    with no_waits() as clock:
        for _ in range(3):
            limiter.acquire()

    assert [3600, 3600] == pytest.approx(clock.sleeps, rel=0.01)


async def test_decorator(clock: FakeClock) -> None:
    """Each call of a decorated function waits for its turn, blocking or awaiting as it is."""
    limiter = RateLimiter(1)

    @limiter
    def fetch(number: int) -> int:
        return number

    @limiter
    async def afetch(number: int) -> int:
        return number

    assert [1, 2, 3] == [fetch(1), fetch(2), await afetch(3)]
    assert [1.0, 1.0] == clock.sleeps
    assert (False, True) == tuple(map(inspect.iscoroutinefunction, (fetch, afetch)))


@pytest.mark.parametrize(
    ("limit", "per", "error", "message"),
    [
        (0, 1.0, ValueError, "limit must be 1 or more"),
        (1.5, 1.0, TypeError, "limit must be a whole number"),
        (True, 1.0, TypeError, "limit must be a whole number"),
        (1, 0, ValueError, "per must be a window"),
        (1, float("inf"), ValueError, "per must be a window"),
        (1, float("nan"), ValueError, "per must be a window"),
    ],
)
def test_wrong_arguments(limit: Any, per: float, error: type[Exception], message: str) -> None:
    """A wrong argument is refused, and the message says what is right."""
    with pytest.raises(error, match=message):
        RateLimiter(limit, per=per)


FORK = """
import os, signal
from resilient_agents import RateLimiter

limiter = RateLimiter(1)
limiter._lock.acquire()
child = os.fork()
if not child:
    signal.alarm(60)
    os._exit(not limiter.try_acquire())
print(os.waitpid(child, 0)[1])
"""


def test_fork() -> None:
    """A lock that a thread of the parent held at the fork keeps nobody waiting in the child."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK]
    parent = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=120)

    assert "0\n" == parent.stdout
