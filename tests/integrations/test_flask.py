"""Flask: the one body for every error, and the id and the end of a request."""

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn, cast

import flask
import httpx
import pydantic
import pytest
from werkzeug.exceptions import Conflict, ServiceUnavailable
from werkzeug.wsgi import FileWrapper

from resilient_agents import correlation, events
from resilient_agents.errors import NotFound, RateLimited, Unreachable
from resilient_agents.integrations.flask import body_as, install
from resilient_agents.policies import remaining
from resilient_agents.testing import FakeClock

SECRET = "hunter2-postgres://u:p@h/db"
AS_JSON = {"Content-Type": "application/json"}


class Lead(pydantic.BaseModel):
    """What a form sends."""

    name: str
    age: int


def make_app() -> flask.Flask:
    """Return an application without ours in it."""
    app = flask.Flask("tested")

    @app.get("/ok")
    def ok() -> dict[str, Any]:
        return {"bound": dict(correlation.current()), "remaining": remaining()}

    @app.get("/async")
    async def awaiting() -> dict[str, Any]:
        return {"bound": dict(correlation.current()), "remaining": remaining()}

    @app.get("/raise/<name>")
    def failing(name: str) -> NoReturn:
        raise RAISED[name]

    @app.get("/raise-async")
    async def failing_async() -> NoReturn:
        raise RuntimeError(SECRET)

    @app.post("/leads")
    def leads() -> dict[str, Any]:
        return body_as(Lead).model_dump()

    @app.get("/abort/<int:status>")
    def aborted(status: int) -> NoReturn:
        flask.abort(status)

    @app.get("/health")
    def health() -> NoReturn:
        raise RAISED["unavailable"]

    @app.get("/readyz")
    def readyz() -> NoReturn:
        raise KeyError(SECRET)

    return app


RAISED: dict[str, Exception] = {
    "bug": RuntimeError(SECRET),
    "ours": NotFound("there is no agent 7"),
    "busy": RateLimited("the model is busy", retry_after=7.2),
    "down": Unreachable("the CRM cannot be reached"),
    "conflict": Conflict("it has changed"),
    "unavailable": ServiceUnavailable(SECRET),
}


@pytest.fixture
def app() -> flask.Flask:
    """Return an application with ours in it."""
    app = make_app()
    install(app)
    return app


@pytest.fixture
def failed() -> Iterator[list[events.RequestFailed]]:
    """Return the list to which failed requests are added."""
    heard: list[events.RequestFailed] = []
    events.subscribe(events.RequestFailed)(heard.append)
    yield heard
    events.unsubscribe(heard.append)


@pytest.mark.parametrize(
    ("method", "path", "how", "status", "code", "route"),
    [
        ("GET", "/nowhere", {}, 404, "not_found.missing", ""),
        ("PUT", "/ok", {}, 405, "validation.method", ""),
        (
            "POST",
            "/leads",
            {"data": b"{", "content_type": "application/json"},
            400,
            "validation.malformed",
            0,
        ),
        ("POST", "/leads", {"data": b"{}"}, 415, "validation.media_type", 0),
        ("POST", "/leads", {"json": {"name": 7}}, 422, "validation.invalid", 0),
        ("GET", "/abort/403", {}, 403, "auth.forbidden", "/abort/<int:status>"),
        ("GET", "/abort/429", {}, 429, "rate_limit.exceeded", "/abort/<int:status>"),
        ("GET", "/raise/conflict", {}, 409, "conflict.state", "/raise/<name>"),
        ("GET", "/raise/ours", {}, 404, "not_found.missing", "/raise/<name>"),
        ("GET", "/raise/busy", {}, 503, "rate_limit.throttled", "/raise/<name>"),
        ("GET", "/raise/down", {}, 503, "external.unreachable", "/raise/<name>"),
        ("GET", "/raise/bug", {}, 500, "internal.bug", "/raise/<name>"),
        ("GET", "/raise-async", {}, 500, "internal.bug", "/raise-async"),
    ],
)
def test_every_error_is_the_one_body(
    app: flask.Flask,
    failed: list[events.RequestFailed],
    caplog: pytest.LogCaptureFixture,
    method: str,
    path: str,
    how: dict[str, Any],
    status: int,
    code: str,
    route: str | int,
) -> None:
    """Whatever raised it, the answer has one shape, one id everywhere, one log line and one event."""
    with caplog.at_level(logging.DEBUG):
        headers = {"X-Request-ID": "r-1", **how.pop("headers", {})}
        answer = app.test_client().open(path, method=method, headers=headers, **how)

    body = answer.get_json()
    assert (status, status, code, False) == (
        answer.status_code,
        body["status"],
        body["code"],
        body["success"],
    )
    assert ("r-1", ["r-1"]) == (body["request_id"], answer.headers.getlist("X-Request-ID"))
    assert path == body["instance"]
    (event,) = failed
    assert ("r-1", status, code, route or path) == (
        event.request_id,
        event.status,
        event.failure.code,
        event.route or path,
    )
    (line,) = [record for record in caplog.records if record.name != "asyncio"]
    assert "resilient_agents.requests" == line.name
    assert "r-1" in line.getMessage()
    assert SECRET not in answer.get_data(as_text=True) + line.getMessage()
    assert {} == correlation.current()


