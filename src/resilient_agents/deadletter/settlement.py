"""What becomes of an entry whose delivery failed: decided from the `Failure` alone.

========================================  ==========================================================
the failure proves                        the entry
========================================  ==========================================================
not executed, and it may pass             scheduled
the target is down, blocked or refuses    scheduled; no attempt is spent, nothing is parked
us (outage)
rejected for what it is                   parked
perhaps executed                          uncertain: looked for before it is sent again; scheduled
                                          when repeating it is harmless; parked when neither
attempts spent                            parked
========================================  ==========================================================
"""

import math
import random
from dataclasses import dataclass

from resilient_agents.deadletter.entry import Entry, State
from resilient_agents.deadletter.sqlite import Change
from resilient_agents.deadletter.target import Target
from resilient_agents.errors import Advice, Category, ConfigurationError, Failure, Origin
from resilient_agents.redaction import redact

_REFUSALS = frozenset(
    {Category.VALIDATION, Category.AUTH, Category.NOT_FOUND, Category.CONFLICT, Category.RATE_LIMIT}
)
_PASSING = frozenset({Category.EXTERNAL, Category.RATE_LIMIT})


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """How patient a queue is.

    Attributes:
        max_attempts: How many failures held against an entry park it. The default is 10.
        max_crashes: How many dead workers park an entry. The default is 10.
        wait_initial: Time in seconds before the second try; doubles with each further one. The default is 1.
        wait_max: Greatest time in seconds between two tries. The default is 900.
    """

    max_attempts: int = 10
    max_crashes: int = 10
    wait_initial: float = 1.0
    wait_max: float = 900.0

    def __post_init__(self) -> None:
        for name in ("max_attempts", "max_crashes"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{name} must be 1 or more, not {getattr(self, name)}")
        for name in ("wait_initial", "wait_max"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigurationError(f"{name} must be more than 0 seconds, not {getattr(self, name)}")

    def wait(self, tries: int) -> float:
        """Return the time in seconds to wait after *tries* failures: exponential, with equal jitter.

        Half of it is fixed and half random (Brooker, "Exponential Backoff and Jitter", AWS Architecture
        Blog, 2015): no entry hurries, and no two march in step.
        """
        ceiling = min(self.wait_max, self.wait_initial * 2.0 ** min(tries - 1, 60))
        return ceiling * (0.5 + 0.5 * random.random())  # noqa: S311


def provably_not_executed(failure: Failure) -> bool:
    """Tell whether *failure* proves that the target did not do the work."""
    if failure.advice in (Advice.SAFE, Advice.AFTER):
        return True
    if failure.origin is not Origin.DEPENDENCY:
        return False
    return failure.category in _REFUSALS or (
        failure.category is Category.EXTERNAL and failure.advice is Advice.NEVER
    )


def settle(
    entry: Entry,
    failure: Failure,
    *,
    limits: Limits,
    now: float,
    target: Target,
    target_works: bool,
) -> Change:
    """Decide what becomes of *entry* after a delivery that ended in *failure*.

    Args:
        entry: The leased entry.
        failure: What went wrong.
        limits: How patient the queue is.
        now: The time, in seconds since the epoch.
        target: Who takes the entry.
        target_works: Whether the entry was alone in the call, and the target served other work since the
            entry's last try, so that the failure is the entry's own and no outage.
    """
    asked = failure.retry_after or 0.0
    wait = max(limits.wait(entry.attempts + 1), asked)
    doubtful = not provably_not_executed(failure)
    sent_at = now if doubtful else entry.sent_at
    held_against = _is_held_against(failure, target_works=target_works)
    rejected = not doubtful and failure.advice is Advice.NEVER and not failure.outage
    spent = held_against and entry.errors + 1 >= limits.max_attempts
    if rejected or spent or (doubtful and not (target.traits.reconcilable or target.traits.idempotent)):
        state, wait = State.PARKED, 0.0
    elif sent_at is not None and target.traits.reconcilable:
        state = State.UNCERTAIN
        wait = max(min(wait, target.traits.grace), asked) if doubtful else wait
    else:
        state = State.SCHEDULED
    return Change(
        state=state,
        due=now + wait,
        sent_at=sent_at,
        code=failure.code,
        last_error=failure_in_words(failure),
        held_against=held_against,
    )


def not_found(entry: Entry, *, limits: Limits, now: float, grace: float) -> Change | None:
    """Decide what becomes of *entry* when the target does not have it: look again, or *None* to send it."""
    if entry.sent_at is None or now >= entry.sent_at + grace:
        return None
    waited = now - entry.sent_at
    return Change(
        state=State.UNCERTAIN,
        due=min(entry.sent_at + grace, now + max(limits.wait(entry.attempts + 1), waited)),
        sent_at=entry.sent_at,
        code=entry.code,
        last_error=entry.last_error,
        attempted=False,
    )


def postpone(entry: Entry, failure: Failure, *, limits: Limits, now: float) -> Change:
    """Decide what becomes of *entry* when looking for it failed, which proves nothing about it."""
    held_against = _is_held_against(failure, target_works=False)
    spent = held_against and entry.errors + 1 >= limits.max_attempts
    wait = max(limits.wait(entry.attempts + 1), failure.retry_after or 0.0)
    return Change(
        state=State.PARKED if spent else State.UNCERTAIN,
        due=now if spent else now + wait,
        sent_at=entry.sent_at,
        code=failure.code,
        last_error=failure_in_words(failure),
        held_against=held_against,
    )


def failure_in_words(failure: Failure) -> str:
    """Return what is stored of a failure, for the person who reads it at night."""
    told = failure.detail.startswith(failure.title)
    return redact(failure.detail if told else f"{failure.title}: {failure.detail}")


def _is_held_against(failure: Failure, *, target_works: bool) -> bool:
    if failure.category is Category.EXTERNAL and target_works:
        return True
    return not failure.outage and failure.category not in _PASSING
