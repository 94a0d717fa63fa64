"""Try again, if that can help: `RetryPolicy`, alias `retry` and `retrying`, and `retry_call`.

What is retried, and when, follows from `resilient_agents.errors.classify`, the one decision about each
failure. A call that succeeds pays for a ``try`` and one look at the clock.
"""

import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import partial, wraps
from typing import Any, ClassVar, Literal, ParamSpec, TypeVar, cast

from resilient_agents import _clock
from resilient_agents._clock import clock
from resilient_agents._flow import Flow, arun, run
from resilient_agents.policies._attempts import Attempt, Attempts
from resilient_agents.policies._deadline import bounded
from resilient_agents.policies._decision import Course, given_up, overrides, set_active
from resilient_agents.policies._filters import Filter, check_filter
from resilient_agents.policies._functions import must_be_awaited, name_of, refuse_class
from resilient_agents.policies._numbers import acall_numbered, attempt_number, call_numbered
from resilient_agents.policies._retry_checks import check_policy
from resilient_agents.policies._tenacity import is_tenacitys_retry, judges_results
from resilient_agents.policies._tokens import Tokens

__all__ = [
    "Attempt",
    "RetryPolicy",
    "attempt_number",
    "overriding",
    "retry",
    "retry_call",
    "retrying",
    "set_active",
]

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

    When no attempt is left, the last exception is raised as it is; the earlier ones are notes on it. A result
    that *on_result* refused to the end is returned as it is.

    Args:
        attempts: How many attempts are made in all. The default is 3.
        wait_initial: Time in seconds before the second attempt; each later wait is twice as long. The
            default is 1.0.
        wait_max: Time in seconds that the waits grow to. A server that asks for more gets more. The default
            is 30.0.
        jitter: What part of a wait is random: ``"full"``, ``"equal"`` (half of it), ``"decorrelated"`` (up to
            three times the last one) or ``"none"``. The default is ``"full"``.
        deadline: Time in seconds for all attempts together. A wait that would pass it is not begun; a running
            attempt is not interrupted. *None* for no limit. The default is 60.0.
        timeout: Time in seconds for each attempt, as `timeout` keeps it; in a block nothing is cancelled, and
            it is a `deadline` for what the block calls. The default is no limit.
        idempotent: Whether doing it twice is harmless. *None* judges by the request that failed: a POST or
            PATCH without an idempotency key that may have been executed is not repeated, everything else is.
            The default is *None*.
        on: Which failures are retried, in place of what `classify` advises: an exception type, a
            `Category`, a regular expression (searched for in ``"TypeName: message"``; case-sensitive, so
            write ``"(?i)try again"`` for any case), a predicate that is given the exception, one of
            tenacity's ``retry_…`` objects, or a list of them. *idempotent* holds all the same. The default is
            to follow the advice.
        on_result: Called with what the function returned; where it says yes, the call is made again. A block
            has no result. The default is to accept every one.
        stop: In place of *attempts*: one of tenacity's ``stop_…`` objects, or a function that is given the
            same state and tells whether to stop.
        wait: In place of the backoff: one of tenacity's ``wait_…`` objects, or a function that is given the
            same state and returns seconds. A server's hint stays the floor.
        budget: A `RetryBudget`, shared by the callers of one dependency. The default is none.
        nested: Whether a failure is retried that a retry further in has given up on: three layers of three
            attempts would then make 27 calls. The default is *False*.

    Raises:
        TypeError: An argument is of the wrong type, or the parentheses of ``@retry()`` are missing.
        ValueError: A number is out of range, or a regular expression cannot be read.
    """

    kind: ClassVar[str] = "retry"

    attempts: int = 3
    _: KW_ONLY
    wait_initial: float = 1.0
    wait_max: float = 30.0
    jitter: Literal["full", "equal", "decorrelated", "none"] = "full"
    deadline: float | None = 60.0
    timeout: float | None = None
    idempotent: bool | None = None
    on: Filter | None = None
    on_result: Callable[[Any], object] | None = None
    stop: Callable[[Any], object] | None = None
    wait: Callable[[Any], float] | None = None
    budget: Tokens | None = None
    nested: bool = False
    conditions: tuple[Any, ...] = field(init=False, repr=False, compare=False, default=())
    """Those of *on* that take tenacity's state."""

    def __post_init__(self) -> None:
        check_policy(self)
        if self.on is not None:
            check_filter(self.on)
            criteria = self.on if isinstance(self.on, tuple | list) else (self.on,)
            object.__setattr__(self, "conditions", tuple(filter(is_tenacitys_retry, criteria)))

    def __call__(self, fn: Callable[P, R]) -> Callable[P, R]:
        """Return *fn* with retries: a ``def`` for a ``def``, an ``async def`` for an ``async def``.

        Raises:
            TypeError: *fn* is a class, a generator function, or no function.
        """
        refuse_class(fn, "retry")
        return wraps(fn)(self._bind(fn))

    def call(self, fn: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call *fn* with retries.

        Returns:
            What *fn* returns; for an ``async def``, an awaitable of it.
        """
        return self._bind(fn)(*args, **kwargs)

    def describe(self) -> str:
        """Return what it does, as a clause."""
        wait = "waits as *wait* says"
        if self.wait is None:
            wait = (
                f"waits of {self.wait_initial:g} s and doubling to {self.wait_max:g} s, {self.jitter} jitter"
            )
        parts = [
            "attempts until *stop* says so" if self.stop else f"up to {self.attempts} attempts",
            f"{wait}, no less than a server asks for",
            f"{self.timeout:g} s for each" if self.timeout else "",
            f"{self.deadline:g} s for all of them" if self.deadline else "",
            "within a budget" if self.budget else "",
        ]
        return ", ".join(filter(None, parts))

    def __iter__(self) -> Iterator[Attempt]:
        return Attempts(self, sys._getframe(1))

    def __aiter__(self) -> AsyncIterator[Attempt]:
        return Attempts(self, sys._getframe(1))

    def _bind(self, fn: Callable[P, R]) -> Callable[P, R]:
        awaited = must_be_awaited(fn, "retry")
        step = fn if self.timeout is None else bounded(fn, self.timeout, awaited=awaited)
        if awaited:
            afn = cast("Callable[P, Awaitable[Any]]", step)
            return cast("Callable[P, R]", _awaiting(self, afn, name_of(fn)))
        return _blocking(self, step, name_of(fn))

    @property
    def judges_results(self) -> bool:
        """Whether a call that returns may be made again all the same."""
        return self.on_result is not None or any(map(judges_results, self.conditions))


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


def overriding(**changes: Any) -> AbstractContextManager[None]:
    """Change parts of every retry policy for the calls that are made inside a ``with`` block.

    It holds for the thread or task of the block and the tasks that it starts::

        with overriding(attempts=1):
            sync_contacts()

    Args:
        **changes: Parameters of `RetryPolicy`, but for *timeout*, *on_result* and *budget*, which are
            part of the function.

    Returns:
        A context manager.

    Raises:
        TypeError: A parameter is unknown or cannot be overridden.
        ValueError: A number is out of range.
    """
    if fixed := {"timeout", "on_result", "budget"} & changes.keys():
        raise TypeError(f"{', '.join(sorted(fixed))} cannot be overridden: it is part of the function")
    replace(_default, **changes)
    return _overriding(changes)


@contextmanager
def _overriding(changes: dict[str, Any]) -> Iterator[None]:
    token = overrides.set({**(overrides.get() or {}), **changes})
    try:
        yield
    finally:
        overrides.reset(token)


def _blocking(policy: RetryPolicy, fn: Callable[P, R], target: str) -> Callable[P, R]:
    """Return *fn* with retries. Its success path is the reason why it is written by hand."""
    timed = policy.deadline is not None or policy.stop is not None or policy.wait is not None
    count = None if policy.budget is None else policy.budget.count

    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        started, before = _clock.in_force.monotonic() if timed else None, given_up[0]
        if count is not None:
            count()
        try:
            return fn(*args, **kwargs)
        except Exception as exc:
            course = Course(policy, target, started, before, partial(fn, *args, **kwargs))
            wait = course.after(exc)
            if wait is None:
                raise
        flow: Flow[R] = _again(course, call_numbered, clock().sleep, wait)
        return run(flow)

    def judged(*args: P.args, **kwargs: P.kwargs) -> R:
        course = _begun(policy, target, partial(fn, *args, **kwargs))
        flow: Flow[R] = _again(course, call_numbered, clock().sleep, 0.0)
        return run(flow)

    return judged if policy.judges_results else call


def _awaiting(
    policy: RetryPolicy, fn: Callable[P, Awaitable[T]], target: str
) -> Callable[P, Coroutine[Any, Any, T]]:
    """Return *fn* with retries. Its success path is the reason why it is written by hand."""
    timed = policy.deadline is not None or policy.stop is not None or policy.wait is not None
    count = None if policy.budget is None else policy.budget.count

    async def call(*args: P.args, **kwargs: P.kwargs) -> T:
        started, before = _clock.in_force.monotonic() if timed else None, given_up[0]
        if count is not None:
            count()
        try:
            return await fn(*args, **kwargs)
        except Exception as exc:
            course = Course(policy, target, started, before, partial(fn, *args, **kwargs))
            wait = course.after(exc)
            if wait is None:
                raise
        flow: Flow[T] = _again(course, acall_numbered, clock().asleep, wait)
        return await arun(flow)

    async def judged(*args: P.args, **kwargs: P.kwargs) -> T:
        course = _begun(policy, target, partial(fn, *args, **kwargs))
        flow: Flow[T] = _again(course, acall_numbered, clock().asleep, 0.0)
        return await arun(flow)

    return judged if policy.judges_results else call


def _begun(policy: RetryPolicy, target: str, call: "partial[Any]") -> Course:
    """Begin a call whose results are judged."""
    if policy.budget is not None:
        policy.budget.count()
    return Course(policy, target, clock().monotonic(), given_up[0], call)


def _again(
    course: Course, perform: Callable[..., Any], sleep: Callable[[float], Any], wait: float
) -> Flow[Any]:
    """Wait and repeat the call until its result is accepted or no attempt is left."""
    while True:
        if wait:
            yield partial(sleep, wait)
        try:
            result = yield partial(perform, course.attempt, course.call)
        except Exception as exc:
            next_wait = course.after(exc)
            if next_wait is None:
                raise
        else:
            next_wait = course.after_result(result)
            if next_wait is None:
                return result
        wait = next_wait
