"""A target that fails too often is left alone for a while: nobody waits for it, and it can recover."""

import os
from dataclasses import dataclass
from math import inf
from typing import Literal
from weakref import WeakSet

from resilient_agents._clock import clock
from resilient_agents.policies._breaker_settings import Settings
from resilient_agents.policies._circuit import Circuit
from resilient_agents.policies._filters import Filter
from resilient_agents.policies._shared import SharedState
from resilient_agents.policies._windows import Counts


@dataclass(frozen=True, kw_only=True, slots=True)
class BreakerStats:
    """What a circuit breaker knew at one moment.

    Attributes:
        state: ``"closed"``, ``"open"`` or ``"half_open"``.
        forced: Whether it was put into that state by hand.
        calls: How many calls were in the window; of a breaker that is not closed, when it opened.
        failures: How many of them failed.
        slow: How many of them were slow.
        failure_rate: What part of them failed, from 0 to 1.
        slow_rate: What part of them was slow, from 0 to 1.
        wait: Time in seconds until it is probed, 0 or more; *None* if it is not open, or opened by hand.
        probes: How many probes were under way.
    """

    state: str
    forced: bool
    calls: int
    failures: int
    slow: int
    failure_rate: float
    slow_rate: float
    wait: float | None
    probes: int


class CircuitBreaker(Circuit):
    """Leave a target alone that fails too often, and find out when it works again.

    *Closed*, it lets all calls through and looks at the last of them. When too many failed it *opens*: calls
    are refused at once with `CircuitOpen`. After *open_for* it is *half-open*: a few calls, the probes, go
    through. Where they succeed it closes; where one fails it opens again. One breaker serves threads and
    tasks alike, as a decorator, a block, or a part of a pipeline::

        crm = CircuitBreaker(name="crm")

        @crm
        async def fetch_deal(deal_id): ...

    A failure counts if `classify` says that the target is at fault (category *external*). Any other answer,
    as a 404, 429 or 422, shows that the target works. Defects of our own, cancelled calls and calls that were
    never sent say nothing, and are not counted. A call that `timeout` cut off counts as a failure, unless it
    was our own caller whose `deadline` was up.

    The rates are judged when a call fails or is slow; a success opens nothing.

    Args:
        failure_rate: What part of the calls in the window may fail before it opens, above 0 and up to 1. The
            default is 0.5.
        window: How many of the last calls are looked at. The default is 100.
        window_seconds: Look at the calls of the last so many seconds instead. The window moves on in tenths
            of its length. The default is *None*: the last *window* calls.
        minimum_calls: How many calls must be in the window before it is judged. The default is 10.
        slow_call: Time in seconds from which on a call is slow. The default is *None*: none is.
        slow_rate: What part of the calls may be slow before it opens, above 0 and up to 1. The default is
            1.0.
        open_for: Time in seconds until it is probed, and after which a probe that did not come back makes
            room for another one. Up to a tenth is added at random, so that many processes do not probe at
            once. The default is 30.0.
        probes: How many calls at a time are let through while it is half-open, and how many of them must
            succeed. The default is 1.
        counts: Which failures count, in place of what `classify` says: exception types, categories, regular
            expressions, predicates, or a list of these. The default is *None*.
        mode: ``"enforce"``, or ``"observe"`` to refuse nobody and only tell, by events and `stats`, what
            would have happened. The default is ``"enforce"``.
        shared: Where the breakers of this *name* in other processes meet. The default is *None*: each process
            decides by itself.
        name: What events and messages call it, and other processes where it is *shared*.

    Raises:
        TypeError: A parameter is of the wrong kind.
        ValueError: A parameter is out of range, or contradicts another one.
    """

    def __init__(
        self,
        *,
        failure_rate: float = 0.5,
        window: int = 100,
        window_seconds: float | None = None,
        minimum_calls: int = 10,
        slow_call: float | None = None,
        slow_rate: float = 1.0,
        open_for: float = 30.0,
        probes: int = 1,
        counts: Filter | None = None,
        mode: Literal["enforce", "observe"] = "enforce",
        shared: SharedState | None = None,
        name: str = "",
    ) -> None:
        settings = Settings(
            failure_rate=failure_rate,
            window=window,
            window_seconds=window_seconds,
            minimum_calls=minimum_calls,
            slow_call=slow_call,
            slow_rate=slow_rate,
            open_for=open_for,
            probes=probes,
            counts=counts,
            mode=mode,
            shared=shared,
            name=name,
        )
        super().__init__(settings)
        _all.add(self)

    def __repr__(self) -> str:
        return f"CircuitBreaker(name={self.name!r})"

    def describe(self) -> str:
        """Return what it does, as a clause."""
        settings = self._settings
        window = f"the last {settings.window} calls"
        if settings.window_seconds is not None:
            window = f"the calls of the last {settings.window_seconds:g} s"
        slow = ""
        if settings.slow_call is not None:
            slow = f", or {settings.slow_rate:.0%} took {settings.slow_call:g} s or more"
        verb = "refuses calls" if self._enforced else "says that it would refuse calls"
        return (
            f"a circuit breaker that {verb} for {settings.open_for:g} s when {settings.failure_rate:.0%} of "
            f"{window} failed{slow}, and then probes with {settings.probes}"
        )

    @property
    def state(self) -> str:
        """The state: ``"closed"``, ``"open"`` or ``"half_open"``. It is open until the first probe begins."""
        return self._state

    @property
    def at_rest(self) -> bool:
        """Whether a new breaker in its place would do the same: it is neither forced nor waiting."""
        return not (self._forced or (self._state == "open" and clock().monotonic() < self._until))

    def stats(self) -> BreakerStats:
        """Return what the breaker knows now."""
        with self._lock:
            now = clock().monotonic()
            counts = self._window.counts() if self._state == "closed" else self._last
            waiting = self._state == "open" and not self._forced
            return BreakerStats(
                state=self._state,
                forced=self._forced,
                calls=counts.calls,
                failures=counts.failed,
                slow=counts.slow,
                failure_rate=counts.failure_rate,
                slow_rate=counts.slow_rate,
                wait=max(0.0, self._until - now) if waiting else None,
                probes=self._probation.under_way(now),
            )

    def force_open(self) -> None:
        """Refuse all calls until `release` or `reset`, in this process."""
        with self._lock:
            was_open = self._state == "open"
            self._forced = True
            news = self._open(inf, "forced", Counts(0, 0, 0), "it was opened by hand, until release()")
        self._tell(None if was_open else news)

    def force_closed(self) -> None:
        """Let all calls through, and count none, until `release` or `reset`, in this process."""
        self._close_by_hand(forced=True)

    def release(self) -> None:
        """Let the breaker decide again, if it was forced: it is closed, and its window empty."""
        if self._forced:
            self._close_by_hand(forced=False)

    def reset(self) -> None:
        """Close the breaker and forget everything, as though it were new."""
        self._close_by_hand(forced=False)

    def _close_by_hand(self, *, forced: bool) -> None:
        with self._lock:
            was_closed = self._state == "closed"
            self._forced = forced
            news = self._close()
        self._tell(None if was_closed else news)


_all: WeakSet[CircuitBreaker] = WeakSet()


def _renew_locks() -> None:
    """Give a forked child its own locks: nobody in it releases those that were held."""
    for breaker in _all:
        breaker._renew_locks()


os.register_at_fork(after_in_child=_renew_locks)
