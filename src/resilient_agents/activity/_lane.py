"""The way to one sink: what waits for it, whether it works, and the thread that hands it batches."""

import random
import threading
from collections import deque
from collections.abc import Callable, Sequence
from math import inf
from queue import SimpleQueue
from typing import Any, Protocol

from resilient_agents.activity._spill import Place
from resilient_agents.activity.entry import Activity

FIRST_PAUSE = 0.5
"""Time in seconds before a sink that failed is tried again; it doubles with each further failure."""

LONGEST_PAUSE = 10.0

Done = Callable[[Exception | None], object]


class Courier:
    """A thread that hands batches to one sink, so that a sink that hangs holds up nobody else.

    Args:
        name: Name of the sink.
        staff: Where the thread is noted, for its entries to be ignored.
    """

    def __init__(self, name: str, staff: set[int]) -> None:
        self._name = name
        self._staff = staff
        self._inbox: SimpleQueue[tuple[Callable[[], object], Done] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread.

        Raises:
            RuntimeError: There can be no thread any more: the interpreter ends.
        """
        thread = threading.Thread(target=self._work, name=f"activity-{self._name}", daemon=True)
        thread.start()
        self._thread = thread

    def hand(self, task: Callable[[], object], done: Done) -> None:
        """Perform *task*, and tell *done* how it ended."""
        if self._thread is None:
            _perform(task, done)
        else:
            self._inbox.put((task, done))

    def stop(self) -> None:
        """End the thread once it has done what it was given."""
        if self._thread is not None:
            self._inbox.put(None)

    def join(self, timeout: float) -> None:
        """Wait until the thread has ended, or so many seconds have passed."""
        if self._thread is not None:
            self._thread.join(timeout)

    def _work(self) -> None:
        self._staff.add(threading.get_ident())
        while (errand := self._inbox.get()) is not None:
            _perform(*errand)
            del errand
        self._staff.discard(threading.get_ident())


def _perform(task: Callable[[], object], done: Done) -> None:
    try:
        task()
    except Exception as exc:
        done(exc)
    else:
        done(None)


class Hand(Protocol):
    """Whoever hands batches to a sink."""

    def start(self) -> None:
        """Begin."""

    def hand(self, task: Callable[[], object], done: Done) -> None:
        """Perform *task*, and tell *done* how it ended."""

    def stop(self) -> None:
        """End."""

    def join(self, timeout: float) -> None:
        """Wait for the end."""


class Flight:
    """A batch on its way to a sink; *place* says where it is on disk, if it is."""

    __slots__ = ("batch", "place", "since")

    def __init__(self, batch: Sequence[Activity], place: Place | None, since: float) -> None:
        self.batch = batch
        self.place = place
        self.since = since


class Lane:
    """What the worker knows of one sink. Only the worker's thread changes it.

    Attributes:
        waiting: Entries in memory, the oldest first.
        flight: The batch that the sink has been given, or *None*.
        on_disk: How many entries wait on disk.
        up: Whether the sink is believed to work.
        retry_at: When it is tried again, on the monotonic clock.
        limit: How many entries the next batch has at most.
        written: How many entries the sink has taken.
        arrived: What the sink has taken and is on disk all the same, because the disk failed; or *None*.
        pruned_at: When old entries were last looked for, on the monotonic clock.
    """

    def __init__(self, name: str, sink: Any, courier: Hand, batch_size: int) -> None:
        self.name = name
        self.sink = sink
        self.courier = courier
        self.batch_size = batch_size
        self.waiting: deque[Activity] = deque()
        self.flight: Flight | None = None
        self.on_disk = 0
        self.up = True
        self.retry_at = -inf
        self.limit = batch_size
        self.written = 0
        self.pruned_at = -inf
        self.from_disk_next = False
        self.arrived: tuple[Place, Sequence[Activity]] | None = None
        self._failures = 0

    @property
    def backlog(self) -> int:
        """How many entries have not arrived."""
        flying = len(self.flight.batch) if self.flight is not None and self.flight.place is None else 0
        return len(self.waiting) + self.on_disk + flying

    def take(self, count: int) -> list[Activity]:
        """Take entries out of memory, the oldest first."""
        waiting = self.waiting
        if count >= len(waiting):
            batch = list(waiting)
            waiting.clear()
            return batch
        return [waiting.popleft() for _ in range(count)]

    def put_back(self, batch: Sequence[Activity]) -> None:
        """Let entries wait again, in front of all others."""
        self.waiting.extendleft(reversed(batch))

    def succeeded(self, count: int) -> bool:
        """Note that the sink took a batch, and tell whether it is news that it works."""
        news, self.up, self._failures, self.retry_at = not self.up, True, 0, -inf
        self.written += count
        self.limit = min(self.batch_size, 2 * self.limit)
        return news

    def failed(self, now: float) -> bool:
        """Note that the sink took no batch, and tell whether it is news. The pauses double, with jitter."""
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0**self._failures)
        self._failures = min(self._failures + 1, 32)
        self.retry_at = now + pause * (1 + random.random()) / 2  # noqa: S311 - a wait is no secret
        news, self.up = self.up, False
        return news
