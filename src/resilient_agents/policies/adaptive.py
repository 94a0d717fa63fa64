"""As many calls at a time as the target can take right now."""

from math import inf
from typing import Any, Literal

from resilient_agents import events
from resilient_agents._clock import clock
from resilient_agents._flow import Flow
from resilient_agents.errors import Category, Origin, classify
from resilient_agents.policies._growth import Additive, Gradient
from resilient_agents.policies._parameters import number, patience, whole
from resilient_agents.policies._slots import Permit, Slots
from resilient_agents.policies._verdicts import NOTHING, verdict
from resilient_agents.policies._waiting import Waiting
from resilient_agents.policies._windows import FAILED, OK


class AdaptiveConcurrency(Slots):
    """A limit of calls at a time that finds its own height.

    Additive increase, multiplicative decrease, as in TCP (Chiu and Jain, "Analysis of the Increase and
    Decrease Algorithms for Congestion Avoidance", 1989; RFC 5681) and in Netflix's concurrency-limits: while
    half of the places or more are in use, the limit grows by one for each round of calls that succeed. When a
    call fails because of the target, by what `classify` says (category *external*, or *rate_limit* of a
    dependency), or takes *slow_call* seconds, it shrinks to *backoff* of itself. Calls that began before the
    last decrease do not shrink it again: they tell of the same trouble.

    With ``strategy="gradient"`` it does not grow by rounds, but follows how long the calls take, as Netflix's
    Gradient2 does: it shrinks as soon as they take longer than usual. Failures shrink it as before.

    A 404 or a 422 is an answer, and counts as success. Cancelled calls, defects of our own and calls that
    were never sent say nothing. It waits and refuses as `Bulkhead` does::

        llm = AdaptiveConcurrency(initial=10, maximum=100, slow_call=20)

        @llm
        async def complete(prompt): ...

    Args:
        initial: How many calls at a time to begin with. The default is 10.
        minimum: What the limit never falls below, 1 or more. The default is 1.
        maximum: What it never rises above. The default is 200.
        strategy: ``"aimd"`` to go by failures, or ``"gradient"`` to go by failures and durations. The default
            is ``"aimd"``.
        backoff: What is left of the limit after a failure, between 0 and 1. The default is 0.7.
        slow_call: Time in seconds from which on a call means that the target is overloaded. The default is
            *None*: only failures do.
        queue: How many calls wait for a place at most; the next one is refused with `BulkheadFull`. The
            default is 0: nobody waits.
        queue_timeout: Time in seconds that a call waits at most. The default is *None*: as long as the
            deadline in force allows.
        name: What events and messages call it.

    Raises:
        TypeError: A parameter is of the wrong kind.
        ValueError: A parameter is out of range, or contradicts another one.
    """

    kind = "adaptive"

    def __init__(
        self,
        *,
        initial: int = 10,
        minimum: int = 1,
        maximum: int = 200,
        strategy: Literal["aimd", "gradient"] = "aimd",
        backoff: float = 0.7,
        slow_call: float | None = None,
        queue: int = 0,
        queue_timeout: float | None = None,
        name: str = "",
    ) -> None:
        for parameter, value in (("initial", initial), ("minimum", minimum), ("maximum", maximum)):
            whole(parameter, value, "calls")
        if not minimum <= initial <= maximum:
            raise ValueError(
                f"minimum, initial and maximum must rise in this order, not {minimum}, {initial}, {maximum}"
            )
        if strategy not in ("aimd", "gradient"):
            raise ValueError(f"strategy must be 'aimd' or 'gradient', not {strategy!r}")
        if not 0 < number("backoff", backoff, "a part of the limit") < 1:
            raise ValueError(f"backoff must be a part of the limit, between 0 and 1, not {backoff!r}")
        self._minimum = minimum
        self._maximum = maximum
        self._strategy = strategy
        self._backoff = backoff
        self._slowest = patience("slow_call", slow_call) or inf
        self._by_failures_alone = slow_call is None and strategy == "aimd"
        self._estimate = float(initial)
        self._growth = Gradient() if strategy == "gradient" else Additive()
        super().__init__(initial, queue=queue, queue_timeout=queue_timeout, name=name)
        if not self._by_failures_alone:
            self.try_enter = self._enter_timed  # type: ignore[method-assign]

    def __repr__(self) -> str:
        name = f", name={self.name!r}" if self.name else ""
        return (
            f"AdaptiveConcurrency(limit={self._limit}, minimum={self._minimum}, maximum={self._maximum}, "
            f"strategy={self._strategy!r}{name})"
        )

    @property
    def limit(self) -> int:
        """How many calls are let in at a time right now."""
        return self._limit

    def describe(self) -> str:
        """Return what it does, as a clause."""
        return (
            f"as many calls at a time as the target takes: {self._limit} now, never fewer than "
            f"{self._minimum} or more than {self._maximum}"
        )

    def enter(self, waiting: Waiting) -> Flow[Any]:
        """Wait for a place.

        Raises:
            BulkheadFull: The line is full, or no place became free within *queue_timeout*.
            DeadlineExceeded: The deadline in force passed before a place became free.
        """
        permit = yield from super().enter(waiting)
        return permit if self._by_failures_alone else (permit, clock().monotonic())

    def leave(self, permit: Any, exc: BaseException | None) -> None:
        """Learn from how the call ended, and hand the place on to the first in the line."""
        if not self._by_failures_alone:
            place, begun = permit
            now = clock().monotonic()
        elif exc is None and 2 * self._running < self._limit:
            Slots.leave(self, permit, None)  # there is nothing to learn from a call that had room
            return
        else:
            place, begun, now = permit, 0.0, 0.0
        outcome = OK if exc is None else self._verdict(exc)
        with self._lock:
            before = self._limit
            if outcome != NOTHING:
                self._learn(place, outcome, now - begun, now)
            after = self._limit
            admitted = self._vacate(place)
        self._wake(admitted)
        if after != before:
            events.emit(
                events.ConcurrencyChanged, policy=self.kind, name=self.name, before=before, limit=after
            )

    def _enter_timed(self) -> tuple[Permit, float] | None:
        """Take a place for a call whose duration counts: `try_enter` of a limit that goes by durations."""
        permit = super().try_enter()
        return None if permit is None else (permit, clock().monotonic())

    def _learn(self, place: Permit, outcome: int, seconds: float, now: float) -> None:
        """Move the limit by what a call says, with the lock held."""
        estimate = self._estimate
        if outcome == FAILED or seconds >= self._slowest:
            if place is not self._permit:
                return
            self._permit = Permit(self._era)  # whoever holds another one began before this decrease
            estimate *= self._backoff
        else:
            estimate = self._growth.after_success(estimate, self._running, seconds, now)
        self._estimate = min(max(estimate, float(self._minimum)), float(self._maximum))
        self._limit = int(self._estimate)

    def _verdict(self, exc: BaseException) -> int:
        """Return what a failure says about the target."""
        outcome = verdict(exc, None)
        if outcome == OK:
            failure = classify(exc)
            if failure.category is Category.RATE_LIMIT and failure.origin is Origin.DEPENDENCY:
                return FAILED
        return outcome
