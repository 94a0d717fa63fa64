"""`AdaptiveConcurrency`: a limit that follows the target, up and down, and never leaves its bounds."""

import asyncio
import random
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, Literal

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.policies.crowd import THREADS, Inside, at_once, settled

from resilient_agents import deadline, events, timeout
from resilient_agents.errors import (
    BulkheadFull,
    CircuitOpen,
    DeadlineExceeded,
    LimitReached,
    NotFound,
    OutcomeUnknown,
    RateLimited,
    Unreachable,
    ValidationFailed,
)
from resilient_agents.policies._growth import Gradient
from resilient_agents.policies.adaptive import AdaptiveConcurrency
from resilient_agents.testing import FakeClock


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


def a_round(
    adaptive: AdaptiveConcurrency,
    *outcomes: BaseException | None,
    clock: FakeClock | None = None,
    seconds: float = 0.0,
) -> None:
    """Let as many calls in at the same time as there are outcomes, and let them end so, in this order."""
    permits = [adaptive.try_enter() for _ in outcomes]
    if clock is not None:
        clock.advance(seconds)
    for permit, exc in zip(permits, outcomes, strict=True):
        adaptive.leave(permit, exc)


# --- Additive increase


def keep_busy(adaptive: AdaptiveConcurrency, count: int, exc: BaseException | None = None) -> None:
    """Let so many calls end one after the other, while all other places are taken."""
    permits = [adaptive.try_enter() for _ in range(adaptive.limit)]
    for _ in range(count):
        adaptive.leave(permits.pop(0), exc)
        while adaptive.running < adaptive.limit:
            permits.append(adaptive.try_enter())
    for permit in permits:
        adaptive.leave(permit, asyncio.CancelledError())


def test_grows_by_one_a_round() -> None:
    """While the places are in use and the calls succeed, there is one more after each round of them."""
    adaptive = AdaptiveConcurrency(initial=10, maximum=12)

    limits = []
    for _ in range(5):
        keep_busy(adaptive, adaptive.limit + 1)
        limits.append(adaptive.limit)

    assert [11, 12, 12, 12, 12] == limits


@pytest.mark.parametrize(("in_use", "limit"), [(4, 10), (5, 11)])
def test_half_of_the_places(in_use: int, limit: int) -> None:
    """Places are in use when half of them are."""
    adaptive = AdaptiveConcurrency(initial=10)
    permits = [adaptive.try_enter() for _ in range(in_use)]

    for _ in range(11):
        adaptive.leave(permits.pop(0), None)
        permits.append(adaptive.try_enter())

    assert limit == adaptive.limit


def test_grows_to_the_maximum_only_when_used() -> None:
    """A limit that is not needed says nothing about what the target can take, and stays."""
    adaptive = AdaptiveConcurrency(initial=10)

    for _ in range(1000):
        a_round(adaptive, *[None] * 4)

    assert 10 == adaptive.limit


def test_more_places_for_those_who_wait() -> None:
    """When the limit grows, the line moves on by more than the place that became free."""
    adaptive = AdaptiveConcurrency(initial=1, queue=5)

    async def live() -> None:
        entered: list[int] = []
        out = asyncio.Event()

        async def visit(number: int) -> None:
            async with adaptive:
                entered.append(number)
                await out.wait()

        permit = adaptive.try_enter()
        visitors = [asyncio.ensure_future(visit(number)) for number in range(3)]
        await settled()
        assert (1, 3) == (adaptive.running, adaptive.waiting)
        adaptive.leave(permit, None)
        await settled()
        assert [0, 1] == entered
        out.set()
        await asyncio.gather(*visitors)
        assert [0, 1, 2] == entered

    asyncio.run(live())
    assert (0, 0) == (adaptive.running, adaptive.waiting)


# --- Multiplicative decrease


def test_shrinks_once_a_round(heard: list[events.PolicyEvent]) -> None:
    """Failures of calls that were under way together are one piece of bad news; the next one counts anew."""
    adaptive = AdaptiveConcurrency(initial=10, name="crm")

    a_round(adaptive, *[Unreachable()] * 10)
    assert 7 == adaptive.limit
    a_round(adaptive, Unreachable(), Unreachable())
    assert 4 == adaptive.limit

    assert [
        events.ConcurrencyChanged(policy="adaptive", name="crm", before=before, limit=limit)
        for before, limit in ((10, 7), (7, 4))
    ] == heard


def test_never_below_the_minimum() -> None:
    """However often the target fails, the minimum is left, to find out when it works again."""
    adaptive = AdaptiveConcurrency(initial=10, minimum=2)

    for _ in range(50):
        a_round(adaptive, Unreachable())

    assert 2 == adaptive.limit


