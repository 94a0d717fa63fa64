"""With the integrations that Sentry brings for frameworks, a failed request or job is one event."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from celery import Celery
from fastapi import FastAPI, HTTPException
from flask import Flask, abort
from sentry_sdk.integrations.celery import CeleryIntegration
from sentry_sdk.integrations.fastapi import FastApiIntegration
from sentry_sdk.integrations.flask import FlaskIntegration
from sentry_sdk.integrations.logging import LoggingIntegration
from sentry_sdk.integrations.starlette import StarletteIntegration
from tests.integrations.sentry_recorder import DSN, Recorder, no_client

from resilient_agents import retry
from resilient_agents.errors import NotFound, Unreachable, ValidationFailed
from resilient_agents.integrations import celery as celery_jobs
from resilient_agents.integrations import fastapi as fastapi_answers
from resilient_agents.integrations import flask as flask_answers
from resilient_agents.integrations import sentry
from resilient_agents.testing import no_waits

log = logging.getLogger("app")


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    """What is sent, by whomever."""
    recorder = Recorder()
    with no_client(), no_waits():
        stop = sentry.install(
            DSN,
            transport=recorder,
            default_integrations=False,
            integrations=[
                LoggingIntegration(),
                StarletteIntegration(),
                FastApiIntegration(),
                FlaskIntegration(),
                CeleryIntegration(),
            ],
        )
        yield recorder
        stop()


@retry(attempts=3)
def fetch() -> None:
    """Fail, and log each attempt."""
    try:
        raise Unreachable("crm.test is down")
    except Unreachable:
        log.exception("attempt failed")
        raise


def defect() -> None:
    """Fail by a defect of the program, and log it."""
    try:
        {}["missing"]  # type: ignore[index]
    except KeyError:
        log.exception("failed")
        raise


def missing() -> None:
    """Find nothing."""
    raise NotFound("x")


def refused() -> None:
    """Be given nonsense."""
    raise ValidationFailed("x")


def answered_badly() -> None:
    """Answer with a status of one's own, while something else is handled."""
    try:
        fetch()
    except Unreachable:
        raise HTTPException(503, "later") from None


def aborted() -> None:
    """The same in Flask."""
    try:
        fetch()
    except Unreachable:
        abort(503)


FAILURES: list[tuple[Callable[[], None], int, int]] = [
    (fetch, 503, 1),
    (defect, 500, 1),
    (missing, 404, 0),
    (refused, 422, 0),
]


def in_flask(app: Flask) -> httpx.Response:
    """Return the answer of a Flask application to one request."""
    with httpx.Client(transport=httpx.WSGITransport(app), base_url="http://service.test") as client:
        return client.get("/work", headers={"X-Request-ID": "r-1"})


async def asked(app: Any) -> httpx.Response:
    """Return the answer of an application to one request."""
    if isinstance(app, Flask):
        return in_flask(app)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://service.test") as asking:
        return await asking.get("/work", headers={"X-Request-ID": "r-1"})


def fastapi_service(work: Any) -> FastAPI:
    """Return a service in FastAPI."""
    app = FastAPI()
    app.get("/work")(work)
    return app


def flask_service(work: Any) -> Flask:
    """Return a service in Flask."""
    app = Flask("service")
    app.add_url_rule("/work", view_func=work)
    return app


@pytest.mark.parametrize(("work", "status", "sent"), [*FAILURES, (answered_badly, 503, 1)])
async def test_fastapi(recorder: Recorder, work: Callable[[], None], status: int, sent: int) -> None:
    """One event for a request that failed, with the id of the answer; none for one that is refused."""
    app = fastapi_service(work)
    fastapi_answers.install(app)
    answer = await asked(app)

    assert status == answer.status_code
    assert sent == len(recorder.events)
    assert ["r-1"] * sent == [event["tags"]["request_id"] for event in recorder.events]


@pytest.mark.parametrize(("work", "status", "sent"), [*FAILURES, (aborted, 503, 1)])
async def test_flask(recorder: Recorder, work: Callable[[], None], status: int, sent: int) -> None:
    """So it is in Flask."""
    app = flask_service(work)
    flask_answers.install(app)
    answer = await asked(app)

    assert status == answer.status_code
    assert sent == len(recorder.events)
    assert ["r-1"] * sent == [event["tags"]["request_id"] for event in recorder.events]


@pytest.mark.parametrize("service", [fastapi_service, flask_service])
@pytest.mark.parametrize(("work", "sent"), [(fetch, 1), (defect, 1), (missing, 0)])
async def test_frameworks_alone(
    recorder: Recorder, service: Callable[[Any], Any], work: Callable[[], None], sent: int
) -> None:
    """An application that is not installed in answers as ever, and its failures are judged all the same."""
    answer = await asked(service(work))

    assert 500 == answer.status_code
    assert sent == len(recorder.events)


@pytest.mark.parametrize(("work", "sent"), [(fetch, 1), (defect, 1), (missing, 0)])
@pytest.mark.parametrize("installed", [True, False])
def test_celery(recorder: Recorder, work: Callable[[], None], sent: int, installed: bool) -> None:
    """A job that failed for good is one event, whoever tells of it."""
    app = Celery("worker", broker="memory://", backend="cache+memory://")
    app.conf.task_always_eager = True
    if installed:
        celery_jobs.install(app)

    assert app.task(name="work")(work).apply().failed()
    assert sent == len(recorder.events)
