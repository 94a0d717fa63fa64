"""One id for all that a request causes, from the header to the job in a worker, wherever it is told.

The parts are the real ones: an application, a queue with a worker behind it, log lines, a client of Sentry
that keeps what it would send, and an activity log in a file.
"""

import asyncio
import io
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from queue import Queue
from typing import Any

import httpx
import pytest
import structlog
from celery import Celery
from celery.contrib.testing.worker import start_worker
from fastapi import FastAPI
from flask import Flask
from sentry_sdk.integrations.celery import CeleryIntegration
from sentry_sdk.integrations.fastapi import FastApiIntegration
from sentry_sdk.integrations.flask import FlaskIntegration
from sentry_sdk.integrations.logging import LoggingIntegration
from sentry_sdk.integrations.starlette import StarletteIntegration
from taskiq.receiver import Receiver
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker
from tests.integrations.sentry_recorder import DSN, Recorder, no_client

from resilient_agents import events
from resilient_agents.activity import Activity, ActivityLog
from resilient_agents.errors import ExternalFailure
from resilient_agents.integrations import celery as celery_jobs
from resilient_agents.integrations import fastapi as fastapi_answers
from resilient_agents.integrations import flask as flask_answers
from resilient_agents.integrations import sentry
from resilient_agents.integrations import structlog as logs
from resilient_agents.integrations.taskiq import ResilientMiddleware

ID = "form-8731"
PATIENCE = 60.0

log = structlog.get_logger("service")


class Watch:
    """All that is told of what happens."""

    def __init__(self, activity: ActivityLog) -> None:
        self.activity = activity
        self.recorder, self.stream = Recorder(), io.StringIO()

    def lines(self) -> list[dict[str, Any]]:
        """Return the log lines."""
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    def entries(self) -> list[Activity]:
        """Return the activity entries."""
        assert self.activity.flush(PATIENCE)
        return [*self.activity.recent("acme")]

    def note(self, lead: str) -> None:
        """Do what the job is there for: it fails."""
        log.info("note_begun", lead=lead)
        with self.activity.track("note.written", organization_id="acme"):
            raise ExternalFailure("the CRM did not answer")

    def crash(self) -> None:
        """Do what an endpoint with a defect does."""
        logging.getLogger("library").info("crash begun")
        with self.activity.track("page.shown", organization_id="acme"):
            raise KeyError("a defect")

    def accept(self, hand_in: Callable[[], Any]) -> Any:
        """Do what an endpoint with a job for a worker does."""
        log.info("lead_accepted")
        self.activity.record("lead.accepted", organization_id="acme")
        return hand_in()


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Watch]:
    """Watch all that is told."""
    activity = ActivityLog(f"sqlite:///{tmp_path}/activity.db", spill=tmp_path / "spill")
    with no_client(), activity:
        watch = Watch(activity)
        stops = [logs.configure("service", stream=watch.stream), logs.install()]
        integrations = [
            *(LoggingIntegration(), StarletteIntegration(), FastApiIntegration(), FlaskIntegration()),
            CeleryIntegration(),
        ]
        stops.append(
            sentry.install(
                DSN, transport=watch.recorder, default_integrations=False, integrations=integrations
            )
        )
        try:
            yield watch
        finally:
            for stop in reversed(stops):
                stop()


@pytest.fixture
def ended() -> Iterator[Queue[str]]:
    """Return a queue of the ids of the jobs that have failed, and of which everybody has heard."""
    ended: Queue[str] = Queue()

    def note(event: events.JobFailed) -> None:
        ended.put(event.job_id)

    events.subscribe(events.JobFailed)(note)
    yield ended
    events.unsubscribe(note)


