"""The clocks for tests: `FakeClock` and `no_waits`."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_agents._clock import SystemClock, clock, use_clock
from resilient_agents.testing import FakeClock, no_waits


def test_clock_is_in_force_inside_the_block() -> None:
    """Inside the block the fake clock is the clock; after it, even a failed one, the earlier is."""
    before = clock()

    with FakeClock() as outer:
        with FakeClock() as inner:
            assert inner is clock()
        assert outer is clock()
        with pytest.raises(LookupError), FakeClock():
            raise LookupError
        assert outer is clock()

    assert before is clock()


def test_time_stands_still() -> None:
    """Time begins at a fixed moment and passes only when it is told to."""
    fake = FakeClock()

    assert datetime(2026, 1, 1, tzinfo=UTC) == datetime.fromtimestamp(fake.time(), UTC)
    begin = fake.monotonic()
    fake.advance(90)
    assert datetime(2026, 1, 1, 0, 1, 30, tzinfo=UTC) == datetime.fromtimestamp(fake.time(), UTC)
    assert 90 == fake.monotonic() - begin


@given(st.lists(st.floats(0, 1e6)))
def test_waits_move_the_clock(waits: list[float]) -> None:
    """A wait takes no time, is noted, and moves the clock."""
    fake = FakeClock()
    begin = fake.time()

    for seconds in waits:
        fake.sleep(seconds)

    assert waits == fake.sleeps
    assert sum(waits) == pytest.approx(fake.time() - begin, abs=1e-6)


async def test_awaiting_lets_others_run() -> None:
    """An awaited wait gives the other tasks a turn."""
    turns = []

    async def work(name: str) -> None:
        for _ in range(2):
            turns.append(name)
            await clock().asleep(60)

    with FakeClock() as fake:
        await asyncio.gather(work("a"), work("b"))

    assert ["a", "b", "a", "b"] == turns
    assert [60, 60, 60, 60] == fake.sleeps


def test_time_does_not_go_backwards() -> None:
    """A negative wait is an error in the code under test, and nothing is noted."""
    fake = FakeClock()

    with pytest.raises(ValueError, match="a clock moves forward only"):
        fake.sleep(-1)

    assert [] == fake.sleeps


def test_threads_share_the_clock() -> None:
    """Waits of many threads add up; none is lost."""
    with FakeClock() as fake:
        begin = fake.monotonic()
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: clock().sleep(1), range(2000)))

    assert 2000 == len(fake.sleeps)
    assert 2000 == fake.monotonic() - begin


async def test_no_waits_skips_them() -> None:
    """Waits are skipped and noted; the clock counts them as passed and goes on by itself."""
    begin = time.monotonic()

    with no_waits() as skipping:
        assert skipping is clock()
        clock().sleep(3600)
        await clock().asleep(3600)
        ahead = clock().time() - time.time(), clock().monotonic() - time.monotonic()
        first, second = clock().monotonic(), clock().monotonic()

    assert [3600, 3600] == skipping.sleeps
    assert (7200, 7200) == pytest.approx(ahead, abs=60)
    assert first <= second
    assert time.monotonic() - begin < 3600


async def test_system_clock_is_the_machines() -> None:
    """The clock that is in force by itself reads and waits for the machine's time."""
    machine = SystemClock()

    with use_clock(machine):
        clock().sleep(0)
        await clock().asleep(0)
        assert time.time() == pytest.approx(clock().time(), abs=60)
        assert time.monotonic() == pytest.approx(clock().monotonic(), abs=60)
