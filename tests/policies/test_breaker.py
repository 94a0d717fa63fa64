"""`CircuitBreaker`: what opens it, whom it refuses, and how it finds out that the target works again."""

import asyncio
import gc
import inspect
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import pairwise
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.policies.breakers import NO_LONGER_THAN, Meeting, attempt, end, fail

from resilient_agents import events, retry, timeout
from resilient_agents.errors import (
    AuthFailed,
    BulkheadFull,
    Category,
    CircuitOpen,
    Conflict,
    DeadlineExceeded,
    ExternalFailure,
    InternalFailure,
    LimitReached,
    NotFound,
    Origin,
    OutcomeUnknown,
    PermissionDenied,
    RateLimited,
    Unreachable,
    UnwantedResult,
    ValidationFailed,
)
from resilient_agents.policies import deadline
from resilient_agents.policies._shared import SharedView
from resilient_agents.policies.breaker import BreakerStats, CircuitBreaker
from resilient_agents.testing import FakeClock

CANCELLATIONS = [asyncio.CancelledError(), KeyboardInterrupt(), GeneratorExit(), SystemExit()]
ANSWERS = [
    NotFound(),
    ValidationFailed(origin=Origin.DEPENDENCY),
    AuthFailed(),
    PermissionDenied(),
    RateLimited(),
    Conflict(),
    ExternalFailure(origin=Origin.INBOUND),
]
SILENCES = [
    *CANCELLATIONS,
    InternalFailure(),
    ZeroDivisionError(),
    RuntimeError("of a kind that nobody knows"),
    CircuitOpen(),
    LimitReached(),
    BulkheadFull(),
    DeadlineExceeded(),
    ExternalFailure(origin=Origin.SELF),
    ExceptionGroup("several", [CircuitOpen(), LimitReached()]),
]
FAILURES = [
    Unreachable(),
    OutcomeUnknown(),
    ExternalFailure(),
    UnwantedResult(),
    ConnectionError(),
    TimeoutError(),
]


@pytest.fixture
def clock() -> Iterator[FakeClock]:
    """Put a clock in force that no test has to wait for."""
    with FakeClock() as fake:
        yield fake


@pytest.fixture
def heard() -> list[events.PolicyEvent]:
    """Return the list to which the events of policies are added."""
    found: list[events.PolicyEvent] = []
    events.subscribe(events.PolicyEvent)(found.append)
    return found


def opened(**settings: Any) -> CircuitBreaker:
    """Return a breaker that two failures have opened."""
    breaker = CircuitBreaker(minimum_calls=2, **settings)
    fail(breaker, 2)
    assert "open" == breaker.state
    return breaker


def named(exc: BaseException) -> str:
    """Return the name of a case."""
    return type(exc).__name__


# --- What counts


@pytest.mark.parametrize("exc", FAILURES, ids=named)
def test_failure_of_the_target_opens(exc: Exception) -> None:
    """What is the target's own fault opens the breaker."""
    breaker = CircuitBreaker()

    for _ in range(10):
        end(breaker, exc)

    assert "open" == breaker.state


@pytest.mark.parametrize("exc", ANSWERS, ids=named)
def test_answer_is_a_success(exc: Exception) -> None:
    """An answer that displeases us is an answer: the target works."""
    breaker = CircuitBreaker(minimum_calls=1)

    for _ in range(30):
        end(breaker, exc)

    assert (30, 0) == (breaker.stats().calls, breaker.stats().failures)
    assert "closed" == breaker.state


@pytest.mark.parametrize("exc", SILENCES, ids=named)
def test_what_says_nothing_is_not_counted(exc: BaseException) -> None:
    """Defects of our own, cancelled calls and calls that were not sent are neither failures nor successes."""
    breaker = CircuitBreaker(minimum_calls=1)

    for _ in range(30):
        end(breaker, exc)

    assert (0, "closed") == (breaker.stats().calls, breaker.state)


@given(exceptions=st.lists(st.sampled_from([None, *ANSWERS, *SILENCES]), max_size=300))
def test_only_the_targets_failures_open(exceptions: list[BaseException | None]) -> None:
    """No number of 404s and cancellations opens a breaker, in whatever order they come."""
    breaker = CircuitBreaker(failure_rate=0.001, minimum_calls=1)

    for exc in exceptions:
        end(breaker, exc)

    assert "closed" == breaker.state


def test_http_statuses() -> None:
    """Of the answers of an HTTP service, those count that say that it is broken."""

    def answer(status: int) -> httpx.HTTPStatusError:
        request = httpx.Request("GET", "https://crm.test")
        return httpx.HTTPStatusError("", request=request, response=httpx.Response(status))

    counted = []
    for status in (400, 401, 403, 404, 409, 422, 429, 500, 502, 503, 504):
        breaker = CircuitBreaker(minimum_calls=1)
        end(breaker, answer(status))
        if breaker.state == "open":
            counted.append(status)

    assert [500, 502, 503, 504] == counted


