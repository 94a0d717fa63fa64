"""As many calls at a time as the target can take right now."""

import os
from threading import Lock
from weakref import WeakSet

from resilient_agents import events
from resilient_agents._clock import clock
from resilient_agents._flow import Flow
from resilient_agents.errors import Category, Origin, classify
from resilient_agents.policies._gate import Gate, Waiting
from resilient_agents.policies._slots import Slots, check_queue

_OVERLOAD = frozenset({Category.EXTERNAL, Category.RATE_LIMIT})


class AdaptiveConcurrency(Gate):
    """A limit of calls at a time that finds its own height.

    Additive increase, multiplicative decrease, as in TCP (Chiu and Jain, "Analysis of the Increase and
    Decrease Algorithms for Congestion Avoidance", 1989) and in Netflix's concurrency-limits: while all places
    are in use and calls succeed, the limit grows by one a round; when a call fails because of the target, by
    what `classify` says, or takes *slow_call* seconds or more, it shrinks to *backoff* of itself. Calls that
    began before the last decrease do not shrink it again: they tell of the same trouble.

    Cancelled calls and failures of our own say nothing::

        llm = AdaptiveConcurrency(initial=10, maximum=100, slow_call=20)

        @llm
        async def complete(prompt): ...

    Args:
        initial: How many calls at a time to begin with. The default is 10.
        minimum: What the limit never falls below, 1 or more. The default is 1.
        maximum: What it never rises above. The default is 200.
        backoff: What is left of it after a decrease, between 0 and 1. The default is 0.7.
        slow_call: Time in seconds from which on a call means that the target is overloaded. The default is
            *None*: only failures do.
        queue: How many calls wait for a place at most; the next one is refused with `BulkheadFull`. The
            default is 0.
        queue_timeout: Time in seconds that a call waits at most. The default is no limit but the deadline in
            force.
        name: What events and messages call it.

    Raises:
        TypeError: A number of calls is no whole number.
        ValueError: A number is out of range, or contradicts another one.
    """

    kind = "adaptive"

    def __init__(
        self,
        *,
        initial: int = 10,
        minimum: int = 1,
        maximum: int = 200,
        backoff: float = 0.7,
        slow_call: float | None = None,
        queue: int = 0,
        queue_timeout: float | None = None,
        name: str = "",
    ) -> None:
        for label, number in (("initial", initial), ("minimum", minimum), ("maximum", maximum)):
            if type(number) is not int:
                raise TypeError(f"{label} must be a whole number of calls, not {number!r}")
        if not 1 <= minimum <= initial <= maximum:
            raise ValueError(
                "minimum, initial and maximum must be 1 or more and rise in this order, not "
                f"{minimum}, {initial}, {maximum}"
            )
        if not 0 < backoff < 1:
            raise ValueError(f"backoff must be between 0 and 1, not {backoff!r}")
        if slow_call is not None and not 0 < slow_call < float("inf"):
            raise ValueError(f"slow_call must be more than 0 seconds, or None, not {slow_call!r}")
        check_queue(initial, queue, queue_timeout)
        self.name = name
        self._minimum = minimum
        self._maximum = maximum
        self._backoff = backoff
        self._slow_call = slow_call
        self._limit = float(initial)
        self._decreased_at = float("-inf")
        self._slots = Slots("adaptive", initial, queue, queue_timeout)
        self._lock = Lock()
        _all.add(self)

    def __repr__(self) -> str:
        return f"AdaptiveConcurrency(limit={self.limit}, minimum={self._minimum}, maximum={self._maximum})"

    @property
    def limit(self) -> int:
        """How many calls are admitted at a time right now."""
        return self._slots.limit

    @property
    def running(self) -> int:
        """How many calls are under way."""
        return self._slots.running

    @property
    def waiting(self) -> int:
        """How many calls wait for a place."""
        return self._slots.waiting

    @property
    def at_rest(self) -> bool:
        """Whether nobody is in it."""
        return not self.running

    def describe(self) -> str:
        """Return what it does, as a clause."""
        return (
            f"as many calls at a time as the target takes: {self.limit} now, never fewer than "
            f"{self._minimum} or more than {self._maximum}"
        )

    def try_enter(self) -> float | None:
        """Take a place if one is free."""
        return clock().monotonic() if self._slots.try_take(self.name) else None

    def enter(self, waiting: Waiting) -> Flow[float]:
        """Wait for a place.

        Raises:
            BulkheadFull: The line is full, or no place became free in time.
            DeadlineExceeded: The deadline in force passed in the line.
        """
        yield from self._slots.take(self.name, waiting)
        return clock().monotonic()

    def leave(self, permit: float, exc: BaseException | None) -> None:
        """Give the place back, and learn from how the call ended."""
        now = clock().monotonic()
        with self._lock:
            before = self.limit
            limit = self._after(permit, now, exc)
        if limit != before:
            self._slots.resize(limit)
            events.emit(
                events.ConcurrencyChanged, policy="adaptive", name=self.name, before=before, limit=limit
            )
        self._slots.give_back()

    def _after(self, begun: float, now: float, exc: BaseException | None) -> int:
        """Return the limit that follows from a call, with the lock held."""
        slow = self._slow_call is not None and now - begun >= self._slow_call
        if self._overloaded(exc) or (slow and (exc is None or isinstance(exc, Exception))):
            if begun > self._decreased_at:
                self._decreased_at = now
                self._limit = max(float(self._minimum), self._limit * self._backoff)
        elif exc is None and self.running >= self.limit:
            self._limit = min(float(self._maximum), self._limit + 1 / self._limit)
        return int(self._limit)

    def _overloaded(self, exc: BaseException | None) -> bool:
        if not isinstance(exc, Exception):
            return False
        failure = classify(exc)
        cut_off = failure.code == "external.timeout"
        return failure.category in _OVERLOAD and (failure.origin is Origin.DEPENDENCY or cut_off)


_all: WeakSet[AdaptiveConcurrency] = WeakSet()


def _renew() -> None:
    for one in _all:
        one._slots.renew()
        one._lock = Lock()


os.register_at_fork(after_in_child=_renew)
