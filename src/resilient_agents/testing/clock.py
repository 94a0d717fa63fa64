"""Time for tests: `FakeClock`, which moves only when told to, and `no_waits`, which skips the waits."""

import time
from contextlib import ExitStack
from threading import Lock
from types import TracebackType
from typing import Self

from resilient_agents._clock import use_clock

EPOCH = 1_767_225_600.0
"""Where a `FakeClock` starts: 2026-01-01 00:00 UTC, in seconds since 1970."""

UPTIME = 1000.0
"""Where its monotonic clock starts, in seconds."""


class FakeClock:
    """A clock that stands still until it is told to move, and on which a wait takes no time.

    Retries, limiters, deadlines and `Replayer.run_once` go by this clock until the block ends, in every
    thread of the process::

        with FakeClock() as clock:
            clock.advance(3600)

    A wait of theirs moves the clock at once. `Replayer.run` and `Replayer.arun` wait in real time: test with
    ``run_once``. So does what does not belong to this package, such as ``time.sleep`` and
    ``asyncio.timeout``.

    Attributes:
        sleeps: The waits so far, in seconds, in the order in which they began.
    """

    def __init__(self) -> None:
        self.sleeps: list[float] = []
        self._elapsed = 0.0
        self._lock = Lock()
        self._block = ExitStack()

    def time(self) -> float:
        """Return the seconds since 1970."""
        return EPOCH + self._elapsed

    def monotonic(self) -> float:
        """Return the seconds since some moment in the past."""
        return UPTIME + self._elapsed

    def sleep(self, seconds: float) -> None:
        """Note a wait, and move the clock past it.

        Args:
            seconds: Time in seconds, 0 or more.
        """
        self.advance(seconds)
        self.sleeps.append(seconds)

    async def asleep(self, seconds: float) -> None:
        """Note a wait, move the clock past it, and let the other tasks run once.

        Args:
            seconds: Time in seconds, 0 or more.
        """
        import asyncio

        self.sleep(seconds)
        await asyncio.sleep(0)

    def advance(self, seconds: float) -> None:
        """Move the clock forward.

        Args:
            seconds: Time in seconds, 0 or more.

        Raises:
            ValueError: *seconds* is negative.
        """
        if seconds < 0:
            raise ValueError(f"a clock moves forward only: {seconds} is less than 0 seconds")
        with self._lock:
            self._elapsed += seconds

    def __enter__(self) -> Self:
        self._block.enter_context(use_clock(self))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._block.close()


class _HurryingClock(FakeClock):
    """The machine's clock, ahead by the waits that were skipped."""

    def time(self) -> float:
        return time.time() + self._elapsed

    def monotonic(self) -> float:
        return time.monotonic() + self._elapsed


def no_waits() -> FakeClock:
    """Skip the waits of this package inside a ``with`` block: retries happen, without delays.

    Time goes on as it does, and each wait counts as though it had been waited for, so that deadlines and
    rate limits come out the same. Queues in front of a bulkhead, hedges and `Replayer.run` wait in real
    time::

        with no_waits() as clock:
            sync_contacts()

    Returns:
        A context manager that gives the clock, whose ``sleeps`` tell what was skipped.
    """
    return _HurryingClock()
