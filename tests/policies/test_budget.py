"""How many extra calls a `RetryBudget` allows."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_agents import RetryPolicy
from resilient_agents.errors import Unreachable
from resilient_agents.policies.budget import RetryBudget
from resilient_agents.testing import FakeClock


@pytest.fixture
def clock() -> Iterator[FakeClock]:
    """Put a clock in force that moves only when told to."""
    with FakeClock() as fake:
        yield fake


WINDOW = 10.0


@given(
    ratio=st.sampled_from([0.0, 0.2, 0.5, 1.0]),
    floor=st.integers(1, 5),
    rounds=st.lists(
        st.tuples(st.floats(0, 1), st.sampled_from([0, 1, 9]), st.sampled_from([0, 1, 9]), st.integers(0, 1)),
        min_size=20,
        max_size=60,
    ),
)
def test_never_more_than_its_share(
    ratio: float, floor: int, rounds: list[tuple[float, int, int, int]]
) -> None:
    """Where it is looked at now and then, no window holds more extra calls than floor and share allow."""
    taken: list[float] = []
    called: list[float] = []
    with FakeClock() as clock:
        budget = RetryBudget(ratio=ratio, floor=floor, window=WINDOW)
        for wait, calls, takes, refunds in rounds:
            clock.advance(wait)
            now = clock.monotonic()
            for _ in range(calls):
                budget.count()
                called.append(now)
            for _ in range(takes):
                allowed = budget.balance > 0
                assert allowed is budget.take()
                if allowed:
                    taken.append(now)
                    in_window = [sum(it > now - WINDOW for it in them) for them in (taken, called)]
                    assert in_window[0] <= floor + ratio * in_window[1]
            for _ in range(refunds):
                budget.refund()
                del taken[-1:]
            assert budget.balance >= 0


@given(calls=st.integers(0, 10_000), quiet=st.floats(0, 1e6), moves=st.lists(st.floats(0, 20), max_size=9))
def test_after_a_calm(calls: int, quiet: float, moves: list[float]) -> None:
    """However many calls went well since it was last looked at, they count as the traffic of one window."""
    with FakeClock() as clock:
        budget = RetryBudget(ratio=1.0, floor=1, window=WINDOW)
        for _ in range(calls):
            budget.count()
        clock.advance(quiet)
        passed = quiet

        assert 1 <= budget.balance <= 1 + calls * min(1.0, WINDOW / max(passed, WINDOW))
        for move in moves:
            clock.advance(move)
            passed += move
            before, left = budget.balance, max(0.0, quiet - passed + WINDOW)
            assert 1 <= before <= 1 + calls * (left / quiet if quiet > WINDOW else 1.0) + 1e-3
            assert passed - quiet <= WINDOW or before == 1


def test_even_traffic_without_a_look(clock: FakeClock) -> None:
    """A service that has gone well for a day has the tokens of its traffic, not of the whole day."""
    budget = RetryBudget(ratio=0.2, floor=3, window=10.0)
    for _ in range(864):
        budget.count()
        clock.advance(0.1)

    assert 3 + 20 - 1 <= budget.balance <= 3 + 20


def test_a_token_is_held_for_a_whole_window(clock: FakeClock) -> None:
    """A token that was taken late in its part of the window comes back no earlier for that."""
    budget = RetryBudget(ratio=0.0, floor=1, window=10.0)
    assert 1 == budget.balance
    clock.advance(0.99)
    assert budget.take()

    clock.advance(9.99)
    assert not budget.take()
    clock.advance(0.01)
    assert budget.take()


def test_another_clock() -> None:
    """A budget made before a test's clock came into force, and used after it, forgets and goes on."""
    budget = RetryBudget(ratio=0.0, floor=2)
    for ahead in (1e9, 0.0):
        with FakeClock() as clock:
            clock.advance(ahead)
            assert 2 == budget.balance
            assert [True, True, False] == [budget.take() for _ in range(3)]

    assert 2 == budget.balance


