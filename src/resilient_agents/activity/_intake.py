"""The caller's side: a bounded queue that never waits, and the way to the worker."""

from collections import Counter, deque
from collections.abc import Callable, Mapping
from queue import SimpleQueue
from threading import Lock, RLock, get_ident
from typing import Literal, TypeAlias

from resilient_agents import _clock
from resilient_agents.activity.entry import TICKS
from resilient_agents.correlation import current
from resilient_agents.errors import StorageBusy, StorageFailure

Reason: TypeAlias = Literal["queue_full", "too_big", "encode", "sink_down", "rejected", "shutdown"]
"""Why an entry was dropped."""

Taken: TypeAlias = tuple[int, Mapping[str, str], bytes]
"""A moment, what was bound in it, and a snapshot."""

OVERHEAD = 400
"""About how many bytes an entry takes beside its snapshot."""


class Urgent:
    """An entry whose caller waits until it is on disk."""

    __slots__ = ("error", "latch", "taken")

    def __init__(self, taken: Taken) -> None:
        self.taken = taken
        self.error: Exception | None = None
        self.latch = Lock()
        self.latch.acquire()


class Intake:
    """What callers have recorded and the worker has not taken yet.

    No lock is shared with the worker: a signal handler may interrupt a caller anywhere, and then wait for the
    worker. The lock is between callers, and lets the handler in.

    Args:
        max_entries: How many entries wait at most.
        max_bytes: How many bytes they take together at most.
        max_entry_bytes: How many bytes one takes at most.

    Attributes:
        inbox: What the worker is to do next; a function wakes it up.
        asleep: Whether the worker has to be woken up.
        start: Called to start the worker's thread, where it does not run.
        staff: The threads of the log itself; what they record is ignored, or it would never end.
        closed: Whether nothing is taken any more.
    """

    def __init__(self, *, max_entries: int, max_bytes: int, max_entry_bytes: int) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._largest = max_entry_bytes
        self._last = 0
        self.start: Callable[[], None] = _nothing
        self.renew()

    def renew(self) -> None:
        """Begin empty, as in a forked child."""
        self.inbox: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self.queue: deque[Taken] = deque()
        self.low: deque[Taken] = deque()
        self.urgent: deque[Urgent] = deque()
        self.dropped: Counter[Reason] = Counter()
        self.staff: set[int] = set()
        self.asleep = True
        self.closed = False
        self._lock = RLock()
        self._bytes_in = 0
        self.bytes_out = 0

    def put(self, copy: bytes, *, low: bool = False) -> bool:
        """Take a snapshot, or count why not. Never waits, never raises.

        Args:
            copy: The snapshot.
            low: Whether it is dropped before others. The default is *False*.
        """
        size = len(copy)
        if size > self._largest:
            return self._drop("too_big")
        if get_ident() in self.staff:
            return False
        with self._lock:
            queue = self.low if low else self.queue
            if self.closed:
                return self._drop("shutdown")
            if (
                len(self.queue) + len(self.low) >= self._max_entries
                or self._bytes_in - self.bytes_out + size > self._max_bytes
            ) and not self._make_room(size, low=low):
                return self._drop("queue_full")
            tick = int(_clock.in_force.time() * TICKS)
            if tick <= self._last:
                tick = self._last + 1
            self._last = tick
            queue.append((tick, current(), copy))
            self._bytes_in += size + OVERHEAD
        if self.asleep:
            self.wake()
        return True

    def put_durably(self, copy: bytes, *, patience: float) -> None:
        """Return when the snapshot is on disk.

        Args:
            copy: The snapshot.
            patience: Time in seconds to wait for the disk.

        Raises:
            StorageFailure: It is not on disk; as `StorageBusy`, it may be yet.
        """
        if get_ident() in self.staff:
            raise StorageFailure("an activity log cannot record what its own sinks do")
        if len(copy) > self._largest:
            self._drop("too_big")
            raise StorageFailure(f"the entry takes more than max_entry_bytes={self._largest} bytes")
        with self._lock:
            if self.closed:
                self._drop("shutdown")
                raise StorageFailure("the activity log is closed: nothing is recorded any more")
            self._last = tick = max(int(_clock.in_force.time() * TICKS), self._last + 1)
            urgent = Urgent((tick, current(), copy))
            self.urgent.append(urgent)
        self.wake()
        if not urgent.latch.acquire(timeout=patience):
            raise StorageBusy(
                f"the activity log's disk did not answer within {patience:g} s; "
                "the entry may be stored or not"
            )
        if urgent.error is not None:
            raise urgent.error

    def wake(self, message: "Callable[[], object] | None" = None) -> None:
        """Let the worker look; or do *message* on its thread."""
        self.asleep = False
        self.inbox.put(_nothing if message is None else message)
        self.start()

    def close(self) -> None:
        """Take nothing any more."""
        with self._lock:
            self.closed = True

    def waiting(self) -> int:
        """Return how many entries wait."""
        return len(self.queue) + len(self.low) + len(self.urgent)

    def crowded(self) -> bool:
        """Tell whether there is not much room left."""
        return (
            2 * self.waiting() > self._max_entries or 2 * (self._bytes_in - self.bytes_out) > self._max_bytes
        )

    def _drop(self, reason: Reason, count: int = 1) -> bool:
        with self._lock:
            self.dropped[reason] += count
        return False

    def _make_room(self, size: int, *, low: bool) -> bool:
        """Drop entries of low priority for one that is not, with the lock held."""
        while not low and self.low:
            try:
                oldest = self.low.popleft()
            except IndexError:
                return True  # the worker took it
            self._bytes_in -= len(oldest[2]) + OVERHEAD
            self._drop("queue_full")
            if (
                len(self.queue) + len(self.low) < self._max_entries
                and self._bytes_in - self.bytes_out + size <= self._max_bytes
            ):
                return True
        return False


def _nothing() -> None:
    """Do nothing: to be woken up is all."""
