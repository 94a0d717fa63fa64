"""How many extra calls a `RetryBudget` allows."""

import asyncio
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


@given(
    ratio=st.floats(0, 1),
    floor=st.integers(1, 5),
    steps=st.lists(st.sampled_from(["call", "take", "refund"]) | st.floats(0, 30), max_size=80),
)
def test_never_more_than_its_share(ratio: float, floor: int, steps: list[str | float]) -> None:
    """The balance is never negative, and no window holds more extra calls than floor and share allow."""
    window = 10.0
    taken: list[float] = []
    called: list[float] = []
    with FakeClock() as clock:
        budget = RetryBudget(ratio=ratio, floor=floor, window=window)
        for step in steps:
            now = clock.monotonic()
            if isinstance(step, float):
                clock.advance(step)
            elif step == "call":
                budget.count()
                called.append(now)
            elif step == "take":
                before = budget.balance
                assert (before > 0) is budget.take()
                if before:
                    taken.append(now)
            else:
                budget.refund()
                if taken:
                    taken.pop()
            assert budget.balance >= 0
            now = clock.monotonic()
            # A call counts from when it is looked for, so at most since the last look: all that were made.
            recent = [moment for moment in taken if moment > now - window]
            assert len(recent) <= floor + ratio * len(called)


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


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"ratio": -0.1}, ValueError, "ratio must be from 0 to 1"),
        ({"ratio": float("nan")}, ValueError, "ratio must be from 0 to 1"),
        ({"floor": 1.5}, TypeError, "floor must be a whole number"),
        ({"floor": -1}, ValueError, "floor must be 0 or more"),
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
