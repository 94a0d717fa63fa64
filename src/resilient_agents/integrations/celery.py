"""Celery jobs that are tried again where that can help, and kept where it cannot.

    from resilient_agents.integrations import celery as resilience

    resilience.install(app, queue=queue)

What a job raises is judged once. It is sent again with a countdown, or it goes to the dead-letter queue,
never both. The ids of the request, of the organisation and of the agent cross the broker with a job, as far
as they are bound in `resilient_agents.correlation` where it is handed in.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial, wraps
from typing import Any, cast
from weakref import WeakKeyDictionary

from celery import Celery, signals
from celery.exceptions import (
    Ignore,
    Reject,
    Retry,
    SoftTimeLimitExceeded,
    TimeLimitExceeded,
    WorkerLostError,
)

from resilient_agents import correlation
from resilient_agents._clock import clock
from resilient_agents._flow import run
from resilient_agents.deadletter import DeadLetterQueue
from resilient_agents.errors import DeadlineExceeded, OutcomeUnknown, classify
from resilient_agents.integrations._jobs import (
    DROP,
    LABEL,
    RETRY,
    Job,
    Rules,
    luggage,
    rules,
    unpacked,
)
from resilient_agents.policies import deadline

_OWN = "celery."
"""What the names of Celery's own tasks begin with; they are left alone."""

_installed: WeakKeyDictionary[Any, Rules] = WeakKeyDictionary()


def install(
    app: Celery,
    *,
    queue: DeadLetterQueue | None = None,
    wait_initial: float = 1.0,
    wait_max: float = 600.0,
) -> None:
    """Judge what the tasks of *app* raise. Call it where the app is made, for workers and clients alike.

    How often a job is tried is what Celery has for it: ``max_retries`` of its task, 3 by default. A task that
    is declared with ``idempotent=True`` is also tried again after a call that may have been executed. Where
    `classify` advises never to try again, or no attempt is left, the job goes to *queue*, and fails.

    A time limit of Celery's, soft or hard, is a `deadline` for the job.

    Args:
        app: The Celery application. A second installation replaces the rules of the first.
        queue: Takes the jobs that are given up, under the name of the task and the id of the job. Its
            replayer calls the task's function, in its own process. The default is *None*: they only fail.
        wait_initial: Time in seconds before the second attempt; doubles with each further one, and half of it
            is random. A server that asks for more gets more. The default is 1.
        wait_max: Time in seconds that the waits grow to. A job that a server asks to wait for longer goes to
            *queue*, which keeps it until then. The default is 600.

    Raises:
        ValueError: A wait makes no sense.
    """
    _installed[app] = rules(queue, wait_initial=wait_initial, wait_max=wait_max)
    # Celery holds these once, however often they are connected.
    signals.before_task_publish.connect(_pack)
    signals.task_prerun.connect(_enter)
    signals.task_postrun.connect(_leave)
    signals.task_failure.connect(_lost)
    signals.worker_init.connect(_adopt_late)
    app.on_after_finalize.connect(_adopt_all)
    if cast("Any", app).finalized:
        _adopt_all(app)


def _adopt_late(sender: Any, **_: Any) -> None:
    """Take in the tasks of modules that were imported after Celery had its tasks together."""
    if sender.app in _installed:
        _adopt_all(sender.app)


def _adopt_all(sender: Celery, **_: Any) -> None:
    for name, task in sender.tasks.items():
        if not name.startswith(_OWN):
            _adopt(task, _installed[sender])


def _adopt(task: Any, ours: Rules) -> None:
    """Put our judgement around a task's function, once, and make it the handler of its dead letters."""
    if ours.queue is not None and task.name not in ours.queue.targets:
        ours.queue.handler(task.name, idempotent=_is_idempotent(task))(partial(_replay, task))
    if hasattr(task.run, "_resilient_agents"):
        return
    function = task.run

    @wraps(function)
    def judged(*args: Any, **kwargs: Any) -> Any:
        if task.request.called_directly:
            return function(*args, **kwargs)
        return _attempt(task, function, args, kwargs)

    judged._resilient_agents = True  # type: ignore[attr-defined]
    task.run = judged


def _replay(task: Any, payload: Mapping[str, Any]) -> Any:
    with correlation.bind(**payload["correlation"]):
        return task(*payload["args"], **payload["kwargs"])


def _is_idempotent(task: Any) -> bool:
    return bool(getattr(task, "idempotent", False))


