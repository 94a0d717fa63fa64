"""The arithmetic of an exact sliding window."""

from collections import deque
from math import inf


class Window:
    """The last *limit* starts, and the time before which there is none. It has no lock and no clock.

    The next start is *per* seconds after the oldest of the last *limit* starts at the earliest, so that no
    stretch of *per* seconds, wherever it is laid, holds more than *limit* of them.

    Args:
        limit: How many starts are allowed in one window.
        per: The length of the window in seconds.

    Attributes:
        parked_until: Nobody starts before, on the clock of the caller.
    """

    __slots__ = ("_starts", "limit", "parked_until", "per")

    def __init__(self, limit: int, per: float) -> None:
        self.limit = limit
        self.per = per
        self.parked_until = -inf
        self._starts: deque[float] = deque(maxlen=limit)

    def book(self, now: float, within: float) -> float:
        """Return the seconds to the next free start, which is booked if they are no more than *within*."""
        start = max(now, self.parked_until)
        if len(self._starts) == self.limit:
            start = max(start, self._starts[0] + self.per)
        wait = start - now
        if wait <= within:
            self._starts.append(start)
        return wait

    def note(self, start: float) -> None:
        """Count a start that somebody else has allowed."""
        self._starts.append(max(start, self._starts[-1]) if self._starts else start)

    def park(self, until: float) -> bool:
        """Let nobody start before *until*, and tell whether that is later than before."""
        if until <= self.parked_until:
            return False
        self.parked_until = until
        return True
