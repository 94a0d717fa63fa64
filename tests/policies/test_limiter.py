"""`RateLimiter`: an exact sliding window, in order, for threads and tasks."""

import asyncio
import inspect
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from math import inf, nan
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.policies.crowd import THREADS, at_once

from resilient_agents import RateLimiter, deadline, events
from resilient_agents.errors import (
    DeadlineExceeded,
    LimitReached,
    QuotaExhausted,
    RateLimited,
    Unreachable,
    ValidationFailed,
)
from resilient_agents.policies._waits import Wait, report
from resilient_agents.policies.keyed import PerKey
from resilient_agents.testing import FakeClock, no_waits

A_ROUNDING_ERROR = 1e-6


@pytest.fixture
def clock() -> Iterator[FakeClock]:
    """Put a clock in force that no test has to wait for."""
    with FakeClock() as fake:
        yield fake


@pytest.fixture
def heard() -> Iterator[list[events.PolicyEvent]]:
    """Hear what policies say."""
    told: list[events.PolicyEvent] = []
    events.subscribe(events.PolicyEvent)(told.append)
    yield told
    events.unsubscribe(told.append)


def earliest_after(starts: list[float], limit: int, per: float, burst: int) -> float:
    """Return when the next start may be, by what the two rules say of each pair of starts.

    The window: *limit* starts later, *per* seconds have passed. The spread: so many starts later, as many
    steps have passed, less those of a burst (ITU-T I.371 says the same of all pairs, with its own words).
    """
    spread = [start + (len(starts) - number - burst + 1) * per / limit for number, start in enumerate(starts)]
    window = [starts[-limit] + per] if len(starts) >= limit else []
    return max([-inf, *spread, *window])


