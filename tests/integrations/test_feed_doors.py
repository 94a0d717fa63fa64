"""The activity feed over HTTP: real FastAPI and Flask servers, and a real client."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI, Header, HTTPException
from flask import Flask, abort, request
from werkzeug.serving import make_server

from resilient_agents.activity import ActivityLog
from resilient_agents.integrations import fastapi, flask

ORGANIZATIONS = {"ann": "org-1", "bob": "org-2"}


def fastapi_app(log: ActivityLog) -> FastAPI:
    """Return an application that knows two users."""

    def organization(x_user: str | None = Header(None)) -> str:
        if x_user not in ORGANIZATIONS:
            raise HTTPException(401)
        return ORGANIZATIONS[x_user]

    app = FastAPI()
    app.include_router(
        fastapi.activity_router(log, organization=organization, interval=0.01), prefix="/activity"
    )

    fastapi.install(app)
    return app


def flask_app(log: ActivityLog) -> Flask:
    """Return an application that knows two users."""

    def organization() -> str:
        user = request.headers.get("X-User", "")
        return ORGANIZATIONS[user] if user in ORGANIZATIONS else abort(401)

    app = Flask(__name__)
    app.register_blueprint(
        flask.activity_blueprint(log, organization=organization, interval=0.01), url_prefix="/activity"
    )

    flask.install(app)
    return app


@pytest.fixture
def log(tmp_path: Path) -> Iterator[ActivityLog]:
    """Return a log in a file of its own."""
    with ActivityLog(f"sqlite:///{tmp_path}/activity.db", spill=tmp_path / "spill") as log:
        yield log


@pytest.fixture(params=["fastapi", "flask"])
def client(request: pytest.FixtureRequest, log: ActivityLog) -> Iterator[httpx.Client]:
    """Return Ann's client of a real server."""
    if request.param == "fastapi":
        server = uvicorn.Server(uvicorn.Config(fastapi_app(log), port=0, log_config=None, lifespan="off"))
        thread = threading.Thread(target=server.run)
        thread.start()
        while not server.started:
            assert thread.is_alive()
        port = server.servers[0].sockets[0].getsockname()[1]
    else:
        flask_server = make_server("127.0.0.1", 0, flask_app(log), threaded=True)
        thread = threading.Thread(target=flask_server.serve_forever, args=(0.01,))
        thread.start()
        port = flask_server.port
    with httpx.Client(
        base_url=f"http://127.0.0.1:{port}/activity", headers={"X-User": "ann"}, timeout=60
    ) as client:
        yield client
    if request.param == "fastapi":
        server.should_exit = True
    else:
        flask_server.shutdown()
    thread.join()


def record(log: ActivityLog, *actions: str, organization: str = "org-1") -> None:
    """Put actions on record, and wait until they have arrived."""
    for action in actions:
        log.record(action, organization_id=organization, agent_id="a-1", metadata={"words": 7})
    assert log.flush(60)


def test_recent(client: httpx.Client, log: ActivityLog) -> None:
    """A page is JSON: entries with their metadata as data, and where to go on."""
    record(log, "agent.created", "agent.answered")
    record(log, "agent.failed", organization="org-2")

    page = client.get("/recent", params={"limit": 1}).json()
    older = client.get("/recent", params={"before": page["previous"]}).json()
    newer = client.get("/recent", params={"after": page["next"]}).json()

    assert ["agent.answered"] == [entry["action"] for entry in page["entries"]]
    assert {"words": 7} == page["entries"][0]["metadata"]
    assert (True, True) == (page["more"], page["complete"])
    assert ["agent.created"] == [entry["action"] for entry in older["entries"]]
    assert [] == newer["entries"]


def test_filters(client: httpx.Client, log: ActivityLog) -> None:
    """A feed can be that of an agent or of some actions."""
    record(log, "one", "two", "three")

    found = client.get("/recent", params={"action": ["one", "three"], "agent_id": "a-1"}).json()

    assert ["three", "one"] == [entry["action"] for entry in found["entries"]]
    assert [] == client.get("/recent", params={"agent_id": "a-9"}).json()["entries"]


