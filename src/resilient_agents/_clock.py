"""What time it is, and how to wait.

Everything in this package reads the time and waits through `clock()`. A test replaces it with
`resilient_agents.testing.FakeClock`, so that nothing sleeps.
"""

import time as _time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """A source of time that can also wait."""

    def time(self) -> float:
        """Return the wall clock: seconds since the epoch, comparable between processes."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go backwards, comparable within this process only."""
        ...

    def sleep(self, seconds: float, /) -> None:
        """Block the thread for *seconds*."""
        ...

    async def asleep(self, seconds: float) -> None:
        """Suspend the task for *seconds*."""
        ...


class SystemClock:
    """The machine's own clock."""

    time = staticmethod(_time.time)
    monotonic = staticmethod(_time.monotonic)
    sleep = staticmethod(_time.sleep)

    async def asleep(self, seconds: float) -> None:
        """Suspend the task for *seconds*."""
        import asyncio

        await asyncio.sleep(seconds)


in_force: Clock = SystemClock()
"""The clock in force, for paths so hot that a call of `clock` would be felt: read it anew each time."""


def clock() -> Clock:
    """Return the clock in force."""
    return in_force


@contextmanager
def use_clock(replacement: Clock) -> Iterator[None]:
    """Put *replacement* in force, in every thread of the process, until the block ends."""
    global in_force
    before, in_force = in_force, replacement
    try:
        yield
    finally:
        in_force = before


_second: tuple[int, str] = (0, "1970-01-01T00:00:00")


def timestamp(seconds: float) -> str:
    """Return a moment in UTC by ISO 8601 with milliseconds, as ``2026-11-25T08:31:44.123Z``."""
    global _second
    milliseconds = int(seconds * 1000)
    whole, part = divmod(milliseconds, 1000)
    known, text = _second
    if known != whole:
        text = datetime.fromtimestamp(whole, UTC).isoformat()[:19]
        _second = (whole, text)
    return f"{text}.{part:03d}Z"
