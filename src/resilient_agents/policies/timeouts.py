"""Time that is up: `deadline`, which everything below obeys, and `timeout`, which puts one on a function."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, ParamSpec, TypeVar

from resilient_agents.policies._deadline import bounded, check, deadline, remaining
from resilient_agents.policies._functions import must_be_awaited, refuse_class

__all__ = ["Timeout", "check", "deadline", "remaining", "timeout"]

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Timeout:
    """A decorator that ends a call after *seconds*; ``timeout`` is the name that reads well.

    An ``async def`` is cancelled at its next ``await``, whatever it waits for. A plain function cannot be
    stopped from outside without harm, so it runs under a `deadline` instead: it is not begun when the time
    is up already, waits and requests made through this package obey it, and long loops should call `check`.
    A plain function that returns late has returned all the same; its result is not thrown away.

    The function then raises `DeadlineExceeded`, from the `TimeoutError`, when its time was up: with the code
    ``external.timeout`` where it had all of *seconds*, so that a circuit breaker counts it, and
    ``external.deadline`` where a `deadline` in force left it less. A `TimeoutError` of the function's own
    passes unchanged.

    Args:
        seconds: Time in seconds for one call. A `deadline` in force can only shorten it.

    Raises:
        TypeError: It is written without parentheses, or put on a class or a generator function.
        ValueError: *seconds* is negative or not a number.
    """

    kind: ClassVar[str] = "timeout"

    seconds: float

    def __post_init__(self) -> None:
        if callable(self.seconds):
            raise TypeError("write @timeout(seconds): how long a call may take has no default")
        deadline(self.seconds)

    def __call__(self, fn: Callable[P, R]) -> Callable[P, R]:
        """Return *fn* with the limit: a ``def`` for a ``def``, an ``async def`` for an ``async def``."""
        refuse_class(fn, "timeout")
        return bounded(fn, self.seconds, awaited=must_be_awaited(fn, "timeout"))

    def describe(self) -> str:
        """Return what it does, as a clause."""
        return f"a time limit of {self.seconds:g} s for everything below"


timeout = Timeout
