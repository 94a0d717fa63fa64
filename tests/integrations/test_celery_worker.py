"""The Celery example, with a real Redis, real workers and a service that fails on purpose."""

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integrations.notes_service import Program, Service, run, running, serving
from tests.policies.redis_server import running as redis_running

from resilient_agents.deadletter import DeadLetterQueue, State

WORKER = ("-m", "celery", "--app", "worker_celery", "--quiet", "worker", "--concurrency", "1")
ALONE = ("--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "INFO")
PREFORK = ("--pool", "prefork", "worker.lost_wait=0.1")
READY = " ready."
REPLAY = (
    "-c",
    "from resilient_agents.cli import main; main()",
    *("worker", "worker_celery:dead_letters", "--once"),
)


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """Run the service that the jobs write to."""
    with serving() as one:
        yield one


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder in which the programs run."""
    return tmp_path_factory.mktemp("celery")


@pytest.fixture(scope="module")
def settings(
    folder: Path, service: Service, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """Run a Redis, and return what the example wants to know."""
    with redis_running(tmp_path_factory.mktemp("redis")) as redis:
        yield {
            "REDIS_URL": f"redis+socket://{redis.path}",
            "CRM_URL": service.url,
            "WAIT_INITIAL": "0.02",
        }


@pytest.fixture(scope="module")
def worker(folder: Path, settings: dict[str, str]) -> Iterator[Program]:
    """Run a worker with a pool of one process."""
    program = Program(folder, *WORKER, *ALONE, *PREFORK, **settings)
    with running(program):
        program.says(READY)
        yield program


@pytest.fixture
def letters(folder: Path) -> Iterator[DeadLetterQueue]:
    """Open the queue of the dead letters."""
    with DeadLetterQueue(f"sqlite:///{folder}/dead.db") as queue:
        yield queue


def hand_in(folder: Path, settings: dict[str, str], lead: str) -> tuple[str, str]:
    """Hand a job in by another process, and return its id and the id of its request."""
    told = run(folder, "-m", "worker_celery", lead, environment=settings)
    found = re.search(r"^job (\S+) of request (\S+)$", told, re.MULTILINE)
    assert found is not None
    return found[1], found[2]


def test_retried_and_then_fine(
    folder: Path, settings: dict[str, str], service: Service, worker: Program, letters: DeadLetterQueue
) -> None:
    """A failure that may pass is retried under the same id, and what was bound crosses the broker."""
    service.statuses[:] = [503, 429]

    job, request = hand_in(folder, settings, "Ann")

    assert [request] * 3 == [service.next_call(job).request_id for _ in range(3)]
    worker.says(f"Task crm.note[{job}] succeeded")
    assert letters.get("crm.note", job) is None


def test_final_failure_is_kept_and_replayed(
    folder: Path, settings: dict[str, str], service: Service, worker: Program, letters: DeadLetterQueue
) -> None:
    """When no attempt is left the job is in the dead-letter queue, and is done from there."""
    service.statuses[:] = [503] * 4

    job, request = hand_in(folder, settings, "Bob")
    worker.says(f"Task crm.note[{job}] raised")
    kept = letters.get("crm.note", job)
    assert kept is not None
    assert (State.SCHEDULED, "external.overloaded", 1) == (kept.state, kept.code, kept.attempts)
    letters.redrive(kept.id)
    run(folder, *REPLAY, environment=settings)

    assert [request] * 5 == [service.next_call(job).request_id for _ in range(5)]
    delivered = letters.get("crm.note", job)
    assert delivered is not None
    assert (State.DELIVERED, str(service.done[job]["id"])) == (delivered.state, delivered.reference)


def kill_children(worker: Program) -> None:
    """Kill the processes of a worker's pool."""
    children = Path(f"/proc/{worker.process.pid}/task/{worker.process.pid}/children")
    if not children.exists():
        pytest.skip("only Linux tells the children of a process")
    for child in children.read_text().split():
        os.kill(int(child), signal.SIGKILL)


@pytest.mark.crash
def test_killed_worker_gives_its_job_back(
    folder: Path, settings: dict[str, str], service: Service, worker: Program, letters: DeadLetterQueue
) -> None:
    """A process that is killed in the middle of a job loses nothing: the next one does it, and only once."""
    service.statuses[:] = [None]

    job, request = hand_in(folder, settings, "Cid")
    service.next_call(job)
    kill_children(worker)

    assert request == service.next_call(job).request_id
    worker.says(f"Task crm.note[{job}] succeeded")
    assert letters.get("crm.note", job) is None
    service.release.set()


CONFIRMING_EARLY = """
from worker_celery import app

app.conf.update(task_acks_late=False, task_reject_on_worker_lost=False)
"""


@pytest.mark.crash
def test_killed_worker_that_had_confirmed_its_job(settings: dict[str, str], tmp_path: Path) -> None:
    """A job that the broker has forgotten when its process is killed is kept, as one that may be done."""
    (tmp_path / "early.py").write_text(CONFIRMING_EARLY)
    command = tuple("early" if word == "worker_celery" else word for word in WORKER)
    with serving() as service:
        service.statuses[:] = [None]
        of_its_own = f"{settings['REDIS_URL']}?virtual_host=2"
        settings = {**settings, "CRM_URL": service.url, "REDIS_URL": of_its_own}
        with running(Program(tmp_path, *command, *ALONE, *PREFORK, **settings)) as worker:
            worker.says(READY)
            job, request = hand_in(tmp_path, settings, "Eve")
            service.next_call(job)
            kill_children(worker)
            worker.says("WorkerLostError")

    with DeadLetterQueue(f"sqlite:///{tmp_path}/dead.db") as letters:
        kept = letters.get("crm.note", job)
    assert kept is not None
    assert (State.SCHEDULED, "external.outcome_unknown") == (kept.state, kept.code)
    assert (["Eve", "called back"], request) == (
        kept.payload["args"],
        kept.payload["correlation"]["request_id"],
    )


def test_job_is_finished_before_the_worker_ends(
    folder: Path, settings: dict[str, str], tmp_path: Path
) -> None:
    """SIGTERM in the middle of a job lets it end, and then the worker."""
    with serving() as service:
        service.statuses[:] = [None]
        settings = {
            **settings,
            "CRM_URL": service.url,
            "REDIS_URL": f"{settings['REDIS_URL']}?virtual_host=1",
        }
        with running(Program(tmp_path, *WORKER, *ALONE, "--pool", "solo", **settings)) as worker:
            worker.says(READY)
            job, _ = hand_in(tmp_path, settings, "Dan")
            service.next_call(job)
            worker.process.terminate()
            worker.says("Warm shutdown")
            service.release.set()

            worker.finished()

    assert [job] == list(service.done)
    assert f"Task crm.note[{job}] succeeded" in worker.told
