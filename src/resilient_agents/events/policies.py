"""What happens to calls that go through policies."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from resilient_agents.events.bus import Event

if TYPE_CHECKING:
    from resilient_agents.errors import Failure


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryScheduled(Event):
    """An attempt failed and another one will be made.

    Attributes:
        target: Qualified name of the function.
        attempt: Number of the attempt that failed, from 1.
        wait: Time in seconds until the next attempt.
        dictated_by: Who set the wait: ``"backoff"``, or ``"server"`` where it asked for more.
        failure: What went wrong.
    """

    target: str
    attempt: int
    wait: float
    dictated_by: str
    failure: "Failure"


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryGaveUp(Event):
    """An attempt failed and no other one will be made.

    Attributes:
        target: Qualified name of the function.
        attempts: How many attempts were made.
        reason: Why it stopped: ``"attempts"``, ``"deadline"``, ``"advice"``, ``"idempotency"``,
            ``"filter"``, ``"budget"``, ``"nested"`` (a retry further in has given up on it), ``"stop"`` or
            ``"inactive"``.
        failure: What went wrong at last.
        exception: What was raised at last. Its text may hold input and secrets: do not log it.
    """

    target: str
    attempts: int
    reason: str
    failure: "Failure"
    exception: Exception | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryBudgetExhausted(Event):
    """A retry would have helped, and was not made: too many calls are being retried already.

    Attributes:
        name: Name of the budget.
        target: Qualified name of the function.
    """

    name: str
    target: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyEvent(Event):
    """Something happened at a policy.

    Attributes:
        policy: The kind of policy: ``"breaker"``, ``"limiter"``, ``"bulkhead"``, ``"adaptive"``.
        name: The policy's own name, or an empty text.
    """

    policy: str
    name: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CallWaited(PolicyEvent):
    """A call had to wait before it was let in.

    Attributes:
        seconds: For how long, in seconds.
        dictated_by: Who set the wait: ``"rate"``, ``"server"``, or ``"queue"``.
    """

    seconds: float
    dictated_by: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CallRefused(PolicyEvent):
    """A call was not let in.

    Attributes:
        wait: Time in seconds after which it may be, or *None* where nobody knows.
    """

    wait: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class BreakerOpened(PolicyEvent):
    """A circuit breaker lets no calls through for a while.

    Attributes:
        wait: Time in seconds until it is probed.
        failure_rate: What part of the calls in its window failed, from 0 to 1.
        slow_rate: What part of them was slow, from 0 to 1.
        reason: ``"failures"``, ``"slow"``, ``"probe"`` (a probe failed), ``"forced"`` or ``"shared"`` (other
            processes agree that the target is down).
        enforced: Whether calls are refused; *False* where the breaker only observes.
    """

    wait: float
    failure_rate: float
    slow_rate: float
    reason: str
    enforced: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class BreakerHalfOpened(PolicyEvent):
    """A circuit breaker lets a few calls through, to see whether the target works again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BreakerClosed(PolicyEvent):
    """A circuit breaker lets all calls through again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CallersParked(PolicyEvent):
    """The other side named a time, and nobody calls it before.

    Attributes:
        wait: Time in seconds from now.
    """

    wait: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ConcurrencyChanged(PolicyEvent):
    """An adaptive limit has moved.

    Attributes:
        before: How many calls were admitted at a time.
        limit: How many are admitted from now on.
    """

    before: int
    limit: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SharedStateLost(PolicyEvent):
    """Redis does not answer: this process decides by itself until it does.

    Attributes:
        failure: What went wrong.
    """

    failure: "Failure"


@dataclass(frozen=True, kw_only=True, slots=True)
class SharedStateRestored(PolicyEvent):
    """Redis answers again: the processes decide together."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HedgeStarted(Event):
    """A call took long, and was begun once more beside itself.

    Attributes:
        target: Qualified name of the function.
        number: Number of the hedge, from 1.
        after: Time in seconds since the call before it began.
        name: The policy's own name, or an empty text.
    """

    target: str
    number: int
    after: float
    name: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class HedgeWon(Event):
    """A hedge answered before the call that it was to help.

    Attributes:
        target: Qualified name of the function.
        number: Number of the hedge, from 1.
        name: The policy's own name, or an empty text.
    """

    target: str
    number: int
    name: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class FellBack(Event):
    """A call failed, and its caller got the fallback instead.

    Attributes:
        target: Qualified name of the function.
        failure: What went wrong.
        name: The policy's own name, or an empty text.
    """

    target: str
    failure: "Failure"
    name: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class FaultInjected(Event):
    """A fault was made on purpose.

    Attributes:
        target: Qualified name of the function.
        fault: ``"latency"`` or ``"error"``.
        name: The policy's own name, or an empty text.
    """

    target: str
    fault: str
    name: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class PipelineReconfigured(Event):
    """A pipeline was given other policies while in use.

    Attributes:
        name: Name of the pipeline.
        accepted: Whether the new policies are in force; else the old ones still are.
        reason: Why they were refused, or an empty text.
    """

    name: str
    accepted: bool
    reason: str
