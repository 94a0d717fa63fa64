"""Never more than so many starts in any stretch of time."""

import os
from collections import deque
from math import inf
from threading import Lock
from typing import Any, NoReturn
from weakref import WeakSet

from resilient_agents import events
from resilient_agents._clock import clock
from resilient_agents._flow import Flow, arun, run
from resilient_agents.errors import Category, DeadlineExceeded, LimitReached, Origin, classify
from resilient_agents.policies._deadline import check, remaining
from resilient_agents.policies._gate import AWAITING, BLOCKING, Gate, Waiting, pause
from resilient_agents.policies._waits import note_wait


class RateLimiter(Gate):
    """Never more than *limit* starts in any *per* seconds, wherever the window is laid.

    A sliding window, and exact: it keeps the last *limit* starts, and the next one begins *per* seconds
    after the oldest of them at the earliest. A token bucket lets through up to twice its limit in a window
    that holds the end of one burst and the start of the next.

    One limiter serves threads and tasks alike, first come, first served. It is a decorator, a block and a
    part of a pipeline: each call waits for its turn::

        crm = RateLimiter(7)

        @crm
        async def fetch_deal(deal_id): ...

    What the server says feeds it: a failure that asks for patience, as a 429 with ``Retry-After``, parks
    every caller, not just the one that was told.

    Starts are counted when they are booked. Who is cancelled while he waits leaves his start unused.

    Args:
        limit: How many starts are allowed, 1 or more.
        per: The length of the window in seconds. The default is 1.0.
        burst: How many of them may begin at the same moment; the others follow in even steps of *per* /
            *limit* (the generic cell rate algorithm, ITU-T I.371, on top of the window). The default is
            *limit*: all at once.
        max_wait: Time in seconds that a call waits for its start at most; a longer wait is refused with
            `LimitReached`, and 0 refuses at once. The default is no limit but the deadline in force.
        name: What events and messages call it.

    Raises:
        TypeError: *limit* or *burst* is not a whole number.
        ValueError: A number is out of range.
    """

    kind = "limiter"

    def __init__(
        self,
        limit: int,
        *,
        per: float = 1.0,
        burst: int | None = None,
        max_wait: float | None = None,
        name: str = "",
    ) -> None:
        if type(limit) is not int:
            raise TypeError(f"limit must be a whole number of starts, not {limit!r}")
        if limit < 1:
            raise ValueError(f"limit must be 1 or more starts, not {limit}")
        if not 0 < per < inf:
            raise ValueError(f"per must be a window of more than 0 seconds, not {per!r}")
        if burst is not None and type(burst) is not int:
            raise TypeError(f"burst must be a whole number of starts, not {burst!r}")
        if burst is not None and not 1 <= burst <= limit:
            raise ValueError(f"burst must be between 1 and the limit of {limit} starts, not {burst}")
        if max_wait is not None and not 0 <= max_wait < inf:
            raise ValueError(f"max_wait must be 0 or more seconds, or None, not {max_wait!r}")
        self.limit = limit
        self.per = per
        self.burst = burst
        self.max_wait = max_wait
        self.name = name
        self._starts: deque[float] = deque(maxlen=limit)
        self._step = per / limit
        self._slack = inf if burst is None else (burst - 1) * self._step
        self._next = -inf  # the theoretical arrival time of the generic cell rate algorithm
        self._parked_until = -inf
        self._lock = Lock()
        _all.add(self)

    def __repr__(self) -> str:
        burst = "" if self.burst is None else f", burst={self.burst}"
        return f"RateLimiter({self.limit}, per={self.per}{burst})"

    def describe(self) -> str:
        """Return what it does, as a clause."""
        burst = "" if self.burst is None else f", {self.burst} at the same moment"
        wait = "waits for its start" if self.max_wait is None else f"waits {self.max_wait:g} s for its start"
        return f"at most {self.limit} starts in any {self.per:g} s{burst}; a call {wait}"

    def reserve(self) -> float:
        """Book the next free start and return the time in seconds to wait for it.

        For callers who wait in their own way; all others use `acquire` or `aacquire`.

        Raises:
            DeadlineExceeded: The start lies past the deadline in force. Nothing was booked.
            LimitReached: The start is further away than *max_wait*. Nothing was booked.
        """
        check()
        left = remaining()
        within = inf if self.max_wait is None else self.max_wait
        wait = self._book(within=within if left is None else min(within, left))
        if wait > within:
            self._refuse(wait)
        if left is not None and wait > left:
            raise DeadlineExceeded(
                f"{self!r} allows the next start in {wait:.1f} s, which is past the deadline"
            )
        return wait

    def try_acquire(self) -> bool:
        """Book a start if one is free now, and tell whether it was. Never waits."""
        return self._book(within=0.0) == 0.0

    def acquire(self) -> None:
        """Block the thread until it may start.

        Raises:
            DeadlineExceeded: The start lies past the deadline in force. It was not waited for.
            LimitReached: The start is further away than *max_wait*. It was not waited for.
        """
        run(self._turn(BLOCKING))

    async def aacquire(self) -> None:
        """Suspend the task until it may start.

        Raises:
            DeadlineExceeded: The start lies past the deadline in force. It was not waited for.
            LimitReached: The start is further away than *max_wait*. It was not waited for.
        """
        await arun(self._turn(AWAITING))

    def park(self, seconds: float) -> None:
        """Let nobody start for *seconds*, as a server demands with 429 and ``Retry-After``.

        Those who wait already line up anew. A shorter time never replaces a longer one.

        Args:
            seconds: Time in seconds from now.
        """
        with self._lock:
            until = clock().monotonic() + seconds
            longer = until > self._parked_until
            self._parked_until = max(self._parked_until, until)
        if longer and seconds > 0:
            events.emit(events.CallersParked, policy="limiter", name=self.name, wait=seconds)

    def try_enter(self) -> bool | None:
        """Book a start if one is free now."""
        return True if remaining() != 0.0 and self._book(within=0.0) == 0.0 else None

    def enter(self, waiting: Waiting) -> Flow[bool]:
        """Wait for a start.

        Raises:
            DeadlineExceeded: The start lies past the deadline in force. It was not waited for.
            LimitReached: The start is further away than *max_wait*. It was not waited for.
        """
        yield from self._turn(waiting)
        return True

    def leave(self, permit: Any, exc: BaseException | None) -> None:
        """Park everybody if the call was told to wait."""
        if isinstance(exc, Exception):
            failure = classify(exc)
            if (
                failure.category is Category.RATE_LIMIT
                and failure.origin is Origin.DEPENDENCY
                and failure.retry_after
            ):
                self.park(failure.retry_after)

    def _turn(self, waiting: Waiting) -> Flow[None]:
        """Wait for a start of one's own; for another one if the limiter was parked meanwhile."""
        while wait := self.reserve():
            start = clock().monotonic() + wait
            dictated_by = "server" if start <= self._parked_until else "rate"
            note_wait("limiter", self.name, wait, dictated_by)
            events.emit(
                events.CallWaited, policy="limiter", name=self.name, seconds=wait, dictated_by=dictated_by
            )
            yield pause(waiting, wait)
            if start >= self._parked_until:
                return

    def _refuse(self, wait: float) -> NoReturn:
        events.emit(events.CallRefused, policy="limiter", name=self.name, wait=wait)
        raise LimitReached(
            f"{self!r} allows the next start in {wait:.1f} s, and max_wait is {self.max_wait:g} s",
            retry_after=wait,
        )

    def _book(self, *, within: float) -> float:
        """Return the seconds to the next free start, which is booked if they are no more than *within*."""
        with self._lock:
            now = clock().monotonic()
            start = max(now, self._parked_until, self._next - self._slack)
            if len(self._starts) == self.limit:
                start = max(start, self._starts[0] + self.per)
            wait = start - now
            if wait <= within:
                self._starts.append(start)
                self._next = max(self._next, start) + self._step
            return wait


_all: WeakSet[RateLimiter] = WeakSet()


def _renew_locks() -> None:
    """Give a forked child its own locks: nobody in it releases those that were held."""
    for limiter in _all:
        limiter._lock = Lock()


os.register_at_fork(after_in_child=_renew_locks)
