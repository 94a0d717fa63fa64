"""Whether Redis answers, what it could not be told meanwhile, and who looks whether it is back."""

import logging
import os
from collections.abc import Callable, Iterable
from math import inf
from random import random
from threading import Event, Lock, Thread
from typing import Any, NamedTuple
from weakref import ReferenceType, WeakMethod, WeakSet, ref

from resilient_agents import events
from resilient_agents._clock import clock
from resilient_agents._extras import require
from resilient_agents.cache._redis_wire import Garbage, Refusal
from resilient_agents.errors import Failure, classify

FIRST_PAUSE = 0.1
"""Time in seconds before the first new look at a Redis that is lost. The pauses double."""

MOST_KEPT = 10_000
"""How many invalidations are kept. Where there are more, all entries of the cache are removed instead."""

WRITES_REFUSED = frozenset({"OOM", "READONLY", "MISCONF", "NOREPLICAS"})
"""Errors of a Redis that still answers questions."""

_NEARLY = 0.99

_KNOWN = {
    "LOADING": "BusyLoadingError",
    "MISCONF": "ReadOnlyError",
    "NOAUTH": "AuthenticationError",
    "NOPERM": "NoPermissionError",
    "NOREPLICAS": "ReadOnlyError",
    "OOM": "OutOfMemoryError",
    "READONLY": "ReadOnlyError",
    "WRONGPASS": "AuthenticationError",
}
"""The exceptions of redis-py for errors that `classify` tells apart."""

_NO_ANSWER = classify(TimeoutError())

_log = logging.getLogger("resilient_agents.cache")


class Kept(NamedTuple):
    """What could not be delivered.

    Attributes:
        keys: Entries that must go.
        marks: Marks that must be written anew, and for how many seconds they matter.
        everything: Whether there were so many that all entries must go.
    """

    keys: list[str]
    marks: dict[str, float]
    everything: bool


