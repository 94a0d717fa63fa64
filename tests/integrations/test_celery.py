"""Celery: one decision about each job that fails, and what crosses the broker with it."""

import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import celery
import pytest
from celery import signals
from celery.app.trace import build_tracer
from celery.exceptions import (
    Ignore,
    Reject,
    SoftTimeLimitExceeded,
    TimeLimitExceeded,
    WorkerLostError,
)

from resilient_agents import DeadLetterQueue, Replayer, correlation, events
from resilient_agents.deadletter import Pass, State
from resilient_agents.errors import (
    Conflict,
    ExternalFailure,
    QuotaExhausted,
    RateLimited,
    Unreachable,
    ValidationFailed,
)
from resilient_agents.integrations.celery import install
from resilient_agents.policies import remaining
from resilient_agents.testing import FakeClock


class Mail:
    """What a task does: it fails as it is told, and then it is fine.

    Attributes:
        failures: What the next calls raise.
        seen: What was bound and what time was left in each call.
    """

    def __init__(self) -> None:
        self.failures: list[Exception] = []
        self.seen: list[tuple[dict[str, str], float | None]] = []

    def send(self, to: str, body: str = "") -> str:
        """Send a mail."""
        self.seen.append((dict(correlation.current()), remaining()))
        if self.failures:
            raise self.failures.pop(0)
        return f"sent to {to}"


@pytest.fixture
def clock() -> Iterator[FakeClock]:
    """Put a clock in force."""
    with FakeClock() as clock:
        yield clock


@pytest.fixture
def queue(tmp_path: Path, clock: FakeClock) -> Iterator[DeadLetterQueue]:
    """Open an empty queue."""
    with DeadLetterQueue(f"sqlite:///{tmp_path}/dead.db") as opened:
        yield opened


@pytest.fixture
def app() -> Iterator[celery.Celery]:
    """Return an application whose jobs are done at once, in this process."""
    app = celery.Celery("tested", broker="memory://", set_as_current=False)
    app.conf.update(task_always_eager=True, worker_hijack_root_logger=False)
    yield app
    app.close()


@pytest.fixture
def mail() -> Mail:
    """Return what the tasks do."""
    return Mail()


@pytest.fixture
def heard() -> Iterator[list[Any]]:
    """Return the list to which the events of jobs are added."""
    heard: list[Any] = []
    events.subscribe(events.JobEvent)(heard.append)
    yield heard
    events.unsubscribe(heard.append)


def installed(app: celery.Celery, mail: Mail, queue: DeadLetterQueue | None, **options: Any) -> Any:
    """Return the task that sends mail, with ours around it."""
    install(app, queue=queue)
    task = made(app, mail, "mail.send", **options)
    app.finalize()
    return task


def made(app: celery.Celery, mail: Mail, name: str, **options: Any) -> Any:
    """Return a task that sends mail."""

    def send(to: str, body: str = "") -> str:
        return mail.send(to, body)

    decorate: Any = app.task(name=name, shared=False, **options)
    return decorate(send)


def kinds(heard: list[Any]) -> list[str]:
    """Return the names of the events."""
    return [type(event).__name__ for event in heard]


def decisions(heard: list[Any]) -> list[str]:
    """Return what became of the attempts that failed."""
    return [event.decision for event in heard if isinstance(event, events.JobFailed)]


def test_fine(app: celery.Celery, mail: Mail, queue: DeadLetterQueue, heard: list[Any]) -> None:
    """A job that is done is said to have begun and ended, under its id."""
    result = installed(app, mail, queue).delay("Ann")

    assert "sent to Ann" == result.get()
    started, completed = heard
    assert ("JobStarted", "JobCompleted") == tuple(kinds(heard))
    assert (result.id, "mail.send", 1) == (started.job_id, started.job_name, started.attempt)
    assert result.id == completed.job_id
    assert [{"job_id": result.id, "job_name": "mail.send"}] == [bound for bound, _ in mail.seen]
    assert {} == correlation.current()


