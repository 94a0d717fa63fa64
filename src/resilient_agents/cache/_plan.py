"""What is known about the entries of one function: how they age, are written, and how their origin fares."""

import os
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Any, Protocol
from weakref import WeakSet

from resilient_agents.cache._entry import Freshness, may_pass
from resilient_agents.errors import Failure
from resilient_agents.policies.bulkhead import Bulkhead

MOST_PAUSES = 10_000
LONGEST_PAUSE = 60.0


class Writing(Protocol):
    """How values are written and read."""

    def encode(
        self,
        value: Any,
        key: str,
        *,
        created: float,
        soft_expiry: float,
        hard_expiry: float,
        cost: float = ...,
        marks: Any = ...,
    ) -> bytes:
        """Return *value* as bytes."""
        ...

    def decode(self, data: bytes, key: str) -> Any:
        """Return the value that was written."""
        ...


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
        typical: How long the last load took, in seconds; 0 before the first.
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
        self.typical = 0.0
        self.warned = False


class Pauses:
    """Keys whose origin failed: it is not asked again at once, where an old value can stand in."""

    def __init__(self) -> None:
        self._until: OrderedDict[str, tuple[float, bool]] = OrderedDict()
        self._lock = Lock()
        _all.add(self)

    def begin(self, key: str, failure: Failure, now: float, throttle: float) -> None:
        """Note a failure. One that does not pass by itself lets no old value stand in for the key."""
        seconds = max(throttle, min(failure.retry_after or 0.0, LONGEST_PAUSE))
        with self._lock:
            self._until[key] = (now + seconds, may_pass(failure) and not self.hides(key))
            self._until.move_to_end(key)
            if len(self._until) > MOST_PAUSES:
                self._until.popitem(last=False)

    def end(self, key: str) -> None:
        """Note a success."""
        if self._until:
            self._until.pop(key, None)

    def hides(self, key: str) -> bool:
        """Tell whether the last failure of *key* is one that an old value must not hide."""
        pause = self._until.get(key)
        return pause is not None and not pause[1]

    def running(self, key: str, now: float) -> bool:
        """Tell whether the origin is to be left alone for now."""
        pause = self._until.get(key)
        return pause is not None and now < pause[0]


_all: WeakSet[Pauses] = WeakSet()


def _renew_locks() -> None:
    """Give a forked child its own locks: nobody in it releases those that were held."""
    for pauses in list(_all):
        pauses._lock = Lock()


os.register_at_fork(after_in_child=_renew_locks)
