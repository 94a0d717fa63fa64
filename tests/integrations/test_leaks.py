"""Secrets are planted in nine places of a service that fails, and none is found in anything that leaves it.

What leaves it: the answer to a request that is refused (422), the answer to one that fails (500), log lines,
the payload for Sentry, and the activity log.
"""

import io
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import Annotated, Any

import httpx
import pytest
import sentry_sdk
import structlog
from fastapi import FastAPI
from flask import Flask, request
from pydantic import AfterValidator, BaseModel
from sentry_sdk.integrations.fastapi import FastApiIntegration
from sentry_sdk.integrations.flask import FlaskIntegration
from sentry_sdk.integrations.logging import LoggingIntegration
from sentry_sdk.integrations.starlette import StarletteIntegration
from tests.integrations.sentry_recorder import DSN, Recorder, no_client

from resilient_agents.activity import ActivityLog
from resilient_agents.integrations import fastapi as fastapi_answers
from resilient_agents.integrations import flask as flask_answers
from resilient_agents.integrations import sentry
from resilient_agents.integrations import structlog as logs

SAID_BY_A_DATABASE = """\
(psycopg.errors.UniqueViolation) duplicate key value violates unique constraint "leads_key"
DETAIL:  Key (phone)=({0}) already exists.
[SQL: INSERT INTO leads (phone) VALUES (%(phone)s)]
[parameters: {{'phone': '{0}'}}]"""
"""What SQLAlchemy and PostgreSQL say of a value that is there already."""

PLACES: dict[str, Callable[[str], tuple[Any, str]]] = {
    "password in the body": lambda secret: ({"user": "ann", "password": secret}, "refused"),
    "DSN in the exception": lambda secret: (None, f"cannot reach postgresql://crm:{secret}@db.test/crm"),
    "header dictionary": lambda secret: (
        {"headers": {"Authorization": f"Token {secret}", "X-Api-Key": secret, "Cookie": f"session={secret}"}},
        f"sent {{'Authorization': 'Token {secret}', 'x-api-key': '{secret}'}}",
    ),
    "nested dictionary": lambda secret: (
        {"account": {"crm": [{"clientSecret": secret, "openai_key": secret, "crm_token_value": secret}]}},
        "refused",
    ),
    "local variable": lambda secret: (None, "refused"),
    "URL userinfo": lambda secret: (
        {"url": f"https://ann:{secret}@crm.test/"},
        f"GET https://ann:{secret}@crm.test/",
    ),
    "JSON string": lambda secret: (
        {"raw": json.dumps({"refresh_token": secret})},
        f"body was {json.dumps({'api_key': secret})}",
    ),
    "SQL parameter": lambda secret: (
        {"error": SAID_BY_A_DATABASE.format(secret)},
        SAID_BY_A_DATABASE.format(secret),
    ),
    "key of a mapping": lambda secret: ({"known": {f"sk_{secret}": "x"}}, f"refused: sk_{secret}"),
    "bearer token": lambda secret: ({"said": f"Bearer {secret}"}, f"refused: Bearer {secret}"),
}

log = structlog.get_logger("service")


def fail(place: str, secret: str) -> None:
    """Do what a service does with a secret before it fails."""
    payload, text = PLACES[place](secret)
    held = secret + ""  # a local variable whose name tells nothing
    log.info("begin", payload=payload, **(payload or {}))
    logging.getLogger("service").warning("begin: %s", payload, extra={"payload": payload})
    sentry_sdk.set_extra("payload", payload)
    sentry_sdk.set_context("payload", {"payload": payload})
    sentry_sdk.set_tag("said", text)
    sentry_sdk.set_user({"id": "1", "token": held})
    sentry_sdk.add_breadcrumb(message=text, data={"payload": payload})
    try:
        raise LookupError(text)
    except LookupError as exc:
        exc.add_note(text)
        log.exception("failed", reason=text)
        logging.getLogger("service").warning("failed: %s", exc, exc_info=True)
        raise RuntimeError(text) from exc


def refuse(text: str) -> str:
    """Refuse a value, and tell it."""
    raise ValueError(f"{text} is not allowed")


class Login(BaseModel):
    """A body that is always refused."""

    user: int
    password: Annotated[str, AfterValidator(refuse)]
    account: dict[str, int]
    note: Annotated[str, AfterValidator(refuse)]


def refused_body(place: str, secret: str) -> dict[str, Any]:
    """Return a body that holds the secret of a place wherever a body can."""
    payload, text = PLACES[place](secret)
    return {
        "user": secret,
        "password": secret,
        "account": {"payload": payload, secret: "x", f"sk_{secret}": "x"},
        "note": text,
    }