SOFT = SoftTimeLimitExceeded()


@pytest.mark.parametrize(
    ("failure", "idempotent", "waits"),
    [
        (Unreachable(), False, (0.5, 1.0)),
        (Unreachable(), True, (0.5, 1.0)),
        (RateLimited(retry_after=30.0), False, (30.0, 31.0)),
        (RateLimited(retry_after=601.0), False, None),
        (ExternalFailure(), True, (0.5, 1.0)),
        (ExternalFailure(), False, None),
        (TimeoutError(), False, None),
        (SOFT, True, (0.5, 1.0)),
        (SOFT, False, None),
        (ValidationFailed(), True, None),
        (QuotaExhausted(), True, None),
        (KeyError("a defect"), True, None),
    ],
)
def test_one_decision(
    app: celery.Celery,
    mail: Mail,
    queue: DeadLetterQueue,
    heard: list[Any],
    failure: Exception,
    idempotent: bool,
    waits: tuple[float, float] | None,
) -> None:
    """What is safe is tried again; what may be done, only if twice is harmless; else it is kept."""
    mail.failures[:] = [failure]

    result = installed(app, mail, queue, idempotent=idempotent).delay("Ann", body="hello")

    event = heard[1]
    assert ("JobFailed", failure) == (type(event).__name__, event.exception)
    kept = queue.get("mail.send", result.id)
    if waits is None:
        assert ("dead_letter", None, "FAILURE") == (event.decision, event.wait, result.state)
        assert kept is not None
        assert kept.payload["args"] == ["Ann"]
        assert kept.payload["kwargs"] == {"body": "hello"}
        assert 1 == len(mail.seen)
    else:
        assert ("retry", "SUCCESS") == (event.decision, result.state)
        assert waits[0] <= event.wait <= waits[1]
        assert kept is None
        assert ["JobStarted", "JobFailed", "JobStarted", "JobCompleted"] == kinds(heard)
        assert [1, 1, 2, 2] == [event.attempt for event in heard]


def test_last_attempt(app: celery.Celery, mail: Mail, queue: DeadLetterQueue, heard: list[Any]) -> None:
    """After as many attempts as the task has the job is kept, and the failure is its result."""
    mail.failures[:] = [Unreachable() for _ in range(9)]

    result = installed(app, mail, queue, max_retries=2).delay("Ann")

    assert ["retry", "retry", "dead_letter"] == [
        event.decision for event in heard if hasattr(event, "decision")
    ]
    assert 3 == len(mail.seen)
    assert isinstance(result.result, Unreachable)
    kept = queue.get("mail.send", result.id)
    assert kept is not None
    assert (State.SCHEDULED, "external.unreachable") == (kept.state, kept.code)


def test_no_last_attempt(app: celery.Celery, mail: Mail, queue: DeadLetterQueue) -> None:
    """Without a limit of Celery's own a job is tried for as long as that can help."""
    mail.failures[:] = [Unreachable() for _ in range(20)]

    assert "SUCCESS" == installed(app, mail, queue, max_retries=None).delay("Ann").state


def test_replay(app: celery.Celery, mail: Mail, queue: DeadLetterQueue, clock: FakeClock) -> None:
    """What is kept is done by the queue's replayer, under the ids of the job and of its request."""
    mail.failures[:] = [Unreachable()]
    task = installed(app, mail, queue, max_retries=0)
    with correlation.bind(request_id="r-1"):
        result = task.delay("Ann")
    clock.advance(60)

    assert Pass(delivered=1) == Replayer(queue).run_once()

    expected = {"request_id": "r-1", "job_id": result.id, "job_name": "mail.send"}
    assert [expected] * 2 == [bound for bound, _ in mail.seen]
    delivered = queue.get("mail.send", result.id)
    assert delivered is not None
    assert "sent to Ann" == delivered.reference


