"""`hedge`: ask once more beside a call that takes long, and take the answer that comes first."""

import os
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import wraps
from math import ceil
from threading import Lock
from typing import TYPE_CHECKING, Any, ClassVar, ParamSpec, TypeVar, cast
from weakref import WeakSet

from resilient_agents import events
from resilient_agents._clock import clock
from resilient_agents.errors import classify
from resilient_agents.policies._deadline import remaining
from resilient_agents.policies._functions import must_be_awaited, name_of, refuse_class
from resilient_agents.policies._numbers import number as attempt
from resilient_agents.policies._parameters import number, patience, text, whole
from resilient_agents.policies._tokens import Tokens

if TYPE_CHECKING:
    import asyncio

P = ParamSpec("P")
R = TypeVar("R")

SAMPLES = 200
"""How many of a function's latest calls the live quantile is taken from."""

ENOUGH = 20
"""How many calls it takes before the quantile is trusted."""

_NO_DEFAULT = (
    "write @hedge(seconds), or @hedge(quantile=0.95): after which time a call is slow has no default"
)


class Hedge:
    """A decorator that begins a slow call once more beside itself; ``hedge`` is its other name.

    Dean and Barroso, "The Tail at Scale" (CACM 56:2, 2013): of a hundred calls the slowest decide how long
    people wait, and a second try of just these is answered much sooner at few per cent more load. The first
    success wins; the others are cancelled, and their end is waited for. It is no retry: a call that fails
    before it was hedged fails, and one that is cancelled from within is cancelled. When all fail, the first
    failure is raised with the others as notes.

    For coroutine functions only, since nothing else can be cancelled, and only for calls that may be made
    twice: reads, and writes with an idempotency key::

        @hedge(0.5)
        async def fetch_deal(deal_id): ...

    Args:
        after: Time in seconds after which a call that has not answered is begun once more. With *quantile*,
            the time until enough calls are known; the default is then that none is hedged until they are.
        quantile: Hedge what takes longer than this part of the latest calls of the same function, from 0 to
            1, like 0.95. The default is to go by *after* alone.
        most: How many hedges one call has at most, each *after* seconds after the one before. The default is
            1.
        budget: A `RetryBudget`, shared with the retries of the dependency: without a token there is no hedge.
            The default is none.
        name: What events call it. The default is an empty text.

    Raises:
        TypeError: Neither *after* nor *quantile* is given, *most* is no whole number, something else is no
            number or no budget, or it is put on a function that is no coroutine function.
        ValueError: A number is out of range.
    """

    kind: ClassVar[str] = "hedge"

    def __init__(
        self,
        after: float | None = None,
        *,
        quantile: float | None = None,
        most: int = 1,
        budget: Tokens | None = None,
        name: str = "",
    ) -> None:
        if callable(after):
            raise TypeError(_NO_DEFAULT)
        if after is None and quantile is None:
            raise TypeError(_NO_DEFAULT)
        if quantile is not None and not 0 < number("quantile", quantile, "a number between 0 and 1") < 1:
            raise ValueError(f"quantile must be between 0 and 1, as 0.95 is, not {quantile!r}")
        if budget is not None and not callable(getattr(budget, "take", None)):
            raise TypeError(f"budget must be a RetryBudget, not {budget!r}")
        self._after = patience("after", after, zero=True)
        self._quantile = quantile
        self._most = whole("most", most, "hedges")
        self._budget = budget
        self.name = text("name", name)
        # By function: the answers of a quick one would let each call of a slow one pass for late.
        self._latencies: dict[str, _Latencies] = {}

    def __repr__(self) -> str:
        return f"Hedge({self._after}, quantile={self._quantile}, most={self._most}, name={self.name!r})"

    def describe(self) -> str:
        """Return what it does, as a clause."""
        when = f"{self._after} s"
        if self._quantile is not None:
            first = "none is hedged at first" if self._after is None else f"{self._after:g} s at first"
            when = f"the time in which {self._quantile:.0%} of the calls answer ({first})"
        budget = ", within a budget" if self._budget else ""
        return f"up to {self._most} more of the same call beside one that takes longer than {when}{budget}"

    def delay(self, fn: Callable[..., Any]) -> float | None:
        """Return the seconds after which a call of a function is hedged right now.

        Args:
            fn: The function, decorated or not.

        Returns:
            The time in seconds; *None* while no call of it is hedged, for too few are known.
        """
        return self._delay(self._latencies.get(name_of(fn)))

    def _delay(self, latencies: "_Latencies | None") -> float | None:
        known = latencies.quantile(self._quantile) if latencies and self._quantile else None
        return self._after if known is None else known

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
        latencies = None if self._quantile is None else self._latencies.setdefault(target, _Latencies())

        @wraps(fn)
        async def hedged(*args: P.args, **kwargs: P.kwargs) -> Any:
            if self._budget is not None and attempt.get() == 1:  # a retry counts no call twice
                self._budget.count()
            begun = clock().monotonic()
            result = await self._race(target, lambda: afn(*args, **kwargs), self._delay(latencies))
            if latencies is not None:
                latencies.add(clock().monotonic() - begun)
            return result

        return cast("Callable[P, R]", hedged)

    async def _race(self, target: str, begin: Callable[[], Awaitable[Any]], delay: float | None) -> Any:
        """Run one call and its hedges until the first success or the last failure; leave none behind."""
        import asyncio

        runners = [asyncio.ensure_future(begin())]
        failures: list[BaseException] = []
        begun = asyncio.get_running_loop().time()
        due = delay
        try:
            while running := [runner for runner in runners if not runner.done()]:
                left = None if due is None else max(0.0, begun + due - asyncio.get_running_loop().time())
                done, _ = await asyncio.wait(running, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                for runner in filter(done.__contains__, running):  # the call itself comes before its hedges
                    if (failure := _failure(runner)) is None:
                        self._tell_winner(target, runners.index(runner))
                        return runner.result()
                    failures.append(failure)
                if not done and delay is not None:
                    granted = self._grants()
                    if granted:
                        self._tell_hedge(target, len(runners), delay)
                        runners.append(asyncio.ensure_future(begin()))
                    begun = asyncio.get_running_loop().time()
                    due = delay if granted and len(runners) <= self._most else None
            for other in failures[1:]:
                with suppress(Exception):  # an exception of somebody else's may take no notes
                    failures[0].add_note(f"a hedge failed too: {classify(other).code}")
            raise failures[0]
        finally:
            if len(runners) > 1 or not runners[0].done():
                for runner in runners:
                    runner.cancel()
                await asyncio.gather(*runners, return_exceptions=True)
            # A traceback holds this frame: what holds the traceback must not be in it.
            runners.clear()
            failures.clear()
            failure = running = done = runner = None  # type: ignore[assignment]

    def _grants(self) -> bool:
        """Tell whether one more hedge may begin: there is time and a token for it."""
        left = remaining()
        if left is not None and left <= 0:
            return False
        return self._budget is None or self._budget.take()

    def _tell_hedge(self, target: str, number: int, after: float) -> None:
        events.emit(events.HedgeStarted, target=target, number=number, after=after, name=self.name)

    def _tell_winner(self, target: str, number: int) -> None:
        if number:
            events.emit(events.HedgeWon, target=target, number=number, name=self.name)
            if self._budget is not None:
                self._budget.refund()


hedge = Hedge


def _failure(runner: "asyncio.Future[Any]") -> BaseException | None:
    """Return what a finished call raised, or *None*; raise at once what no other call can make good.

    Raises:
        BaseException: The call was cancelled, by nobody here, or raised what is no `Exception`.
    """
    if runner.cancelled():
        runner.result()
    failure = runner.exception()
    if failure is not None and not isinstance(failure, Exception):
        raise failure
    return failure


class _Latencies:
    """How long the latest calls of one function took, in seconds."""

    __slots__ = ("__weakref__", "_latest", "_lock", "_ordered")

    def __init__(self) -> None:
        self._latest: deque[float] = deque()
        self._ordered: list[float] = []
        self._lock = Lock()
        _all.add(self)

    def add(self, seconds: float) -> None:
        """Remember a call, and forget the oldest one of too many."""
        with self._lock:
            if len(self._latest) == SAMPLES:
                del self._ordered[bisect_left(self._ordered, self._latest.popleft())]
            self._latest.append(seconds)
            insort(self._ordered, seconds)

    def quantile(self, part: float) -> float | None:
        """Return the time in which this part of the calls answered; *None* where too few are known."""
        with self._lock:
            known = len(self._ordered)
            return self._ordered[ceil(part * known) - 1] if known >= ENOUGH else None


_all: WeakSet[_Latencies] = WeakSet()


def _renew_locks() -> None:
    """Give a forked child its own locks: nobody in it releases those that were held."""
    for one in _all:
        one._lock = Lock()


os.register_at_fork(after_in_child=_renew_locks)
