"""Never more than so many calls at a time."""

import os
from typing import Any
from weakref import WeakSet

from resilient_agents._flow import Flow
from resilient_agents.policies._gate import Gate, Waiting
from resilient_agents.policies._slots import Slots, check_queue


class Bulkhead(Gate):
    """Never more than *limit* calls at a time; a few more may wait in a line.

    A target that hangs then takes *limit* threads or tasks with it, and not all that the service has. One
    bulkhead serves threads and tasks alike, in one line, first come, first served::

        crm = Bulkhead(20, queue=100, queue_timeout=5)

        @crm
        async def fetch_deal(deal_id): ...

    Args:
        limit: How many calls are under way at a time, 1 or more.
        queue: How many calls wait for a place at most; the next one is refused with `BulkheadFull`. The
            default is 0: nobody waits.
        queue_timeout: Time in seconds that a call waits at most. The default is no limit but the deadline in
            force.
        name: What events and messages call it.

    Raises:
        TypeError: *limit* or *queue* is no whole number.
        ValueError: A number is out of range, or contradicts another one.
    """

    kind = "bulkhead"

    def __init__(
        self, limit: int, *, queue: int = 0, queue_timeout: float | None = None, name: str = ""
    ) -> None:
        check_queue(limit, queue, queue_timeout)
        self.name = name
        self._numbers = (limit, queue, queue_timeout)
        self._slots = Slots("bulkhead", limit, queue, queue_timeout)
        _all.add(self)

    def __repr__(self) -> str:
        limit, queue, queue_timeout = self._numbers
        return f"Bulkhead({limit}, queue={queue}, queue_timeout={queue_timeout})"

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
        """Whether nobody is in it: a new one in its place would do the same."""
        return not self.running

    def describe(self) -> str:
        """Return what it does, as a clause."""
        limit, queue, queue_timeout = self._numbers
        patience = "" if queue_timeout is None else f", each {queue_timeout:g} s at most"
        line = f"{queue} more wait{patience}" if queue else "nobody waits"
        return f"at most {limit} calls at a time; {line}"

    def try_enter(self) -> bool | None:
        """Take a place if one is free."""
        return True if self._slots.try_take(self.name) else None

    def enter(self, waiting: Waiting) -> Flow[bool]:
        """Wait for a place.

        Raises:
            BulkheadFull: The line is full, or no place became free in time.
            DeadlineExceeded: The deadline in force passed in the line.
        """
        yield from self._slots.take(self.name, waiting)
        return True

    def leave(self, permit: Any, exc: BaseException | None) -> None:
        """Give the place to the first in the line."""
        self._slots.give_back()


_all: WeakSet[Bulkhead] = WeakSet()


def _renew() -> None:
    for bulkhead in _all:
        bulkhead._slots.renew()


os.register_at_fork(after_in_child=_renew)