def test_those_inside_stay() -> None:
    """When the limit shrinks nobody is thrown out, and nobody comes in until there is room again."""
    adaptive = AdaptiveConcurrency(initial=4, backoff=0.5)
    permits = [adaptive.try_enter() for _ in range(4)]

    adaptive.leave(permits.pop(), Unreachable())
    assert (2, 3) == (adaptive.limit, adaptive.running)
    for _ in range(2):
        with pytest.raises(BulkheadFull, match=r"this adaptive is full .* of 2 at a time"):
            adaptive.try_enter()
        adaptive.leave(permits.pop(), KeyError())
    assert adaptive.try_enter() is not None


def answer(status: int) -> httpx.HTTPStatusError:
    """Return what httpx raises for a status."""
    request = httpx.Request("GET", "https://crm.test")
    return httpx.HTTPStatusError("", request=request, response=httpx.Response(status))


OVERLOAD = [Unreachable(), OutcomeUnknown(), RateLimited(), TimeoutError(), *map(answer, (429, 500, 503))]
ANSWERS = [NotFound(), ValidationFailed(), answer(404), answer(422)]
SILENCES = [
    KeyError(),
    asyncio.CancelledError(),
    KeyboardInterrupt(),
    CircuitOpen(),
    LimitReached(retry_after=1.0),
    BulkheadFull(),
    DeadlineExceeded(),
]


@pytest.mark.parametrize("exc", OVERLOAD, ids=repr)
def test_what_the_target_cannot_take(exc: Exception) -> None:
    """Failures of the target and its rate limit shrink the limit."""
    adaptive = AdaptiveConcurrency(initial=10)

    a_round(adaptive, exc)

    assert 7 == adaptive.limit


@pytest.mark.parametrize("exc", ANSWERS, ids=repr)
def test_answers(exc: Exception) -> None:
    """An answer that we do not like is a success of the target's."""
    adaptive = AdaptiveConcurrency(initial=10)

    keep_busy(adaptive, 11, exc)

    assert 11 == adaptive.limit


@pytest.mark.parametrize("exc", SILENCES, ids=repr)
def test_what_says_nothing(exc: BaseException) -> None:
    """Defects of our own, cancelled calls and calls that were not sent move nothing."""
    adaptive = AdaptiveConcurrency(initial=10, slow_call=0.5)

    with FakeClock() as clock:
        for _ in range(9):
            a_round(adaptive, *[exc] * 10, clock=clock, seconds=1.0)

    assert 10 == adaptive.limit
    assert 0 == adaptive.running


async def hang() -> None:
    """Never answer."""
    await asyncio.Event().wait()


async def test_call_cut_off_by_a_timeout() -> None:
    """A target that does not answer within the time it was given takes less than it gets."""
    adaptive = AdaptiveConcurrency(initial=10)

    with pytest.raises(DeadlineExceeded):
        await adaptive(timeout(0.001)(hang))()
    assert 7 == adaptive.limit

    with deadline(0.001), pytest.raises(DeadlineExceeded):
        await adaptive(timeout(30)(hang))()
    assert 7 == adaptive.limit


def test_slow_call(clock: FakeClock) -> None:
    """A call that takes too long is bad news, even if it succeeds."""
    adaptive = AdaptiveConcurrency(initial=10, slow_call=2.0)

    a_round(adaptive, *[None] * 3, clock=clock, seconds=1.9)
    assert 10 == adaptive.limit
    a_round(adaptive, *[None] * 3, clock=clock, seconds=2.0)
    assert 7 == adaptive.limit


async def test_wait_in_the_line_is_not_the_targets(clock: FakeClock) -> None:
    """The time of a call begins when it is let in."""
    adaptive = AdaptiveConcurrency(initial=1, queue=1, slow_call=2.0, maximum=1)

    @adaptive
    async def call() -> str:
        return "done"

    permit = adaptive.try_enter()
    waiting = asyncio.ensure_future(call())
    await settled()
    clock.advance(60)
    adaptive.leave(permit, KeyError())

    assert "done" == await waiting
    assert 1 == adaptive.limit


# --- The gradient


def gradient_windows(adaptive: AdaptiveConcurrency, clock: FakeClock, count: int, seconds: float) -> None:
    """Let calls fill all places for some windows of time, each of them for so many seconds."""
    for _ in range(count):
        begun = clock.monotonic()
        while clock.monotonic() - begun <= 1.0:
            a_round(adaptive, *[None] * adaptive.limit, clock=clock, seconds=seconds)