def fastapi_service() -> FastAPI:
    """Return a service in FastAPI."""
    app = FastAPI()
    fastapi_answers.install(app)

    @app.post("/fail")
    async def failing(body: dict[str, str]) -> None:
        fail(body["place"], body["secret"])

    @app.post("/login")
    async def login(body: Login) -> None: ...

    return app


def flask_service() -> Flask:
    """Return a service in Flask."""
    app = Flask("service")
    flask_answers.install(app)

    @app.post("/fail")
    def failing() -> str:
        fail(request.json["place"], request.json["secret"])
        return "done"

    @app.post("/login")
    def login() -> str:
        return flask_answers.body_as(Login).note

    return app


def transports() -> dict[str, Callable[[], Any]]:
    """Return how each service is reached."""
    return {
        "fastapi": lambda: httpx.AsyncClient(
            transport=httpx.ASGITransport(fastapi_service()), base_url="http://service.test"
        ),
        "flask": lambda: httpx.Client(
            transport=httpx.WSGITransport(flask_service()), base_url="http://service.test"
        ),
    }


@contextmanager
def watched() -> Iterator[tuple[Recorder, io.StringIO]]:
    """Watch all that leaves: what is sent to Sentry, and what is logged."""
    recorder, stream = Recorder(), io.StringIO()
    with no_client():
        stop_logs = logs.configure("service", stream=stream, level="debug")
        stop_lines = logs.install()
        stop_sentry = sentry.install(
            DSN,
            transport=recorder,
            default_integrations=False,
            integrations=[
                LoggingIntegration(level=logging.DEBUG, event_level=logging.WARNING),
                StarletteIntegration(),
                FastApiIntegration(),
                FlaskIntegration(),
            ],
        )
        try:
            yield recorder, stream
        finally:
            stop_sentry()
            stop_lines()
            stop_logs()


async def answered(service: str, path: str, body: Any, secret: str) -> httpx.Response:
    """Send a request that holds a secret, and return the answer."""
    headers = {"Authorization": f"Bearer {secret}", "X-Api-Key": secret, "Cookie": f"session={secret}"}
    client = transports()[service]()
    sent = client.post(path, params={"access_token": secret}, json=body, headers=headers)
    return sent if isinstance(sent, httpx.Response) else await sent


@pytest.mark.parametrize("service", ["fastapi", "flask"])
@pytest.mark.parametrize("place", PLACES)
async def test_no_secret_leaves(place: str, service: str) -> None:
    """A request that fails, and one that is refused: the secret is in no answer, no line and no event."""
    secret = token_hex(16)
    with watched() as (recorder, stream):
        failed = await answered(service, "/fail", {"place": place, "secret": secret}, secret)
        refused = await answered(service, "/login", refused_body(place, secret), secret)

    lines, sent = stream.getvalue(), recorder.sent
    assert (500, 422) == (failed.status_code, refused.status_code)
    assert {"user", "password", "note"} <= {error["loc"][-1] for error in refused.json()["errors"]}
    assert {"begin", "failed"} <= {json.loads(line)["event"] for line in lines.splitlines()}
    assert 1 <= len(recorder.events)
    assert "breadcrumbs" in recorder.events[-1]
    for name, left in {
        "500": failed.text + str(failed.headers),
        "422": refused.text + str(refused.headers),
        "log lines": lines,
        "Sentry": sent,
    }.items():
        assert secret not in left, name


@pytest.mark.parametrize("place", PLACES)
def test_no_secret_is_in_the_activity_log(place: str, tmp_path: Path) -> None:
    """An action that failed is on record with its data, and neither the entry nor any file holds a secret."""
    secret = token_hex(16)
    payload, text = PLACES[place](secret)
    with ActivityLog(f"sqlite:///{tmp_path}/activity.db", spill=tmp_path / "spill") as activity:
        metadata = {"lead": 12, "payload": payload, "reason": text, "error": LookupError(text)}
        activity.record("lead.created", organization_id="acme", metadata=metadata)
        with (
            suppress(RuntimeError),
            activity.track("lead.sent", organization_id="acme", metadata={"payload": payload}),
        ):
            raise RuntimeError(text)
        assert activity.flush(60)
        entries = [*activity.recent("acme")]

    assert ["lead.sent", "lead.created"] == [entry.action for entry in entries]
    assert 12 == json.loads(entries[1].metadata)["lead"]
    assert secret not in str(entries)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert all(secret.encode() not in path.read_bytes() for path in files)
