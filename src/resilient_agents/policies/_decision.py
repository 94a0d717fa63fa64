"""What follows a failed attempt: another one, and when; or none, and why."""

import re
from collections.abc import Callable
from contextlib import ExitStack, suppress
from math import inf
from random import random
from typing import TYPE_CHECKING, Any, TypeAlias

from resilient_agents import events
from resilient_agents._clock import clock
from resilient_agents.errors import Advice, Category, Failure, classify, request_of
from resilient_agents.policies._deadline import remaining

if TYPE_CHECKING:
    from resilient_agents.policies.retries import RetryPolicy

Criterion: TypeAlias = type[Exception] | Category | str | re.Pattern[str] | Callable[[Any], object]
Filter: TypeAlias = Criterion | tuple[Criterion, ...] | list[Criterion]
"""Which failures are retried: an exception type, a category, a regular expression (searched for in
``"TypeName: message"``), a predicate that is given the exception; or several of them."""

NOT_REPEATABLE = {"POST", "PATCH"}
"""The HTTP methods whose repetition may do the work twice; all others are idempotent by RFC 9110, 9.2.2."""

_active = True


def set_active(active: bool) -> ExitStack:
    """Switch retries on or off, in every thread of the process.

    While they are off, each policy makes exactly one attempt. In a ``with`` statement the earlier state
    returns at the end of the block; without one the switch stays as it is::

        with set_active(False):
            run_tests()

    Args:
        active: Whether failed attempts are repeated. At the start of a program they are.

    Returns:
        A context manager that restores the earlier state.
    """
    global _active
    before, _active = _active, active
    undo = ExitStack()
    undo.callback(_restore, before)
    return undo


def _restore(active: bool) -> None:
    global _active
    _active = active


class Course:
    """The attempts of one call so far."""

    __slots__ = ("_notes", "_policy", "_started", "_target", "attempt")

    def __init__(self, policy: "RetryPolicy", target: str, started: float) -> None:
        self.attempt = 1
        self._policy = policy
        self._target = target
        self._started = started
        self._notes: list[str] = []

    def after(self, exc: Exception) -> float | None:
        """Decide what follows the failure of the current attempt.

        Args:
            exc: What it raised.

        Returns:
            The time in seconds to wait before the next attempt. *None* if there is none: then *exc* has got
            the earlier attempts as notes, and is to be raised again.
        """
        failure = classify(exc)
        wait = wait_before_next(self._policy, self.attempt, failure.retry_after)
        reason = self._reason_to_stop(exc, failure, wait)
        if reason:
            events.emit(
                events.RetryGaveUp,
                target=self._target,
                attempts=self.attempt,
                reason=reason,
                failure=failure,
            )
            self._add_notes(exc)
            return None
        events.emit(
            events.RetryScheduled,
            target=self._target,
            attempt=self.attempt,
            wait=wait,
            dictated_by="backoff",
            failure=failure,
        )
        self._notes.append(
            f"attempt {self.attempt} of {self._policy.attempts}: {failure.code}, waited {wait:.1f} s"
        )
        self.attempt += 1
        return wait

    def _reason_to_stop(self, exc: Exception, failure: Failure, wait: float) -> str | None:
        """Return why no other attempt is made, in the words of `RetryGaveUp`; *None* if one is."""
        if not _active:
            return "inactive"
        if self._policy.on is None:
            if failure.advice in (Advice.NEVER, Advice.TRANSACTION):
                return "advice"
        elif not matches(self._policy.on, exc, failure):
            return "filter"
        if failure.outcome_unknown and not may_be_repeated(exc, self._policy.idempotent):
            return "idempotency"
        if self.attempt >= self._policy.attempts:
            return "attempts"
        return None if wait < self._time_left() else "deadline"

    def _time_left(self) -> float:
        """Return the seconds until the policy's deadline or the one in force, whichever is earlier."""
        left = remaining()
        left = inf if left is None else left
        if self._policy.deadline is not None:
            left = min(left, self._policy.deadline - (clock().monotonic() - self._started))
        return left

    def _add_notes(self, exc: Exception) -> None:
        """Tell of the earlier attempts in the traceback; an exception that takes no notes goes without."""
        with suppress(Exception):
            for note in self._notes:
                exc.add_note(note)


def may_be_repeated(exc: Exception, idempotent: bool | None) -> bool:
    """Tell whether a call that may have been executed is made again.

    Args:
        exc: What the call raised.
        idempotent: Whether doing it twice is harmless; *None* to judge by the request that failed.
    """
    if idempotent is not None:
        return idempotent
    request = request_of(exc)
    if request is None:
        return True
    method, has_idempotency_key = request
    return has_idempotency_key or method.upper() not in NOT_REPEATABLE


def check_filter(on: Any) -> None:
    """Refuse what can be no filter, while the person who wrote it is looking."""
    for criterion in on if isinstance(on, tuple | list) else (on,):
        if isinstance(criterion, str):
            try:
                re.compile(criterion)
            except re.error as exc:
                raise ValueError(f"on={criterion!r} is no regular expression: {exc}") from exc
        elif isinstance(criterion, type) and not issubclass(criterion, Exception):
            raise TypeError(
                f"on= cannot hold {criterion.__qualname__}: it takes subclasses of Exception; cancellation "
                "and Ctrl-C are never retried"
            )
        elif not (isinstance(criterion, re.Pattern) or callable(criterion)):
            raise TypeError(
                "on= takes exception types, categories, regular expressions, predicates or a list of these, "
                f"not a value of type {type(criterion).__name__}"
            )


def matches(on: Filter, exc: Exception, failure: Failure) -> bool:
    """Tell whether a filter names a failure."""
    if isinstance(on, tuple | list):
        return any(matches(criterion, exc, failure) for criterion in on)
    if isinstance(on, Category):
        return failure.category is on
    if isinstance(on, str | re.Pattern):
        return re.search(on, f"{type(exc).__name__}: {exc}") is not None
    if isinstance(on, type):
        return isinstance(exc, on)
    return bool(on(exc))


def wait_before_next(policy: "RetryPolicy", attempt: int, hint: float | None) -> float:
    """Return the seconds between a failed attempt and the next one.

    Exponential backoff, doubling from *wait_initial* up to *wait_max*, with the jitter of the AWS
    Architecture Blog, "Exponential Backoff And Jitter" (2015). A server's hint is a floor: it is never
    shortened, not by *wait_max* either, and the jitter lies above it, so that not all callers come back at
    the same moment.

    Args:
        policy: The waits and the kind of jitter.
        attempt: The number of the attempt that failed, from 1.
        hint: How long the server asked us to wait, in seconds, or *None*.
    """
    longest = min(policy.wait_max, policy.wait_initial * 2.0 ** min(attempt - 1, 64))
    shortest = {"full": 0.0, "equal": longest / 2, "none": longest}[policy.jitter]
    if hint is not None:
        spread = 0.0 if policy.jitter == "none" else policy.wait_initial
        shortest, longest = max(shortest, hint), max(longest, hint + spread)
    return shortest + (longest - shortest) * random()  # noqa: S311 - a wait is no secret
