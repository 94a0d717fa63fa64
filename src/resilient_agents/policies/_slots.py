"""Places for calls, and the line in front of them: what a bulkhead and an adaptive limit share."""

import os
from collections import deque
from math import inf
from threading import RLock
from typing import Any
from weakref import WeakSet

from resilient_agents import events
from resilient_agents._clock import clock
from resilient_agents._flow import Flow
from resilient_agents.errors import ApiError, BulkheadFull, DeadlineExceeded
from resilient_agents.policies._deadline import check, remaining
from resilient_agents.policies._gate import Gate
from resilient_agents.policies._parameters import patience, text, whole
from resilient_agents.policies._waiting import Bell, Waiting
from resilient_agents.policies._waits import note_wait


class Era:
    """The time between two forks, which all places that were taken in it have in common."""


class Permit:
    """Shows that a call holds a place. All calls that begin between two changes hold the same one.

    Attributes:
        era: When it was given: a child process holds none of the places that its parent gave.
    """

    __slots__ = ("era",)

    def __init__(self, era: Era) -> None:
        self.era = era


class _Waiter:
    """One in the line, and the permit that was handed to him."""

    __slots__ = ("bell", "permit")

    def __init__(self, bell: Bell) -> None:
        self.bell = bell
        self.permit: Permit | None = None


class Slots(Gate):
    """So many calls at a time, and so many in the line, in the order in which they came.

    A place that becomes free is handed to the first in the line; no newcomer takes it from him.

    Args:
        limit: How many calls are under way at a time.
        queue: How many wait at most.
        queue_timeout: Time in seconds that one waits at most, or *None*.
        name: What events and messages call it.

    Raises:
        TypeError: A parameter is of the wrong kind.
        ValueError: A parameter is out of range, or contradicts another one.
    """

    def __init__(self, limit: int, *, queue: int, queue_timeout: float | None, name: str) -> None:
        self._limit = whole("limit", limit, "calls")
        self._queue = whole("queue", queue, "calls", least=0)
        self._queue_timeout = patience("queue_timeout", queue_timeout)
        if queue_timeout is not None and not queue:
            raise ValueError(
                f"queue_timeout={queue_timeout} says how long to wait, and with queue=0 nobody waits: "
                "say how many may"
            )
        self.name = text("name", name)
        self._begin_anew()
        _all.add(self)

    @property
    def running(self) -> int:
        """How many calls are under way."""
        return self._running

    @property
    def waiting(self) -> int:
        """How many calls wait for a place."""
        return len(self._line)

    @property
    def at_rest(self) -> bool:
        """Whether nobody is inside, or waits."""
        return not (self._running or self._line)

    def try_enter(self) -> Any:
        """Take a place if one is free.

        Raises:
            BulkheadFull: None is free, and there is no room in the line.
        """
        with self._lock:
            if self._running < self._limit:  # then nobody waits, for places are handed over as they come
                self._running += 1
                return self._permit
            has_room = len(self._line) < self._queue
        if has_room:
            return None
        raise self._refused("")

    def enter(self, waiting: Waiting) -> Flow[Any]:
        """Wait for a place.

        Raises:
            BulkheadFull: The line is full, or no place became free within *queue_timeout*.
            DeadlineExceeded: The deadline in force passed before a place became free.
        """
        check()
        waiter = _Waiter(waiting.bell())
        if not self._line_up(waiter):
            raise self._refused("")
        if waiter.permit is None:
            yield from self._wait(waiter)
        return waiter.permit

    def leave(self, permit: Any, exc: BaseException | None) -> None:
        """Hand the place on to the first in the line."""
        with self._lock:
            if not self._line and permit.era is self._era:  # as nearly always: nobody is to be woken
                self._running -= 1
                return
            admitted = self._vacate(permit)
        self._wake(admitted)

    def _wait(self, waiter: _Waiter) -> Flow[None]:
        """Wait in the line until a place is handed over, or the time is up."""
        left = remaining()
        longest = inf if self._queue_timeout is None else self._queue_timeout
        seconds = min(longest, inf if left is None else left)
        begun = clock().monotonic()
        try:
            yield lambda: waiter.bell.wait(None if seconds == inf else seconds)
            waited = clock().monotonic() - begun
            note_wait(self.kind, self.name, waited, "queue")
            if self._leave_line(waiter):
                hurried = left is not None and left < longest
                raise self._refused(
                    f"; none was done within {seconds:.3g} s",
                    DeadlineExceeded if hurried else BulkheadFull,
                )
            events.emit(
                events.CallWaited, policy=self.kind, name=self.name, seconds=waited, dictated_by="queue"
            )
        except BaseException:
            self._abandon(waiter)
            raise

    def _line_up(self, waiter: _Waiter) -> bool:
        """Take a place or the end of the line; tell whether there was one."""
        with self._lock:
            if self._running < self._limit:
                self._running += 1
                waiter.permit = self._permit
            elif len(self._line) < self._queue:
                self._line.append(waiter)
            else:
                return False
            return True

    def _leave_line(self, waiter: _Waiter) -> bool:
        """Leave the line without a place; tell whether none had been handed over until now."""
        with self._lock:
            if waiter.permit is not None:
                return False
            if waiter in self._line:
                self._line.remove(waiter)
            return True

    def _abandon(self, waiter: _Waiter) -> None:
        """Leave the line, and hand on the place if it was handed over at this very moment."""
        if not self._leave_line(waiter):
            permit, waiter.permit = waiter.permit, None
            Slots.leave(self, permit, None)

    def _vacate(self, permit: Permit) -> list[_Waiter]:
        """Free a place, with the lock held; return who got it."""
        if permit.era is not self._era:
            return []
        self._running -= 1
        return self._hand_over() if self._line else []

    def _hand_over(self) -> list[_Waiter]:
        """Give free places to the first in the line, with the lock held."""
        admitted = []
        while self._line and self._running < self._limit:
            self._running += 1
            waiter = self._line.popleft()
            waiter.permit = self._permit
            admitted.append(waiter)
        return admitted

    def _wake(self, admitted: list[_Waiter]) -> None:
        """Tell those who got a place, with the lock free."""
        for waiter in admitted:
            if not waiter.bell.ring():
                self._abandon(waiter)

    def _refused(self, why: str, error: type[ApiError] = BulkheadFull) -> ApiError:
        events.emit(events.CallRefused, policy=self.kind, name=self.name, wait=None)
        title = f"{self.kind} {self.name!r}" if self.name else f"this {self.kind}"
        return error(
            f"{title} is full and nothing was sent: {self.running} calls are under way, of {self._limit} at "
            f"a time, and {self.waiting} wait, of {self._queue}{why}"
        )

    def _begin_anew(self) -> None:
        """Begin with all places free, in a new process: the calls of its parent are not in it."""
        # A task that nobody awaits any more gives its place back when it is collected as garbage, which may
        # happen in a thread that holds the lock.
        self._lock = RLock()
        self._line: deque[_Waiter] = deque()
        self._running = 0
        self._era = Era()
        self._permit = Permit(self._era)


_all: WeakSet[Slots] = WeakSet()


def _begin_anew() -> None:
    """Give a forked child its own locks and places: nobody in it releases those that were held."""
    for slots in _all:
        slots._begin_anew()


os.register_at_fork(after_in_child=_begin_anew)
