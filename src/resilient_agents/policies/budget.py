"""`RetryBudget`: how many extra calls a dependency can bear, for all of its callers together."""

import os
from collections import deque
from itertools import count
from math import inf
from threading import Lock
from typing import TYPE_CHECKING
from weakref import WeakSet

from resilient_agents._clock import clock

if TYPE_CHECKING:
    from collections.abc import Callable

_BUCKETS = 10


class RetryBudget:
    """Tokens for retries and hedges, shared by the callers of one dependency.

    When everything fails, each retry is one more call to a service that is already in trouble. A budget keeps
    the extra calls of the last *window* seconds to *floor* and a share of the calls that were begun in them,
    as failsafe-go's budget does; an extra call that succeeds gives its token back, as in botocore's retry
    quota and gRPC's retry throttling (proposal A6)::

        budget = RetryBudget(name="kommo")

        @retry(budget=budget)
        def fetch_deal(deal_id): ...

    Args:
        ratio: Extra calls for each call that is begun, from 0 to 1. The default is 0.2.
        floor: Extra calls that are always allowed in a window, so that a quiet service can retry too. The
            default is 3.
        window: Length of the window in seconds. The default is 10.
        name: What events call it.

    Raises:
        TypeError: *floor* is no whole number.
        ValueError: A number is out of range.
    """

    def __init__(self, *, ratio: float = 0.2, floor: int = 3, window: float = 10.0, name: str = "") -> None:
        if not 0 <= ratio <= 1:
            raise ValueError(f"ratio must be from 0 to 1 extra calls for each call, not {ratio!r}")
        if type(floor) is not int:
            raise TypeError(f"floor must be a whole number of extra calls, not {floor!r}")
        if floor < 0 or (floor == 0 and ratio == 0):
            raise ValueError(
                "floor must be 0 or more, and more than 0 where ratio is 0: else nothing is retried"
            )
        if not 0 < window < inf:
            raise ValueError(f"window must be more than 0 seconds, not {window!r}")
        self.ratio = ratio
        self.floor = floor
        self.window = window
        self.name = name
        self._lock = Lock()
        # Counting is part of every successful call: a counter does it without a lock, and is read rarely.
        self._counter = count()
        self.count: Callable[[], object] = self._counter.__next__
        self._looks = 0
        self._counted = 0
        self._recent: deque[_Bucket] = deque()
        _all.add(self)

    def __repr__(self) -> str:
        return (
            f"RetryBudget(ratio={self.ratio}, floor={self.floor}, window={self.window}, name={self.name!r})"
        )

    @property
    def balance(self) -> int:
        """How many extra calls may be made right now, 0 or more."""
        with self._lock:
            self._settled()
            return self._left()

    def take(self) -> bool:
        """Take a token for one extra call; tell whether there was one."""
        with self._lock:
            newest = self._settled()
            if self._left() < 1:
                return False
            newest.extra += 1
            return True

    def refund(self) -> None:
        """Give a token back: the extra call was worth it. Without one to give back, nothing happens."""
        with self._lock:
            self._settled()
            for bucket in reversed(self._recent):
                if bucket.extra:
                    bucket.extra -= 1
                    return

    def _settled(self) -> "_Bucket":
        """Forget what has left the window; return the bucket of now, with the calls since the last look."""
        now = clock().monotonic()
        while self._recent and self._recent[0].begun <= now - self.window:
            self._recent.popleft()
        if not self._recent or self._recent[-1].begun + self.window / _BUCKETS <= now:
            self._recent.append(_Bucket(now))
        newest = self._recent[-1]
        calls = next(self._counter) - self._looks  # a look counts as one itself
        self._looks += 1
        newest.calls += calls - self._counted
        self._counted = calls
        return newest

    def _left(self) -> int:
        calls = sum(bucket.calls for bucket in self._recent)
        extra = sum(bucket.extra for bucket in self._recent)
        return max(0, self.floor + int(self.ratio * calls) - extra)


class _Bucket:
    __slots__ = ("begun", "calls", "extra")

    def __init__(self, begun: float) -> None:
        self.begun = begun
        self.calls = 0
        self.extra = 0


_all: WeakSet[RetryBudget] = WeakSet()


def _renew_locks() -> None:
    """Give a forked child its own locks: nobody in it releases those that were held."""
    for budget in _all:
        budget._lock = Lock()


os.register_at_fork(after_in_child=_renew_locks)