@given(moves=st.lists(st.floats(0, 30), max_size=300))
def test_bounded_memory(moves: list[float]) -> None:
    """What it remembers does not grow with the calls."""
    with FakeClock() as clock:
        budget = RetryBudget(ratio=1.0)
        for move in moves:
            clock.advance(move / 60)
            budget.count()
            budget.take()

        assert len(budget._recent) <= 24


def test_floor_for_the_quiet(clock: FakeClock) -> None:
    """A service that makes no calls may still retry a little."""
    budget = RetryBudget(ratio=0.0, floor=2)

    assert [True, True, False] == [budget.take() for _ in range(3)]


def test_share_for_the_busy(clock: FakeClock) -> None:
    """A hundred calls at a fifth allow twenty extra ones beyond the floor."""
    budget = RetryBudget(ratio=0.2, floor=3)
    for _ in range(100):
        budget.count()

    assert 23 == budget.balance
    assert 23 == sum(budget.take() for _ in range(50))


def test_what_is_long_ago_is_forgotten(clock: FakeClock) -> None:
    """Calls and extra calls leave the window together."""
    budget = RetryBudget(ratio=0.5, floor=1, window=10.0)
    for _ in range(10):
        budget.count()
    assert 6 == sum(budget.take() for _ in range(10))
    clock.advance(10.1)

    assert 1 == budget.balance


def test_refund(clock: FakeClock) -> None:
    """A token that is given back can be taken again; more than were taken cannot."""
    budget = RetryBudget(ratio=0.0, floor=1)
    assert budget.take()
    budget.refund()
    budget.refund()

    assert 1 == budget.balance


def test_threads(clock: FakeClock) -> None:
    """No token is given to two threads."""
    budget = RetryBudget(ratio=0.1, floor=0)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda _: budget.count(), range(2000)))
            taken = sum(pool.map(lambda _: budget.take(), range(1000)))
    finally:
        sys.setswitchinterval(before)

    assert 200 == taken


async def test_outage(clock: FakeClock) -> None:
    """In an outage the extra load is the budget's, not the policy's."""
    calls = 0
    budget = RetryBudget(ratio=0.2, floor=3)

    @RetryPolicy(5, wait_initial=0.0, budget=budget)
    async def fetch() -> None:
        nonlocal calls
        calls += 1
        raise Unreachable

    async def try_it() -> None:
        with suppress(Unreachable):
            await fetch()

    await asyncio.gather(*(try_it() for _ in range(100)))

    assert 100 + 20 + 3 == calls


FORK = """
import os, signal
from resilient_agents.policies.budget import RetryBudget

one = RetryBudget()
one._lock.acquire()
child = os.fork()
if not child:
    signal.alarm(10)
    os._exit(not (one.take()))
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
        ({"ratio": -0.1}, ValueError, "ratio must be from 0 to 1"),
        ({"ratio": float("nan")}, ValueError, "ratio must be from 0 to 1"),
        ({"floor": 1.5}, TypeError, "floor must be a whole number"),
        ({"floor": True}, TypeError, "floor must be a whole number"),
        ({"floor": -1}, ValueError, "floor must be 0 or more"),
        ({"ratio": "much"}, TypeError, "ratio must be a number from 0 to 1"),
        ({"window": None}, TypeError, "window must be a time in seconds"),
        ({"window": float("inf")}, ValueError, "window must be more than 0 seconds"),
        ({"name": None}, TypeError, "name must be a text"),
        ({"floor": 0, "ratio": 0.0}, ValueError, "else nothing is retried"),
        ({"window": 0}, ValueError, "window must be more than 0 seconds"),
    ],
    ids=repr,
)
def test_wrong_arguments(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    """A wrong argument is refused, and the message says what is right."""
    with pytest.raises(error, match=message):
        RetryBudget(**arguments)


def test_it_says_what_it_is() -> None:
    """A budget in a log line is readable."""
    assert "RetryBudget(ratio=0.2, floor=3, window=10.0, name='crm')" == repr(RetryBudget(name="crm"))
