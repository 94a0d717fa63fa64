"""The memory tier: entries of this process, the least used of which make room."""

import os
from collections import OrderedDict
from collections.abc import Iterable
from math import inf
from threading import RLock
from weakref import WeakSet

from resilient_agents.cache._entry import Entry


class Memory:
    """Entries by key, *limit* at most.

    What makes room is found as by a clock's hand: the oldest entry that was not used since the hand last
    passed it (Corbató, "A Paging Experiment with the Multics System", 1968). A hit then only sets a flag.

    Attributes:
        entries: The entries. Reading needs no lock; who reads sets ``visited``.
        epoch: Counts the invalidations: what was read from elsewhere before one is not kept after it.
    """

    def __init__(self, limit: int) -> None:
        self.entries: OrderedDict[str, Entry] = OrderedDict()
        self.epoch = 0
        self._limit = limit
        self._tagged: dict[str, set[str]] = {}
        self._lock = RLock()
        _all.add(self)

    def put(self, key: str, entry: Entry, epoch: int | None = None) -> None:
        """Keep *entry*, unless something was invalidated since *epoch*."""
        with self._lock:
            if epoch is not None and epoch != self.epoch:
                return
            self._drop(key)
            self.entries[key] = entry
            for tag in entry.tags:
                self._tagged.setdefault(tag, set()).add(key)
            while len(self.entries) > self._limit:
                self._make_room()

    def drop(self, key: str, entry: Entry) -> None:
        """Forget *entry*, unless another one has taken its place."""
        with self._lock:
            if self.entries.get(key) is entry:
                self._drop(key)

    def invalidate(self, names: Iterable[str]) -> None:
        """Forget the entries that are called so, or have a tag whose mark is."""
        with self._lock:
            self.epoch += 1
            for name in names:
                self._drop(name)
                for key in tuple(self._tagged.get(name, ())):
                    self._drop(key)

    def distrust(self) -> None:
        """Keep all entries, and take none of them for fresh before somebody has looked it up."""
        with self._lock:
            self.epoch += 1
            for entry in self.entries.values():
                entry.quiet_until = -inf

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self.epoch += 1
            self.entries.clear()
            self._tagged.clear()

    def _drop(self, key: str) -> None:
        entry = self.entries.pop(key, None)
        if entry is not None:
            self._untag(key, entry)

    def _untag(self, key: str, entry: Entry) -> None:
        for tag in entry.tags:
            keys = self._tagged.get(tag)
            if keys is not None:
                keys.discard(key)
                if not keys:
                    del self._tagged[tag]

    def _make_room(self) -> None:
        """Move the hand by one entry: it goes, or gets another round."""
        key, entry = self.entries.popitem(last=False)
        if entry.visited:
            entry.visited = False
            self.entries[key] = entry
        else:
            self._untag(key, entry)


_all: WeakSet[Memory] = WeakSet()


def _renew_locks() -> None:
    """Give a forked child its own locks, and empty what a thread of its parent was just changing."""
    for memory in list(_all):
        torn = not memory._lock.acquire(blocking=False)
        memory._lock = RLock()
        if torn:
            memory.clear()


os.register_at_fork(after_in_child=_renew_locks)
