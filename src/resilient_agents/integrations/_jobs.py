"""What a worker makes of a job that failed, whatever queue it came from.

One decision: it is tried again, or it goes to the dead-letter queue, never both. `classify` is asked once.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from resilient_agents import correlation, events
from resilient_agents._clock import clock
from resilient_agents._flow import Flow
from resilient_agents.deadletter import DeadLetterQueue
from resilient_agents.deadletter.delivery import Perform
from resilient_agents.errors import Advice, Conflict, Failure, classify
from resilient_agents.policies import RetryPolicy
from resilient_agents.policies._backoff import next_wait

_log = logging.getLogger("resilient_agents.jobs")

CARRIED = ("request_id", "organization_id", "agent_id")
"""What crosses the queue with a job, so that its log lines tell which request it belongs to."""

LABEL = "resilient_agents"
"""Under which header or label it does."""

RETRY, DEAD_LETTER, DROP = "retry", "dead_letter", "drop"
"""The decisions, in the words of `events.JobFailed`."""

_LONGEST = 128


def luggage() -> dict[str, str]:
    """Return what of the current work crosses the queue with a job that it starts."""
    bound = correlation.current()
    return {name: bound[name] for name in CARRIED if name in bound}


def unpacked(found: object) -> dict[str, str]:
    """Return what `luggage` put in; a message is somebody else's: what cannot be from there is left out."""
    if not isinstance(found, Mapping):
        return {}
    carried = {name: found.get(name) for name in CARRIED}
    return {name: it for name, it in carried.items() if isinstance(it, str) and _is_an_id(it)}


def _is_an_id(text: str) -> bool:
    return 0 < len(text) <= _LONGEST and text.isprintable()


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """When jobs are tried again, and where they go in the end.

    Attributes:
        waits: How long to wait between two attempts, as a policy.
        queue: Takes what is not tried again, or *None*.
    """

    waits: RetryPolicy
    queue: DeadLetterQueue | None


def rules(queue: DeadLetterQueue | None, *, wait_initial: float, wait_max: float) -> Rules:
    """Return rules with a backoff of which half is random, so that no two jobs march in step.

    Raises:
        ValueError: A wait makes no sense.
    """
    waits = RetryPolicy(wait_initial=wait_initial, wait_max=wait_max, jitter="equal")
    return Rules(waits=waits, queue=queue)


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One attempt at a job.

    Attributes:
        id: The id of the job, the same in all of its attempts.
        name: What kind of job it is.
        args: Its positional arguments, as they came.
        kwargs: Its keyword arguments, as they came.
        attempt: Number of this attempt, from 1.
        attempts: How many there may be, or *None* for any number.
        idempotent: Whether doing it twice is harmless.
        started: When this attempt began, on the monotonic clock.
    """

    id: str
    name: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    attempt: int = 1
    attempts: int | None = 1
    idempotent: bool = False
    started: float = field(default_factory=lambda: clock().monotonic())

    def begin(self) -> None:
        """Tell that a worker is at it."""
        events.emit(events.JobStarted, **self._names())

    def complete(self) -> None:
        """Tell that it is done."""
        events.emit(events.JobCompleted, **self._names(), duration=self._duration())

    def fail(self, exc: Exception, failure: Failure, decision: str, wait: float | None = None) -> None:
        """Tell that it raised, and what becomes of it."""
        events.emit(
            events.JobFailed,
            **self._names(),
            duration=self._duration(),
            failure=failure,
            decision=decision,
            exception=exc,
            wait=wait,
        )

    def wait(self, failure: Failure, rules: Rules) -> float | None:
        """Return the time in seconds until the next attempt; *None* if there is to be none.

        A job is a whole, so advice to repeat the transaction is advice to repeat the job. What is to wait for
        longer than *wait_max* is not for a broker, if there is a dead-letter queue: that waits for as long as
        it takes.
        """
        waits, asked = rules.waits, failure.retry_after
        if self.attempts is not None and self.attempt >= self.attempts:
            return None
        if failure.advice is Advice.NEVER or (failure.outcome_unknown and not self.idempotent):
            return None
        if asked is not None and asked > waits.wait_max and rules.queue is not None:
            return None
        wait, _ = next_wait(waits, self.attempt, asked)
        return wait

    def keep(self, perform: Perform, queue: DeadLetterQueue | None, error: Exception) -> Flow[str]:
        """Put it into the dead-letter queue as a job that *error* ended; return the decision."""
        if queue is None:
            return DROP
        bound = {**correlation.current(), "job_id": self.id, "job_name": self.name}
        payload = {"args": list(self.args), "kwargs": dict(self.kwargs), "correlation": bound}
        try:
            yield from queue.hand_in(perform, self.name, payload, key=self.id, error=error)
        except Conflict:  # it is there already; it came by another way
            return DEAD_LETTER
        except Exception as refusal:
            text = "job %s of %s is lost: the dead-letter queue did not take it: %s"
            _log.critical(text, self.id, self.name, classify(refusal).detail)
            return DROP
        return DEAD_LETTER

    def _names(self) -> dict[str, Any]:
        return {"job_id": self.id, "job_name": self.name, "attempt": self.attempt}

    def _duration(self) -> float:
        return clock().monotonic() - self.started
