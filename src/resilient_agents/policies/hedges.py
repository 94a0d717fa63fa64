"""`hedge`: ask once more beside a call that takes long, and take the answer that comes first."""

import os
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError
from functools import wraps
from math import ceil, inf
from threading import Lock
from typing import TYPE_CHECKING, Any, ClassVar, ParamSpec, TypeVar, cast
from weakref import WeakSet

from resilient_agents import events
from resilient_agents._clock import clock
from resilient_agents.errors import classify
from resilient_agents.policies._deadline import remaining
from resilient_agents.policies._functions import must_be_awaited, name_of, refuse_class
from resilient_agents.policies._tokens import Tokens

if TYPE_CHECKING:
    import asyncio

P = ParamSpec("P")
R = TypeVar("R")

SAMPLES = 200
"""How many of the latest calls the live quantile is taken from."""

ENOUGH = 20
"""How many calls it takes before the quantile is trusted."""


class Hedge:
    """A decorator that begins a slow call once more beside itself; ``hedge`` is its other name.

    Dean and Barroso, "The Tail at Scale" (CACM 56:2, 2013): of a hundred calls the slowest decide how long
    people wait, and a second try of just these is answered much sooner at few per cent more load. The first
    success wins; the others are cancelled, and their end is waited for. It is no retry: a call that fails
    before it was hedged fails. When all fail, the first failure is raised with the others as notes.

    For coroutine functions only, since nothing else can be cancelled, and only for calls that may be made
    twice: reads, and writes with an idempotency key::

        @hedge(0.5)
        async def fetch_deal(deal_id): ...

    Args:
        after: Time in seconds after which a call that has not answered is begun once more. With *quantile*,
            the time until enough calls are known.
        quantile: Hedge what takes longer than this part of the latest calls, from 0 to 1, like 0.95. The
            default is to go by *after* alone.
        most: How many hedges one call has at most, each *after* seconds after the one before. The default is
            1.
        budget: A `RetryBudget`, shared with the retries of the dependency: without a token there is no hedge.
            The default is none.

    Raises:
        TypeError: It is put on a function that is no coroutine function, or *most* is no whole number.
        ValueError: A number is out of range.
    """

    kind: ClassVar[str] = "hedge"

    def __init__(
        self, after: float, *, quantile: float | None = None, most: int = 1, budget: Tokens | None = None
    ) -> None:
        if callable(after):
            raise TypeError("write @hedge(seconds): after which time a call is slow has no default")
        if not 0 <= after < inf:
            raise ValueError(f"after must be a time in seconds, not {after!r}")
        if quantile is not None and not 0 < quantile < 1:
            raise ValueError(f"quantile must be between 0 and 1, as 0.95 is, not {quantile!r}")
        if type(most) is not int:
            raise TypeError(f"most must be a whole number of hedges, not {most!r}")
        if most < 1:
            raise ValueError(f"most must be 1 or more hedges, not {most}")
        if budget is not None and not callable(getattr(budget, "take", None)):
            raise TypeError(f"budget must be a RetryBudget, not {budget!r}")
        self._after = after
        self._quantile = quantile
        self._most = most
        self._budget = budget
        self._latencies: deque[float] = deque(maxlen=SAMPLES)
        self._lock = Lock()
        _all.add(self)

    def __repr__(self) -> str:
        return f"Hedge({self._after}, quantile={self._quantile}, most={self._most})"

    def describe(self) -> str:
        """Return what it does, as a clause."""
        when = f"{self._after:g} s"
        if self._quantile is not None:
            when = f"the time in which {self._quantile:.0%} of the calls answer ({when} at first)"
        budget = ", within a budget" if self._budget else ""
        return f"up to {self._most} more of the same call beside one that takes longer than {when}{budget}"

    @property
    def after(self) -> float:
        """Time in seconds after which a call is hedged right now."""
        if self._quantile is None or len(self._latencies) < ENOUGH:
            return self._after
        with self._lock:
            ordered = sorted(self._latencies)
        return ordered[ceil(self._quantile * len(ordered)) - 1]

    def __call__(self, fn: Callable[P, R]) -> Callable[P, R]:
        """Return *fn* with hedges.

        Raises:
            TypeError: *fn* is no coroutine function.
        """
        refuse_class(fn, "hedge")
        if not must_be_awaited(fn, "hedge"):
            raise TypeError(
                f"{name_of(fn)} is a plain function, and the loser of two calls could not be cancelled: "
                "hedge an async def"
            )
        afn, target = cast("Callable[P, Awaitable[Any]]", fn), name_of(fn)

        @wraps(fn)
        async def hedged(*args: P.args, **kwargs: P.kwargs) -> Any:
            if self._budget is not None:
                self._budget.count()
            begun = clock().monotonic()
            result = await self._race(target, lambda: afn(*args, **kwargs))
            with self._lock:
                self._latencies.append(clock().monotonic() - begun)
            return result

        return cast("Callable[P, R]", hedged)

    async def _race(self, target: str, begin: Callable[[], Awaitable[Any]]) -> Any:
        """Run one call and its hedges until the first success or the last failure."""
        import asyncio

        numbers = {asyncio.ensure_future(begin()): 0}
        failures: list[BaseException] = []
        after: float | None = self.after
        try:
            while running := [runner for runner in numbers if not runner.done()]:
                done, _ = await asyncio.wait(running, timeout=after, return_when=asyncio.FIRST_COMPLETED)
                for runner in filter(done.__contains__, running):  # the call itself comes before its hedges
                    failure = _failure(runner)
                    if failure is None:
                        self._tell_winner(target, numbers[runner])
                        return runner.result()
                    failures.append(failure)
                if not done:
                    number = len(numbers)
                    if self._grants(number):
                        events.emit(events.HedgeStarted, target=target, number=number, after=after)
                        numbers[asyncio.ensure_future(begin())] = number
                    after = self.after if len(numbers) == number + 1 <= self._most else None
            for other in failures[1:]:
                failures[0].add_note(f"a hedge failed too: {classify(other).code}")
            raise failures[0]
        finally:
            for runner in numbers:
                runner.cancel()
            await asyncio.gather(*numbers, return_exceptions=True)
            # A traceback holds this frame: what holds the traceback must not be in it.
            numbers.clear()
            failures.clear()
            failure = running = done = runner = None  # type: ignore[assignment]

    def _grants(self, number: int) -> bool:
        """Tell whether hedge *number* may begin: there is time and a token for it."""
        left = remaining()
        if left is not None and left <= 0:
            return False
        return self._budget is None or self._budget.take()

    def _tell_winner(self, target: str, number: int) -> None:
        if number:
            events.emit(events.HedgeWon, target=target, number=number)
            if self._budget is not None:
                self._budget.refund()


hedge = Hedge


def _failure(runner: "asyncio.Future[Any]") -> BaseException | None:
    """Return what a finished call raised, or *None*."""
    if runner.cancelled():
        return CancelledError()
    return runner.exception()


_all: WeakSet[Hedge] = WeakSet()


def _renew_locks() -> None:
    """Give a forked child its own locks: nobody in it releases those that were held."""
    for one in _all:
        one._lock = Lock()


os.register_at_fork(after_in_child=_renew_locks)
