"""What follows a failed attempt: another one, and when; or none, and why."""

from collections.abc import Mapping
from contextlib import ExitStack, suppress
from contextvars import ContextVar
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING, Any

from resilient_agents import events
from resilient_agents._clock import clock
from resilient_agents.errors import Advice, Failure, UnwantedResult, classify, request_of
from resilient_agents.events import bus
from resilient_agents.policies._backoff import next_wait
from resilient_agents.policies._deadline import remaining
from resilient_agents.policies._filters import matches
from resilient_agents.policies._tenacity import CallState, Outcome, judges_results
from resilient_agents.policies._waits import note_wait

if TYPE_CHECKING:
    from functools import partial

    from resilient_agents.policies.retries import RetryPolicy

NOT_REPEATABLE = {"POST", "PATCH"}
"""The HTTP methods whose repetition may do the work twice; all others are idempotent by RFC 9110, 9.2.2."""

_EXHAUSTED = frozenset(("attempts", "stop", "deadline", "budget", "nested"))
"""The reasons that say: this has been tried often enough, by whomever."""

_MARK = "_resilient_agents_given_up"
given_up = [0]
"""How many calls were given up in this process. An exception that is marked with a number above the one that
was seen before a call was given up during that call: some exceptions are raised again and again."""

_MOST_LINKS = 64
_NEVER, _TRANSACTION = Advice.NEVER, Advice.TRANSACTION

_active = True

