"""The arithmetic of an exact sliding window, and of starts that are spread inside it."""

from collections import deque
from math import inf


class Window:
    """The last *limit* starts, and the time before which there is none. It has no lock and no clock.

    The next start is *per* seconds after the oldest of the last *limit* starts at the earliest, so that no
    stretch of *per* seconds, wherever it is laid, holds more than *limit* of them.

    With a *burst* below *limit* the starts are spread too, by the generic cell rate algorithm in its form of
    virtual scheduling (ITU-T I.371, annex A; as a rate limit of calls: Brandur Leach, "Rate Limiting, Cells,
    and GCRA", brandur.org/rate-limiting). The emission interval is *per* / *limit*, and the tolerance is
    *burst* - 1 intervals. A *burst* of *limit* or more would add nothing to the window.

    Args:
        limit: How many starts are allowed in one window.
        per: The length of the window in seconds.
        burst: How many starts may be made at the same moment. The default is *None*: *limit*.

    Attributes:
        parked_until: Nobody starts before, on the clock of the caller.
        free_at: The same, by the starts that were booked too.
    """

    __slots__ = (
        "_interval",
        "_starts",
        "_theoretical",
        "_tolerance",
        "free_at",
        "limit",
        "parked_until",
        "per",
    )

    def __init__(self, limit: int, per: float, burst: int | None = None) -> None:
        self.limit = limit
        self.per = per
        self.parked_until = -inf
        self._starts: deque[float] = deque(maxlen=limit)
        self._interval = 0.0 if burst is None or burst >= limit else per / limit
        self._tolerance = 0.0 if burst is None else (burst - 1) * self._interval
        self._theoretical = -inf
        self.free_at = -inf

    def earliest(self, now: float) -> float:
        """Return the time of the next free start, *now* or later. Nothing is booked."""
        return max(now, self.free_at)

    def add(self, start: float) -> None:
        """Book a start that is no earlier than the one before it."""
        starts = self._starts
        starts.append(start)
        free_at = self.parked_until
        if len(starts) == self.limit:
            # Comparisons rather than max(): this is a part of every call.
            full_until = starts[0] + self.per
            if full_until > free_at:
                free_at = full_until
        if self._interval:
            self._theoretical = max(start, self._theoretical) + self._interval
            free_at = max(free_at, self._theoretical - self._tolerance)
        self.free_at = free_at

    def take(self, now: float) -> bool:
        """Book a start for *now* if one is free, and tell whether it was: `book` for those in a hurry."""
        if now < self.free_at:
            return False
        starts = self._starts
        if self._interval or len(starts) >= self.limit - 1:
            self.add(now)
        else:
            starts.append(now)
        return True

    def book(self, now: float, within: float) -> float:
        """Return the seconds to the next free start, which is booked if they are no more than *within*."""
        start = self.earliest(now)
        wait = start - now
        if wait <= within:
            self.add(start)
        return wait

    def note(self, start: float) -> None:
        """Count a start that somebody else has allowed."""
        self.add(max(start, self._starts[-1]) if self._starts else start)

    def park(self, until: float) -> bool:
        """Let nobody start before *until*, and tell whether that is later than before."""
        if until <= self.parked_until:
            return False
        self.parked_until = until
        self.free_at = max(self.free_at, until)
        return True
