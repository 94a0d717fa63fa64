"""`Chaos`: faults on purpose, to see in staging what production will do."""

import random
from collections.abc import Awaitable, Callable
from functools import partial, wraps
from math import inf
from typing import Any, ClassVar, ParamSpec, TypeVar, cast

from resilient_agents import events
from resilient_agents._flow import Flow, arun, run
from resilient_agents.errors import DeadlineExceeded, Unreachable
from resilient_agents.policies._deadline import remaining
from resilient_agents.policies._functions import must_be_awaited, name_of, refuse_class
from resilient_agents.policies._gate import AWAITING, BLOCKING, Waiting

P = ParamSpec("P")
R = TypeVar("R")


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
        seed: What everything random is drawn from. The default is different each time.

    Raises:
        TypeError: *error* makes no exception.
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
    ) -> None:
        for name, rate in (("error_rate", error_rate), ("latency_rate", latency_rate)):
            if not 0 <= rate <= 1:
                raise ValueError(f"{name} must be a part of the calls from 0 to 1, not {rate!r}")
        low, high = latency if isinstance(latency, tuple) else (latency, latency)
        if not 0 <= low <= high < inf:
            raise ValueError(f"latency must be seconds, or a range of them, not {latency!r}")
        if not callable(error):
            raise TypeError("error must be an exception class, or a function that returns an exception")
        self._error_rate, self._error = error_rate, error
        self._latency_rate, self._latency = latency_rate, (low, high)
        self._enabled = enabled
        self._random = random.Random(seed)  # noqa: S311 - repeatable, not secret

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
        late, fails, wait = self._random.random(), self._random.random(), self._random.uniform(*self._latency)
        if not enabled:
            return
        if late < self._latency_rate:
            events.emit(events.FaultInjected, target=target, fault="latency")
            left = remaining()
            yield partial(waiting.sleep, wait if left is None else min(wait, left))
            if left is not None and wait >= left:
                raise DeadlineExceeded(f"{target} was made {wait:g} s late on purpose: its time was up")
        if fails < self._error_rate:
            events.emit(events.FaultInjected, target=target, fault="error")
            raise self._error()