def test_headers_that_belong_to_an_error(app: flask.Flask) -> None:
    """What HTTP wants with a status is there, and so is the media type that was asked for."""
    client = app.test_client()

    assert {"GET", "HEAD", "OPTIONS"} == set(client.put("/ok").headers["Allow"].split(", "))
    assert "Bearer" == client.get("/abort/401").headers["WWW-Authenticate"]
    assert "8" == client.get("/raise/busy").headers["Retry-After"]
    answer = client.get("/nowhere", headers={"Accept": "application/problem+json"})
    assert "application/problem+json" == answer.headers["Content-Type"]
    assert "application/json" == client.get("/nowhere").headers["Content-Type"]


def test_wrong_fields_are_named_and_their_values_are_not(app: flask.Flask) -> None:
    """A 422 says which fields are wrong, and holds nothing of what was sent."""
    answer = app.test_client().post("/leads", json={"age": SECRET})

    places = [(error["loc"], error["type"]) for error in answer.get_json()["errors"]]
    assert [(["body", "name"], "missing"), (["body", "age"], "int_parsing")] == places
    assert SECRET not in answer.get_data(as_text=True)


def test_body_as_a_model(app: flask.Flask) -> None:
    """A body that is right arrives as the model."""
    answer = app.test_client().post("/leads", json={"name": "Ann", "age": "40"})

    assert {"name": "Ann", "age": 40} == answer.get_json()


@pytest.mark.parametrize("path", ["/ok", "/async"])
def test_view_has_the_id_and_the_end(app: flask.Flask, path: str) -> None:
    """The id and the time that is left are there for what a view calls, and gone after it."""
    with FakeClock():
        answer = app.test_client().get(path, headers={"X-Request-ID": "r-1", "X-Request-Timeout": "2.5"})
        without = app.test_client().get(path)

    assert {"bound": {"request_id": "r-1"}, "remaining": 2.5} == answer.get_json()
    assert "r-1" == answer.headers["X-Request-ID"]
    assert without.get_json()["remaining"] is None
    assert without.get_json()["bound"] == {"request_id": without.headers["X-Request-ID"]}
    assert (None, {}) == (remaining(), correlation.current())


@pytest.mark.parametrize("offered", ["", "a b", "x" * 129, "é"])
def test_id_that_cannot_be_one(app: flask.Flask, offered: str) -> None:
    """An id that could break a log line or a header is replaced."""
    answer = app.test_client().get("/ok", headers={"X-Request-ID": offered})

    assert 32 == len(answer.headers["X-Request-ID"])


def test_path_is_read_as_it_was_meant(app: flask.Flask) -> None:
    """A path beyond ASCII is not garbled in the answer."""
    assert "/%C3%A9" == app.test_client().get("/é").get_json()["instance"]


def test_redirects_and_ready_made_answers_pass(app: flask.Flask, failed: list[events.RequestFailed]) -> None:
    """What is no error, and what was made for this very case, is sent as it is."""
    ready = flask.Response("mine", 418)
    app.add_url_rule("/ready", "ready", lambda: flask.abort(ready))
    app.add_url_rule("/slash/", "slash", lambda: "slash")

    def with_response() -> NoReturn:
        raise Conflict(response=flask.Response("mine too", 409))

    app.add_url_rule("/response", view_func=with_response)
    client = app.test_client()

    assert (418, "mine") == (client.get("/ready").status_code, client.get("/ready").text)
    assert "mine too" == client.get("/response").text
    assert 308 == client.get("/slash").status_code
    assert [] == failed