@pytest.mark.parametrize(
    "counts",
    [KeyError, Category.INTERNAL, r"^KeyError: 'crm'", lambda exc: "crm" in exc.args, [KeyError, "x"]],
)
def test_counts_replaces_the_judgement(counts: Any) -> None:
    """With `counts` that counts which it names, and nothing else."""
    breaker = CircuitBreaker(minimum_calls=1, counts=counts)

    end(breaker, Unreachable())
    assert (1, 0) == (breaker.stats().calls, breaker.stats().failures)
    end(breaker, asyncio.CancelledError())
    end(breaker, CircuitOpen())
    assert 1 == breaker.stats().calls
    end(breaker, KeyError("crm"))
    assert "open" == breaker.state


def test_predicate_that_raises(caplog: pytest.LogCaptureFixture) -> None:
    """A broken predicate is logged once; its calls are not counted, and the caller gets his own exception."""

    def broken(exc: Exception) -> bool:
        raise LookupError

    breaker = CircuitBreaker(minimum_calls=1, counts=broken)

    for _ in range(3):
        with pytest.raises(ConnectionError), breaker:
            raise ConnectionError

    assert 0 == breaker.stats().calls
    assert 1 == len(caplog.records)


async def hang() -> None:
    """Never answer."""
    await asyncio.Event().wait()


async def test_call_cut_off_by_a_timeout() -> None:
    """A target that does not answer within the time it was given has failed."""
    breaker = CircuitBreaker(minimum_calls=1)

    with pytest.raises(DeadlineExceeded):
        await breaker(timeout(0.001)(hang))()

    assert "open" == breaker.state


async def test_call_cut_off_by_the_callers_deadline() -> None:
    """A call that our own caller had no more time for says nothing about the target."""
    breaker = CircuitBreaker(minimum_calls=1)

    with deadline(0.001), pytest.raises(DeadlineExceeded):
        await breaker(timeout(30)(hang))()

    assert (0, "closed") == (breaker.stats().calls, breaker.state)


# --- Windows


@given(
    outcomes=st.lists(st.sampled_from(["ok", "failed", "slow", "both", "nothing"]), max_size=60),
    window=st.integers(1, 12),
    minimum_calls=st.integers(1, 12),
    failure_rate=st.sampled_from([0.1, 0.25, 0.5, 0.75, 1.0]),
    slow_rate=st.sampled_from([0.25, 0.5, 1.0]),
)
def test_count_window(
    outcomes: list[str], window: int, minimum_calls: int, failure_rate: float, slow_rate: float
) -> None:
    """A breaker opens when, and only when, a list of the last calls says so at a failed or slow call."""
    breaker = CircuitBreaker(
        window=window,
        minimum_calls=min(minimum_calls, window),
        failure_rate=failure_rate,
        slow_call=2.0,
        slow_rate=slow_rate,
    )
    last: list[str] = []

    with FakeClock() as clock:
        for outcome in outcomes:
            permit = breaker.try_enter()
            clock.advance(2.0 if outcome in ("slow", "both") else 1.5)
            exc = {"failed": Unreachable(), "both": Unreachable(), "nothing": KeyError()}.get(outcome)
            breaker.leave(permit, exc)
            if outcome != "nothing":
                last = [*last, outcome][-window:]
            failed = sum(each in ("failed", "both") for each in last)
            slow = sum(each in ("slow", "both") for each in last)
            stats = breaker.stats()
            assert (len(last), failed, slow) == (stats.calls, stats.failures, stats.slow)
            enough = len(last) >= min(minimum_calls, window)
            over = failed >= failure_rate * len(last) or slow >= slow_rate * len(last)
            assert (outcome not in ("ok", "nothing") and enough and over) == (breaker.state == "open")
            if breaker.state == "open":
                break


@given(
    calls=st.lists(st.tuples(st.integers(0, 40), st.sampled_from(["ok", "failed"])), max_size=80),
    minimum_calls=st.integers(1, 6),
    failure_rate=st.sampled_from([0.25, 0.5, 1.0]),
)
def test_time_window(calls: list[tuple[int, str]], minimum_calls: int, failure_rate: float) -> None:
    """The same for a window of time: it holds the tenth of it that is under way, and the nine before."""
    with FakeClock() as clock:
        breaker = CircuitBreaker(window_seconds=10.0, minimum_calls=minimum_calls, failure_rate=failure_rate)
        all_calls: list[tuple[int, str]] = []
        for gap, outcome in calls:
            clock.advance(gap / 8)
            end(breaker, Unreachable() if outcome == "failed" else None)
            step = int(clock.monotonic())
            all_calls.append((step, outcome))
            last = [each for when, each in all_calls if when > step - 10]
            stats = breaker.stats()
            assert (len(last), last.count("failed")) == (stats.calls, stats.failures)
            over = last.count("failed") >= failure_rate * len(last)
            assert (outcome == "failed" and len(last) >= minimum_calls and over) == (breaker.state == "open")
            if breaker.state == "open":
                break


