"""The leases that a worker holds on entries, and until when."""

import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from functools import partial

from resilient_agents._clock import clock
from resilient_agents._flow import Flow
from resilient_agents.deadletter import sqlite
from resilient_agents.deadletter.delivery import Perform
from resilient_agents.deadletter.entry import Entry


class Leases:
    """Leases on entries; each is renewed while its entry is kept.

    Args:
        seconds: How long a lease runs, in seconds.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until: dict[int, tuple[int, float]] = {}
        self._lock = threading.Lock()

    @contextmanager
    def kept(self, entries: Sequence[Entry]) -> Generator[None]:
        """Hold the leases of *entries* until the block ends."""
        with self._lock:
            self._until.update({entry.id: (entry.token, entry.lease_until or 0.0) for entry in entries})
        try:
            yield
        finally:
            with self._lock:
                for entry in entries:
                    self._until.pop(entry.id, None)

    def holds(self, entry: Entry) -> bool:
        """Tell whether the lease of *entry* still runs."""
        _, until = self._until.get(entry.id, (0, 0.0))
        return clock().time() < until

    def renew(self, perform: Perform) -> Flow[None]:
        """Renew every lease that still runs."""
        now = clock().time()
        with self._lock:
            running = [(entry_id, token) for entry_id, (token, until) in self._until.items() if until > now]
        if running:
            held: set[int] = yield partial(perform, sqlite.renew(running, now=now, lease=self._seconds))
            with self._lock:
                for entry_id, token in running:
                    if self._until.get(entry_id, (0, 0.0))[0] == token:
                        self._until[entry_id] = (token, now + self._seconds if entry_id in held else 0.0)

    def keep(self, perform: Perform) -> Flow[None]:
        """Renew the leases when a third of one has passed, as in the middle of many slow look-ups."""
        with self._lock:
            earliest = min((until for _, until in self._until.values()), default=None)
        if earliest is not None and earliest - clock().time() < self._seconds * 2 / 3:
            yield from self.renew(perform)