def test_job_that_may_be_done_is_not_done_again(
    app: celery.Celery, mail: Mail, queue: DeadLetterQueue, clock: FakeClock
) -> None:
    """Where nobody can tell whether it was done, a person is asked, and nothing is sent."""
    mail.failures[:] = [ExternalFailure()]
    result = installed(app, mail, queue).delay("Ann")
    clock.advance(600)

    assert Pass() == Replayer(queue).run_once()
    kept = queue.get("mail.send", result.id)
    assert kept is not None
    assert State.PARKED == kept.state


def test_long_wait_without_a_queue(app: celery.Celery, mail: Mail, heard: list[Any]) -> None:
    """Where nothing else keeps a job, the broker does, for as long as a server asks."""
    mail.failures[:] = [RateLimited(retry_after=601.0)]

    assert "SUCCESS" == installed(app, mail, None).delay("Ann").state
    assert heard[1].wait >= 601.0


def test_without_a_queue(app: celery.Celery, mail: Mail, heard: list[Any]) -> None:
    """A job that fails for good only fails, and that is said."""
    mail.failures[:] = [ValidationFailed()]

    result = installed(app, mail, None).delay("Ann")

    assert ("FAILURE", "drop") == (result.state, heard[1].decision)


def test_queue_that_takes_nothing(
    app: celery.Celery,
    mail: Mail,
    queue: DeadLetterQueue,
    heard: list[Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A job that cannot be kept is the loudest line in the log."""
    mail.failures[:] = [ValidationFailed()]

    installed(app, mail, queue).delay("Ann", body=float("nan"))

    assert "drop" == heard[1].decision
    (line,) = [record for record in caplog.records if record.levelno == logging.CRITICAL]
    assert "of mail.send is lost: the dead-letter queue did not take it: payload" in line.getMessage()


def test_job_that_is_kept_already(
    app: celery.Celery, mail: Mail, queue: DeadLetterQueue, heard: list[Any]
) -> None:
    """A message that comes twice, by another way, is one entry."""
    task = installed(app, mail, queue)
    queue.enqueue("mail.send", {"args": []}, key="job-1")
    mail.failures[:] = [ValidationFailed()]

    task.apply_async(("Ann",), task_id="job-1")

    assert "dead_letter" == heard[1].decision
    assert 1 == len(queue.entries())


def test_task_that_decides_itself(
    app: celery.Celery, queue: DeadLetterQueue, clock: FakeClock, heard: list[Any]
) -> None:
    """What a task says with Celery's own exceptions is done as it says, and told."""
    install(app, queue=queue)
    moment = datetime.fromtimestamp(clock.time() + 5, UTC)
    ways: dict[str, Any] = {
        "countdown": lambda task: task.retry(exc=Conflict(), countdown=7),
        "no reason": lambda task: task.retry(countdown=7),
        "date": lambda task: task.retry(exc=Conflict(), eta=moment),
        "ignore": lambda _: (_ for _ in ()).throw(Ignore()),
        "reject": lambda _: (_ for _ in ()).throw(Reject("no", requeue=False)),
        "requeue": lambda _: (_ for _ in ()).throw(Reject(Conflict(), requeue=True)),
    }

    def decide(task: Any, how: str) -> str:
        if task.request.retries == 0:
            ways[how](task)
        return "done"

    task: Any = app.task(name="decide", bind=True, shared=False)(decide)
    app.finalize()
    told = {}
    for how in ways:
        heard.clear()
        task.delay(how)
        event = heard[1]
        told[how] = (type(event).__name__, getattr(event, "decision", None), getattr(event, "wait", None))

    assert {
        "countdown": ("JobFailed", "retry", 7),
        "no reason": ("JobFailed", "retry", 7),
        "date": ("JobFailed", "retry", 5.0),
        "ignore": ("JobCompleted", None, None),
        "reject": ("JobFailed", "drop", None),
        "requeue": ("JobFailed", "retry", None),
    } == told
    assert [] == queue.entries()


def test_called_as_a_function(app: celery.Celery, mail: Mail, heard: list[Any]) -> None:
    """A task that is simply called raises what it raises, and is no job."""
    task = installed(app, mail, None)
    mail.failures[:] = [Unreachable()]

    with pytest.raises(Unreachable):
        task("Ann")
    assert "sent to Bob" == task("Bob")
    assert [] == heard


def traced(task: Any, request: dict[str, Any], *args: Any) -> Any:
    """Do a job as a worker does."""
    trace: Any = build_tracer(task.name, task, app=task.app)
    return trace(request["id"], args, {}, {"retries": 0, "delivery_info": {}, **request})


def test_what_is_bound_crosses_the_broker(app: celery.Celery, mail: Mail) -> None:
    """A message brings the id of its request, organisation and agent; not those of the job that sent it."""
    app.conf.task_always_eager = False
    task = installed(app, mail, None)
    with correlation.bind(request_id="r-1", organization_id="o", agent_id="a", job_id="j", job_name="n"):
        task.delay("Ann")
    with app.connection_for_read() as connection:
        (message,) = [connection.SimpleQueue("celery").get(timeout=1)]

    message.ack()
    headers: Any = message.headers
    carried = {"request_id": "r-1", "organization_id": "o", "agent_id": "a"}
    assert carried == headers["resilient_agents"]
    traced(task, headers, "Ann")
    bound = {**carried, "job_id": headers["id"], "job_name": "mail.send"}
    assert [bound] == [it for it, _ in mail.seen]


@pytest.mark.parametrize("label", ["text", {"request_id": 7}, {"request_id": "a\nb"}, {"job_id": "x"}, None])
def test_label_that_is_not_ours(app: celery.Celery, mail: Mail, label: Any) -> None:
    """What somebody else put into a message is not bound."""
    traced(installed(app, mail, None), {"id": "job-1", "resilient_agents": label}, "Ann")

    assert [{"job_id": "job-1", "job_name": "mail.send"}] == [bound for bound, _ in mail.seen]


def test_broker_that_does_not_take_the_retry(
    app: celery.Celery, mail: Mail, queue: DeadLetterQueue, heard: list[Any]
) -> None:
    """A job that cannot be sent again is kept."""
    task = installed(app, mail, queue, serializer="none that there is")
    mail.failures[:] = [Unreachable()]

    traced(task, {"id": "job-1"}, "Ann")

    assert ["dead_letter"] == decisions(heard)
    assert queue.get("mail.send", "job-1") is not None


@pytest.mark.parametrize(
    ("options", "settings", "message", "expected"),
    [
        ({}, {}, None, None),
        ({"soft_time_limit": 5, "time_limit": 9}, {}, None, 5.0),
        ({"time_limit": 9}, {"task_soft_time_limit": 7}, None, 7.0),
        ({}, {"task_time_limit": 8}, None, 8.0),
        ({"soft_time_limit": 5}, {}, (3, 4), 3.0),
    ],
)
def test_time_limit_is_a_deadline(
    app: celery.Celery,
    mail: Mail,
    clock: FakeClock,
    options: dict[str, Any],
    settings: dict[str, Any],
    message: tuple[float, float] | None,
    expected: float | None,
) -> None:
    """A job knows how much time Celery leaves it."""
    app.conf.update(settings)

    traced(installed(app, mail, None, **options), {"id": "job-1", "timelimit": message}, "Ann")

    assert [expected] == [left for _, left in mail.seen]
    assert remaining() is None


@pytest.mark.parametrize(
    ("exception", "code"),
    [(WorkerLostError("signal 9"), "external.outcome_unknown"), (TimeLimitExceeded(3), "external.deadline")],
)
@pytest.mark.parametrize(("idempotent", "state"), [(False, State.PARKED), (True, State.SCHEDULED)])
def test_worker_that_is_killed(
    app: celery.Celery,
    mail: Mail,
    queue: DeadLetterQueue,
    heard: list[Any],
    exception: Exception,
    code: str,
    idempotent: bool,
    state: State,
) -> None:
    """What a worker's process was at when it died is kept, as work that may be done already."""
    task = installed(app, mail, queue, idempotent=idempotent)

    report(task, exception)

    (event,) = heard
    assert ("dead_letter", code, exception) == (event.decision, event.failure.code, event.exception)
    kept = queue.get("mail.send", "job-1")
    assert kept is not None
    assert (state, code, ["Ann"]) == (kept.state, kept.code, kept.payload["args"])


def report(task: Any, exception: Exception) -> None:
    """Say that a job failed, as the main process of a worker does."""
    signals.task_failure.send(
        sender=task,
        task_id="job-1",
        exception=exception,
        args=("Ann",),
        kwargs={},
        traceback=None,
        einfo=None,
    )


def test_failure_that_was_judged_is_not_judged_again(
    app: celery.Celery, mail: Mail, queue: DeadLetterQueue, heard: list[Any]
) -> None:
    """What Celery says about a job that raised changes nothing, nor what it says of other applications."""
    task = installed(app, mail, queue)
    report(task, Unreachable())
    other = celery.Celery("other", broker="memory://", set_as_current=False)
    report(made(other, mail, "mail.other"), WorkerLostError())

    assert ([], []) == (heard, queue.entries())
    other.close()


def test_applications_of_others_are_left_alone(app: celery.Celery, mail: Mail, heard: list[Any]) -> None:
    """A task of an application without ours is as it was."""
    installed(app, Mail(), None)
    other = celery.Celery("other", broker="memory://", set_as_current=False)
    other.conf.task_always_eager = True
    task: Any = made(other, mail, "mail.other")
    signals.worker_init.send(sender=type("Worker", (), {"app": other}))
    task.delay("Ann")

    assert [({}, None)] == mail.seen
    assert [] == heard
    other.close()


def test_twice_is_once(app: celery.Celery, mail: Mail, queue: DeadLetterQueue, heard: list[Any]) -> None:
    """A second installation replaces the rules, and nothing is told twice."""
    task = installed(app, mail, None)
    install(app, queue=queue, wait_initial=100.0)
    mail.failures[:] = [Unreachable(), ValidationFailed()]

    task.delay("Ann")

    assert ["JobStarted", "JobFailed", "JobStarted", "JobFailed"] == kinds(heard)
    assert 50.0 <= heard[1].wait <= 100.0
    assert 1 == len(queue.entries())


def test_tasks_that_come_late(app: celery.Celery, mail: Mail, heard: list[Any]) -> None:
    """A task of a module that was imported late is ours, too, when a worker starts."""
    installed(app, mail, None)
    late: Any = made(app, mail, "mail.late")
    signals.worker_init.send(sender=type("Worker", (), {"app": app}))

    late.delay("Ann")

    assert ["JobStarted", "JobCompleted"] == kinds(heard)


def test_handler_of_your_own_stays(
    app: celery.Celery, mail: Mail, queue: DeadLetterQueue, clock: FakeClock
) -> None:
    """Who takes the dead letters of a task himself is not replaced."""
    taken: list[Any] = []
    queue.handler("mail.send")(taken.append)
    mail.failures[:] = [Unreachable()]
    installed(app, mail, queue, max_retries=0).delay("Ann")
    clock.advance(60)

    Replayer(queue).run_once()

    assert [["Ann"]] == [payload["args"] for payload in taken]
    assert not any(name.startswith("celery.") for name in queue.targets)


def test_transaction_is_repeated_as_a_whole(
    app: celery.Celery, mail: Mail, queue: DeadLetterQueue, heard: list[Any]
) -> None:
    """Advice to repeat the transaction is advice to repeat the job around it."""

    class DeadlockDetected(Exception):
        """What a driver of PostgreSQL raises."""

        sqlstate = "40P01"

    mail.failures[:] = [DeadlockDetected()]

    installed(app, mail, queue).delay("Ann")

    assert ["retry"] == decisions(heard)


def test_rules_that_make_no_sense(app: celery.Celery) -> None:
    """They are refused before anything is changed."""
    with pytest.raises(ValueError, match="wait_initial"):
        install(app, wait_initial=-1)