def test_nobody_keeps_a_page(client: httpx.Client) -> None:
    """A page is for who has asked: no proxy on the way may keep it for the next."""
    assert "no-store" == client.get("/recent").headers["cache-control"]


def test_the_end_of_the_log(client: httpx.Client, log: ActivityLog) -> None:
    """A stream ends with its log, so that a server that is stopped waits for nobody."""
    with client.stream("GET", "/stream") as stream:
        lines = stream.iter_lines()
        next(lines)
        log.close()

        assert [] == [line for line in lines if line]


def test_a_listener_who_goes_away(client: httpx.Client, log: ActivityLog) -> None:
    """Nobody looks at the log for a listener who has gone, once he is seen to be gone."""
    looks: list[object] = []
    looking, recent = threading.Event(), log.recent

    def counted(*args: Any, **which: Any) -> Any:
        looks.append(which.get("after"))
        looking.set()
        return recent(*args, **which)

    log.recent = counted  # type: ignore[method-assign]
    with client.stream("GET", "/stream") as stream:
        next(stream.iter_lines())
        assert looking.wait(60)
    deadline = time.monotonic() + 60
    while looking.is_set():
        looking.clear()
        log.record("noise", organization_id="org-1")  # a server sees that a listener is gone when it writes
        log.flush(10)
        looking.wait(0.5)
        assert time.monotonic() < deadline


@pytest.mark.parametrize("door", [fastapi.activity_router, flask.activity_blueprint])
def test_a_stream_without_a_pause(log: ActivityLog, door: Any) -> None:
    """A stream that would look without a pause is refused where the door is made."""
    with pytest.raises(ValueError, match="interval"):
        door(log, organization=lambda: "org-1", interval=0)


def test_who_may_not_see_it(client: httpx.Client, log: ActivityLog) -> None:
    """Who is nobody is refused, and who is somebody sees his own organisation."""
    record(log, "agent.created")

    assert 401 == client.get("/recent", headers={"X-User": "eve"}).status_code
    assert 401 == client.get("/stream", headers={"X-User": "eve"}).status_code
    assert [] == client.get("/recent", headers={"X-User": "bob"}).json()["entries"]


@pytest.mark.parametrize(
    "question", [{"after": "nonsense!"}, {"limit": "0"}, {"limit": "x"}, {"limit": "999"}]
)
def test_wrong_questions(client: httpx.Client, question: dict[str, str]) -> None:
    """A wrong cursor or limit is our caller's fault."""
    assert 422 == client.get("/recent", params=question).status_code


def test_a_stream_with_a_wrong_cursor(client: httpx.Client) -> None:
    """A stream that cannot begin is refused before it begins."""
    assert 422 == client.get("/stream", headers={"Last-Event-ID": "nonsense!"}).status_code


def test_a_stream(client: httpx.Client, log: ActivityLog) -> None:
    """A stream tells what happens as it happens, and goes on where a lost connection left off."""
    known = threading.Event()

    def keep_recording() -> None:
        while not known.wait(0.01):
            log.record("agent.created", organization_id="org-1")

    recorder = threading.Thread(target=keep_recording)  # a stream tells what comes after it has begun
    recorder.start()
    try:
        with client.stream("GET", "/stream") as stream:
            lines = stream.iter_lines()
            opening = next(lines)
            told: dict[str, str] = {}
            while "id" not in told:  # the last event of a piece has one
                name, _, value = next(lines).partition(": ")
                told[name] = value
    finally:
        known.set()
        recorder.join()
    record(log, "agent.answered")
    with client.stream("GET", "/stream", headers={"Last-Event-ID": told["id"]}) as resumed:
        data = next(line for line in resumed.iter_lines() if "agent.answered" in line)

    assert stream.headers["content-type"].startswith("text/event-stream")
    assert "retry: 30" == opening
    assert "activity" == told["event"]
    assert "agent.created" == json.loads(told["data"])["action"]
    assert data.startswith("data: ")