def test_time_window_needs_little_memory(clock: FakeClock) -> None:
    """However many calls there are in a window of time, it keeps a few hundred numbers."""
    breaker = CircuitBreaker(window_seconds=60)

    for _ in range(5000):
        end(breaker)

    assert 5000 == breaker.stats().calls
    window: Any = breaker._window
    for _ in range(1000):
        end(breaker)
        assert len(window._pending) <= 256


def test_slow_calls_open(clock: FakeClock, heard: list[events.PolicyEvent]) -> None:
    """A target that answers, and too late, is down as well."""
    breaker = CircuitBreaker(name="crm", slow_call=2.0, slow_rate=0.5, minimum_calls=4)

    for seconds in (1.9, 2.0, 0.0, 3.0):
        with breaker:
            clock.advance(seconds)

    assert [("slow", 0.0, 0.5)] == [
        (event.reason, event.failure_rate, event.slow_rate)
        for event in heard
        if isinstance(event, events.BreakerOpened)
    ]
    with pytest.raises(
        CircuitOpen, match=r"2 of the last 4 calls took 2 s or more; it is probed in 3\d\.\d s"
    ):
        breaker.try_enter()


def test_slow_silence_is_not_counted(clock: FakeClock) -> None:
    """A call that says nothing is not slow either."""
    breaker = CircuitBreaker(slow_call=1.0, minimum_calls=1)

    permit = breaker.try_enter()
    clock.advance(60)
    breaker.leave(permit, asyncio.CancelledError())

    assert (0, "closed") == (breaker.stats().calls, breaker.state)


# --- Open


def test_open_refuses(clock: FakeClock, heard: list[events.PolicyEvent]) -> None:
    """An open breaker says what happened, why, and when it is probed; nothing is called."""
    breaker = CircuitBreaker(name="crm", minimum_calls=2)
    calls = []

    @breaker
    def fetch() -> None:
        calls.append(1)
        raise ConnectionRefusedError

    attempt(fetch)
    attempt(fetch)
    clock.advance(10)
    with pytest.raises(CircuitOpen) as refusal:
        fetch()

    assert 2 == len(calls)
    wait = refusal.value.retry_after
    assert wait is not None
    assert 20 <= wait <= 30 * NO_LONGER_THAN - 10
    assert (
        f"circuit breaker 'crm' is open and nothing was sent: 2 of the last 2 calls failed; it is probed in "
        f"{wait:.1f} s"
    ) == str(refusal.value)
    assert isinstance(heard[0], events.BreakerOpened)
    assert wait + 10 == pytest.approx(heard[0].wait)
    assert [
        events.BreakerOpened(
            policy="breaker",
            name="crm",
            wait=heard[0].wait,
            failure_rate=1.0,
            slow_rate=0.0,
            reason="failures",
            enforced=True,
        ),
        events.CallRefused(policy="breaker", name="crm", wait=wait),
    ] == heard


def test_refusal_is_not_retried(clock: FakeClock) -> None:
    """A retry does not knock at an open breaker again and again."""
    fetch = retry(attempts=5)(opened()(lambda: None))

    with pytest.raises(CircuitOpen):
        fetch()

    assert [] == clock.sleeps


def test_processes_do_not_probe_at_once(clock: FakeClock) -> None:
    """Breakers that open at the same moment are probed at different ones, up to a tenth later."""
    waits = [opened(open_for=100).stats().wait or 0.0 for _ in range(100)]

    assert 100 <= min(waits) < max(waits) <= 100 * NO_LONGER_THAN
    assert len(set(waits)) > 90


# --- Half-open


def half_open(clock: FakeClock, **settings: Any) -> CircuitBreaker:
    """Return a breaker whose time has come to be probed."""
    breaker = opened(**settings)
    clock.advance(30 * NO_LONGER_THAN)
    return breaker


def test_success_closes(clock: FakeClock, heard: list[events.PolicyEvent]) -> None:
    """After its time a probe goes through; where it succeeds, all calls do."""
    breaker = half_open(clock, name="crm")

    permit = breaker.try_enter()
    assert ("half_open", 1) == (breaker.state, breaker.stats().probes)
    with pytest.raises(CircuitOpen, match="2 of the last 2 calls failed; it is being probed now") as refusal:
        breaker.try_enter()
    breaker.leave(permit, None)

    assert refusal.value.retry_after is None
    assert "closed" == breaker.state
    assert ["BreakerOpened", "BreakerHalfOpened", "CallRefused", "BreakerClosed"] == [
        type(event).__name__ for event in heard
    ]
    assert 0 == breaker.stats().calls


