"""Places for calls, and the line in front of them: what a bulkhead and an adaptive limit share."""

from collections import deque
from threading import Lock
from typing import Literal

from resilient_agents import events
from resilient_agents._clock import clock
from resilient_agents._flow import Flow
from resilient_agents.errors import BulkheadFull, DeadlineExceeded
from resilient_agents.policies._deadline import remaining
from resilient_agents.policies._gate import Bell, Waiting
from resilient_agents.policies._waits import note_wait


class _Waiter:
    """One in the line: *admitted* once a place was handed over."""

    __slots__ = ("admitted", "bell")

    def __init__(self, bell: Bell) -> None:
        self.bell = bell
        self.admitted = False


class Slots:
    """So many calls at a time, and so many in the line, in the order in which they came.

    A place that becomes free is handed to the first in the line; no newcomer takes it from him.

    Args:
        kind: What kind of policy it is for, for events.
        limit: How many calls are under way at a time. It may be changed at any moment.
        queue: How many wait at most.
        queue_timeout: Time in seconds that one waits at most, or *None*.
    """

    def __init__(
        self, kind: Literal["bulkhead", "adaptive"], limit: int, queue: int, queue_timeout: float | None
    ) -> None:
        self.limit = limit
        self.running = 0
        self._kind = kind
        self._queue = queue
        self._queue_timeout = queue_timeout
        self._line: deque[_Waiter] = deque()
        self._lock = Lock()

    @property
    def waiting(self) -> int:
        """How many are in the line."""
        return len(self._line)

    def try_take(self, name: str) -> bool:
        """Take a place if one is free; tell whether there was one.

        Raises:
            BulkheadFull: There is none, and the line is full too.
        """
        with self._lock:
            if self.running < self.limit and not self._line:
                self.running += 1
                return True
            full = len(self._line) >= self._queue
        if full:
            raise self._refusal(name, "no place is free")
        return False

    def take(self, name: str, waiting: Waiting) -> Flow[None]:
        """Line up for a place.

        Raises:
            BulkheadFull: The line is full, or none became free in time.
            DeadlineExceeded: The deadline in force passed in the line.
        """
        waiter = _Waiter(waiting.bell())
        with self._lock:
            if self.running < self.limit and not self._line:
                self.running += 1
                return
            full = len(self._line) >= self._queue
            if not full:
                self._line.append(waiter)
        if full:
            raise self._refusal(name, "no place is free")
        left = remaining()
        limits = [seconds for seconds in (self._queue_timeout, left) if seconds is not None]
        patience = min(limits, default=None)
        begun = clock().monotonic()
        try:
            yield lambda: waiter.bell.wait(patience)
        except BaseException:
            self._give_up(waiter, pass_on=True)
            raise
        if self._give_up(waiter, pass_on=False):
            waited = clock().monotonic() - begun
            note_wait(self._kind, name, waited, "queue")
            events.emit(events.CallWaited, policy=self._kind, name=name, seconds=waited, dictated_by="queue")
            return
        if left is not None and left == patience:
            raise DeadlineExceeded(f"no place of {self._kind} {name!r} became free before the deadline")
        raise self._refusal(name, f"none became free in {patience:g} s")

    def give_back(self) -> None:
        """Free a place, and hand it on to the first in the line."""
        with self._lock:
            self.running -= 1
            admitted = self._hand_over()
        _ring(admitted)

    def resize(self, limit: int) -> None:
        """Change how many are under way at a time; those who are stay."""
        with self._lock:
            self.limit = limit
            admitted = self._hand_over()
        _ring(admitted)

    def renew(self) -> None:
        """Begin anew in a forked child: neither the calls nor the waiters of its parent are in it."""
        self._lock = Lock()
        self._line = deque()
        self.running = 0

    def _give_up(self, waiter: _Waiter, *, pass_on: bool) -> bool:
        """Leave the line; tell whether a place had been handed over, which is kept unless *pass_on*."""
        with self._lock:
            if not waiter.admitted:
                self._line.remove(waiter)
                return False
            admitted = []
            if pass_on:
                self.running -= 1
                admitted = self._hand_over()
        _ring(admitted)
        return True

    def _hand_over(self) -> list[_Waiter]:
        """Give free places to the first in the line, with the lock held."""
        admitted = []
        while self._line and self.running < self.limit:
            waiter = self._line.popleft()
            waiter.admitted = True
            self.running += 1
            admitted.append(waiter)
        return admitted

    def _refusal(self, name: str, why: str) -> BulkheadFull:
        events.emit(events.CallRefused, policy=self._kind, name=name, wait=None)
        title = f"{self._kind} {name!r}" if name else f"a {self._kind}"
        return BulkheadFull(
            f"{title} is full, and nothing was sent: {self.running} calls are under way, {self.waiting} "
            f"wait, and {why}"
        )


def _ring(admitted: list[_Waiter]) -> None:
    for waiter in admitted:
        waiter.bell.ring()


def check_queue(limit: object, queue: object, queue_timeout: float | None) -> None:
    """Refuse numbers that make no line.

    Raises:
        TypeError: *limit* or *queue* is no whole number.
        ValueError: A number is out of range, or contradicts another one.
    """
    for name, number in (("limit", limit), ("queue", queue)):
        if type(number) is not int:
            raise TypeError(f"{name} must be a whole number of calls, not {number!r}")
    if not isinstance(limit, int) or limit < 1:
        raise ValueError(f"limit must be 1 or more calls at a time, not {limit}")
    if not isinstance(queue, int) or queue < 0:
        raise ValueError(f"queue must be 0 or more waiting calls, not {queue}")
    if queue_timeout is not None and not 0 < queue_timeout < float("inf"):
        raise ValueError(f"queue_timeout must be more than 0 seconds, or None, not {queue_timeout!r}")
    if queue_timeout is not None and queue == 0:
        raise ValueError("queue_timeout says how long to wait, and without a queue nobody waits: set queue")
