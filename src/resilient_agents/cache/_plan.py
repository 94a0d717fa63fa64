"""What is known about the entries of one function: how they age, are written, and how their origin fares."""

import os
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Any, NamedTuple
from weakref import WeakSet

from resilient_agents.cache._entry import Freshness, may_pass
from resilient_agents.errors import Failure
from resilient_agents.policies.bulkhead import Bulkhead

MOST_PAUSES = 10_000
LONGEST_PAUSE = 60.0


class Plan:
    """One kind of entries.

    Attributes:
        name: Qualified name of the function, or the name of the entity.
        freshness: How they age.
        codec: How they are written; *None* in a cache without a store.
        condition: Tells whether a loaded value is kept; *None* keeps all.
        soft_timeout: Time in seconds after which an old value is answered with, or *None*.
        origin: How many loads run at a time while the store is away.
        pauses: Keys whose origin failed a moment ago.
        typical: How long the slowest of the last loads took, in seconds; *None* before the first.
        warned: Whether it was said that a value of it cannot be kept.
    """

    __slots__ = (
        "codec",
        "condition",
        "freshness",
        "name",
        "origin",
        "pauses",
        "soft_timeout",
        "typical",
        "warned",
    )

    def __init__(
        self,
        name: str,
        freshness: Freshness,
        *,
        codec: Any = None,
        condition: Callable[[Any], object] | None = None,
        soft_timeout: float | None = None,
        origin_limit: int = 100,
    ) -> None:
        self.name = name
        self.freshness = freshness
        self.codec = codec
        self.condition = condition
        self.soft_timeout = soft_timeout
        self.origin = Bulkhead(origin_limit, queue=1_000_000, name=name)
        self.pauses = Pauses()
        self.typical: float | None = None
        self.warned = False


class Pause(NamedTuple):
    """Until when a key's origin is left alone, and why: for a reason of `CacheStale`.

    Attributes:
        until: When it ends, on the monotonic clock.
        reason: ``"failed"`` or ``"slow"``.
        hides: Whether no old value may stand in, since the failure does not pass by itself.
    """

    until: float
    reason: str
    hides: bool


class Pauses:
    """Keys whose origin failed or is slow: it is not asked again at once, where an old value can stand in."""

    def __init__(self) -> None:
        self._pauses: OrderedDict[str, Pause] = OrderedDict()
        self._lock = Lock()
        _all.add(self)

    def failed(self, key: str, failure: Failure, now: float, throttle: float) -> None:
        """Note a failure. Once one does not pass by itself, old values are over for the key."""
        seconds = max(throttle, min(failure.retry_after or 0.0, LONGEST_PAUSE))
        self._begin(key, Pause(now + seconds, "failed", not may_pass(failure) or self.hides(key)))

    def slow(self, key: str, now: float, throttle: float) -> None:
        """Note that a load takes long."""
        self._begin(key, Pause(now + throttle, "slow", self.hides(key)))

    def _begin(self, key: str, pause: Pause) -> None:
        with self._lock:
            self._pauses[key] = pause
            self._pauses.move_to_end(key)
            if len(self._pauses) > MOST_PAUSES:
                self._pauses.popitem(last=False)

    def end(self, key: str) -> None:
        """Note a success."""
        if self._pauses:
            self._pauses.pop(key, None)

    def hides(self, key: str) -> bool:
        """Tell whether no old value may stand in for *key*."""
        pause = self._pauses.get(key)
        return pause is not None and pause.hides

    def reason(self, key: str, now: float) -> str | None:
        """Return why the origin is to be left alone for now, or *None*."""
        pause = self._pauses.get(key)
        return pause.reason if pause is not None and now < pause.until else None


_all: WeakSet[Pauses] = WeakSet()


def _renew_locks() -> None:
    """Give a forked child its own locks: nobody in it releases those that were held."""
    for pauses in list(_all):
        pauses._lock = Lock()


os.register_at_fork(after_in_child=_renew_locks)