def test_gradient_formula() -> None:
    """The limit moves once a window, by the formula of Gradient2."""
    gradient = Gradient()

    def window(limit: float, begins: float, seconds: float, running: int = 10) -> float:
        for _ in range(9):
            assert limit == gradient.after_success(limit, running, seconds, begins)
        return gradient.after_success(limit, running, seconds, begins + 1.0)

    # Nothing is unusual about the first window.
    first = window(10.0, 0.0, 0.5)
    assert pytest.approx(0.8 * 10 + 0.2 * (10 + 4)) == first
    # The second one takes twice as long, and the usual duration is the average of the two.
    second = window(first, 1.0, 1.0)
    assert pytest.approx(0.8 * first + 0.2 * (first * 0.75 / 1.0 + 4)) == second
    # However slow it is, no more than half of the limit is at stake.
    third = window(second, 2.0, 60.0)
    assert pytest.approx(0.8 * second + 0.2 * (second * 0.5 + 4)) == third
    # It stays where fewer than half of the places are in use.
    assert third == window(third, 3.0, 60.0, running=2)


def test_gradient_needs_some_calls() -> None:
    """A window lasts until there are enough calls in it."""
    gradient = Gradient()

    limits = [gradient.after_success(10.0, 10, 0.5, now) for now in range(0, 100, 10)]

    assert [10.0] * 9 == limits[:9]
    assert limits[9] > 10.0


def test_gradient_finds_its_height(clock: FakeClock) -> None:
    """It grows while calls are quick, shrinks when they become slow, and grows when they recover."""
    adaptive = AdaptiveConcurrency(initial=10, maximum=100, strategy="gradient")

    gradient_windows(adaptive, clock, 150, 0.2)
    assert 100 == adaptive.limit
    gradient_windows(adaptive, clock, 20, 0.6)
    shrunk = adaptive.limit
    assert shrunk < 30
    gradient_windows(adaptive, clock, 150, 0.2)
    assert 100 == adaptive.limit


def test_gradient_after_a_long_trouble(clock: FakeClock) -> None:
    """When slow has become usual and calls are quick again, what is usual follows soon."""
    adaptive = AdaptiveConcurrency(initial=10, maximum=50, strategy="gradient")
    gradient_windows(adaptive, clock, 12, 0.9)

    gradient_windows(adaptive, clock, 8, 0.3)
    before = adaptive.limit
    gradient_windows(adaptive, clock, 15, 0.75)

    assert adaptive.limit < before


def test_gradient_stays_when_not_used(clock: FakeClock) -> None:
    """While few places are in use the limit stays."""
    adaptive = AdaptiveConcurrency(initial=10, strategy="gradient")

    for _ in range(200):
        a_round(adaptive, *[None] * 4, clock=clock, seconds=0.5)

    assert 10 == adaptive.limit


def test_gradient_shrinks_by_failures(clock: FakeClock) -> None:
    """Quick failures are no quick answers."""
    adaptive = AdaptiveConcurrency(initial=10, strategy="gradient")

    a_round(adaptive, *[Unreachable()] * 10)

    assert 7 == adaptive.limit


# --- Whatever comes


