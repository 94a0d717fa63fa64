"""Time that is up: `deadline`, which everything below obeys, and `timeout`, which puts one on a function."""

from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast

from resilient_agents.errors import DeadlineExceeded
from resilient_agents.policies._deadline import check, deadline, remaining
from resilient_agents.policies._functions import must_be_awaited, name_of

__all__ = ["check", "deadline", "remaining", "timeout"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


def timeout(seconds: float) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator that ends a call after *seconds*.

    An ``async def`` is cancelled at its next ``await``, whatever it waits for. A plain function cannot be
    stopped from outside without harm, so it runs under a `deadline` instead: it is not begun when the time
    is up already, waits and requests made through this package obey it, and long loops should call `check`.
    A plain function that returns late has returned all the same; its result is not thrown away.

    Args:
        seconds: Time in seconds for one call. A `deadline` in force can only shorten it.

    Returns:
        A decorator for ``def`` and ``async def`` alike, which raises `DeadlineExceeded`, from the
        `TimeoutError`, when the time was up. A `TimeoutError` of the function's own passes unchanged.

    Raises:
        TypeError: It is written without parentheses, or put on a generator function.
        ValueError: *seconds* is negative or not a number.
    """
    if callable(seconds):
        raise TypeError("write @timeout(seconds): how long a call may take has no default")
    deadline(seconds)

    def decorate(fn: Callable[P, R]) -> Callable[P, R]:
        if must_be_awaited(fn, "timeout"):
            return cast("Callable[P, R]", _cancelled(cast("Callable[P, Awaitable[Any]]", fn), seconds))

        @wraps(fn)
        def timed(*args: P.args, **kwargs: P.kwargs) -> R:
            with deadline(seconds):
                check()
                return fn(*args, **kwargs)

        return timed

    return decorate


def _cancelled(fn: Callable[P, Awaitable[T]], seconds: float) -> Callable[P, Coroutine[Any, Any, T]]:
    """Return *fn* such that it is cancelled when its time is up."""

    @wraps(fn)
    async def timed(*args: P.args, **kwargs: P.kwargs) -> T:
        import asyncio

        with deadline(seconds):
            check()
            limit = asyncio.timeout(remaining())
            try:
                async with limit:
                    return await fn(*args, **kwargs)
            except TimeoutError as exc:
                if not limit.expired():
                    raise
                raise DeadlineExceeded(f"{name_of(fn)} was cancelled: its time was up") from exc

    return timed
