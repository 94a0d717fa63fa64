"""`RetryBudget`: how many extra calls a dependency can bear, for all of its callers together."""

import os
from collections import deque
from itertools import count
from math import inf
from threading import Lock
from typing import TYPE_CHECKING
from weakref import WeakSet

from resilient_agents._clock import clock
from resilient_agents.policies._parameters import number, text, whole

if TYPE_CHECKING:
    from collections.abc import Callable

_STRETCHES = 10
"""How finely a window is divided: what is remembered stays this small, however many calls there are."""


class RetryBudget:
    """Tokens for retries and hedges, shared by the callers of one dependency.

    When everything fails, each retry is one more call to a service that is already in trouble. A budget keeps
    the extra calls of the last *window* seconds to *floor* and a share of the calls that were begun in them,
    as failsafe-go's budget does; an extra call that succeeds gives its token back, as in botocore's retry
    quota and gRPC's retry throttling (proposal A6). The first to ask after a long calm is answered from the
    average traffic of that time, for a successful call costs no look at the clock::

        budget = RetryBudget(name="kommo")

        @retry(budget=budget)
        def fetch_deal(deal_id): ...

    Args:
        ratio: Extra calls for each call that is begun, from 0 to 1. The default is 0.2.
        floor: Extra calls that are always allowed in a window, so that a quiet service can retry too. The
            default is 3.
        window: Length of the window in seconds. The default is 10.
        name: What events call it. The default is an empty text.

    Raises:
        TypeError: *floor* is no whole number, or something else is no number or text.
        ValueError: A number is out of range.
    """

    def __init__(self, *, ratio: float = 0.2, floor: int = 3, window: float = 10.0, name: str = "") -> None:
        if not 0 <= number("ratio", ratio, "a number from 0 to 1") <= 1:
            raise ValueError(f"ratio must be from 0 to 1 extra calls for each call, not {ratio!r}")
        whole("floor", floor, "extra calls", least=0)
        if floor == 0 and ratio == 0:
            raise ValueError("floor must be more than 0 where ratio is 0: else nothing is retried")
        if not 0 < number("window", window, "a time in seconds") < inf:
            raise ValueError(f"window must be more than 0 seconds, not {window!r}")
        self.ratio = ratio
        self.floor = floor
        self.window = window
        self.name = text("name", name)
        self._lock = Lock()
        # Counting is part of every successful call: a counter does it without a lock, and is read rarely.
        self._counter = count()
        self.count: Callable[[], object] = self._counter.__next__
        self._looks = 0
        self._counted = 0
        now = clock().monotonic()
        self._recent: deque[_Stretch] = deque([_Stretch(now, now)])
        _all.add(self)

    def __repr__(self) -> str:
        return (
            f"RetryBudget(ratio={self.ratio}, floor={self.floor}, window={self.window}, name={self.name!r})"
        )

    @property
    def balance(self) -> int:
        """How many extra calls may be made right now, 0 or more."""
        with self._lock:
            return self._left(self._settled())

    def take(self) -> bool:
        """Take a token for one extra call; tell whether there was one."""
        with self._lock:
            newest = self._settled()
            if self._left(newest) < 1:
                return False
            newest.extra += 1
            return True

    def refund(self) -> None:
        """Give a token back: the extra call was worth it. Without one to give back, nothing happens."""
        with self._lock:
            self._settled()
            for stretch in reversed(self._recent):
                if stretch.extra:
                    stretch.extra -= 1
                    return

    def _settled(self) -> "_Stretch":
        """Forget what has left the window; return the stretch up to now, with the calls of it."""
        now = clock().monotonic()
        recent = self._recent
        newest = recent[-1]
        if now < newest.ended:  # another clock came into force, on which none of this has happened
            newest = _Stretch(now, now)
            recent.clear()
            recent.append(newest)
        elif now - newest.begun < self.window / _STRETCHES:
            newest.ended = now
        else:
            newest = _Stretch(newest.ended, now)
            recent.append(newest)
        while recent[0].ended <= now - self.window:
            recent.popleft()
        calls = next(self._counter) - self._looks  # a look counts as one itself
        self._looks += 1
        newest.calls += calls - self._counted
        self._counted = calls
        return newest

    def _left(self, newest: "_Stretch") -> int:
        since = newest.ended - self.window
        calls = sum(stretch.calls_since(since, self.window / _STRETCHES) for stretch in self._recent)
        extra = sum(stretch.extra for stretch in self._recent)
        return max(0, self.floor + int(self.ratio * calls) - extra)


class _Stretch:
    """The calls between two moments, and the extra calls that were granted in it."""

    __slots__ = ("begun", "calls", "ended", "extra")

    def __init__(self, begun: float, ended: float) -> None:
        self.begun = begun
        self.ended = ended
        self.calls = 0
        self.extra = 0

    def calls_since(self, since: float, short: float) -> float:
        """Return how many of the calls are younger than *since*, rather too few than too many.

        Nothing notes when a call begins. In a stretch that is not longer than *short* it does not matter; one
        that is longer, since for all that time no token was asked for, is taken to have had even traffic.
        """
        if self.begun > since:
            return self.calls
        length = self.ended - self.begun
        return self.calls * (self.ended - since) / length if length > short else 0


_all: WeakSet[RetryBudget] = WeakSet()


def _renew_locks() -> None:
    """Give a forked child its own locks: nobody in it releases those that were held."""
    for budget in _all:
        budget._lock = Lock()


os.register_at_fork(after_in_child=_renew_locks)