def test_handlers_of_your_own_stay(app: flask.Flask) -> None:
    """A class or a blueprint that has a handler keeps it; all else of the blueprint is ours."""

    class Custom(Exception):
        """The application's own."""

    def raise_custom() -> NoReturn:
        raise Custom

    def raise_key_error() -> NoReturn:
        raise KeyError

    def raise_bug() -> NoReturn:
        raise RuntimeError

    blueprint = flask.Blueprint("b", __name__, url_prefix="/b")
    blueprint.register_error_handler(KeyError, lambda _: ("the blueprint's", 400))
    blueprint.add_url_rule("/key", view_func=raise_key_error)
    blueprint.add_url_rule("/bug", view_func=raise_bug)
    app.register_blueprint(blueprint)
    app.register_error_handler(Custom, lambda _: ("the application's", 400))
    app.add_url_rule("/custom", view_func=raise_custom)
    client = app.test_client()

    assert "the application's" == client.get("/custom").text
    assert "the blueprint's" == client.get("/b/key").text
    assert "internal.bug" == client.get("/b/bug").get_json()["code"]


def test_failure_behind_the_view_is_told_once(
    app: flask.Flask, failed: list[events.RequestFailed], caplog: pytest.LogCaptureFixture
) -> None:
    """What an after_request function raises is answered and logged once, in place of Flask's own line."""

    @app.after_request
    def spoil(response: flask.Response) -> flask.Response:
        if response.status_code == 200:
            raise RuntimeError(SECRET)
        return response

    answer = app.test_client().get("/ok", headers={"X-Request-ID": "r-1"})

    assert (500, "internal.bug", "r-1") == (
        answer.status_code,
        answer.get_json()["code"],
        answer.headers["X-Request-ID"],
    )
    assert 1 == len(failed)
    assert ["resilient_agents.requests"] == [record.name for record in caplog.records]


@pytest.mark.parametrize(
    ("method", "path", "told"),
    [("GET", "/ok", 1), ("HEAD", "/ok", 1), ("GET", "/raise-async", 2), ("GET", "/nowhere", 2)],
)
def test_failure_after_the_view_is_answered(
    app: flask.Flask, failed: list[events.RequestFailed], method: str, path: str, told: int
) -> None:
    """What a teardown function raises, as a commit that fails, is a 500 with the one body and the id."""

    @app.teardown_request
    def commit(_: BaseException | None) -> None:
        raise RuntimeError(SECRET)

    transport = httpx.WSGITransport(app, raise_app_exceptions=False)  # as a server: it is answered
    with httpx.Client(transport=transport, base_url="http://service.test") as client:
        answer = client.request(method, path, headers={"X-Request-ID": "r-1"})

    assert (500, "r-1") == (answer.status_code, answer.headers["X-Request-ID"])
    if method == "HEAD":
        assert b"" == answer.content
    else:
        assert ("internal.bug", "r-1") == (answer.json()["code"], answer.json()["request_id"])
    assert SECRET not in answer.text
    assert told == len(failed)
    assert {"" if path == "/nowhere" else path} == {event.route for event in failed}


def test_probes_are_quiet(
    app: flask.Flask, failed: list[events.RequestFailed], caplog: pytest.LogCaptureFixture
) -> None:
    """A probe that learns that the service is not ready makes no noise; a defect there does."""
    client = app.test_client()

    assert 503 == client.get("/health").status_code
    assert ([], []) == (failed, caplog.records)
    assert 500 == client.get("/readyz").status_code
    assert 1 == len(failed)


@pytest.fixture
def streamed(app: flask.Flask) -> list[str]:
    """Return the list to which the end of a stream is added."""
    ended: list[str] = []

    @app.get("/stream/<int:parts>")
    def stream(parts: int) -> flask.Response:
        def generate() -> Iterator[str]:
            try:
                for _ in range(parts):
                    yield f"{correlation.current().get('request_id')} {remaining()}\n"
                if parts > 2:
                    raise RuntimeError(SECRET)
            finally:
                ended.append("closed")

        return flask.Response(generate())

    @app.get("/iterator")
    def iterator() -> flask.Response:
        return flask.Response(iter(["a", "b"]))

    return ended


def test_stream_keeps_the_id_and_the_end(app: flask.Flask, streamed: list[str]) -> None:
    """Each part of a streamed answer is made under the id and the deadline of its request."""
    headers = {"X-Request-ID": "r-1", "X-Request-Timeout": "5"}
    with FakeClock() as clock:
        answer = app.test_client().get("/stream/2", headers=headers, buffered=False)
        parts = iter(cast("Iterable[bytes]", answer.response))
        first = next(parts)
        clock.advance(2)
        rest = list(parts)

    assert ["r-1 5.0\n", "r-1 3.0\n"] == [part.decode() for part in (first, *rest)]
    assert ({}, None) == (correlation.current(), remaining())
    assert "r-2 None\nr-2 None\n" == app.test_client().get("/stream/2", headers={"X-Request-ID": "r-2"}).text
    answer.close()
    assert "ab" == app.test_client().get("/iterator").text


