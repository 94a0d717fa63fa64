"""What tenacity's stop, wait and retry objects are given, so that they work here as they do there.

Its objects are called with a ``RetryCallState``. `CallState` has the same attributes, by tenacity's public
documentation; tenacity itself is not imported.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from functools import partial

_RETRY_BASE = "tenacity.retry.retry_base"
_OF_EXCEPTIONS = frozenset(
    ("tenacity.retry.retry_if_exception", "tenacity.retry.retry_if_exception_cause_type")
)
_OF_SUCCESS = frozenset(
    ("tenacity.retry.retry_unless_exception_type", "tenacity.retry.retry_if_not_exception_message")
)
"""Kinds of the above that repeat a call which returned."""


def _names(value: object) -> set[str]:
    return {f"{base.__module__}.{base.__qualname__}" for base in type(value).__mro__}


def is_tenacitys_retry(value: object) -> bool:
    """Tell whether *value* is one of tenacity's conditions, which take a state and no exception."""
    return _RETRY_BASE in _names(value)


def judges_results(value: object) -> bool:
    """Tell whether *value* is one of tenacity's conditions that may look at what a call returned."""
    names = _names(value)
    of_exceptions = not _OF_EXCEPTIONS.isdisjoint(names) and _OF_SUCCESS.isdisjoint(names)
    return is_tenacitys_retry(value) and not of_exceptions


class Outcome:
    """How an attempt ended, as tenacity's objects ask for it."""

    __slots__ = ("_exception", "_result")

    def __init__(self, exception: BaseException | None, result: Any = None) -> None:
        self._exception = exception
        self._result = result

    @property
    def failed(self) -> bool:
        """Whether the attempt raised."""
        return self._exception is not None

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return what the attempt raised, or *None*."""
        return self._exception

    def result(self, timeout: float | None = None) -> Any:
        """Return what the attempt returned, or raise what it raised."""
        if self._exception is not None:
            raise self._exception
        return self._result


class CallState:
    """The attempts of a call so far, under the names of tenacity's ``RetryCallState``.

    Args:
        call: The function with its arguments, or *None* for a block.
        started: When the first attempt began, on the monotonic clock, in seconds.
        now: The time on that clock.
        attempt: The number of the attempt that has just ended, from 1.
        idle: How long was waited so far, in seconds.
        outcome: How that attempt ended.
    """

    __slots__ = (
        "args",
        "attempt_number",
        "fn",
        "idle_for",
        "kwargs",
        "next_action",
        "outcome",
        "outcome_timestamp",
        "retry_object",
        "start_time",
        "upcoming_sleep",
    )

    def __init__(
        self,
        call: "partial[Any] | None",
        *,
        started: float,
        now: float,
        attempt: int,
        idle: float,
        outcome: Outcome,
    ) -> None:
        self.fn: Callable[..., Any] | None = call.func if call else None
        self.args: tuple[Any, ...] = call.args if call else ()
        self.kwargs: Mapping[str, Any] = call.keywords if call else {}
        self.attempt_number = attempt
        self.idle_for = idle
        self.next_action = None
        self.outcome = outcome
        self.outcome_timestamp = now
        self.retry_object = None
        self.start_time = started
        self.upcoming_sleep = 0.0

    @property
    def seconds_since_start(self) -> float:
        """How long the call has been under way, in seconds."""
        return self.outcome_timestamp - self.start_time
