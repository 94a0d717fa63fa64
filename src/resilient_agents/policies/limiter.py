"""Never more than so many starts in any stretch of time."""

import os
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial, wraps
from math import inf
from threading import Lock
from typing import Any, ParamSpec, TypeVar, cast
from weakref import WeakSet

from resilient_agents._clock import clock
from resilient_agents._flow import Flow, arun, run
from resilient_agents.errors import DeadlineExceeded
from resilient_agents.policies._deadline import check, remaining
from resilient_agents.policies._functions import must_be_awaited

P = ParamSpec("P")
R = TypeVar("R")


class RateLimiter:
    """Never more than *limit* starts in any *per* seconds, wherever the window is laid.

    A sliding window, and exact: it keeps the last *limit* starts, and the next one begins *per* seconds
    after the oldest of them at the earliest. A token bucket lets through up to twice its limit in a window
    that holds the end of one burst and the start of the next.

    One limiter serves threads and tasks alike, first come, first served. It is also a decorator: each call
    of the function waits for its turn::

        crm = RateLimiter(7)

        @crm
        async def fetch_deal(deal_id): ...

    Starts are counted when they are booked. Who is cancelled while he waits leaves his start unused.

    Args:
        limit: How many starts are allowed, 1 or more.
        per: The length of the window in seconds. The default is 1.0.

    Raises:
        TypeError: *limit* is not a whole number.
        ValueError: *limit* or *per* is out of range.
    """

    def __init__(self, limit: int, *, per: float = 1.0) -> None:
        if type(limit) is not int:
            raise TypeError(f"limit must be a whole number of starts, not {limit!r}")
        if limit < 1:
            raise ValueError(f"limit must be 1 or more starts, not {limit}")
        if not 0 < per < inf:
            raise ValueError(f"per must be a window of more than 0 seconds, not {per!r}")
        self.limit = limit
        self.per = per
        self._starts: deque[float] = deque(maxlen=limit)
        self._parked_until = -inf
        self._lock = Lock()
        _all.add(self)

    def __repr__(self) -> str:
        return f"RateLimiter({self.limit}, per={self.per})"

    def reserve(self) -> float:
        """Book the next free start and return the time in seconds to wait for it.

        For callers who wait in their own way; all others use `acquire` or `aacquire`.

        Raises:
            DeadlineExceeded: The start lies past the deadline in force. Nothing was booked.
        """
        check()
        left = remaining()
        wait = self._book(within=inf if left is None else left)
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
        """
        run(self._turn(clock().sleep))

    async def aacquire(self) -> None:
        """Suspend the task until it may start.

        Raises:
            DeadlineExceeded: The start lies past the deadline in force. It was not waited for.
        """
        await arun(self._turn(clock().asleep))

    def park(self, seconds: float) -> None:
        """Let nobody start for *seconds*, as a server demands with 429 and ``Retry-After``.

        Those who wait already line up anew. A shorter time never replaces a longer one.

        Args:
            seconds: Time in seconds from now.
        """
        with self._lock:
            self._parked_until = max(self._parked_until, clock().monotonic() + seconds)

    def __call__(self, fn: Callable[P, R]) -> Callable[P, R]:
        """Return *fn* such that each call waits for its turn."""
        if must_be_awaited(fn, "RateLimiter"):

            @wraps(fn)
            async def awaiting(*args: P.args, **kwargs: P.kwargs) -> Any:
                await self.aacquire()
                return await cast("Callable[P, Awaitable[Any]]", fn)(*args, **kwargs)

            return cast("Callable[P, R]", awaiting)

        @wraps(fn)
        def blocking(*args: P.args, **kwargs: P.kwargs) -> R:
            self.acquire()
            return fn(*args, **kwargs)

        return blocking

    def _turn(self, sleep: Callable[[float], Any]) -> Flow[None]:
        """Wait for a start of one's own; for another one if the limiter was parked meanwhile."""
        while wait := self.reserve():
            start = clock().monotonic() + wait
            yield partial(sleep, wait)
            if start >= self._parked_until:
                return

    def _book(self, *, within: float) -> float:
        """Return the seconds to the next free start, which is booked if they are no more than *within*."""
        with self._lock:
            now = clock().monotonic()
            start = max(now, self._parked_until)
            if len(self._starts) == self.limit:
                start = max(start, self._starts[0] + self.per)
            wait = start - now
            if wait <= within:
                self._starts.append(start)
            return wait


_all: WeakSet[RateLimiter] = WeakSet()


def _renew_locks() -> None:
    """Give a forked child its own locks: nobody in it releases those that were held."""
    for limiter in _all:
        limiter._lock = Lock()


os.register_at_fork(after_in_child=_renew_locks)
