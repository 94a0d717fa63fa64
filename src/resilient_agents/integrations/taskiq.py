"""taskiq jobs that are tried again where that can help, and kept where it cannot.

    from resilient_agents.integrations.taskiq import ResilientMiddleware

    broker = ListQueueBroker(url).with_middlewares(ResilientMiddleware(queue=queue))

What a job raises is judged once. It is sent again, or it goes to the dead-letter queue, never both. The ids
of the request, of the organisation and of the agent cross the broker with a job, as far as they are bound in
`resilient_agents.correlation` where it is handed in.
"""

import json
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import Any

from taskiq import AsyncTaskiqDecoratedTask, ScheduleSource, TaskiqMessage, TaskiqMiddleware, TaskiqResult
from taskiq.exceptions import NoResultError
from taskiq.kicker import AsyncKicker
from taskiq.receiver import Receiver

from resilient_agents import correlation
from resilient_agents._clock import clock
from resilient_agents._flow import arun
from resilient_agents.deadletter import DeadLetterQueue
from resilient_agents.errors import classify
from resilient_agents.integrations._jobs import (
    DROP,
    LABEL,
    RETRY,
    Job,
    luggage,
    rules,
    unpacked,
)
from resilient_agents.policies import deadline

_RETRIES = "_retries"
"""Where taskiq's own middlewares count, too."""


@dataclass(frozen=True, slots=True)
class _Run:
    """A job that is under way, its time, and all that is bound for it."""

    job: Job
    time: ExitStack
    block: ExitStack


_running: ContextVar[_Run | None] = ContextVar("resilient_agents_taskiq", default=None)