@pytest.mark.parametrize("awaiting", [False, True])
@given(
    limit=st.integers(1, 5),
    burst=st.integers(1, 5) | st.none(),
    per=st.floats(0.1, 10),
    gaps=st.lists(st.floats(0, 5) | st.just(0.0), max_size=40),
    parks=st.dictionaries(st.integers(0, 39), st.floats(0, 20), max_size=2),
)
def test_no_window_holds_more_than_the_limit(
    awaiting: bool,
    limit: int,
    burst: int | None,
    per: float,
    gaps: list[float],
    parks: dict[int, float],
) -> None:
    """However the callers come, each starts as early as the window and the burst allow, and never earlier."""
    burst = None if burst is None else min(burst, limit)

    async def arrive() -> None:
        starts: list[float] = []
        limiter, parked_until = RateLimiter(limit, per=per, burst=burst), 0.0
        with FakeClock() as clock:
            for number, gap in enumerate(gaps):
                clock.advance(gap)
                if number in parks:
                    limiter.park(parks[number])
                    parked_until = max(parked_until, clock.monotonic() + parks[number])
                allowed = earliest_after(starts, limit, per, burst or limit)
                earliest = max(clock.monotonic(), parked_until, allowed)
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
        assert all(
            later - sooner > (apart - (burst or limit) + 1) * per / limit - A_ROUNDING_ERROR
            for apart in range(1, len(starts))
            for sooner, later in zip(starts, starts[apart:], strict=False)
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


TURNS = 2000


def test_threads_keep_to_the_rules(clock: FakeClock) -> None:
    """Whatever threads do at once, with parks between, the starts that were booked keep both rules."""
    limiter, starts = RateLimiter(10, burst=3), list[float]()

    def work(number: int) -> None:
        for turn in range(TURNS):
            if (number, turn) in ((3, 50), (11, 150)):
                limiter.park(0.5 * turn)
            starts.append(clock.monotonic() + limiter.reserve())

    at_once(work)

    starts.sort()
    assert TURNS * THREADS == len(starts)
    for apart, seconds in ((10, 1.0), *((apart, (apart - 2) / 10) for apart in range(3, 9))):
        pairs = zip(starts, starts[apart:], strict=False)
        assert all(later - sooner > seconds - A_ROUNDING_ERROR for sooner, later in pairs)


def test_threads_get_no_start_twice(clock: FakeClock) -> None:
    """A start that is free goes to one of the threads that want it, whichever that is."""
    limiters, taken = [RateLimiter(1) for _ in range(4 * TURNS)], list[RateLimiter]()

    def work(_: int) -> None:
        taken.extend(limiter for limiter in limiters if limiter.try_enter() is not None)

    at_once(work)

    assert len(limiters) == len(taken) == len(set(taken))


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


async def test_blocks(clock: FakeClock) -> None:
    """A block waits for its turn as a call does."""
    limiter = RateLimiter(1)

    for _ in range(2):
        with limiter:
            pass
        async with limiter:
            pass

    assert [1.0] * 3 == clock.sleeps


async def test_passed_deadline_stops_a_free_start(clock: FakeClock) -> None:
    """A decorated function is not called when its time is up, even if a start is free."""
    limiter = RateLimiter(1)
    calls: list[int] = []

    with deadline(5):
        clock.advance(5)
        with pytest.raises(DeadlineExceeded):
            limiter(calls.append)(1)

    assert [] == calls
    assert limiter.try_acquire()


class TestBurst:
    """Starts are spread over the window."""

    def test_even_steps(self, clock: FakeClock) -> None:
        """After a burst the starts follow in even steps, and a quiet time allows the next burst."""
        limiter = RateLimiter(4, per=2.0, burst=2)

        assert [0.0, 0.0, 0.5, 1.0, 2.0] == pytest.approx([limiter.reserve() for _ in range(5)])
        clock.advance(60)
        assert [0.0, 0.0, 0.5] == pytest.approx([limiter.reserve() for _ in range(3)])

    def test_burst_of_the_limit(self, clock: FakeClock) -> None:
        """A burst of the whole limit is what there is without one."""
        limiters = RateLimiter(3, burst=3), RateLimiter(3)

        for gap in (0.0, 0.9, 0.05, 0.05, 0.0, 0.3, 2.0):
            clock.advance(gap)
            assert limiters[0].reserve() == limiters[1].reserve()

    def test_free_start(self, clock: FakeClock) -> None:
        """What `try_acquire` takes is counted in the spread too."""
        limiter = RateLimiter(2, burst=1)

        assert [True, False] == [limiter.try_acquire(), limiter.try_acquire()]
        clock.advance(0.5)
        assert [True, False] == [limiter.try_acquire(), limiter.try_acquire()]


class TestMaxWait:
    """Calls that would wait too long are refused."""

    @pytest.mark.parametrize("max_wait", [0.0, 9.9])
    async def test_refusal(self, max_wait: float, clock: FakeClock, heard: list[events.PolicyEvent]) -> None:
        """A start too far away is refused at once and not booked; the error says when there is one."""
        limiter = RateLimiter(1, per=10, max_wait=max_wait, name="crm")
        limiter.acquire()

        refusals = []
        for use in (limiter.acquire, limiter(lambda: None), limiter.reserve):
            with pytest.raises(LimitReached) as caught:
                use()
            refusals.append(caught.value)
        with pytest.raises(LimitReached):
            await limiter.aacquire()
        with pytest.raises(LimitReached), limiter:
            raise AssertionError

        assert [10.0] * 3 == [refusal.retry_after for refusal in refusals]
        assert (
            f"RateLimiter(1, per=10, max_wait={max_wait}, name='crm') allows the next start in 10.0 s, which "
            f"is more than max_wait={max_wait:g} s away"
        ) == str(refusals[0])
        assert [events.CallRefused(policy="limiter", name="crm", wait=10.0)] * 5 == heard
        assert [] == clock.sleeps
        clock.advance(10)
        assert limiter.try_acquire()

    def test_patience(self, clock: FakeClock) -> None:
        """A start that is near enough is waited for."""
        limiter = RateLimiter(1, per=10, max_wait=10)

        limiter.acquire()
        limiter.acquire()

        assert [10.0] == clock.sleeps

    def test_patience_is_for_the_whole_wait(self) -> None:
        """Whoever lines up anew, for callers were parked meanwhile, has waited already."""
        limiter = RateLimiter(1, per=10, max_wait=59.9)

        with ParkedMeanwhile(limiter) as clock:
            limiter.acquire()
            with pytest.raises(LimitReached) as caught:
                limiter.acquire()

        assert [10.0] == clock.sleeps
        assert 50.0 == caught.value.retry_after

    def test_deadline_is_nearer(self, clock: FakeClock, heard: list[events.PolicyEvent]) -> None:
        """Whose deadline ends before his patience is told of the deadline, and it is a refusal too."""
        limiter = RateLimiter(1, per=10, max_wait=20)
        limiter.acquire()

        with deadline(5), pytest.raises(DeadlineExceeded) as caught:
            limiter.acquire()

        assert caught.value.retry_after is None
        assert [events.CallRefused(policy="limiter", name="", wait=10.0)] == heard


class TestServer:
    """The limiter hears what the server says."""

    @pytest.mark.parametrize(
        "failure",
        [
            RateLimited(retry_after=30),
            QuotaExhausted(retry_after=30),
            httpx.HTTPStatusError(
                "",
                request=httpx.Request("GET", "https://crm.test"),
                response=httpx.Response(429, headers={"retry-after": "30"}),
            ),
        ],
        ids=lambda it: type(it).__name__,
    )
    async def test_hint_parks_all_callers(
        self, failure: Exception, clock: FakeClock, heard: list[events.PolicyEvent]
    ) -> None:
        """A dependency that names a time is obeyed by everybody, who may have called another function."""
        limiter = RateLimiter(7, name="crm")

        @limiter
        async def fetch() -> None:
            raise failure

        with pytest.raises(type(failure)):
            await fetch()

        assert [events.CallersParked(policy="limiter", name="crm", wait=30.0)] == heard
        with limiter:
            assert [30.0] == clock.sleeps

    @pytest.mark.parametrize(
        "failure",
        [
            RateLimited(),
            RateLimited(retry_after=inf),
            RateLimited(retry_after=nan),
            LimitReached(retry_after=30),
            Unreachable(retry_after=30),
            ValidationFailed(retry_after=30),
            asyncio.CancelledError(),
            KeyboardInterrupt(),
            KeyError(),
        ],
        ids=repr,
    )
    def test_other_failures_park_nobody(
        self, failure: BaseException, clock: FakeClock, heard: list[events.PolicyEvent]
    ) -> None:
        """What is no demand of a dependency, or names no time, keeps nobody waiting."""
        limiter = RateLimiter(7)

        limiter.leave(limiter.try_enter(), failure)

        assert [] == heard
        assert limiter.try_acquire()

    def test_bookings_during_a_park(self, clock: FakeClock) -> None:
        """A start that is booked during a park does not end it for the next one."""
        limiter = RateLimiter(7)
        limiter.park(30)

        assert [30, 30] == [limiter.reserve(), limiter.reserve()]
        assert not limiter.try_acquire()

    def test_park_tells_once(self, clock: FakeClock, heard: list[events.PolicyEvent]) -> None:
        """A park that changes nothing is not told of."""
        limiter = RateLimiter(7, name="crm")
        for seconds in (60, 5, 0, -3, 61):
            limiter.park(seconds)

        assert [
            events.CallersParked(policy="limiter", name="crm", wait=60),
            events.CallersParked(policy="limiter", name="crm", wait=61),
        ] == heard
        assert 61 == limiter.reserve()

    @pytest.mark.parametrize("seconds", [inf, nan])
    def test_park_without_an_end(self, seconds: float) -> None:
        """Nobody is parked for ever."""
        with pytest.raises(ValueError, match="parked for a time in seconds"):
            RateLimiter(7).park(seconds)


class TestTelling:
    """Who waited, for how long, and who set it."""

    async def test_waits(self, clock: FakeClock, heard: list[events.PolicyEvent]) -> None:
        """Waits for the window are the rate's, waits for a park the server's; a free start tells nothing."""
        limiter = RateLimiter(1, name="crm")

        with report() as told:
            limiter.acquire()
            await limiter.aacquire()
            limiter.park(30)
            limiter.acquire()

        waits = [(1.0, "rate"), (30.0, "server")]
        assert [
            Wait(policy="limiter", name="crm", seconds=seconds, dictated_by=by) for seconds, by in waits
        ] == told.waits
        assert [
            events.CallWaited(policy="limiter", name="crm", seconds=seconds, dictated_by=by)
            for seconds, by in waits
        ] == [event for event in heard if isinstance(event, events.CallWaited)]

    def test_two_waits_of_one_call(self, heard: list[events.PolicyEvent]) -> None:
        """Who lines up anew has waited once, in two parts."""
        limiter = RateLimiter(1)

        with ParkedMeanwhile(limiter), report() as told:
            limiter.acquire()
            limiter.acquire()

        assert [(1.0, "rate"), (59.0, "server")] == [(wait.seconds, wait.dictated_by) for wait in told.waits]
        assert [(60.0, "server")] == [
            (event.seconds, event.dictated_by) for event in heard if isinstance(event, events.CallWaited)
        ]

    def test_on_the_machines_own_clock(self, heard: list[events.PolicyEvent]) -> None:
        """A park is the server's on a clock that goes on between two looks at it."""
        limiter = RateLimiter(1)
        limiter.park(3600)

        with no_waits(), report() as told:
            limiter.acquire()

        assert ["server"] == [wait.dictated_by for wait in told.waits]


def test_at_rest(clock: FakeClock) -> None:
    """A limiter may be forgotten unless it is parked."""
    limiter = RateLimiter(2, per=10)
    limiter.acquire()
    assert limiter.at_rest

    limiter.park(20)
    clock.advance(19)
    assert not limiter.at_rest
    clock.advance(1)
    assert limiter.at_rest


def test_parked_limiter_is_kept(clock: FakeClock) -> None:
    """Among limiters for many keys the one that a server has parked is not the first to be forgotten."""
    limiters = PerKey(lambda key: RateLimiter(1), key="{key}", limit=2)
    limiters["parked"].park(60)

    for key in ("a", "b", "c"):
        assert limiters[key].at_rest

    assert "parked" in limiters


def test_in_words() -> None:
    """A limiter says what it does, to people who read code and to those who do not."""
    limiters = [
        RateLimiter(7),
        RateLimiter(7, per=2, burst=2, max_wait=0, name="crm"),
        RateLimiter(7, max_wait=1.5),
    ]

    assert [
        "RateLimiter(7, per=1.0)",
        "RateLimiter(7, per=2, burst=2, max_wait=0, name='crm')",
        "RateLimiter(7, per=1.0, max_wait=1.5)",
    ] == list(map(repr, limiters))
    assert [
        "at most 7 starts in any 1 s; a call waits for its start",
        "at most 7 starts in any 2 s, 2 at the same moment; a call does not wait",
        "at most 7 starts in any 1 s; a call waits 1.5 s for its start",
    ] == [limiter.describe() for limiter in limiters]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"limit": 0}, ValueError, "limit must be 1 or more"),
        ({"limit": 1.5}, TypeError, "limit must be a whole number"),
        ({"limit": True}, TypeError, "limit must be a whole number"),
        ({"per": 0}, ValueError, "per must be a window"),
        ({"per": inf}, ValueError, "per must be a window"),
        ({"per": nan}, ValueError, "per must be a window"),
        ({"per": "1"}, TypeError, "per must be a window in seconds, not '1'"),
        ({"burst": 0}, ValueError, "burst must be 1 or more starts"),
        ({"burst": 1.0}, TypeError, "burst must be a whole number of starts"),
        ({"burst": 8}, ValueError, "burst=8 can never start at the same moment, for the window holds 7"),
        ({"max_wait": -1}, ValueError, "max_wait must be 0 or more seconds, or None, not -1"),
        ({"max_wait": nan}, ValueError, "max_wait must be 0 or more"),
        ({"max_wait": inf}, ValueError, "max_wait must be 0 or more"),
        ({"max_wait": True}, TypeError, "max_wait must be a time in seconds, or None, not True"),
        ({"name": None}, TypeError, "name must be a text"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    """A wrong argument is refused, and the message says what is right."""
    with pytest.raises(error, match=message):
        RateLimiter(**{"limit": 7, **arguments})


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