class Outage:
    """The breaker in front of every operation.

    It opens when callers have lost a whole budget of time in a row, or at the first failure of another kind.
    No caller ever probes: a thread does, as long as something is wrong, and delivers what was kept before
    anybody may read.

    Args:
        name: What events call the cache.
        where: The server, in words.
        budget: Time in seconds that a caller may lose.
        longest_pause: Time in seconds that the pauses between two looks grow to.
        look: Looks whether Redis answers, through a new connection or not, and delivers what was kept;
            returns whether it takes writes. It is held weakly: the thread ends with its owner.
        let_go: Closes all connections; held weakly too.

    Attributes:
        reads: Whether Redis is asked at all.
        changes: Whether it is told of changes: before it is read again, what is kept must come to an end.
        writes: Whether it is believed to take writes.
        epoch: Counts the changes; what began in an earlier epoch says nothing about this one.
    """

    def __init__(
        self,
        name: str,
        where: str,
        budget: float,
        longest_pause: float,
        look: Callable[[Kept, bool], bool],
        let_go: Callable[[], object],
    ) -> None:
        self.name = name
        self._where = where
        self._budget = budget
        self._longest_pause = longest_pause
        self._look = WeakMethod(look)
        self._let_go = WeakMethod(let_go)
        self._kept: dict[tuple[bool, str], float] = {}
        self._everything = False
        self._why = _NO_ANSWER
        self._closed = self._at_once = False
        self._since = self._restored_at = -inf
        self._losses = self._delivered = 0
        self.epoch = 0
        self.renew()
        _outages.add(self)

    def renew(self) -> None:
        """Begin anew, as in a forked child; what could not be delivered still holds."""
        self._lock = Lock()
        self._wake = Event()
        self._watcher: Thread | None = None
        self._wasted = 0.0
        self.epoch += 1
        self.reads = not self._kept and not self._everything and not self._closed
        self.changes = self.writes = self.reads

    def usable(self) -> bool:
        """Tell whether Redis is asked at all; and see to it that somebody looks whether it is back."""
        if self.reads:
            return True
        if self._watcher is None:
            self._watch()
        return False

    def answered(self) -> None:
        """Note that Redis has answered."""
        if self._wasted:
            self._wasted = 0.0

    def failed(self, exc: Exception, within: float, epoch: int) -> None:
        """Note that an operation failed which had so many seconds and began in that epoch."""
        refused = isinstance(exc, Refusal) and exc.code in WRITES_REFUSED
        failure = classify(_known(exc))
        with self._lock:
            if epoch != self.epoch or not self.reads:
                self.changes = self.reads
                return
            if isinstance(exc, TimeoutError):
                self._wasted += within
                if self._wasted < _NEARLY * self._budget:
                    return
            if refused and not self.writes:
                return
            self._fall(reads=refused)
            self._why = failure
        self._announce(failure)

    def missed(self, within: float) -> None:
        """Note that no answer came within so many seconds for a task that had left by then."""
        self.failed(TimeoutError(), within, self.epoch)

    def postpone(self, keys: Iterable[str], marks: Iterable[str], ttl: float) -> None:
        """Keep an invalidation that could not be delivered, for *ttl* seconds; nobody reads until it is."""
        with self._lock:
            self._keep(keys, marks, ttl)
            news = self.reads
            if news:
                self._fall(reads=False)
        if news:
            self._announce(self._why)
        self._watch()

    def keeps_back(self, keys: Iterable[str], marks: Iterable[str], ttl: float) -> bool:
        """Tell whether Redis cannot be told of a change, which is kept then."""
        if self.changes:
            return False
        with self._lock:
            if self.changes:
                return False
            self._keep(keys, marks, ttl)
        self._watch()
        return True

    def close(self) -> None:
        """Ask Redis nothing any more."""
        with self._lock:
            self._closed = True
            self.reads = self.changes = self.writes = False
            self._wake.set()

    def _keep(self, keys: Iterable[str], marks: Iterable[str], ttl: float) -> None:
        until = clock().monotonic() + ttl
        for name in [*((False, key) for key in keys), *((True, mark) for mark in marks)]:
            self._kept[name] = max(until, self._kept.pop(name, -inf))
        if len(self._kept) > MOST_KEPT:
            self._kept.clear()
            self._everything = True

    def _fall(self, *, reads: bool) -> None:
        now = clock().monotonic()
        if self.reads and self.writes:
            self._since = now
            if now - self._restored_at > self._longest_pause:
                self._losses = 0
        self.reads = self.changes = reads
        self.writes = False
        self.epoch += 1
        self._wasted = 0.0

    def _announce(self, failure: Failure) -> None:
        """Tell that something is wrong, once; close the connections, for others may lead elsewhere."""
        if (let_go := self._let_go()) is not None:
            let_go()
        what = "refuses writes" if self.reads else "is left alone: callers go to the origin"
        _log.warning("cache %r: Redis at %s %s (%s)", self.name, self._where, what, failure.code)
        events.emit(events.CacheDegraded, cache=self.name, failure=failure, reads=self.reads)
        self._watch()

    def _watch(self) -> None:
        """Start the thread that looks whether Redis is back, if there is none."""
        with self._lock:
            if self._watcher is not None or self._closed or (self.reads and self.writes):
                return
            watcher = Thread(
                target=_keep_watch, args=(ref(self), self._wake), name="resilient-agents-cache", daemon=True
            )
            try:
                watcher.start()
            except RuntimeError:  # no more threads, or the process ends
                return
            self._watcher = watcher

    def _pause(self) -> float:
        """Return the time to wait before the next look, jittered: not all processes at once."""
        if self._at_once:
            self._at_once = False
            return 0.0
        longest: float = min(self._longest_pause, FIRST_PAUSE * 2**self._losses)
        self._losses = min(self._losses + 1, 32)
        return longest * (1 + random()) / 2  # noqa: S311 - a wait is no secret

    def _is_over(self) -> bool:
        """Look whether Redis is back; tell whether all is well."""
        look = self._look()
        if look is None or self._closed:
            return True
        with self._lock:
            delivering, kept = dict(self._kept), self._to_deliver()
        try:
            writes = look(kept, self.reads or not self.changes)
        except Exception:
            self.changes = self.reads
            return False
        return self._rise(delivering, kept.everything, writes=writes)

    def _to_deliver(self) -> Kept:
        now = clock().monotonic()
        for name in [name for name, until in self._kept.items() if until <= now]:
            del self._kept[name]
        keys = [name for is_mark, name in self._kept if not is_mark]
        marks = {name: until - now for (is_mark, name), until in self._kept.items() if is_mark}
        return Kept(keys, marks, self._everything)

    def _rise(self, delivered: dict[tuple[bool, str], float], everything: bool, *, writes: bool) -> bool:
        with self._lock:
            self._delivered += len(delivered)
            for name, until in delivered.items():
                if self._kept.get(name) == until:
                    del self._kept[name]
            self._everything = self._everything and not everything
            if self._closed or (self.reads and not writes):
                return self._closed
            self.changes = True
            if self._kept or self._everything:  # more has come meanwhile
                self._at_once = True
                return False
            self.reads, self.writes = True, writes
            self.epoch += 1
            if not writes:
                return False
            self._watcher = None
            self._why = _NO_ANSWER
            self._restored_at = clock().monotonic()
            lasted = self._restored_at - self._since
        _log.info("cache %r: Redis at %s answers again after %.1f s", self.name, self._where, lasted)
        events.emit(events.CacheRestored, cache=self.name, seconds=lasted, replayed=self._delivered)
        self._delivered = 0
        return True


def _keep_watch(outage: ReferenceType[Outage], wake: Event) -> None:
    """Look from time to time whether Redis is back; keep nothing alive meanwhile."""
    while (it := outage()) is not None:
        pause = it._pause()
        del it
        wake.wait(pause)
        if (it := outage()) is None or it._is_over():
            return
        del it


def _known(exc: Exception) -> Exception:
    """Return *exc* as one that `classify` knows, without its text, which may hold a value."""
    module: Any = require("redis", extra="redis", feature="RedisStore").exceptions
    if isinstance(exc, Refusal):
        known: Exception = getattr(module, _KNOWN.get(exc.code, "ConnectionError"))(exc.code)
        return known
    if isinstance(exc, Garbage):
        garbage: Exception = module.InvalidResponse()
        return garbage
    return exc


_outages: WeakSet[Outage] = WeakSet()


def _renew_locks() -> None:
    for outage in list(_outages):
        outage.renew()


os.register_at_fork(after_in_child=_renew_locks)
