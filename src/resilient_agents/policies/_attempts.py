"""The block form of a retry: ``for attempt in retrying(...)``, each attempt a ``with`` block."""

from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Self

from resilient_agents._clock import clock
from resilient_agents.policies._deadline import Deadline, deadline, put_back
from resilient_agents.policies._decision import Course, given_up
from resilient_agents.policies._numbers import number

if TYPE_CHECKING:
    from contextvars import Token

    from resilient_agents.policies.retries import RetryPolicy


class Attempt:
    """One attempt of a block: a context manager that keeps back a failure after which another one follows.

    Attributes:
        number: The number of the attempt, from 1.
    """

    __slots__ = ("_course", "_limit", "_token", "_wait", "number")

    def __init__(self, course: Course, seconds: float | None) -> None:
        self.number = course.attempt
        self._course = course
        self._limit: Deadline | None = None if seconds is None else deadline(seconds)
        self._wait: float | None = None

    def __enter__(self) -> Self:
        self._token: Token[int] = number.set(self.number)
        if self._limit is not None:
            self._limit.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if self._limit is not None:
            self._limit.__exit__(kind, exc, traceback)
        put_back(number, self._token)
        if isinstance(exc, Exception):
            self._wait = self._course.after(exc)
        elif exc is None:
            self._course.succeeded()
        return self._wait is not None


class Attempts:
    """The attempts of one block, blocking and awaiting; it ends when an attempt does not fail."""

    __slots__ = ("_attempt", "_course", "_seconds")

    def __init__(self, policy: "RetryPolicy", caller: FrameType) -> None:
        target = f"{caller.f_globals.get('__name__')}.{caller.f_code.co_qualname}"
        if policy.budget is not None:
            policy.budget.count()
        self._course = Course(policy, target, clock().monotonic(), given_up[0])
        self._seconds = policy.timeout
        self._attempt: Attempt | None = None

    def __iter__(self) -> "Attempts":
        return self

    def __aiter__(self) -> "Attempts":
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
        self._attempt = Attempt(self._course, self._seconds)
        return self._attempt