@asynccontextmanager
async def fastapi_and_taskiq(watch: Watch, redis_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """Run a FastAPI application and a taskiq worker that has nothing in common with its requests."""
    results: Any = RedisAsyncResultBackend(redis_url)
    broker = RedisStreamBroker(redis_url).with_result_backend(results).with_middlewares(ResilientMiddleware())
    app = FastAPI()
    fastapi_answers.install(app)

    @broker.task(task_name="crm.note")
    async def note(lead: str) -> None:
        watch.note(lead)

    @app.post("/leads", status_code=202)
    async def accept() -> str:
        task = await watch.accept(lambda: note.kiq("Ann"))
        await task.wait_result(check_interval=0.01, timeout=PATIENCE)
        return str(task.task_id)

    @app.get("/crash")
    async def crash() -> None:
        watch.crash()

    await broker.startup()
    stop = asyncio.Event()
    worker = asyncio.create_task(Receiver(broker, max_async_tasks=2, run_startup=False).listen(stop))
    try:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://service.test") as client:
            yield client
    finally:
        stop.set()
        with suppress(asyncio.CancelledError):
            await worker
        await broker.shutdown()


@asynccontextmanager
async def flask_and_celery(watch: Watch, redis_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """Run a Flask application and a Celery worker in a thread of its own."""
    queue = Celery("notes", broker="memory://", set_as_current=False)
    queue.conf.update(worker_hijack_root_logger=False)
    celery_jobs.install(queue)

    def write_note(lead: str) -> None:
        watch.note(lead)

    note: Any = queue.task(name="crm.note", shared=False)(write_note)

    app = Flask("service")
    flask_answers.install(app)

    @app.post("/leads")
    def accept() -> tuple[str, int]:
        return json.dumps(watch.accept(lambda: note.delay("Ann")).id), 202

    @app.get("/crash")
    def crash() -> str:
        watch.crash()
        return "fine"

    class Threaded(httpx.AsyncBaseTransport):
        """Asks the application in a thread, as a server does."""

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            sent = await request.aread()
            plain = httpx.Request(request.method, request.url, headers=request.headers, content=sent)
            answer = await asyncio.to_thread(httpx.WSGITransport(app).handle_request, plain)
            return httpx.Response(answer.status_code, headers=answer.headers, content=answer.read())

    with start_worker(
        queue, pool="solo", loglevel="INFO", perform_ping_check=False, shutdown_timeout=PATIENCE
    ):
        async with httpx.AsyncClient(transport=Threaded(), base_url="http://service.test") as client:
            yield client
    queue.close()


SERVICES: dict[str, Callable[[Watch, str], Any]] = {
    "FastAPI and taskiq": fastapi_and_taskiq,
    "Flask and Celery": flask_and_celery,
}


@pytest.mark.parametrize("service", SERVICES)
async def test_one_id_everywhere(service: str, watch: Watch, redis_url: str, ended: Queue[str]) -> None:
    """The id of the caller is in the answer, the lines, the events and the entries, of the worker too."""
    async with SERVICES[service](watch, redis_url) as client:
        accepted = await client.post("/leads", headers={"X-Request-ID": ID})
        job = await asyncio.to_thread(ended.get, timeout=PATIENCE)

    assert (202, ID) == (accepted.status_code, accepted.headers["X-Request-ID"])
    assert job == accepted.json()
    lines = {line["event"]: line for line in watch.lines()}
    assert ID == lines["lead_accepted"]["requestId"]
    assert "jobId" not in lines["lead_accepted"]
    for event in ("job_started", "note_begun", "job_failed"):
        told = lines[event]
        assert (ID, job, "crm.note") == (told["requestId"], told["jobId"], told["jobName"]), event
    (sent,) = watch.recorder.events
    assert (ID, job, "crm.note") == tuple(sent["tags"][name] for name in ("request_id", "job_id", "job_name"))
    entries = {entry.action: entry for entry in watch.entries()}
    accepting, written = entries["lead.accepted"], entries["note.written"]
    assert (ID, None, "ok") == (accepting.request_id, accepting.job_id, accepting.status)
    assert (ID, job, "external.server_error") == (written.request_id, written.job_id, written.error_code)


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("offered", [ID, None], ids=["offered", "made"])
async def test_one_id_on_a_500(service: str, offered: str | None, watch: Watch, redis_url: str) -> None:
    """A defect has one line, one event and one entry, all with the id that is in the header and the body."""
    headers = {} if offered is None else {"X-Request-ID": offered}
    async with SERVICES[service](watch, redis_url) as client:
        answer = await client.get("/crash", headers=headers)

    request_id = answer.headers["X-Request-ID"]
    assert (500, request_id) == (answer.status_code, answer.json()["request_id"])
    assert offered in (None, request_id)
    lines = [line for line in watch.lines() if line["logger"] in ("library", "resilient_agents.requests")]
    assert ["info", "error"] == [line["level"] for line in lines]
    assert {request_id} == {line["requestId"] for line in lines}
    assert [request_id] == [event["tags"]["request_id"] for event in watch.recorder.events]
    assert [(request_id, "internal.bug")] == [
        (entry.request_id, entry.error_code) for entry in watch.entries()
    ]
