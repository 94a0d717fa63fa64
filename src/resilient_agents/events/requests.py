"""What happens to the requests that a service answers, and to the jobs of its workers."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from resilient_agents.events.bus import Event

if TYPE_CHECKING:
    from resilient_agents.errors import Failure


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestFailed(Event):
    """A request was answered with an error.

    Attributes:
        method: The HTTP method.
        path: The path of the request, without its query.
        route: What the path matched, as ``"/agents/{agent_id}"``, or an empty text.
        status: The HTTP status that was sent.
        request_id: The id that is in the answer, in its header and in the log line.
        duration: Time in seconds since the request came.
        aborted: Whether the answer had begun, so that it was broken off; *status* is then the one it had.
        failure: What went wrong.
        exception: What was raised. Its text may hold input and secrets: do not log it.
    """

    method: str
    path: str
    route: str
    status: int
    request_id: str
    duration: float
    failure: "Failure"
    exception: Exception = field(repr=False)
    aborted: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class CallFailed(Event):
    """A function under `errors.handle_errors` raised, and an answer was returned instead.

    Attributes:
        target: Qualified name of the function.
        failure: What went wrong.
        exception: What was raised. Its text may hold input and secrets: do not log it.
    """

    target: str
    failure: "Failure"
    exception: Exception = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class JobEvent(Event):
    """Something happened to a job of a worker.

    Attributes:
        job_id: The id of the job, the same in all of its attempts.
        job_name: What kind of job it is.
        attempt: Number of the attempt, from 1.
    """

    job_id: str
    job_name: str
    attempt: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class JobStarted(JobEvent):
    """A worker began a job."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JobCompleted(JobEvent):
    """A worker finished a job.

    Attributes:
        duration: Time in seconds that this attempt took.
    """

    duration: float


@dataclass(frozen=True, kw_only=True, slots=True)
class JobFailed(JobEvent):
    """A job raised.

    Attributes:
        duration: Time in seconds that this attempt took.
        failure: What went wrong.
        decision: What becomes of the job: ``"retry"``, ``"dead_letter"`` (it is kept for later or for a
            person), or ``"drop"``.
        wait: Time in seconds until the next attempt, or *None* where there is none or nobody knows.
        exception: What was raised. Its text may hold input and secrets: do not log it.
    """

    duration: float
    failure: "Failure"
    decision: str
    exception: Exception = field(repr=False)
    wait: float | None = None
