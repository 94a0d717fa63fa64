"""Which targets are down: their entries wait, and nobody spends a call on them."""

import os
import threading
from dataclasses import dataclass
from weakref import WeakSet

from resilient_agents import events
from resilient_agents._clock import clock
from resilient_agents.deadletter.settlement import Limits
from resilient_agents.errors import Category, Failure

STRIKES = 3
"""How many outages in a row pause a target that gave no reason to stop at once."""


@dataclass(slots=True)
class _Topic:
    outages: int = 0
    until: float = 0.0
    served_at: float = 0.0
    probed: bool = False


class Pauses:
    """Keeps, for each topic of this process, whether its target works.

    Args:
        limits: How the time between two probes grows.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._topics: dict[str, _Topic] = {}
        self._lock = threading.Lock()
        _all.add(self)

    def wait(self, topic: str) -> float:
        """Return the time in seconds until *topic* may be tried again; 0 when it may be now."""
        known = self._topics.get(topic)
        return 0.0 if known is None else max(0.0, known.until - clock().monotonic())

    def paused(self, topic: str) -> bool:
        """Tell whether *topic*'s target was found to be down, and no probe of it is under way."""
        known = self._topics.get(topic)
        return known is not None and not known.probed and known.until > clock().monotonic()

    def admits(self, topic: str) -> bool:
        """Tell whether the caller may try *topic* now; a suspect target gets one probe at a time."""
        known = self._topics.get(topic)
        if known is None or known.until == 0.0:
            return True
        with self._lock:
            now = clock().monotonic()
            if known.until > now:
                return False
            if known.until > 0.0:
                known.until = now + self._limits.wait(1)
                known.probed = True
            return True

    def probing(self, topic: str) -> bool:
        """Tell whether *topic* is suspected to be down, so that one entry is risked and not many."""
        known = self._topics.get(topic)
        return known is not None and known.until > 0.0

    def served_since(self, topic: str, moment: float) -> bool:
        """Tell whether *topic*'s target worked after *moment*, in seconds since the epoch."""
        known = self._topics.get(topic)
        return known is not None and known.served_at > moment

    def served(self, topic: str) -> None:
        """Note that *topic*'s target works, whatever it thinks of the entry."""
        with self._lock:
            known = self._topics.setdefault(topic, _Topic())
            resumed, known.until, known.outages, known.probed = known.until > 0.0, 0.0, 0, False
            known.served_at = clock().time()
        if resumed:
            events.emit(events.TopicResumed, topic=topic)

    def answered(self, topic: str) -> None:
        """Note that *topic*'s target answers questions: many may ask again; whether it works is not known."""
        with self._lock:
            known = self._topics.get(topic)
            if known is None or not known.probed:
                return
            known.until, known.probed = 0.0, False
        events.emit(events.TopicResumed, topic=topic)

    def failed(self, topic: str, failure: Failure) -> None:
        """Note that a delivery failed; pause *topic* when the target is to blame.

        A hint how long to wait, a rate limit and refused credentials pause it at once; other outages
        when they come `STRIKES` times in a row.
        """
        if not failure.outage:
            return
        with self._lock:
            known = self._topics.setdefault(topic, _Topic())
            now = clock().monotonic()
            if now < known.until and not known.probed:
                # A call that was under way when the pause began says nothing new, except how long to wait.
                known.until = max(known.until, now + (failure.retry_after or 0.0))
                return
            known.outages += 1
            certain = failure.category is not Category.EXTERNAL or failure.retry_after is not None
            if not certain and known.outages < STRIKES:
                return
            probes = known.outages if certain else known.outages - STRIKES + 1
            wait = max(self._limits.wait(probes), failure.retry_after or 0.0)
            known.until, known.probed = now + wait, False
        events.emit(events.TopicPaused, topic=topic, wait=wait, failure=failure)


_all: "WeakSet[Pauses]" = WeakSet()


def _renew_locks() -> None:
    """Give a forked child its own locks: nobody in it releases those that were held."""
    for pauses in _all:
        pauses._lock = threading.Lock()


os.register_at_fork(after_in_child=_renew_locks)
