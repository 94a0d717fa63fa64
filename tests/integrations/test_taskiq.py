"""taskiq: one decision about each job that fails, and what crosses the broker with it."""

import logging
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import pytest
from taskiq import (
    Context,
    InMemoryBroker,
    NoResultError,
    ScheduledTask,
    ScheduleSource,
    TaskiqDepends,
    TaskiqResult,
)

from resilient_agents import DeadLetterQueue, Replayer, correlation, events
from resilient_agents.deadletter import Pass
from resilient_agents.errors import (
    ExternalFailure,
    QuotaExhausted,
    RateLimited,
    Unreachable,
    ValidationFailed,
)
from resilient_agents.integrations.taskiq import ResilientMiddleware
from resilient_agents.policies import remaining
from resilient_agents.testing import FakeClock


class Mail:
    """What a task does: it fails as it is told, and then it is fine."""

    def __init__(self) -> None:
        self.failures: list[BaseException] = []
        self.seen: list[tuple[dict[str, str], float | None]] = []

    def send(self, to: str) -> str:
        """Send a mail."""
        self.seen.append((dict(correlation.current()), remaining()))
        if self.failures:
            raise self.failures.pop(0)
        return f"sent to {to}"


class Schedules(ScheduleSource):
    """Keeps jobs until they are asked for."""

    def __init__(self) -> None:
        self.kept: list[ScheduledTask] = []

    async def get_schedules(self) -> list[ScheduledTask]:
        """Return what is kept."""
        return self.kept

    async def add_schedule(self, schedule: ScheduledTask) -> None:
        """Keep a job."""
        self.kept.append(schedule)


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


class Bench:
    """A broker in this process, and the task that sends mail."""

    def __init__(self, mail: Mail, middleware: ResilientMiddleware, **labels: Any) -> None:
        self.broker = InMemoryBroker().with_middlewares(middleware)

        @self.broker.task(task_name="mail.send", **labels)
        async def send(to: str, context: Annotated[Context, TaskiqDepends()]) -> str:
            assert context.message.task_name == "mail.send"
            return mail.send(to)

        self.send: Any = send

    async def done(self, to: str = "Ann") -> TaskiqResult[Any]:
        """Hand a job in, and wait until it is done or has failed for good."""
        task = await self.send.kiq(to)
        await self.broker.wait_all()
        result: TaskiqResult[Any] = await task.wait_result(check_interval=0.005, timeout=60)
        self.id = task.task_id
        return result


@pytest.fixture
async def closing() -> AsyncIterator[list[Bench]]:
    """Return the list of what is closed after the test."""
    benches: list[Bench] = []
    yield benches
    for bench in benches:
        await bench.broker.shutdown()


async def opened(closing: list[Bench], mail: Mail, queue: DeadLetterQueue | None, **labels: Any) -> Bench:
    """Return a broker that has started."""
    bench = Bench(mail, ResilientMiddleware(queue=queue), **labels)
    closing.append(bench)
    await bench.broker.startup()
    return bench


def kinds(heard: list[Any]) -> list[str]:
    """Return the names of the events."""
    return [type(event).__name__ for event in heard]


async def test_fine(closing: list[Bench], mail: Mail, queue: DeadLetterQueue, heard: list[Any]) -> None:
    """A job that is done is said to have begun and ended, under its id; what is bound comes with it."""
    bench = await opened(closing, mail, queue)
    with correlation.bind(request_id="r-1", organization_id="o", agent_id="a", job_id="other"):
        result = await bench.done()

    assert "sent to Ann" == result.return_value
    assert ["JobStarted", "JobCompleted"] == kinds(heard)
    names = {"job_id": bench.id, "job_name": "mail.send"}
    bound = {"request_id": "r-1", "organization_id": "o", "agent_id": "a", **names}
    assert [bound] == [it for it, _ in mail.seen]
    assert {} == correlation.current()


