"""Try again, if that can help: `RetryPolicy`, alias `retry` and `retrying`, and `retry_call`.

What is retried, and when, follows from `resilient_agents.errors.classify`, the one decision about each
failure. A call that succeeds pays for a ``try`` and one look at the clock.
"""

import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from dataclasses import KW_ONLY, dataclass
from functools import partial, wraps
from math import inf
from types import FrameType, TracebackType
from typing import Any, Literal, ParamSpec, Self, TypeVar, cast

from resilient_agents._clock import clock
from resilient_agents._flow import Flow, arun, run
from resilient_agents.policies._decision import Course, Filter, check_filter, set_active
from resilient_agents.policies._functions import must_be_awaited, name_of

__all__ = ["Attempt", "RetryPolicy", "retry", "retry_call", "retrying", "set_active"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often, when and after which failures a call is made again.

    One object, three uses. It decorates ``def`` and ``async def``::

        @retry(attempts=5, deadline=20)
        async def fetch_deal(deal_id): ...

    it repeats a block::

        for attempt in retrying(attempts=5):
            with attempt:
                ...

    and it calls a function: ``policy.call(fetch, 42)``. ``retry`` and ``retrying`` are this class, under
    the names that read well in those places.

    When no attempt is left, the last exception is raised as it is; the earlier ones are notes on it.

    Args:
        attempts: How many attempts are made in all. The default is 3.
        wait_initial: Time in seconds before the second attempt; each later wait is twice as long. The
            default is 1.0.
        wait_max: Time in seconds that the waits grow to. A server that asks for more gets more. The default
            is 30.0.
        jitter: What part of a wait is random: ``"full"``, ``"equal"`` (half of it) or ``"none"``. The default
            is ``"full"``.
        deadline: Time in seconds for all attempts together. A wait that would pass it is not begun; a running
            attempt is not interrupted. *None* for no limit. The default is 60.0.
        idempotent: Whether doing it twice is harmless. *None* judges by the request that failed: a POST or
            PATCH without an idempotency key that may have been executed is not repeated, everything else is.
            The default is *None*.
        on: Which failures are retried, in place of what `classify` advises: an exception type, a
            `Category`, a regular expression (searched for in ``"TypeName: message"``; case-sensitive, so
            write ``"(?i)try again"`` for any case), a predicate that is given the exception, or a list of
            them. *idempotent* holds all the same. The default is to follow the advice.

    Raises:
        TypeError: An argument is of the wrong type, or the parentheses of ``@retry()`` are missing.
        ValueError: A number is out of range, or a regular expression cannot be read.
    """

    attempts: int = 3
    _: KW_ONLY
    wait_initial: float = 1.0
    wait_max: float = 30.0
    jitter: Literal["full", "equal", "none"] = "full"
    deadline: float | None = 60.0
    idempotent: bool | None = None
    on: Filter | None = None

    def __post_init__(self) -> None:
        if callable(self.attempts):
            raise TypeError("write @retry() with parentheses: what is inside them is the policy")
        if type(self.attempts) is not int:
            raise TypeError(f"attempts must be a whole number, not {self.attempts!r}")
        if self.attempts < 1:
            raise ValueError(f"attempts must be 1 or more, not {self.attempts}: 1 is a call without retries")
        for name in ("wait_initial", "wait_max"):
            if not 0 <= getattr(self, name) < inf:
                raise ValueError(f"{name} must be a time in seconds, not {getattr(self, name)!r}")
        if self.jitter not in ("full", "equal", "none"):
            raise ValueError(f"jitter must be 'full', 'equal' or 'none', not {self.jitter!r}")
        if self.deadline is not None and not 0 < self.deadline < inf:
            raise ValueError(f"deadline must be more than 0 seconds, or None, not {self.deadline!r}")
        if self.idempotent not in (None, True, False):
            raise TypeError(f"idempotent must be True, False or None, not {self.idempotent!r}")
        if self.on is not None:
            check_filter(self.on)

    def __call__(self, fn: Callable[P, R]) -> Callable[P, R]:
        """Return *fn* with retries: a ``def`` for a ``def``, an ``async def`` for an ``async def``.

        Raises:
            TypeError: *fn* is a generator function, or no function.
        """
        return wraps(fn)(self._bind(fn))

    def call(self, fn: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call *fn* with retries.

        Returns:
            What *fn* returns; for an ``async def``, an awaitable of it.
        """
        return self._bind(fn)(*args, **kwargs)

    def __iter__(self) -> Iterator["Attempt"]:
        return _Attempts(self, sys._getframe(1))

    def __aiter__(self) -> AsyncIterator["Attempt"]:
        return _Attempts(self, sys._getframe(1))

    def _bind(self, fn: Callable[P, R]) -> Callable[P, R]:
        if must_be_awaited(fn, "retry"):
            return cast("Callable[P, R]", _awaiting(self, cast("Callable[P, Awaitable[Any]]", fn)))
        return _blocking(self, fn)


retry = RetryPolicy
retrying = RetryPolicy

_default = RetryPolicy()


def retry_call(fn: Callable[..., R], *args: Any, policy: RetryPolicy = _default, **kwargs: Any) -> R:
    """Call *fn* with retries, for a function that cannot be decorated.

    Args:
        fn: A ``def`` or ``async def``.
        *args: Its positional arguments.
        policy: How to retry. The default is ``RetryPolicy()``.
        **kwargs: Its keyword arguments. One that is called *policy* itself needs `RetryPolicy.call`.

    Returns:
        What *fn* returns; for an ``async def``, an awaitable of it.
    """
    return policy.call(fn, *args, **kwargs)


def _blocking(policy: RetryPolicy, fn: Callable[P, R]) -> Callable[P, R]:
    """Return *fn* with retries. Its success path is the reason why it is written by hand."""
    timed = policy.deadline is not None

    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        started = clock().monotonic() if timed else 0.0
        try:
            return fn(*args, **kwargs)
        except Exception as exc:
            course = Course(policy, name_of(fn), started)
            wait = course.after(exc)
            if wait is None:
                raise
        flow: Flow[R] = _again(course, partial(fn, *args, **kwargs), clock().sleep, wait)
        return run(flow)

    return call


def _awaiting(policy: RetryPolicy, fn: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Return *fn* with retries. Its success path is the reason why it is written by hand."""
    timed = policy.deadline is not None

    async def call(*args: P.args, **kwargs: P.kwargs) -> T:
        started = clock().monotonic() if timed else 0.0
        try:
            return await fn(*args, **kwargs)
        except Exception as exc:
            course = Course(policy, name_of(fn), started)
            wait = course.after(exc)
            if wait is None:
                raise
        flow: Flow[T] = _again(course, partial(fn, *args, **kwargs), clock().asleep, wait)
        return await arun(flow)

    return call


def _again(course: Course, step: Callable[[], Any], sleep: Callable[[float], Any], wait: float) -> Flow[Any]:
    """Wait and repeat *step* until it succeeds or no attempt is left."""
    while True:
        if wait:
            yield partial(sleep, wait)
        try:
            return (yield step)
        except Exception as exc:
            next_wait = course.after(exc)
            if next_wait is None:
                raise
            wait = next_wait


class Attempt:
    """One attempt of a block: a context manager that keeps back a failure after which another one follows.

    Attributes:
        number: The number of the attempt, from 1.
    """

    __slots__ = ("_course", "_wait", "number")

    def __init__(self, course: Course) -> None:
        self.number = course.attempt
        self._course = course
        self._wait: float | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if isinstance(exc, Exception):
            self._wait = self._course.after(exc)
        return self._wait is not None


class _Attempts:
    """The attempts of one block, blocking and awaiting; it ends when an attempt does not fail."""

    __slots__ = ("_attempt", "_course")

    def __init__(self, policy: RetryPolicy, caller: FrameType) -> None:
        target = f"{caller.f_globals.get('__name__')}.{caller.f_code.co_qualname}"
        self._course = Course(policy, target, clock().monotonic())
        self._attempt: Attempt | None = None

    def __iter__(self) -> "_Attempts":
        return self

    def __aiter__(self) -> "_Attempts":
        return self

    def __next__(self) -> Attempt:
        wait = self._wait_before()
        if wait is None:
            raise StopIteration
        if wait:
            clock().sleep(wait)
        return self._begin()

    async def __anext__(self) -> Attempt:
        wait = self._wait_before()
        if wait is None:
            raise StopAsyncIteration
        if wait:
            await clock().asleep(wait)
        return self._begin()

    def _wait_before(self) -> float | None:
        """Return the seconds before the next attempt; *None* if there is none."""
        return self._attempt._wait if self._attempt else 0.0

    def _begin(self) -> Attempt:
        self._attempt = Attempt(self._course)
        return self._attempt