def test_failure_opens_again(clock: FakeClock, heard: list[events.PolicyEvent]) -> None:
    """A probe that fails opens the breaker for its whole time again."""
    breaker = half_open(clock)

    fail(breaker)

    assert "open" == breaker.state
    assert 30 <= (breaker.stats().wait or 0) <= 30 * NO_LONGER_THAN
    assert ["failures", "probe"] == [e.reason for e in heard if isinstance(e, events.BreakerOpened)]
    with pytest.raises(CircuitOpen, match="a probe of its target failed"):
        breaker.try_enter()


def test_slow_probe_opens_again(clock: FakeClock) -> None:
    """A probe that succeeds too late shows that the target is not well yet."""
    breaker = half_open(clock, slow_call=1.0)

    permit = breaker.try_enter()
    clock.advance(1.0)
    breaker.leave(permit, None)

    assert "open" == breaker.state


def test_several_probes(clock: FakeClock) -> None:
    """With three probes three calls at a time go through, and three must succeed."""
    breaker = half_open(clock, probes=3)

    permits = [breaker.try_enter() for _ in range(3)]
    with pytest.raises(CircuitOpen):
        breaker.try_enter()
    for permit in permits[:2]:
        breaker.leave(permit, NotFound())
    assert "half_open" == breaker.state
    breaker.leave(permits[2], None)

    assert "closed" == breaker.state


@pytest.mark.parametrize("exc", SILENCES, ids=named)
def test_probe_that_says_nothing_gives_its_slot_back(exc: BaseException, clock: FakeClock) -> None:
    """A cancelled probe decides nothing, and the next call is a probe."""
    breaker = half_open(clock)

    end(breaker, exc)

    assert ("half_open", 0) == (breaker.state, breaker.stats().probes)
    end(breaker)
    assert "closed" == breaker.state


def test_probe_that_never_comes_back(clock: FakeClock) -> None:
    """A probe that is lost holds its slot for `open_for`, and no longer; if it comes back it still counts."""
    breaker = half_open(clock, probes=2)
    lost = breaker.try_enter()
    clock.advance(20)
    breaker.try_enter()

    clock.advance(9.9)
    with pytest.raises(CircuitOpen):
        breaker.try_enter()
    clock.advance(0.1)
    end(breaker)
    breaker.leave(lost, None)

    assert "closed" == breaker.state


def test_permit_of_an_earlier_state(clock: FakeClock) -> None:
    """What began before a change of state counts neither for nor against what came after it."""
    breaker = CircuitBreaker(minimum_calls=2, slow_call=500)
    early = [breaker.try_enter() for _ in range(6)]
    fail(breaker, 2)
    clock.advance(30 * NO_LONGER_THAN)
    late = breaker.try_enter()
    breaker.leave(early[0], Unreachable())
    breaker.leave(early[1], None)
    assert "half_open" == breaker.state
    breaker.reset()
    for permit in (early[2], early[3], late):
        breaker.leave(permit, Unreachable())
    breaker.leave(early[4], None)

    assert ("closed", 0) == (breaker.state, breaker.stats().calls)


def test_late_failure_judges_no_later_window() -> None:
    """A failure of an earlier state is no reason to look at the window of this one."""
    breaker = CircuitBreaker(minimum_calls=2)
    early = breaker.try_enter()
    breaker.reset()
    fail(breaker)
    end(breaker)

    breaker.leave(early, Unreachable())

    assert "closed" == breaker.state


class Life(RuleBasedStateMachine):
    """Calls of all kinds at a breaker, in any order and at any time."""

    PROBES = 2

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.clock.__enter__()
        self.breaker = CircuitBreaker(
            window=6, minimum_calls=3, open_for=8.0, probes=self.PROBES, slow_call=4.0
        )
        self.under_way: list[tuple[str, float, Any]] = []
        self.states: list[str] = []
        events.subscribe(events.PolicyEvent)(self.hear)

    def hear(self, event: events.PolicyEvent) -> None:
        """Note the state that an event tells of, if it tells of one."""
        names = {
            events.BreakerOpened: "open",
            events.BreakerHalfOpened: "half",
            events.BreakerClosed: "closed",
        }
        if type(event) in names:
            self.states.append(names[type(event)])

    def teardown(self) -> None:
        """Put the clock and the subscribers back."""
        events.unsubscribe(self.hear)
        self.clock.__exit__(None, None, None)

    @rule()
    def enter(self) -> None:
        """Begin a call."""
        with suppress(CircuitOpen):
            permit = self.breaker.try_enter()
            self.under_way.append((self.breaker.state, self.clock.monotonic(), permit))

    @precondition(lambda self: self.under_way)
    @rule(
        number=st.integers(0, 99),
        exc=st.sampled_from([None, Unreachable(), NotFound(), asyncio.CancelledError(), KeyError()]),
    )
    def leave(self, number: int, exc: BaseException | None) -> None:
        """End one of the calls under way."""
        _, _, permit = self.under_way.pop(number % len(self.under_way))
        self.breaker.leave(permit, exc)

    @rule(seconds=st.sampled_from([0.5, 3.0, 9.0]))
    def pass_time(self, seconds: float) -> None:
        """Let time go by."""
        self.clock.advance(seconds)

    @rule(action=st.sampled_from(["force_open", "force_closed", "release", "release", "reset"]))
    def by_hand(self, action: str) -> None:
        """Do something by hand."""
        getattr(self.breaker, action)()

    @invariant()
    def never_more_probes_than_allowed(self) -> None:
        """No more probes are under way than the cap says, but for those that are given up."""
        now = self.clock.monotonic()
        if self.breaker.state == "half_open":
            probes = [
                permit for state, began, permit in self.under_way if state == "half_open" and now < began + 8
            ]
            current = [p for p, _ in probes if p.probation is self.breaker._probation]
            assert len(current) == self.breaker.stats().probes <= self.PROBES

    @invariant()
    def states_follow_each_other(self) -> None:
        """Every change of state is told, and none twice."""
        assert all(before != after for before, after in pairwise(self.states))
        known = {"half_open": "half"}.get(self.breaker.state, self.breaker.state)
        assert known == ([*self.states] or ["closed"])[-1] or self.breaker.stats().forced

    @invariant()
    def nothing_is_left_behind(self) -> None:
        """When no call is under way, no slot is taken."""
        if not self.under_way:
            assert 0 == self.breaker.stats().probes