@given(
    strategy=st.sampled_from(["aimd", "gradient"]),
    minimum=st.integers(1, 4),
    span=st.integers(0, 8),
    backoff=st.floats(0.01, 0.99),
    steps=st.lists(
        st.tuples(
            st.integers(0, 20),
            st.sampled_from([None, None, None, *OVERLOAD, *ANSWERS, *SILENCES]),
            st.floats(0, 3),
        ),
        max_size=60,
    ),
)
def test_limit_stays_within_its_bounds(
    strategy: Literal["aimd", "gradient"],
    minimum: int,
    span: int,
    backoff: float,
    steps: list[tuple[int, BaseException | None, float]],
) -> None:
    """However calls come and end, the limit keeps its bounds, and who comes in keeps to the limit."""
    adaptive = AdaptiveConcurrency(
        initial=minimum + span // 2,
        minimum=minimum,
        maximum=minimum + span,
        strategy=strategy,
        backoff=backoff,
        slow_call=2.5,
    )
    permits: list[Any] = []

    with FakeClock() as clock:
        for number, exc, seconds in steps:
            clock.advance(seconds)
            for _ in range(number):
                has_room = len(permits) < adaptive.limit
                if has_room:
                    permits.append(adaptive.try_enter())
                else:
                    with pytest.raises(BulkheadFull):
                        adaptive.try_enter()
            for _ in range(number // 2):
                if permits:
                    adaptive.leave(permits.pop(number % len(permits)), exc)
                assert minimum <= adaptive.limit <= minimum + span
            assert len(permits) == adaptive.running
        for permit in permits:
            adaptive.leave(permit, None)
    assert 0 == adaptive.running


@pytest.mark.parametrize("strategy", ["aimd", "gradient"])
def test_threads(strategy: Literal["aimd", "gradient"]) -> None:
    """Threads that succeed, fail and give up never break the bounds, and leave nothing behind."""
    adaptive = AdaptiveConcurrency(
        initial=4, minimum=2, maximum=6, strategy=strategy, queue=6, queue_timeout=0.0001
    )
    inside, limits = Inside(), set[int]()

    def work(number: int) -> None:
        dice = random.Random(number)  # noqa: S311
        for _ in range(150):
            try:
                with adaptive, inside:
                    limits.add(adaptive.limit)
                    if dice.random() < 0.1:
                        raise Unreachable
            except (BulkheadFull, Unreachable):
                pass

    at_once(work)

    assert limits <= {2, 3, 4, 5, 6}
    assert inside.most <= 6
    assert (0, 0) == (adaptive.running, adaptive.waiting)
    permits = [adaptive.try_enter() for _ in range(adaptive.limit)]
    assert adaptive.limit == len(permits) == adaptive.running


async def test_tasks_and_threads() -> None:
    """Tasks and threads share one limit; no place is lost."""
    adaptive, inside = AdaptiveConcurrency(initial=3, maximum=5, queue=100), Inside()

    async def visit() -> None:
        async with adaptive:
            with inside:
                await asyncio.sleep(0)

    def work(_: int) -> None:
        for _ in range(50):
            with adaptive, inside:
                pass

    tasks = [asyncio.ensure_future(visit()) for _ in range(80)]
    threads = asyncio.ensure_future(asyncio.to_thread(at_once, work, THREADS // 2))
    await settled()
    for task in tasks[::3]:
        task.cancel()
    await asyncio.gather(threads, *tasks, return_exceptions=True)

    assert inside.most <= 5
    assert (0, 0) == (adaptive.running, adaptive.waiting)


# --- The rest


FORK = """
import os, signal
from resilient_agents.errors import Unreachable
from resilient_agents.policies._growth import Gradient
from resilient_agents.policies.adaptive import AdaptiveConcurrency

adaptive = AdaptiveConcurrency(initial=10)
permit = adaptive.try_enter()
child = os.fork()
if not child:
    signal.alarm(10)
    adaptive.leave(permit, Unreachable())
    os._exit(not (adaptive.running == 0 and adaptive.limit == 10))
print(os.waitpid(child, 0)[1], adaptive.running)
"""


def test_fork() -> None:
    """In a child process all places are free, and what its parent's calls met says nothing."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK]
    parent = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=30)

    assert "0 1\n" == parent.stdout


def test_in_words() -> None:
    """An adaptive limit says what it does, to people who read code and to those who do not."""
    adaptive = AdaptiveConcurrency(strategy="gradient", name="llm")

    assert ("AdaptiveConcurrency(limit=10, minimum=1, maximum=200, strategy='gradient', name='llm')") == repr(
        adaptive
    )
    assert "AdaptiveConcurrency(limit=10, minimum=1, maximum=200, strategy='aimd')" == repr(
        AdaptiveConcurrency()
    )
    assert (
        "as many calls at a time as the target takes: 10 now, never fewer than 1 or more than 200"
    ) == adaptive.describe()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"initial": 1.5}, TypeError, "initial must be a whole number of calls"),
        ({"minimum": 0}, ValueError, "minimum must be 1 or more calls"),
        ({"maximum": True}, TypeError, "maximum must be a whole number of calls"),
        ({"initial": 300}, ValueError, "must rise in this order, not 1, 300, 200"),
        ({"minimum": 11}, ValueError, "must rise in this order, not 11, 10, 200"),
        ({"strategy": "vegas"}, ValueError, "strategy must be 'aimd' or 'gradient', not 'vegas'"),
        ({"backoff": 1}, ValueError, "backoff must be a part of the limit, between 0 and 1, not 1"),
        ({"backoff": float("nan")}, ValueError, "backoff must be a part of the limit"),
        ({"backoff": None}, TypeError, "backoff must be a part of the limit, not None"),
        ({"slow_call": 0}, ValueError, "slow_call must be more than 0 seconds"),
        ({"queue_timeout": 1}, ValueError, "with queue=0 nobody waits"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    """A wrong argument is refused, and the message says what is right."""
    with pytest.raises(error, match=message):
        AdaptiveConcurrency(**arguments)