class ResilientMiddleware(TaskiqMiddleware):
    """Judges what the tasks of a broker raise; for workers and clients alike.

    A task may say more with its labels: ``max_retries``, how many attempts it has in all, as taskiq's own
    middlewares understand it; ``idempotent=True``, that doing it twice is harmless: it is also tried again
    after a call that may have been executed; and ``timeout``, which is a `deadline` for it too. Where
    `classify` advises never to try again, or no attempt is left, the job goes to *queue*, and fails.

    Do not put taskiq's own retry middlewares beside it: a job would be sent twice.

    Args:
        queue: Takes the jobs that are given up, under the name of the task and the id of the job. Its
            replayer runs the task in its own process, after ``await broker.startup()``. The default is
            *None*: they only fail.
        attempts: How many attempts a job has whose task says nothing else. The default is 4.
        wait_initial: Time in seconds before the second attempt; doubles with each further one, and half of it
            is random. A server that asks for more gets more. The default is 1.
        wait_max: Time in seconds that the waits grow to. A job that a server asks to wait for longer goes to
            *queue*, which keeps it until then. The default is 60.
        schedules: Keeps jobs until their next attempt. Without one a job waits in its worker, not
            acknowledged, and takes one of its places meanwhile. The default is *None*.

    Raises:
        ValueError: A number makes no sense.
    """

    def __init__(
        self,
        *,
        queue: DeadLetterQueue | None = None,
        attempts: int = 4,
        wait_initial: float = 1.0,
        wait_max: float = 60.0,
        schedules: ScheduleSource | None = None,
    ) -> None:
        super().__init__()
        if attempts < 1:
            raise ValueError(f"attempts must be 1 or more, not {attempts}")
        self._rules = rules(queue, wait_initial=wait_initial, wait_max=wait_max)
        self._attempts = attempts
        self._schedules = schedules

    def startup(self) -> None:
        """Make the tasks of the broker the handlers of their dead letters. taskiq calls it."""
        queue = self._rules.queue
        if queue is None:
            return
        for name, task in self.broker.get_all_tasks().items():
            if name not in queue.targets:
                queue.handler(name, idempotent=_says_yes(task.labels))(partial(self._replay, task))

    def pre_send(self, message: TaskiqMessage) -> TaskiqMessage:
        """Send with a message what the current work is bound to. taskiq calls it."""
        if carried := luggage():
            message.labels.setdefault(LABEL, json.dumps(carried))
        return message

    def pre_execute(self, message: TaskiqMessage) -> TaskiqMessage:
        """Bind what the message brought. taskiq calls it."""
        labels, time, block = message.labels, ExitStack(), ExitStack()
        job = Job(
            id=message.task_id,
            name=message.task_name,
            args=list(message.args),  # taskiq puts into the message what it makes of them
            kwargs=dict(message.kwargs),
            attempt=int(labels.get(_RETRIES, 0)) + 1,
            attempts=int(labels.get("max_retries", self._attempts)),
            idempotent=_says_yes(labels),
        )
        block.enter_context(correlation.bind(**_carried(labels), job_id=job.id, job_name=job.name))
        if labels.get("timeout") is not None:
            time.enter_context(deadline(float(labels["timeout"])))
        block.callback(_running.reset, _running.set(_Run(job, time, block)))
        job.begin()
        return message

    async def on_error(
        self, message: TaskiqMessage, result: TaskiqResult[Any], exception: BaseException
    ) -> None:
        """Send a job that raised again, or give it to the dead-letter queue. taskiq calls it."""
        run = _running.get()
        if run is None or not isinstance(exception, Exception):
            return
        if isinstance(exception, NoResultError):  # the task wants no result to be stored
            run.job.complete()
            return
        run.time.close()  # what follows is not the job
        job, queue = run.job, self._rules.queue
        failure = classify(exception)
        wait = job.wait(failure, self._rules)
        if wait is not None:
            job.fail(exception, failure, RETRY, wait)
            with suppress(Exception):  # the broker does not take it: then it is not sent, but kept
                await self._send_again(job, message, wait)
                result.error = NoResultError()  # nobody who waits for the result takes this for it
                return
        decision = DROP if queue is None else await arun(job.keep(queue.awaiting, queue, exception))
        job.fail(exception, failure, decision)

    def post_execute(self, message: TaskiqMessage, result: TaskiqResult[Any]) -> None:
        """Take back what was bound. taskiq calls it."""
        run = _running.get()
        if run is None:
            return
        if not result.is_err:
            run.job.complete()
        run.time.close()
        run.block.close()

    async def _send_again(self, job: Job, message: TaskiqMessage, wait: float) -> None:
        kicker: AsyncKicker[Any, Any] = AsyncKicker(job.name, self.broker, labels=dict(message.labels))
        kicker = kicker.with_task_id(job.id).with_labels(**{_RETRIES: job.attempt})
        if self._schedules is not None:
            moment = datetime.fromtimestamp(clock().time() + wait, UTC)
            await kicker.schedule_by_time(self._schedules, moment, *job.args, **job.kwargs)
        else:
            await clock().asleep(wait)
            await kicker.kiq(*job.args, **job.kwargs)

    async def _replay(self, task: AsyncTaskiqDecoratedTask[Any, Any], payload: Mapping[str, Any]) -> Any:
        """Run a task for the dead-letter queue, with its dependencies, as taskiq runs it."""
        bound = payload["correlation"]
        message = TaskiqMessage(
            task_id=bound["job_id"],
            task_name=task.task_name,
            labels=dict(task.labels),
            args=list(payload["args"]),
            kwargs=dict(payload["kwargs"]),
        )
        with correlation.bind(**bound):
            result = await self._receiver.run_task(task.original_func, message)
        if result.error is not None:
            raise result.error
        return result.return_value

    @cached_property
    def _receiver(self) -> Receiver:
        return Receiver(self.broker, max_async_tasks=1, run_startup=False)


def _says_yes(labels: Mapping[str, Any]) -> bool:
    return str(labels.get("idempotent", False)).lower() == "true"


def _carried(labels: Mapping[str, Any]) -> dict[str, str]:
    try:
        return unpacked(json.loads(labels.get(LABEL, "{}")))
    except (TypeError, ValueError):
        return {}