test_life = Life.TestCase


# --- By hand


def test_force_open(clock: FakeClock, heard: list[events.PolicyEvent]) -> None:
    """An operator opens a breaker until he releases it, however long that takes."""
    breaker = CircuitBreaker(name="crm")

    breaker.force_open()
    breaker.force_open()
    clock.advance(1e6)
    with pytest.raises(
        CircuitOpen, match=r"nothing was sent: it was opened by hand, until release\(\)$"
    ) as exc:
        breaker.try_enter()

    assert exc.value.retry_after is None
    stats = breaker.stats()
    assert ("open", True, None) == (stats.state, stats.forced, stats.wait)
    assert ["forced"] == [event.reason for event in heard if isinstance(event, events.BreakerOpened)]
    breaker.release()
    end(breaker)
    assert ("closed", False, 1) == (breaker.state, breaker.stats().forced, breaker.stats().calls)
    assert 1 == sum(isinstance(event, events.BreakerClosed) for event in heard)


@pytest.mark.parametrize("settings", [{}, {"slow_call": 1.0}], ids=str)
def test_force_closed(settings: Any, clock: FakeClock) -> None:
    """A breaker that is held closed lets failures through, counts none, and starts anew when released."""
    breaker = opened(**settings)

    breaker.force_closed()
    fail(breaker, 50)
    end(breaker)
    assert ("closed", True, 0) == (breaker.state, breaker.stats().forced, breaker.stats().calls)
    breaker.release()
    fail(breaker, 2)

    assert "open" == breaker.state


def test_release_of_what_is_not_forced(clock: FakeClock) -> None:
    """`release` leaves a breaker alone that decided by itself; `reset` does not."""
    breaker = opened()

    breaker.release()
    assert "open" == breaker.state
    breaker.reset()
    assert "closed" == breaker.state


def test_stats(clock: FakeClock) -> None:
    """The stats tell what the breaker saw; of an open one, what it saw when it opened."""
    breaker = CircuitBreaker(minimum_calls=4)
    end(breaker)
    end(breaker)
    fail(breaker)

    assert (
        BreakerStats(
            state="closed",
            forced=False,
            calls=3,
            failures=1,
            slow=0,
            failure_rate=1 / 3,
            slow_rate=0.0,
            wait=None,
            probes=0,
        )
        == breaker.stats()
    )
    fail(breaker)
    assert (4, 2, 0.5) == (breaker.stats().calls, breaker.stats().failures, breaker.stats().failure_rate)


def test_at_rest(clock: FakeClock) -> None:
    """A breaker may be forgotten unless it was forced, or is open and not to be probed yet."""
    assert CircuitBreaker().at_rest
    breaker = opened()
    assert not breaker.at_rest
    clock.advance(30 * NO_LONGER_THAN)
    assert breaker.at_rest
    breaker.force_closed()
    assert not breaker.at_rest


# --- Observing


def test_observer_refuses_nobody(clock: FakeClock, heard: list[events.PolicyEvent]) -> None:
    """An observer tells what would have happened, and lets all calls through."""
    breaker = opened(mode="observe")

    fail(breaker, 3)
    clock.advance(30 * NO_LONGER_THAN)
    probe, other = breaker.try_enter(), breaker.try_enter()
    breaker.leave(other, Unreachable())
    breaker.leave(probe, None)

    assert ["BreakerOpened", *["CallRefused"] * 3, "BreakerHalfOpened", "CallRefused", "BreakerClosed"] == [
        type(event).__name__ for event in heard
    ]
    assert [False] == [event.enforced for event in heard if isinstance(event, events.BreakerOpened)]
    breaker.force_open()
    end(breaker)