@pytest.mark.parametrize(
    ("failure", "idempotent", "waits"),
    [
        (Unreachable(), False, (0.5, 1.0)),
        (RateLimited(retry_after=30.0), False, (30.0, 31.0)),
        (RateLimited(retry_after=61.0), False, None),
        (ExternalFailure(), True, (0.5, 1.0)),
        (ExternalFailure(), False, None),
        (ValidationFailed(), True, None),
        (QuotaExhausted(), True, None),
        (KeyError("a defect"), True, None),
    ],
)
async def test_one_decision(
    closing: list[Bench],
    mail: Mail,
    queue: DeadLetterQueue,
    clock: FakeClock,
    heard: list[Any],
    failure: Exception,
    idempotent: bool,
    waits: tuple[float, float] | None,
) -> None:
    """What is safe is tried again; what may be done, only if twice is harmless; else it is kept."""
    bench = await opened(closing, mail, queue, idempotent=idempotent)
    mail.failures[:] = [failure]
    began = clock.time()

    result = await bench.done()

    event = heard[1]
    assert ("JobFailed", failure) == (type(event).__name__, event.exception)
    kept = queue.get("mail.send", bench.id)
    if waits is None:
        assert ("dead_letter", failure) == (event.decision, result.error)
        assert kept is not None
        assert (["Ann"], {}) == (kept.payload["args"], kept.payload["kwargs"])
    else:
        assert ("retry", "sent to Ann", None) == (event.decision, result.return_value, kept)
        assert waits[0] <= event.wait <= waits[1]
        assert event.wait == pytest.approx(clock.time() - began)
        assert [1, 1, 2, 2] == [event.attempt for event in heard]


@pytest.mark.parametrize(("labels", "attempts"), [({}, 4), ({"max_retries": 2}, 2)])
async def test_last_attempt_and_replay(
    closing: list[Bench],
    mail: Mail,
    queue: DeadLetterQueue,
    clock: FakeClock,
    heard: list[Any],
    labels: dict[str, Any],
    attempts: int,
) -> None:
    """After as many attempts as a job has it is kept; the queue's replayer does it, as taskiq would."""
    bench = await opened(closing, mail, queue, **labels)
    mail.failures[:] = [Unreachable() for _ in range(attempts)]
    with correlation.bind(request_id="r-1"):
        result = await bench.done()
    assert isinstance(result.error, Unreachable)
    assert attempts == len(mail.seen)
    assert "dead_letter" == heard[-1].decision

    clock.advance(60)
    passed = await Replayer(queue).arun_once()

    assert Pass(delivered=1) == passed
    expected = {"request_id": "r-1", "job_id": bench.id, "job_name": "mail.send"}
    assert [expected] * (attempts + 1) == [bound for bound, _ in mail.seen]
    assert kinds(heard)[-1] == "JobFailed"


async def test_replay_that_fails(
    closing: list[Bench], mail: Mail, queue: DeadLetterQueue, clock: FakeClock
) -> None:
    """A job that fails again stays in the queue, and is judged there alone."""
    await opened(closing, mail, queue)
    bound = {"job_id": "job-1"}
    queue.enqueue("mail.send", {"args": ["Ann"], "kwargs": {}, "correlation": bound}, key="job-1")
    mail.failures[:] = [Unreachable()]

    assert Pass(deferred=1) == await Replayer(queue).arun_once()
    assert 1 == len(queue.entries())


async def test_without_a_queue(closing: list[Bench], mail: Mail, heard: list[Any]) -> None:
    """A job that fails for good only fails, and that is said."""
    bench = await opened(closing, mail, None)
    mail.failures[:] = [ValidationFailed()]

    result = await bench.done()

    assert (True, "drop") == (result.is_err, heard[1].decision)


async def test_handler_of_your_own_stays(closing: list[Bench], mail: Mail, queue: DeadLetterQueue) -> None:
    """Who takes the dead letters of a task himself is not replaced."""
    queue.handler("mail.send")(print)
    target = queue.targets["mail.send"]

    await opened(closing, mail, queue)

    assert target is queue.targets["mail.send"]


async def test_time_is_a_deadline(
    closing: list[Bench], mail: Mail, queue: DeadLetterQueue, clock: FakeClock
) -> None:
    """A job knows how much time it has; its next attempt has that time anew."""
    bench = await opened(closing, mail, queue, timeout=5)
    mail.failures[:] = [Unreachable()]

    await bench.done()

    assert [5.0, 5.0] == [left for _, left in mail.seen]
    assert remaining() is None


async def test_schedule_keeps_what_is_to_be_tried_again(
    closing: list[Bench], mail: Mail, clock: FakeClock, heard: list[Any]
) -> None:
    """With a schedule no worker is held by a job that waits."""
    schedules = Schedules()
    bench = Bench(mail, ResilientMiddleware(schedules=schedules))
    closing.append(bench)
    mail.failures[:] = [Unreachable()]
    began = clock.time()

    task = await bench.send.kiq("Ann")
    await bench.broker.wait_all()

    (kept,) = schedules.kept
    assert (task.task_id, ["Ann"], "1") == (kept.task_id, kept.args, str(kept.labels["_retries"]))
    assert kept.time is not None
    assert heard[1].wait == pytest.approx(kept.time.timestamp() - began, abs=0.001)
    assert began == clock.time()


