"""Never more than so many starts in any stretch of time."""

import os
from math import inf
from threading import Lock
from typing import Any, Literal, NamedTuple
from weakref import WeakSet

from resilient_agents import _clock, events
from resilient_agents._clock import clock
from resilient_agents._flow import Flow, arun, run
from resilient_agents.errors import ApiError, Category, DeadlineExceeded, LimitReached, Origin, classify
from resilient_agents.policies._deadline import check, end_of_time, remaining
from resilient_agents.policies._gate import Gate
from resilient_agents.policies._parameters import number, patience, text, whole
from resilient_agents.policies._waiting import AWAITING, BLOCKING, Waiting, pause
from resilient_agents.policies._waits import note_wait
from resilient_agents.policies._window import Window


class _Start(NamedTuple):
    """A start that was booked: when it is, in how many seconds, and who set that."""

    at: float
    wait: float
    dictated_by: Literal["rate", "server"]


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

    What the server says feeds it: a call that fails because there were too many, as with 429 and
    ``Retry-After``, parks every caller, not just the one that was told.

    Starts are counted when they are booked. Who is cancelled while he waits leaves his start unused.

    Args:
        limit: How many starts are allowed, 1 or more.
        per: The length of the window in seconds. The default is 1.0.
        burst: How many starts may be made at the same moment, *limit* at most. Fewer are spread evenly:
            after a burst of so many they follow in steps of *per* / *limit* (the generic cell rate
            algorithm, ITU-T I.371, on top of the window). The default is *limit*.
        max_wait: Time in seconds that a call waits at most. One that would wait longer is refused at once
            with `LimitReached`; at 0.0 nobody waits. The default is *None*: as long as the deadline in force
            allows.
        name: What events and messages call it.

    Raises:
        TypeError: A parameter is of the wrong kind.
        ValueError: A parameter is out of range.
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
        self.limit = whole("limit", limit, "starts")
        if not 0 < number("per", per, "a window in seconds") < inf:
            raise ValueError(f"per must be a window of more than 0 seconds, not {per!r}")
        self.per = per
        self.burst = limit if burst is None else whole("burst", burst, "starts")
        if self.burst > limit:
            raise ValueError(
                f"burst={burst} can never start at the same moment, for the window holds {limit} starts"
            )
        self.max_wait = patience("max_wait", max_wait, zero=True)
        self.name = text("name", name)
        self._window = Window(limit, per, self.burst)
        self._lock = Lock()
        _all.add(self)

    def __repr__(self) -> str:
        parts = [str(self.limit), f"per={self.per}"]
        if self.burst != self.limit:
            parts.append(f"burst={self.burst}")
        if self.max_wait is not None:
            parts.append(f"max_wait={self.max_wait}")
        if self.name:
            parts.append(f"name={self.name!r}")
        return f"RateLimiter({', '.join(parts)})"

    @property
    def at_rest(self) -> bool:
        """Whether callers are not parked: a new one in its place would not know of it."""
        return clock().monotonic() >= self._window.parked_until

    def describe(self) -> str:
        """Return what it does, as a clause."""
        spread = "" if self.burst == self.limit else f", {self.burst} at the same moment"
        wait = "waits for its start"
        if self.max_wait is not None:
            wait = f"waits {self.max_wait:g} s for its start" if self.max_wait else "does not wait"
        return f"at most {self.limit} starts in any {self.per:g} s{spread}; a call {wait}"

    def reserve(self) -> float:
        """Book the next free start and return the time in seconds to wait for it.

        For callers who wait in their own way; all others use `acquire` or `aacquire`.

        Raises:
            DeadlineExceeded: The start lies past the deadline in force. Nothing was booked.
            LimitReached: The start is more than *max_wait* away. Nothing was booked.
        """
        return self._reserve(0.0).wait

    def try_acquire(self) -> bool:
        """Book a start if one is free now, and tell whether it was. Never waits."""
        with self._lock:
            return self._window.book(clock().monotonic(), 0.0) == 0.0

    def acquire(self) -> None:
        """Block the thread until it may start.

        Raises:
            DeadlineExceeded: The start lies past the deadline in force. It was not waited for.
            LimitReached: The start is more than *max_wait* away. It was not waited for.
        """
        run(self.enter(BLOCKING))

    async def aacquire(self) -> None:
        """Suspend the task until it may start.

        Raises:
            DeadlineExceeded: The start lies past the deadline in force. It was not waited for.
            LimitReached: The start is more than *max_wait* away. It was not waited for.
        """
        await arun(self.enter(AWAITING))

    def park(self, seconds: float) -> None:
        """Let nobody start for *seconds*, as a server demands with 429 and ``Retry-After``.

        Those who wait already line up anew. A shorter time never replaces a longer one.

        Args:
            seconds: Time in seconds from now.

        Raises:
            ValueError: *seconds* is endless, or not a number.
        """
        if not seconds < inf:
            raise ValueError(f"callers are parked for a time in seconds, not {seconds!r}")
        if seconds <= 0:
            return
        with self._lock:
            longer = self._window.park(clock().monotonic() + seconds)
        if longer:
            events.emit(events.CallersParked, policy=self.kind, name=self.name, wait=seconds)

    def try_enter(self) -> bool | None:
        """Book a start if one is free now.

        Raises:
            DeadlineExceeded: The deadline in force has passed.
        """
        window, end = self._window, end_of_time()
        with self._lock:
            now = _clock.in_force.monotonic()
            late = end is not None and now >= end
            if not late and not window.take(now):
                return None
        if late:
            check()
        return True

    def enter(self, waiting: Waiting) -> Flow[bool]:
        """Wait for a start of one's own; for another one if callers were parked meanwhile.

        Raises:
            DeadlineExceeded: The start lies past the deadline in force. It was not waited for.
            LimitReached: The start is more than *max_wait* away. It was not waited for.
        """
        waited, dictated_by = 0.0, "rate"
        while (start := self._reserve(waited)).wait:
            dictated_by = start.dictated_by
            note_wait(self.kind, self.name, start.wait, dictated_by)
            yield pause(waiting, start.wait)
            waited += start.wait
            if start.at >= self._window.parked_until:
                break
        if waited:
            events.emit(
                events.CallWaited, policy=self.kind, name=self.name, seconds=waited, dictated_by=dictated_by
            )
        return True

    def leave(self, permit: Any, exc: BaseException | None) -> None:
        """Park all callers if the call was told that there were too many, and how long to wait."""
        if exc is not None and isinstance(exc, Exception):
            failure = classify(exc)
            of_a_dependency = failure.origin is Origin.DEPENDENCY and failure.category is Category.RATE_LIMIT
            if of_a_dependency and failure.retry_after and failure.retry_after < inf:
                self.park(failure.retry_after)

    def _reserve(self, waited: float) -> _Start:
        """Book the next free start for a call that has *waited* for so many seconds already."""
        check()
        left = remaining()
        patience = inf if self.max_wait is None else max(0.0, self.max_wait - waited)
        start = self._book(patience if left is None else min(left, patience))
        if start.wait > patience:
            raise self._refused(start.wait, LimitReached, f"more than max_wait={self.max_wait:g} s away")
        if left is not None and start.wait > left:
            raise self._refused(start.wait, DeadlineExceeded, "past the deadline")
        return start

    def _book(self, within: float) -> _Start:
        """Return the next free start, which is booked if it is no more than *within* seconds away."""
        with self._lock:
            now = clock().monotonic()
            at = self._window.earliest(now)
            if at - now <= within:
                self._window.add(at)
            return _Start(at, at - now, "server" if at == self._window.parked_until else "rate")

    def _refused(self, wait: float, error: type[ApiError], where: str) -> ApiError:
        events.emit(events.CallRefused, policy=self.kind, name=self.name, wait=wait)
        detail = f"{self!r} allows the next start in {wait:.1f} s, which is {where}"
        return error(detail, retry_after=wait if error is LimitReached else None)


_all: WeakSet[RateLimiter] = WeakSet()


def _renew_locks() -> None:
    """Give a forked child its own locks: nobody in it releases those that were held."""
    for limiter in _all:
        limiter._lock = Lock()


os.register_at_fork(after_in_child=_renew_locks)