overrides: ContextVar[Mapping[str, Any] | None] = ContextVar("resilient_agents_overrides", default=None)
"""What `overriding` has put in force here."""


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
    """The attempts of one call so far.

    Args:
        policy: How to retry.
        target: Qualified name of what is called.
        started: When the first attempt began, on the monotonic clock; *None* where nobody looked.
        before: What `given_up` was then.
        call: The function with its arguments, or *None* for a block.
    """

    __slots__ = ("_before", "_history", "_idle", "_policy", "_started", "_target", "_wait", "attempt", "call")

    def __init__(
        self,
        policy: "RetryPolicy",
        target: str,
        started: float | None,
        before: int,
        call: "partial[Any] | None" = None,
    ) -> None:
        changes = overrides.get()
        self.attempt = 1
        self._policy = replace(policy, **changes) if changes else policy
        self._target = target
        self._started = started
        self._before = before
        self.call = call
        self._history: list[tuple[str, float]] = []
        self._idle = self._wait = 0.0

    def after(self, exc: Exception) -> float | None:
        """Decide what follows the failure of the current attempt.

        Args:
            exc: What it raised.

        Returns:
            The time in seconds to wait before the next attempt. *None* if there is none: then *exc* has got
            the earlier attempts as notes, and is to be raised again.
        """
        policy, failure = self._policy, classify(exc)
        state = None
        if policy.conditions or policy.stop is not None or policy.wait is not None:
            outcome = Outcome(None, exc.value) if isinstance(exc, UnwantedResult) else Outcome(exc)
            state = self._state(outcome)
        wait, dictated_by = 0.0, ""
        reason = self._refusal(exc, failure, state)
        if reason is None:
            asked = None if policy.wait is None else max(0.0, float(policy.wait(state)))
            wait, dictated_by = next_wait(
                policy, self.attempt, failure.retry_after, previous=self._wait, asked=asked
            )
            reason = self._limit(wait, state)
        if reason is not None:
            self._give_up(exc, reason, failure)
            return None
        if bus.subscribed():
            events.emit(
                events.RetryScheduled,
                target=self._target,
                attempt=self.attempt,
                wait=wait,
                dictated_by=dictated_by,
                failure=failure,
            )
        note_wait("retry", self._target, wait, dictated_by)
        self._history.append((failure.code, wait))
        self._wait = wait
        self._idle += wait
        self.attempt += 1
        return wait

    def after_result(self, result: Any) -> float | None:
        """Decide what follows an attempt that returned.

        Args:
            result: What it returned.

        Returns:
            The time in seconds to wait before the next attempt, as for a failure; *None* if the result
            stands, because it is wanted or because no attempt is left.
        """
        policy = self._policy
        if (policy.on_result is not None or policy.conditions) and self._wants_another(result):
            unwanted = UnwantedResult()
            unwanted.value = result
            return self.after(unwanted)
        if policy.budget is not None:
            self.succeeded()
        return None

    def succeeded(self) -> None:
        """Give the budget back what the last repetition took: it was worth it."""
        if self._policy.budget is not None and self.attempt > 1:
            self._policy.budget.refund()

    def _wants_another(self, result: Any) -> bool:
        policy = self._policy
        if policy.on_result is not None and policy.on_result(result):
            return True
        return bool(policy.conditions) and any(
            condition(self._state(Outcome(None, result)))
            for condition in policy.conditions
            if judges_results(condition)
        )

    def _refusal(self, exc: Exception, failure: Failure, state: Any) -> str | None:
        """Return why this failure is not one to repeat, in the words of `RetryGaveUp`; *None* if it is."""
        policy = self._policy
        if not _active:
            return "inactive"
        if not isinstance(exc, UnwantedResult):  # who asks for another result asks for another call
            if policy.on is None:
                if failure.advice is _NEVER or failure.advice is _TRANSACTION:
                    return "advice"
            elif not matches(policy.on, exc, failure, state):
                return "filter"
            if failure.outcome_unknown and not may_be_repeated(exc, policy.idempotent):
                return "idempotency"
            if given_up[0] != self._before and not policy.nested and _given_up(exc, self._before):
                return "nested"
        return "attempts" if policy.stop is None and self.attempt >= policy.attempts else None

    def _limit(self, wait: float, state: Any) -> str | None:
        """Return which limit forbids an attempt after *wait* seconds; *None* if none does."""
        policy = self._policy
        if policy.stop is not None:
            state.upcoming_sleep = wait
            if policy.stop(state):
                return "stop"
        if not wait < self._time_left():
            return "deadline"
        if policy.budget is not None and not policy.budget.take():
            events.emit(events.RetryBudgetExhausted, name=policy.budget.name, target=self._target)
            return "budget"
        return None

    def _time_left(self) -> float:
        """Return the seconds until the policy's deadline or the one in force, whichever is earlier."""
        left = remaining()
        if self._policy.deadline is None:
            return inf if left is None else left
        own = self._policy.deadline - (clock().monotonic() - self._begun())
        return own if left is None or own < left else left

    def _begun(self) -> float:
        """Return when the first attempt began; where nobody looked, its end stands in."""
        if self._started is None:
            self._started = clock().monotonic()
        return self._started

    def _state(self, outcome: Outcome) -> CallState:
        return CallState(
            self.call,
            started=self._begun(),
            now=clock().monotonic(),
            attempt=self.attempt,
            idle=self._idle,
            outcome=outcome,
        )

    def _give_up(self, exc: Exception, reason: str, failure: Failure) -> None:
        """Say why, and leave it in the exception: for the reader of its traceback, and for outer retries."""
        events.emit(
            events.RetryGaveUp,
            target=self._target,
            attempts=self.attempt,
            reason=reason,
            failure=failure,
            exception=exc,
        )
        with suppress(Exception):  # an exception of somebody else's may take neither notes nor attributes
            if reason in _EXHAUSTED:
                given_up[0] += 1
                BaseException.__setattr__(exc, _MARK, given_up[0])  # a frozen dataclass is no obstacle
            limit = "" if self._policy.stop else f" of {self._policy.attempts}"
            for number, (code, wait) in enumerate(self._history, 1):
                exc.add_note(f"attempt {number}{limit}: {code}, waited {wait:.1f} s")


def _given_up(exc: BaseException, before: int) -> bool:
    """Tell whether a retry further in has tried often enough, since `given_up` was *before*."""
    links: list[BaseException | None] = [exc]
    for _ in range(_MOST_LINKS):
        if not links:
            break
        link = links.pop()
        if link is None:
            continue
        if getattr(link, _MARK, 0) > before:
            return True
        links.append(link.__cause__)
        if isinstance(link, BaseExceptionGroup):
            links.extend(link.exceptions)
    return False


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