# --- Several processes


def test_local_trip_votes(clock: FakeClock) -> None:
    """A breaker that opens says so; as long as the others do not agree, it goes by itself."""
    meeting = Meeting()
    breaker = opened(shared=meeting, name="crm")
    clock.advance(30 * NO_LONGER_THAN)

    end(breaker)

    assert "closed" == breaker.state
    [(key, seconds)] = meeting.votes
    assert "crm" == key
    assert 30 <= seconds <= 30 * NO_LONGER_THAN
    assert [] == meeting.reports


def test_failed_local_probe_votes_again(clock: FakeClock) -> None:
    """A probe that fails is a vote as well."""
    meeting = Meeting(quorum=9)
    breaker = opened(shared=meeting, name="crm")
    clock.advance(30 * NO_LONGER_THAN)

    fail(breaker)

    assert ["crm", "crm"] == [key for key, _ in meeting.votes]


def test_agreement_opens_the_others(clock: FakeClock, heard: list[events.PolicyEvent]) -> None:
    """Two processes of three find the target down: the third leaves it alone without having failed itself."""
    meeting = Meeting()
    breaker = CircuitBreaker(shared=meeting, name="crm")
    end(breaker)
    opened(shared=meeting, name="crm")
    opened(shared=meeting, name="crm")

    with pytest.raises(CircuitOpen, match="other processes found it down; it is probed in 3"):
        breaker.try_enter()

    assert "shared" == [event for event in heard if isinstance(event, events.BreakerOpened)][-1].reason
    assert 2 == len(meeting.votes)


def agreed(clock: FakeClock, meeting: Meeting) -> CircuitBreaker:
    """Return a breaker that others have opened, and that may be probed now."""
    meeting.view = SharedView(open=True, wait=5.0)
    breaker = CircuitBreaker(shared=meeting, name="crm", probes=2)
    attempt(breaker.try_enter)
    clock.advance(5)
    meeting.view = SharedView(open=True, wait=0.0)
    return breaker


def test_shared_probe_needs_a_lease(clock: FakeClock) -> None:
    """Among all processes only he who has a lease probes, and they hear how it ended."""
    meeting = Meeting()
    breaker = agreed(clock, meeting)

    permit = breaker.try_enter()
    for _ in range(3):
        with pytest.raises(CircuitOpen):
            breaker.try_enter()
    breaker.leave(permit, None)

    assert [("crm", True)] == meeting.reports
    assert "half_open" == breaker.state
    meeting.view = SharedView(open=False, wait=0.0)
    end(breaker)
    assert "closed" == breaker.state


def test_success_of_a_shared_probe(clock: FakeClock, heard: list[events.PolicyEvent]) -> None:
    """However many probes succeed here, it is the processes together that close it."""
    meeting = Meeting()
    breaker = agreed(clock, meeting)
    meeting.leases = 9

    for _ in range(5):
        end(breaker)

    assert [("crm", True)] * 5 == meeting.reports
    assert "half_open" == breaker.state
    assert not any(isinstance(event, events.BreakerClosed) for event in heard)


def test_others_close_it(clock: FakeClock, heard: list[events.PolicyEvent]) -> None:
    """A breaker that was opened by agreement closes by agreement, without a probe of its own."""
    meeting = Meeting()
    meeting.leases = 0
    breaker = agreed(clock, meeting)
    attempt(breaker.try_enter)
    assert "open" == breaker.state

    meeting.view = SharedView(open=False, wait=0.0)
    end(breaker)

    assert "closed" == breaker.state
    assert isinstance(heard[-1], events.BreakerClosed)


def test_shared_probe_fails(clock: FakeClock) -> None:
    """A probe that fails is reported, and this process leaves the target alone, whatever the others say."""
    meeting = Meeting()
    breaker = agreed(clock, meeting)

    fail(breaker)

    assert [("crm", False)] == meeting.reports
    assert [] == meeting.votes
    with pytest.raises(CircuitOpen) as refusal:
        breaker.try_enter()
    assert 30 <= (refusal.value.retry_after or 0) <= 30 * NO_LONGER_THAN


def test_cancelled_shared_probe_is_not_reported(clock: FakeClock) -> None:
    """A probe that says nothing is not reported, and its slot here is free."""
    meeting = Meeting()
    breaker = agreed(clock, meeting)

    end(breaker, asyncio.CancelledError())

    assert ([], 0) == (meeting.reports, breaker.stats().probes)


def test_local_trip_is_agreed_on_later(clock: FakeClock) -> None:
    """A breaker that opened alone goes by the others as soon as they agree with it."""
    meeting = Meeting()
    breaker = opened(shared=meeting, name="crm")
    meeting.view = SharedView(open=True, wait=50.0)

    with pytest.raises(CircuitOpen) as refusal:
        breaker.try_enter()
    assert 50 == refusal.value.retry_after
    meeting.view = SharedView(open=False, wait=0.0)
    end(breaker)

    assert "closed" == breaker.state