def test_stream_that_nobody_reads_to_its_end(app: flask.Flask, streamed: list[str]) -> None:
    """When the caller is gone, what makes the parts is closed."""
    answer = app.test_client().get("/stream/2", buffered=False)
    next(iter(cast("Iterable[bytes]", answer.response)))

    answer.close()

    assert ["closed"] == streamed


def test_stream_that_fails_is_broken_off(
    app: flask.Flask,
    streamed: list[str],
    failed: list[events.RequestFailed],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The status is sent already, so the server must break off; it is told once, with that status."""
    answer = app.test_client().get("/stream/3", headers={"X-Request-ID": "r-1"}, buffered=False)

    with pytest.raises(RuntimeError):
        list(answer.response)

    (event,) = failed
    assert (True, 200, "r-1", "/stream/<int:parts>") == (
        event.aborted,
        event.status,
        event.request_id,
        event.route,
    )
    assert "broken off" in caplog.text
    assert ["closed"] == streamed
    answer.close()


def test_file_is_sent_as_it_is(app: flask.Flask) -> None:
    """An answer that the server sends by itself is not touched."""
    app.add_url_rule("/file", view_func=lambda: flask.send_file(__file__))

    with app.test_request_context("/file"), app.full_dispatch_request() as answer:
        assert isinstance(answer.response, FileWrapper)
    with app.test_client().get("/file") as answer:
        assert answer.data.startswith(b'"""Flask')
        assert 1 == len(answer.headers.getlist("X-Request-ID"))


def test_id_that_a_view_sets_is_replaced(app: flask.Flask) -> None:
    """There is one id in an answer, the one that is in the log."""
    app.add_url_rule("/own", view_func=lambda: ("ok", {"x-request-id": "other"}))

    answer = app.test_client().get("/own", headers={"X-Request-ID": "r-1"})

    assert ["r-1"] == answer.headers.getlist("X-Request-ID")


def test_twice_is_once(failed: list[events.RequestFailed]) -> None:
    """A second installation replaces the settings, and nothing is answered or told twice."""
    app = make_app()
    install(app)
    install(app, quiet=[], deadline=3.0)

    answer = app.test_client().get("/health")

    assert (503, 1) == (answer.status_code, len(failed))
    with FakeClock():
        assert 3.0 == app.test_client().get("/ok").get_json()["remaining"]


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ({"quiet": "/health"}, TypeError),
        ({"deadline": 0}, ValueError),
        ({"max_deadline": float("nan")}, ValueError),
    ],
)
def test_settings_that_make_no_sense(how: dict[str, Any], error: type[Exception]) -> None:
    """They are refused before anything is changed."""
    app = make_app()
    before = app.wsgi_app

    with pytest.raises(error):
        install(app, **how)

    assert before == app.wsgi_app


def test_too_late() -> None:
    """Once a request was answered Flask takes no handlers, and the message says what to do."""
    app = make_app()
    app.test_client().get("/ok")

    with pytest.raises(RuntimeError, match="before the application answers its first request"):
        install(app)


def test_request_that_came_by_another_way(app: flask.Flask) -> None:
    """In a test that pushes a request by hand an error has its body and an id."""
    with app.test_request_context("/nowhere"):
        answer = app.full_dispatch_request()

    assert 404 == answer.status_code
    assert 32 == len(answer.get_json()["request_id"])


@pytest.mark.parametrize("setting", ["TESTING", "DEBUG"])
def test_debugging_and_testing(app: flask.Flask, setting: str) -> None:
    """The body is the same where Flask would let an exception through."""
    app.config[setting] = True

    assert "internal.bug" == app.test_client().get("/raise/bug").get_json()["code"]


def test_context_of_a_request_is_not_seen_by_the_next(app: flask.Flask) -> None:
    """Whatever a request ends in, nothing that was bound for it is left behind."""
    client = app.test_client()
    look: Callable[[], Any] = lambda: (dict(correlation.current()), remaining())  # noqa: E731

    for path in ("/ok", "/raise/bug", "/nowhere", "/async", "/raise-async"):
        client.get(path, headers={"X-Request-Timeout": "1"})
        assert ({}, None) == look()