async def test_broker_that_does_not_take_the_retry(
    closing: list[Bench], mail: Mail, queue: DeadLetterQueue, heard: list[Any]
) -> None:
    """A job that cannot be sent again is kept."""

    class Refusing(Schedules):
        async def add_schedule(self, schedule: ScheduledTask) -> None:
            raise ConnectionRefusedError

    bench = Bench(mail, ResilientMiddleware(queue=queue, schedules=Refusing()))
    closing.append(bench)
    await bench.broker.startup()
    mail.failures[:] = [Unreachable()]

    await bench.done()

    assert ["retry", "dead_letter"] == [event.decision for event in heard if hasattr(event, "decision")]
    assert queue.get("mail.send", bench.id) is not None


@pytest.mark.parametrize("error", [NoResultError(), SystemExit()])
async def test_what_is_no_failure(
    closing: list[Bench], mail: Mail, queue: DeadLetterQueue, heard: list[Any], error: BaseException
) -> None:
    """A task that wants no result is done; one that ends its process is neither sent again nor kept."""
    bench = await opened(closing, mail, queue)
    mail.failures[:] = [error]

    await bench.send.kiq("Ann")
    await bench.broker.wait_all()

    assert (["JobCompleted"] if isinstance(error, NoResultError) else []) == kinds(heard)[1:]
    assert [] == queue.entries()
    assert {} == correlation.current()


@pytest.mark.parametrize("label", ["no json", "[]", '{"request_id": 7}', None])
async def test_label_that_is_not_ours(closing: list[Bench], mail: Mail, label: str | None) -> None:
    """What somebody else put into a message is not bound."""
    bench = await opened(closing, mail, None, resilient_agents=label)

    await bench.done()

    assert [{"job_id": bench.id, "job_name": "mail.send"}] == [bound for bound, _ in mail.seen]


@pytest.mark.parametrize("name", ["_retries", "max_retries"])
@pytest.mark.parametrize("value", ["many", None, "nan", "-1", "inf"])
async def test_number_that_is_none(
    closing: list[Bench], mail: Mail, heard: list[Any], name: str, value: Any
) -> None:
    """A job whose label is no number is done as if it had none: it is not lost."""
    bench = await opened(closing, mail, None)
    task = await bench.send.kicker().with_labels(**{name: value}).kiq("Ann")
    await bench.broker.wait_all()
    result = await task.wait_result(check_interval=0.005, timeout=60)

    assert "sent to Ann" == result.return_value
    assert ["JobStarted", "JobCompleted"] == kinds(heard)
    assert [1, 1] == [event.attempt for event in heard]


async def test_arguments_stay_as_they_came(
    closing: list[Bench], queue: DeadLetterQueue, clock: FakeClock
) -> None:
    """What taskiq makes of an argument is for the task; what is sent again and kept is what was handed in."""
    bench = await opened(closing, Mail(), queue)
    seen: list[object] = []

    @bench.broker.task(task_name="remind", max_retries=2)
    async def remind(when: datetime) -> None:
        seen.append(when)
        raise Unreachable

    await bench.broker.startup()
    task = await remind.kiq("2026-01-02T03:04:05Z")  # type: ignore[call-overload]
    await task.wait_result(check_interval=0.005, timeout=60)

    assert [datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)] * 2 == seen
    kept = queue.get("remind", task.task_id)
    assert kept is not None
    assert ["2026-01-02T03:04:05Z"] == kept.payload["args"]


async def test_nothing_is_left_behind(mail: Mail) -> None:
    """A job that is done where it was handed in takes back what was bound for it, whatever it ends in."""
    broker = InMemoryBroker(await_inplace=True).with_middlewares(ResilientMiddleware())

    @broker.task(timeout=5)
    async def send(to: str) -> str:
        return mail.send(to)

    mail.failures[:] = [ValidationFailed()]
    for _ in range(2):
        await send.kiq("Ann")
        assert ({}, None) == (correlation.current(), remaining())
    assert 2 == len(mail.seen)
    await broker.shutdown()


async def test_attempts_that_make_no_sense() -> None:
    """They are refused at once."""
    with pytest.raises(ValueError, match="attempts must be 1 or more"):
        ResilientMiddleware(attempts=0)
    with pytest.raises(ValueError, match="wait_max"):
        ResilientMiddleware(wait_max=-1)


async def test_queue_that_takes_nothing(
    closing: list[Bench],
    mail: Mail,
    queue: DeadLetterQueue,
    caplog: pytest.LogCaptureFixture,
    heard: list[Any],
) -> None:
    """A job that cannot be kept is the loudest line in the log."""
    bench = await opened(closing, mail, queue)
    mail.failures[:] = [ValidationFailed()]

    await bench.done("\ud800")

    assert "drop" == heard[1].decision
    assert 1 == len([record for record in caplog.records if record.levelno == logging.CRITICAL])