def test_observer_has_no_say(clock: FakeClock) -> None:
    """An observer hears what others agree on, but neither votes nor takes a lease from them."""
    meeting = Meeting()
    breaker = opened(shared=meeting, name="crm", mode="observe")
    meeting.view = SharedView(open=True, wait=0.0)
    clock.advance(60)

    fail(breaker, 3)

    assert ([], [], 1) == (meeting.votes, meeting.reports, meeting.leases)
    assert "open" == breaker.state


def test_by_hand_goes_before_agreement(clock: FakeClock) -> None:
    """A breaker that is held closed does not follow the others."""
    meeting = Meeting()
    breaker = agreed(clock, meeting)

    breaker.force_closed()
    end(breaker)
    breaker.force_open()
    meeting.view = SharedView(open=False, wait=0.0)
    with pytest.raises(CircuitOpen):
        breaker.try_enter()

    assert [] == meeting.votes


# --- Threads and tasks


class Hesitant(Meeting):
    """Gives other threads time to come in between, and a lease to everybody."""

    def lease_probe(self, key: str) -> bool:
        """Wait for a ring that never comes."""
        threading.Event().wait(0.001)
        return True


@pytest.mark.parametrize("shared", [False, True])
def test_probe_cap_among_threads(shared: bool, clock: FakeClock) -> None:
    """Of fifty threads that come at once to a half-open breaker, as many go through as there are probes."""
    meeting = Hesitant(quorum=1)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(10):
            settings: Any = {"shared": meeting, "name": "crm"} if shared else {}
            breaker = half_open(clock, probes=3, **settings)
            meeting.view = SharedView(open=shared, wait=0.0)
            all_there = threading.Barrier(50)

            def knock(breaker: CircuitBreaker = breaker, there: threading.Barrier = all_there) -> bool:
                there.wait()
                try:
                    breaker.try_enter()
                except CircuitOpen:
                    return False
                return True

            with ThreadPoolExecutor(50) as pool:
                let_in = [future.result() for future in [pool.submit(knock) for _ in range(50)]]
            assert 3 == sum(let_in)
            meeting.view = SharedView(open=False, wait=0.0)
    finally:
        sys.setswitchinterval(before)


async def test_probe_cap_among_tasks(clock: FakeClock) -> None:
    """The same for fifty tasks; when they end, the breaker is closed."""
    breaker, go = half_open(clock, probes=3), asyncio.Event()
    under_way = 0

    @breaker
    async def fetch() -> None:
        nonlocal under_way
        under_way += 1
        await go.wait()

    tasks = [asyncio.create_task(fetch()) for _ in range(50)]
    await asyncio.sleep(0)
    assert 3 == under_way
    go.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)

    assert 47 == sum(isinstance(outcome, CircuitOpen) for outcome in outcomes)
    assert "closed" == breaker.state


async def test_cancelled_task_leaves_no_permit_behind(clock: FakeClock) -> None:
    """A probe whose task is cancelled frees its slot."""
    breaker = half_open(clock)
    task = asyncio.create_task(breaker(hang)())
    await asyncio.sleep(0)
    assert 1 == breaker.stats().probes

    task.cancel()
    with suppress(asyncio.CancelledError):
        await task

    assert ("half_open", 0) == (breaker.state, breaker.stats().probes)


@pytest.mark.parametrize("settings", [{"window": 10**6}, {"window_seconds": 10**6}], ids=str)
def test_threads_lose_no_call(settings: Any) -> None:
    """Sixteen threads record at once, and each call is in the window."""
    breaker = CircuitBreaker(failure_rate=1.0, **settings)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def work(_: int) -> None:
        for number in range(500):
            end(breaker, Unreachable() if number % 4 == 1 else None)

    end(breaker)
    try:
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(work, range(16)))
    finally:
        sys.setswitchinterval(before)

    assert (8001, 2000) == (breaker.stats().calls, breaker.stats().failures)


def test_threads_move_a_time_window_on() -> None:
    """While some threads record and others look, the window moves on under them, and nothing breaks."""
    breaker = CircuitBreaker(window_seconds=0.002)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def work(number: int) -> None:
        for _ in range(1500):
            if number % 2:
                end(breaker)
            else:
                assert breaker.stats().failures == 0

    try:
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(work, range(16)))
    finally:
        sys.setswitchinterval(before)


def test_subscriber_may_ask_the_breaker() -> None:
    """Events are told with no lock held: a subscriber may look at the breaker and use it."""
    breaker = CircuitBreaker(minimum_calls=1)
    states = []

    @events.subscribe(events.BreakerOpened)
    def look(event: events.BreakerOpened) -> None:
        states.append(breaker.stats().state)
        breaker.reset()

    fail(breaker)

    assert ["open"] == states
    assert "closed" == breaker.state