def _job_of(task: Any, job_id: str, args: Any, kwargs: Any) -> Job:
    limit = task.max_retries
    return Job(
        id=job_id,
        name=task.name,
        args=args or (),
        kwargs=kwargs or {},
        attempt=task.request.retries + 1,
        attempts=None if limit is None else limit + 1,
        idempotent=_is_idempotent(task),
    )


def _attempt(task: Any, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    request = task.request
    job = _job_of(task, request.id, request.args, request.kwargs)
    job.begin()
    try:
        result = function(*args, **kwargs)
    except Ignore:
        job.complete()
        raise
    except (Retry, Reject) as given_back:  # the task has decided by itself
        _tell(job, given_back)
        raise
    except Exception as exc:
        _judge(task, job, exc)
        raise
    job.complete()
    return result


def _tell(job: Job, decided: Any) -> None:
    """Tell what a task has decided about itself with Celery's own exceptions."""
    again = isinstance(decided, Retry)
    cause = decided.exc if again else decided.reason
    exc = cause if isinstance(cause, Exception) else decided
    decision = RETRY if again or decided.requeue else DROP
    job.fail(exc, classify(exc), decision, _seconds_until(decided.when) if again else None)


def _judge(task: Any, job: Job, exc: Exception) -> None:
    """Send a job that raised again, which raises Celery's `Retry`, or give it to the dead-letter queue."""
    ours, error = _installed[task.app], _translated(exc)
    failure = classify(error)
    wait = job.wait(failure, ours)
    if wait is not None:
        try:
            task.retry(exc=exc, countdown=wait)
        except Retry:
            job.fail(exc, failure, RETRY, wait)
            raise
        except Reject:  # the broker did not take it
            pass
    decision = DROP if ours.queue is None else run(job.keep(ours.queue.blocking, ours.queue, error))
    job.fail(exc, failure, decision)


def _translated(exc: Exception) -> Exception:
    """Return what Celery's own exceptions mean: the job may be half done."""
    if isinstance(exc, SoftTimeLimitExceeded | TimeLimitExceeded):
        error: Exception = DeadlineExceeded("the time limit of the task passed before it was done")
    elif isinstance(exc, WorkerLostError):
        error = OutcomeUnknown("the process of the worker died while at it")
    else:
        return exc
    error.__cause__ = exc
    return error


def _lost(
    sender: Any, task_id: str, exception: Exception, args: Any = None, kwargs: Any = None, **_: Any
) -> None:
    """Keep a job whose process is gone: it was killed, by a hard time limit or by somebody else."""
    ours = _installed.get(sender.app)
    if ours is None or not isinstance(exception, WorkerLostError | TimeLimitExceeded):
        return
    job, error = _job_of(sender, task_id, args, kwargs), _translated(exception)
    carried = unpacked(sender.request.get(LABEL))
    with correlation.bind(**carried, job_id=task_id, job_name=sender.name):
        decision = DROP if ours.queue is None else run(job.keep(ours.queue.blocking, ours.queue, error))
        job.fail(exception, classify(error), decision)


def _pack(headers: dict[str, Any], **_: Any) -> None:
    """Send with a message what the current work is bound to; one that is sent again keeps what it has."""
    if carried := luggage():
        headers.setdefault(LABEL, carried)


def _enter(task_id: str, task: Any, **_: Any) -> None:
    """Bind what the message brought, before Celery writes its first line about the job."""
    if task.app not in _installed or task.name.startswith(_OWN):
        return
    request, block = task.request, ExitStack()
    carried = unpacked(request.get(LABEL) or (request.headers or {}).get(LABEL))
    block.enter_context(correlation.bind(**carried, job_id=task_id, job_name=task.name))
    if (limit := _time_limit(task)) is not None:
        block.enter_context(deadline(limit))
    request.resilient_agents_block = block


def _leave(task: Any, **_: Any) -> None:
    if (block := task.request.get("resilient_agents_block")) is not None:
        block.close()


def _time_limit(task: Any) -> float | None:
    """Return the time in seconds after which Celery interrupts the job, as it decides that itself."""
    hard, soft = task.request.timelimit or (None, None)
    conf = task.app.conf
    soft = soft or task.soft_time_limit or conf.task_soft_time_limit
    hard = hard or task.time_limit or conf.task_time_limit
    return min((float(limit) for limit in (soft, hard) if limit), default=None)


def _seconds_until(when: Any) -> float | None:
    """Return Celery's countdown, a number or a date, in seconds."""
    if when is None or isinstance(when, int | float):
        return when
    return max(0.0, float(when.timestamp()) - clock().time())
