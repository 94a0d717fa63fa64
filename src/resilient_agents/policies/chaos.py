"""`Chaos`: faults on purpose, to see in staging what production will do."""

import os
import random
from collections.abc import Awaitable, Callable
from functools import partial, wraps
from math import inf
from threading import Lock
from typing import Any, ClassVar, ParamSpec, TypeVar, cast
from weakref import WeakSet

from resilient_agents import events
from resilient_agents._flow import Flow, arun, run
from resilient_agents.errors import DeadlineExceeded, Unreachable
from resilient_agents.policies._deadline import remaining
from resilient_agents.policies._functions import must_be_awaited, name_of, refuse_class
from resilient_agents.policies._parameters import number, text
from resilient_agents.policies._waiting import AWAITING, BLOCKING, Waiting

P = ParamSpec("P")
R = TypeVar("R")

_TIME = "seconds, or a range of them such as (0.1, 2.0)"


class Chaos:
    """A decorator that makes some calls slow and some fail.

    Put it next to the function, inside of everything that is to withstand it::

        staging = Pipeline("kommo", RetryPolicy(), CircuitBreaker(), Chaos(error_rate=0.1, latency_rate=0.2))

    Args:
        error_rate: Part of the calls that fail before the function is called, from 0 to 1. The default is 0.
        error: What they raise: an exception class, or a function that returns an exception. The default is
            `Unreachable`.
        latency_rate: Part of the calls that are delayed, from 0 to 1. The default is 0.
        latency: Time in seconds, or a range of it, that a delayed call waits. The default is 1.0. A wait that
            passes the deadline in force ends there, with `DeadlineExceeded`.
        enabled: Whether anything happens; a function is asked at each call. The default is *True*.
        seed: What everything random is drawn from: the same calls in the same order meet the same faults. The
            default is different each time, in forked processes too.
        name: What events call it. The default is an empty text.

    Raises:
        TypeError: *error* makes no exception, or something else is no number or text.
        ValueError: A number is out of range.
    """

    kind: ClassVar[str] = "chaos"

    def __init__(
        self,
        *,
        error_rate: float = 0.0,
        error: Callable[[], Exception] = Unreachable,
        latency_rate: float = 0.0,
        latency: float | tuple[float, float] = 1.0,
        enabled: bool | Callable[[], bool] = True,
        seed: int | None = None,
        name: str = "",
    ) -> None:
        for parameter, rate in (("error_rate", error_rate), ("latency_rate", latency_rate)):
            if not 0 <= number(parameter, rate, "a part of the calls from 0 to 1") <= 1:
                raise ValueError(f"{parameter} must be a part of the calls from 0 to 1, not {rate!r}")
        low, high = latency if isinstance(latency, tuple) and len(latency) == 2 else (latency, latency)
        if not 0 <= number("latency", low, _TIME) <= number("latency", high, _TIME) < inf:
            raise ValueError(f"latency must be seconds, or a range of them, not {latency!r}")
        if not callable(error):
            raise TypeError("error must be an exception class, or a function that returns an exception")
        self._error_rate, self._error = error_rate, error
        self._latency_rate, self._latency = latency_rate, (low, high)
        self._enabled = enabled
        self.name = text("name", name)
        # Python's own source of chance is sown anew in a forked child; one of ours would repeat the parent's.
        self._random: Any = random if seed is None else random.Random(seed)  # noqa: S311 - not secret
        self._lock = Lock()
        _all.add(self)

    def __repr__(self) -> str:
        return f"Chaos(error_rate={self._error_rate}, latency_rate={self._latency_rate}, name={self.name!r})"

    def describe(self) -> str:
        """Return what it does, as a clause."""
        low, high = self._latency
        return (
            f"faults on purpose: {self._error_rate:.0%} of the calls fail, {self._latency_rate:.0%} are "
            f"{low:g} to {high:g} s late"
        )

    def __call__(self, fn: Callable[P, R]) -> Callable[P, R]:
        """Return *fn* with faults: a ``def`` for a ``def``, an ``async def`` for an ``async def``."""
        refuse_class(fn, "Chaos")
        target = name_of(fn)
        if must_be_awaited(fn, "Chaos"):

            @wraps(fn)
            async def awaiting(*args: P.args, **kwargs: P.kwargs) -> Any:
                await arun(self._strike(target, AWAITING))
                return await cast("Callable[P, Awaitable[Any]]", fn)(*args, **kwargs)

            return cast("Callable[P, R]", awaiting)

        @wraps(fn)
        def blocking(*args: P.args, **kwargs: P.kwargs) -> R:
            run(self._strike(target, BLOCKING))
            return fn(*args, **kwargs)

        return blocking

    def _strike(self, target: str, waiting: Waiting) -> Flow[None]:
        """Draw what happens to a call, the same number of times for each, and make it happen."""
        enabled = self._enabled() if callable(self._enabled) else self._enabled
        draw, span = self._random, self._latency
        with self._lock:  # a call's draws stay together, whoever calls beside it
            late, fails, wait = draw.random(), draw.random(), draw.uniform(*span)
        if not enabled:
            return
        if late < self._latency_rate:
            events.emit(events.FaultInjected, target=target, fault="latency", name=self.name)
            left = remaining()
            yield partial(waiting.sleep, wait if left is None else min(wait, left))
            if left is not None and wait >= left:
                raise DeadlineExceeded(f"{target} was made {wait:g} s late on purpose: its time was up")
        if fails < self._error_rate:
            events.emit(events.FaultInjected, target=target, fault="error", name=self.name)
            raise self._error()


_all: WeakSet[Chaos] = WeakSet()


def _renew_locks() -> None:
    """Give a forked child its own locks: nobody in it releases those that were held."""
    for one in _all:
        one._lock = Lock()


os.register_at_fork(after_in_child=_renew_locks)