def test_no_cyclic_garbage() -> None:
    """Calls leave nothing behind for the garbage collector: neither successes, failures nor refusals."""
    breakers = [CircuitBreaker(slow_call=9), CircuitBreaker(window_seconds=60), CircuitBreaker(), opened()]
    functions = [breaker(lambda: 1) for breaker in breakers]
    for function in functions:
        attempt(function)
    gc.collect()
    gc.disable()
    try:
        for function in functions:
            for _ in range(100):
                attempt(function)
        assert 0 == gc.collect()
    finally:
        gc.enable()


# --- Construction


def test_forms(clock: FakeClock) -> None:
    """A breaker is a decorator for both kinds of functions."""
    breaker = CircuitBreaker()

    @breaker
    def fetch() -> int:
        return 1

    @breaker
    async def afetch() -> int:
        return 2

    assert [1, 2] == [fetch(), asyncio.run(afetch())]
    assert (False, True) == tuple(map(inspect.iscoroutinefunction, (fetch, afetch)))
    assert 2 == breaker.stats().calls
    assert "CircuitBreaker(name='crm')" == repr(CircuitBreaker(name="crm"))


NAN = float("nan")


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"failure_rate": 0}, ValueError, "failure_rate must be a part of the calls"),
        ({"failure_rate": 50}, ValueError, "above 0 and up to 1, not 50"),
        ({"failure_rate": NAN}, ValueError, "failure_rate must be"),
        ({"failure_rate": "half"}, TypeError, "failure_rate must be a number, not 'half'"),
        ({"slow_rate": -1, "slow_call": 1}, ValueError, "slow_rate must be"),
        ({"slow_rate": 0.5}, ValueError, "slow_rate needs slow_call"),
        ({"window": 0}, ValueError, "window must be 1 or more calls, not 0"),
        ({"window": 2.5}, TypeError, "window must be a whole number"),
        ({"window": 5}, ValueError, "minimum_calls=10 are never in a window of 5 calls"),
        ({"minimum_calls": True}, TypeError, "minimum_calls must be a whole number"),
        ({"window_seconds": 0}, ValueError, "window_seconds must be more than 0 seconds"),
        ({"slow_call": NAN}, ValueError, "slow_call must be more than 0"),
        ({"open_for": float("inf")}, ValueError, "open_for must be more than 0"),
        ({"open_for": None}, TypeError, "open_for must be a time in seconds"),
        ({"probes": 0}, ValueError, "probes must be 1 or more"),
        ({"counts": 404}, TypeError, "counts= takes exception types"),
        ({"counts": KeyboardInterrupt}, TypeError, "counts= cannot hold KeyboardInterrupt"),
        ({"counts": "("}, ValueError, r"counts='\(' is no regular expression"),
        ({"mode": "off"}, ValueError, "mode must be 'enforce' or 'observe'"),
        ({"name": None}, TypeError, "name must be a text"),
        ({"shared": Meeting()}, ValueError, "a shared breaker needs a name"),
        ({"shared": "redis://", "name": "crm"}, TypeError, "shared must have the methods vote, state"),
    ],
)
def test_wrong_settings(settings: Any, error: type[Exception], message: str) -> None:
    """A wrong setting is refused, and the message says what is right."""
    with pytest.raises(error, match=message):
        CircuitBreaker(**settings)


FORK = """
import os, signal
from resilient_agents.errors import Unreachable
from resilient_agents.policies.breaker import CircuitBreaker

breaker = CircuitBreaker(minimum_calls=1, window_seconds=10)
breaker._lock.acquire()
breaker._window._lock.acquire()
child = os.fork()
if not child:
    signal.alarm(10)
    breaker.leave(breaker.try_enter(), Unreachable())
    os._exit(breaker.state != "open")
print(os.waitpid(child, 0)[1])
"""


def test_fork() -> None:
    """A lock that a thread of the parent held at the fork keeps nobody waiting in the child."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK]
    parent = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=30)

    assert "0\n" == parent.stdout


def test_own_opening_outlives_the_agreement(clock: FakeClock) -> None:
    """When the others cannot be asked any more, a breaker stays open for as long as it was said."""
    meeting = Meeting(quorum=1)
    breaker = CircuitBreaker(shared=meeting, name="crm")
    fail(breaker, 10)
    with pytest.raises(CircuitOpen):
        breaker.try_enter()

    meeting.view = SharedView(open=False, wait=0.0, known=False)

    with pytest.raises(CircuitOpen):
        breaker.try_enter()
    clock.advance(30 * NO_LONGER_THAN)
    breaker.leave(breaker.try_enter(), None)
    assert "closed" == breaker.state


def test_call_that_is_collected_under_the_lock(clock: FakeClock) -> None:
    """A probe that nobody awaits any more may leave in the middle of anything, in the same thread."""
    breaker = opened()
    clock.advance(30 * NO_LONGER_THAN)
    probe = breaker.try_enter()

    with breaker._lock:
        breaker.leave(probe, GeneratorExit())

    assert 0 == breaker.stats().probes
