"""The FastAPI adapter, request by request, in the process."""

import asyncio
import gc
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx
import jsonschema_rs
import pytest
from fastapi import BackgroundTasks, Body, Depends, FastAPI, HTTPException, Request, WebSocket
from fastapi.middleware.cors import CORSMiddleware
from fastapi.security import HTTPBearer
from fastapi.testclient import TestClient
from pydantic import BaseModel
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, StreamingResponse
from starlette.testclient import WebSocketDenialResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from resilient_agents import correlation, events
from resilient_agents.errors import Blocked, Conflict, NotFound, Unreachable
from resilient_agents.errors.schema import error_schema
from resilient_agents.integrations import fastapi as answers
from resilient_agents.integrations._web import Settings
from resilient_agents.policies import remaining
from resilient_agents.testing import FakeClock

SECRET = "hunter2"
VALIDATOR = jsonschema_rs.validator_for(error_schema())
LOGGER = "resilient_agents.requests"


class Login(BaseModel):
    """A body with something to hide."""

    user: str
    password: str


def application(**settings: Any) -> FastAPI:  # noqa: C901 - it has many endpoints
    """Return an application of endpoints that fail, each in its way."""
    app = FastAPI()

    @app.get("/fine")
    async def fine() -> dict[str, Any]:
        return {"bound": dict(correlation.current()), "remaining": remaining()}

    @app.get("/sync")
    def sync() -> dict[str, Any]:
        return {"bound": dict(correlation.current()), "remaining": remaining()}

    @app.get("/crash")
    async def crash() -> None:
        raise KeyError(f"postgresql://app:{SECRET}@db")

    @app.get("/crash/sync")
    def crash_in_a_thread() -> None:
        raise KeyError(SECRET)

    @app.get("/agents/{agent_id}")
    async def agent(agent_id: int) -> None:
        raise NotFound("no such agent")

    @app.get("/refused")
    async def refused() -> None:
        raise HTTPException(409, "taken", headers={"X-Holder": "Ann"})

    @app.get("/down")
    async def down() -> None:
        raise Unreachable("the CRM is down")

    @app.get("/blocked")
    async def blocked() -> None:
        raise Blocked(retry_after=1.2)

    @app.get("/redirect")
    async def redirect() -> None:
        raise HTTPException(307, headers={"Location": "/fine"})

    @app.post("/login")
    async def login(login: Login) -> None: ...

    @app.get("/private", dependencies=[Depends(HTTPBearer())])
    async def private() -> None: ...

    @app.get("/hang")
    async def hang() -> None:
        await asyncio.Event().wait()

    answers.install(app, **settings)
    return app


@asynccontextmanager
async def client_of(app: ASGIApp) -> AsyncIterator[httpx.AsyncClient]:
    """Return a client that hands its requests to *app*."""
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application."""
    async with client_of(application()) as client:
        yield client


@pytest.fixture
def failed(caplog: pytest.LogCaptureFixture) -> Iterator[list[events.RequestFailed]]:
    """The requests that failed; each was logged once, as loud as it deserves, with its id."""
    failed: list[events.RequestFailed] = []
    events.subscribe(events.RequestFailed)(failed.append)
    caplog.set_level(logging.INFO, LOGGER)
    yield failed
    lines = [record for record in caplog.get_records("call") if record.name == LOGGER]
    assert [event.failure.level.upper() for event in failed] == [line.levelname for line in lines]
    for event, line in zip(failed, lines, strict=True):
        assert event.request_id in line.getMessage()
        assert SECRET not in line.getMessage()


FAILURES = [
    ("GET", "/crash", 500, "internal.bug", "/crash"),
    ("GET", "/crash/sync", 500, "internal.bug", "/crash/sync"),
    ("GET", "/agents/1", 404, "not_found.missing", "/agents/{agent_id}"),
    ("GET", "/agents/x", 422, "validation.invalid", "/agents/{agent_id}"),
    ("GET", "/refused", 409, "conflict.state", "/refused"),
    ("GET", "/down", 503, "external.unreachable", "/down"),
    ("GET", "/blocked", 503, "rate_limit.blocked", "/blocked"),
    ("GET", "/private", 401, "auth.unauthenticated", "/private"),
    ("POST", "/login", 422, "validation.invalid", "/login"),
    ("GET", "/nowhere", 404, "not_found.missing", ""),
    ("DELETE", "/fine", 405, "validation.method", "/fine"),
]


@pytest.mark.parametrize(("method", "path", "status", "code", "route"), FAILURES)
async def test_one_body(
    method: str,
    path: str,
    status: int,
    code: str,
    route: str,
    client: httpx.AsyncClient,
    failed: list[events.RequestFailed],
) -> None:
    """Every failure is the one body, with one id in it, in its header and in what is told."""
    response = await client.request(method, path)
    body = response.json()

    VALIDATOR.validate(body)
    assert (status, status, code, path) == (
        response.status_code,
        body["status"],
        body["code"],
        body["instance"],
    )
    (event,) = failed
    assert (method, path, route, status, False) == (
        event.method,
        event.path,
        event.route,
        event.status,
        event.aborted,
    )
    assert event.request_id == body["request_id"] == response.headers["X-Request-ID"]
    assert [body["request_id"]] == response.headers.get_list("X-Request-ID")
    assert code == event.failure.code
    assert SECRET not in response.text


async def test_headers_of_a_refusal(client: httpx.AsyncClient) -> None:
    """What the framework and the endpoint say in headers is kept."""
    assert "GET" == (await client.post("/fine")).headers["Allow"]
    assert "Bearer" == (await client.get("/private")).headers["WWW-Authenticate"]
    assert "Ann" == (await client.get("/refused")).headers["X-Holder"]
    assert "2" == (await client.get("/blocked")).headers["Retry-After"]


async def test_redirect_passes(client: httpx.AsyncClient, failed: list[events.RequestFailed]) -> None:
    """An `HTTPException` that is no error is none."""
    response = await client.get("/redirect")

    assert (307, "/fine") == (response.status_code, response.headers["Location"])
    assert [] == failed


async def test_input_is_not_echoed(client: httpx.AsyncClient) -> None:
    """A 422 names the fields and holds nothing of what was sent, as JSON, broken JSON or anything else."""
    for content in (
        json.dumps({"password": SECRET}),
        json.dumps({"user": {"password": SECRET}, "password": [SECRET]}),
        f'{{"password": "{SECRET}',
        SECRET,
    ):
        response = await client.post(
            "/login", content=content, headers={"Content-Type": "application/json"}, params={"token": SECRET}
        )
        assert 422 == response.status_code
        assert response.json()["errors"]
        assert SECRET not in response.text


async def test_problem_details(client: httpx.AsyncClient) -> None:
    """Who asks for problem details gets them, of a refusal and of a defect."""
    for path in ("/refused", "/crash", "/nowhere"):
        response = await client.get(path, headers={"Accept": "application/problem+json"})
        assert "application/problem+json" == response.headers["Content-Type"]


async def test_id_is_accepted(client: httpx.AsyncClient) -> None:
    """The caller's id is the one that is bound, in a task and in a thread, and that comes back."""
    for path in ("/fine", "/sync"):
        response = await client.get(path, headers={"X-Request-ID": "form-1"})
        assert {"request_id": "form-1"} == response.json()["bound"]
        assert "form-1" == response.headers["X-Request-ID"]
    assert {} == correlation.current()


async def test_id_that_is_none(client: httpx.AsyncClient) -> None:
    """What cannot be an id is replaced, and two requests have two."""
    one, other = [await client.get("/fine", headers={"X-Request-ID": "<script>"}) for _ in range(2)]

    assert 32 == len(one.headers["X-Request-ID"])
    assert one.headers["X-Request-ID"] == one.json()["bound"]["request_id"] != other.headers["X-Request-ID"]


async def test_what_is_bound_outside_stays() -> None:
    """What a caller in the process has bound is seen inside, and there again afterwards."""
    async with client_of(application()) as client:
        with correlation.bind(organization_id="acme"):
            bound = (await client.get("/fine")).json()["bound"]
            assert {"organization_id": "acme"} == correlation.current()

    assert {"organization_id", "request_id"} == set(bound)


async def test_id_of_the_endpoint_is_replaced() -> None:
    """There is one id, whoever else sets one."""
    app = FastAPI()

    @app.get("/")
    async def root() -> JSONResponse:
        return JSONResponse(None, headers={"X-Request-ID": "mine"})

    answers.install(app)
    async with client_of(app) as client:
        response = await client.get("/", headers={"X-Request-ID": "theirs"})

    assert ["theirs"] == response.headers.get_list("X-Request-ID")


async def test_deadline_from_a_header(client: httpx.AsyncClient) -> None:
    """The caller's time is what is left, in a task and in a thread, and what is no time is ignored."""
    with FakeClock():
        for path in ("/fine", "/sync"):
            for headers, seconds in (
                ({}, None),
                ({"X-Request-Timeout": "5"}, 5.0),
                ({"x-envoy-expected-rq-timeout-ms": "2500"}, 2.5),
                ({"X-Request-Timeout": "2", "x-envoy-expected-rq-timeout-ms": "2500"}, 2.0),
                ({"X-Request-Timeout": "1e9"}, 300.0),
                ({"X-Request-Timeout": "0"}, None),
                ({"X-Request-Timeout": "-1"}, None),
                ({"X-Request-Timeout": "nan"}, None),
                ({"X-Request-Timeout": "inf"}, None),
                ({"X-Request-Timeout": "soon"}, None),
            ):
                assert seconds == (await client.get(path, headers=headers)).json()["remaining"]
    assert remaining() is None


async def test_deadline_of_the_application() -> None:
    """A request that says nothing has the application's time, and none more than the longest."""
    async with client_of(application(deadline=7.0, max_deadline=9.0)) as client:
        with FakeClock():
            assert 7.0 == (await client.get("/fine")).json()["remaining"]
            answer = await client.get("/fine", headers={"X-Request-Timeout": "60"})

    assert 9.0 == answer.json()["remaining"]


@pytest.mark.parametrize("layers", [(), ("dispatched",)])
async def test_time_is_up(layers: tuple[str, ...], failed: list[events.RequestFailed]) -> None:
    """An endpoint that still waits when its time is up is cancelled, and the answer is a 504."""
    app = application()
    cancelled = []

    @app.get("/wait")
    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    for _ in layers:
        app.add_middleware(BaseHTTPMiddleware, dispatch=lambda request, call_next: call_next(request))
    async with client_of(app) as client:
        response = await client.get("/wait", headers={"X-Request-Timeout": "0.01"})

    assert (504, "external.deadline") == (response.status_code, response.json()["code"])
    assert [True] == cancelled
    assert 1 == len(failed)


async def test_thread_is_not_cancelled(failed: list[events.RequestFailed]) -> None:
    """What runs in a thread when its time is up comes to its end, sees it, and is answered."""
    app = FastAPI()
    done = asyncio.Event()
    loop = asyncio.get_running_loop()

    @app.get("/")
    def slow() -> float | None:
        asyncio.run_coroutine_threadsafe(done.wait(), loop).result()
        return remaining()

    answers.install(app)
    async with client_of(app) as client, asyncio.TaskGroup() as tasks:
        answer = tasks.create_task(client.get("/", headers={"X-Request-Timeout": "0.01"}))
        loop.call_later(0.05, done.set)

    assert (200, 0.0) == (answer.result().status_code, answer.result().json())
    assert [] == failed


async def test_answer_that_has_begun_is_not_cancelled() -> None:
    """A stream goes on when the time is up."""
    app = FastAPI()
    later = asyncio.Event()

    async def parts() -> AsyncIterator[bytes]:
        yield b"one "
        await later.wait()
        yield b"two"

    @app.get("/")
    async def stream() -> StreamingResponse:
        asyncio.get_running_loop().call_later(0.05, later.set)
        return StreamingResponse(parts())

    answers.install(app)
    async with client_of(app) as client:
        response = await client.get("/", headers={"X-Request-Timeout": "0.01"})

    assert b"one two" == response.content


async def test_caller_that_goes_away(failed: list[events.RequestFailed]) -> None:
    """Cancellation passes, and leaves nothing bound."""
    async with client_of(application()) as client:
        task = asyncio.create_task(client.get("/hang", headers={"X-Request-Timeout": "60"}))
        await asyncio.sleep(0)
        while not task.cancelling():
            await asyncio.sleep(0)
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    assert [] == failed
    assert {} == correlation.current()


class Raising:
    """A middleware that raises, before or after the application."""

    def __init__(self, app: ASGIApp, exc: Exception, *, after: bool = False) -> None:
        self.app = app
        self.exc = exc
        self.after = after

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raise."""
        if self.after:
            await self.app(scope, receive, send)
        raise self.exc


@pytest.mark.parametrize("installed_first", [True, False])
async def test_middleware_fails(installed_first: bool, failed: list[events.RequestFailed]) -> None:
    """An error of a middleware is the one body too, whichever came first."""
    app = FastAPI()
    if installed_first:
        answers.install(app)
    app.add_middleware(Raising, exc=Conflict("no"))
    answers.install(app)
    async with client_of(app) as client:
        response = await client.get("/")

    VALIDATOR.validate(response.json())
    assert (409, 1) == (response.status_code, len(failed))
    assert failed[0].request_id == response.headers["X-Request-ID"]


async def test_middleware_fails_after_the_answer(failed: list[events.RequestFailed]) -> None:
    """An error behind a whole answer is told, and the answer stays."""
    app = application()
    app.add_middleware(Raising, exc=KeyError(), after=True)
    async with client_of(app) as client:
        response = await client.get("/fine")

    assert 200 == response.status_code
    assert [(200, False)] == [(event.status, event.aborted) for event in failed]


async def test_middlewares_see_what_they_always_saw() -> None:
    """A middleware adds its headers to the answer to a defect, and sees the exception go by."""
    app = application()
    seen: list[BaseException] = []

    class Transaction:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await self.app(scope, receive, send)
            except Exception as exc:
                seen.append(exc)
                raise

    async def dispatch(request: Request, call_next: Callable[[Request], Awaitable[Any]]) -> Any:
        response = await call_next(request)
        response.headers["X-Dispatched"] = "yes"
        return response

    app.add_middleware(Transaction)
    app.add_middleware(BaseHTTPMiddleware, dispatch=dispatch)
    app.add_middleware(CORSMiddleware, allow_origins=["https://front.test"])
    async with client_of(app) as client:
        crash = await client.get("/crash", headers={"Origin": "https://front.test"})
        refused = await client.get("/refused", headers={"Origin": "https://front.test"})

    for response in (crash, refused):
        assert "https://front.test" == response.headers["Access-Control-Allow-Origin"]
        assert "yes" == response.headers["X-Dispatched"]
        VALIDATOR.validate(response.json())
    assert [KeyError] == [type(exc) for exc in seen]


async def test_middleware_that_wraps_exceptions(failed: list[events.RequestFailed]) -> None:
    """An exception that comes out in a group is told once."""
    app = application()

    class InATask:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.app(scope, receive, send))  # type: ignore[arg-type]

    app.add_middleware(InATask)
    async with client_of(app) as client:
        assert 500 == (await client.get("/crash")).status_code

    assert 1 == len(failed)


async def test_nobody_listens(client: httpx.AsyncClient) -> None:
    """Without a log and without subscribers a request is answered."""
    logging.getLogger(LOGGER).disabled = True
    try:
        assert 404 == (await client.get("/nowhere")).status_code
    finally:
        logging.getLogger(LOGGER).disabled = False


async def test_dependencies(failed: list[events.RequestFailed]) -> None:
    """A dependency that fails before or after the endpoint is answered, and others are cleaned up."""
    app = FastAPI()
    cleaned = []

    async def first() -> AsyncIterator[None]:
        try:
            yield
        finally:
            cleaned.append(True)

    async def second(when: str) -> AsyncIterator[None]:
        if when == "before":
            raise Conflict("before")
        yield
        raise Conflict("after")

    @app.get("/", dependencies=[Depends(first), Depends(second, scope="function")])
    async def root() -> None: ...

    answers.install(app)
    async with client_of(app) as client:
        for when in ("before", "after"):
            assert when == (await client.get("/", params={"when": when})).json()["detail"]

    assert [True, True] == cleaned
    assert ["/", "/"] == [event.route for event in failed]


async def test_handlers_of_ones_own(failed: list[events.RequestFailed]) -> None:
    """A handler for a class of one's own is asked as before."""
    app = application()

    @app.exception_handler(Unreachable)
    async def tea(request: Request, exc: Exception) -> PlainTextResponse:
        return PlainTextResponse("tea", 418)

    async with client_of(app) as client:
        response = await client.get("/down")

    assert (418, "tea", 32) == (response.status_code, response.text, len(response.headers["X-Request-ID"]))
    assert [] == failed


async def test_stream_that_breaks(failed: list[events.RequestFailed]) -> None:
    """An answer that fails when it has begun is told, and ends there."""
    app = FastAPI()

    async def parts() -> AsyncIterator[bytes]:
        yield b"one"
        raise KeyError(SECRET)

    @app.get("/{kind}")
    async def stream(kind: str) -> StreamingResponse:
        return StreamingResponse(parts())

    answers.install(app)
    sent = await exchange(app, "/x")

    assert ["http.response.start", "http.response.body"] == [message["type"] for message in sent]
    assert [True] == [message.get("more_body") for message in sent[1:]]
    assert [(200, True, "internal.bug", "/{kind}")] == [
        (event.status, event.aborted, event.failure.code, event.route) for event in failed
    ]


async def exchange(app: ASGIApp, path: str, body: bytes = b"", **scope: Any) -> list[Any]:
    """Hand a request to an application, and return what it sends."""
    sent: list[Any] = []

    parts = [{"type": "http.request", "body": body}]

    async def receive() -> dict[str, Any]:
        if not parts:
            await asyncio.Event().wait()
        return parts.pop()

    async def send(message: Any) -> None:
        sent.append(message)

    given = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "path": path,
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "server": ("test", 80),
        "headers": [],
    }
    await app(given | scope, receive, send)
    return sent


async def test_background_task_that_fails(failed: list[events.RequestFailed]) -> None:
    """A task behind the answer that fails is told; the answer was whole."""
    app = FastAPI()

    def fail() -> None:
        raise KeyError(SECRET)

    @app.get("/")
    async def root(tasks: BackgroundTasks) -> str:
        tasks.add_task(fail)
        return "done"

    answers.install(app)
    async with client_of(app) as client:
        assert "done" == (await client.get("/")).json()

    assert [(200, False, 500)] == [(event.status, event.aborted, event.failure.status) for event in failed]


async def test_quiet_paths(failed: list[events.RequestFailed]) -> None:
    """A probe that hears that the service is not ready tells nobody else; a defect in it is told."""
    app = FastAPI()
    outcomes: list[Exception] = [Unreachable("the database is down"), HTTPException(503), KeyError()]

    @app.get("/health")
    async def health() -> None:
        raise outcomes.pop(0)

    answers.install(app)
    async with client_of(app) as client:
        statuses = [(await client.get("/health")).status_code for _ in range(3)]

    assert [503, 503, 500] == statuses
    assert ["internal.bug"] == [event.failure.code for event in failed]


async def test_quiet_paths_of_ones_own(failed: list[events.RequestFailed]) -> None:
    """Other paths can be quiet instead."""
    async with client_of(application(quiet=["/down"])) as client:
        for path in ("/down", "/health"):
            assert (await client.get(path)).is_error

    assert ["/health"] == [event.path for event in failed]


async def test_mounted_applications(failed: list[events.RequestFailed]) -> None:
    """A mounted application with an installation has the same id, the same end, and tells once."""
    inner = application()
    app = FastAPI()
    app.mount("/inner", inner)
    answers.install(app)
    async with client_of(app) as client:
        for path, status in (
            ("/inner/crash", 500),
            ("/inner/nowhere", 404),
            ("/inner/agents/1", 404),
            ("/inner/hang", 504),
        ):
            headers = {"X-Request-ID": "r", "X-Request-Timeout": "0.01" if "hang" in path else "60"}
            response = await client.get(path, headers=headers)
            VALIDATOR.validate(response.json())
            assert (status, "r", ["r"]) == (
                response.status_code,
                response.json()["request_id"],
                response.headers.get_list("X-Request-ID"),
            )

    assert ["/inner/crash", "", "/inner/agents/{agent_id}", "/inner/hang"] == [
        event.route for event in failed
    ]


async def test_mounted_application_without(failed: list[events.RequestFailed]) -> None:
    """One without an installation answers as it likes; what it lets out is told once."""
    inner = FastAPI()

    @inner.get("/crash")
    async def crash() -> None:
        raise KeyError

    app = FastAPI()
    app.mount("/inner", inner)
    answers.install(app)
    async with client_of(app) as client:
        response = await client.get("/inner/crash")

    assert (500, 32) == (response.status_code, len(response.headers["X-Request-ID"]))
    assert ["internal.bug"] == [event.failure.code for event in failed]


async def test_installation_in_a_plain_application(failed: list[events.RequestFailed]) -> None:
    """An application with an installation can be mounted in one without."""
    outer = FastAPI()
    outer.mount("/inner", application())
    async with client_of(outer) as client:
        response = await client.get("/inner/crash")

    VALIDATOR.validate(response.json())
    assert ["/inner/crash"] == [event.path for event in failed]


async def test_body_over_the_limit(failed: list[events.RequestFailed]) -> None:
    """The framework's limit on the body is answered as all else, whether it is seen at once or later."""
    app = FastAPI(max_body_size=10)

    @app.post("/")
    async def root(text: Annotated[str, Body()]) -> None: ...

    @app.get("/hang")
    async def hang() -> None:
        await asyncio.Event().wait()

    answers.install(app)
    long = json.dumps("x" * 20).encode()
    for headers in ([(b"content-length", b"22")], [(b"content-length", b"nonsense")], []):
        json_type = (b"content-type", b"application/json")
        start, body = await exchange(app, "/", long, method="POST", headers=[*headers, json_type])
        answer = json.loads(body["body"])
        assert (413, "validation.too_large") == (start["status"], answer["code"])
        own = dict(start["headers"])
        assert answer["request_id"].encode() == own[b"x-request-id"]
        assert str(len(body["body"])).encode() == own[b"content-length"]
        VALIDATOR.validate(answer)
    assert [413, 413, 413] == [event.status for event in failed]
    start, _ = await exchange(app, "/hang", headers=[(b"x-request-timeout", b"0.01")])
    assert 504 == start["status"]


async def test_413_of_ones_own() -> None:
    """An answer that is no error of the framework's stays."""
    app = FastAPI(max_body_size=10)

    @app.get("/")
    async def root() -> JSONResponse:
        return JSONResponse({"mine": True}, 413)

    answers.install(app)
    async with client_of(app) as client:
        assert {"mine": True} == (await client.get("/")).json()


def test_websockets_are_left_alone() -> None:
    """A websocket works, and what it raises passes."""
    app = FastAPI()

    @app.websocket("/echo")
    async def echo(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text(await socket.receive_text())
        await socket.receive_text()
        raise KeyError

    @app.websocket("/refuse")
    async def refuse(socket: WebSocket) -> None:
        raise HTTPException(403)

    app.add_middleware(TrustedHostMiddleware)
    answers.install(app)
    client = TestClient(app)
    heard = []

    def talk() -> None:
        with client.websocket_connect("/echo") as socket:
            socket.send_text("hello")
            heard.append(socket.receive_text())
            socket.send_text("now fail")
            socket.receive_text()

    with pytest.raises(KeyError):
        talk()
    assert ["hello"] == heard
    with pytest.raises(WebSocketDenialResponse) as refusal, client.websocket_connect("/refuse"):
        pass
    assert 403 == refusal.value.status_code


def test_lifespan() -> None:
    """The application starts and ends as before."""
    steps = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        steps.append("start")
        yield
        steps.append("end")

    app = FastAPI(lifespan=lifespan)
    answers.install(app)
    with TestClient(app) as client:
        assert 404 == client.get("/").status_code

    assert ["start", "end"] == steps


async def test_openapi() -> None:
    """Every operation has our errors, and FastAPI's own are gone."""
    app = application()
    async with client_of(app) as client:
        document = (await client.get("/openapi.json")).json()

    assert document == app.openapi()
    assert error_schema() == document["components"]["schemas"]["ErrorResponse"]
    assert "HTTPValidationError" not in json.dumps(document)
    reference = {"$ref": "#/components/responses/ErrorResponse"}
    assert [reference] * 3 == [
        document["paths"]["/login"]["post"]["responses"][status] for status in ("422", "4XX", "5XX")
    ]

    @app.get("/later")
    async def later() -> None: ...

    assert reference == app.openapi()["paths"]["/later"]["get"]["responses"]["4XX"]


async def test_twice_is_once(failed: list[events.RequestFailed]) -> None:
    """A second installation replaces the settings of the first, and nothing is told twice."""
    app = application()
    answers.install(app, quiet=["/down"])
    async with client_of(app) as client:
        await client.get("/down")
        response = await client.get("/crash")

    assert 1 == len(failed)
    assert 1 == len(response.headers.get_list("X-Request-ID"))


async def test_too_late() -> None:
    """An application that is in use is not changed."""
    app = FastAPI()
    async with client_of(app) as client:
        await client.get("/")
    with pytest.raises(RuntimeError, match="too late"):
        answers.install(app)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"quiet": "/health"}, TypeError),
        ({"deadline": 0}, ValueError),
        ({"deadline": float("nan")}, ValueError),
        ({"max_deadline": -1}, ValueError),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], error: type[Exception]) -> None:
    """They are refused before anything is changed."""
    app = FastAPI()
    with pytest.raises(error):
        answers.install(app, **settings)
    assert not hasattr(app.state, "resilient_agents")


def test_settings_are_a_value() -> None:
    """The default of a request is the application's."""
    settings = Settings.checked([], 5.0, 10.0)

    assert (5.0, 5.0, 3.0) == (
        settings.seconds(None, None),
        settings.seconds("soon", None),
        settings.seconds(None, "3000"),
    )


async def test_stack_without_the_frameworks_outermost_layer() -> None:
    """Whoever else wraps the application, ours is inside."""
    app = FastAPI()
    build = app.build_middleware_stack

    def wrapped() -> ASGIApp:
        stack = build()

        async def outermost(scope: Scope, receive: Receive, send: Send) -> None:
            await stack(scope, receive, send)

        return outermost

    app.build_middleware_stack = wrapped  # type: ignore[method-assign]
    answers.install(app)
    async with client_of(app) as client:
        VALIDATOR.validate((await client.get("/")).json())


async def test_redirect_has_an_id() -> None:
    """Whatever is answered has the id."""
    app = FastAPI()

    @app.get("/")
    async def root() -> RedirectResponse:
        return RedirectResponse("/fine")

    answers.install(app)
    async with client_of(app) as client:
        assert 32 == len((await client.get("/")).headers["X-Request-ID"])


@pytest.mark.parametrize("path", ["/fine", "/crash", "/refused", "/nowhere", "/agents/x"])
async def test_nothing_is_left_for_the_collector(path: str) -> None:
    """A request leaves no circles of objects behind."""
    app = application()
    logging.getLogger(LOGGER).disabled = True
    try:
        await exchange(app, path)
        gc.collect()
        gc.disable()
        await exchange(app, path)
        assert 0 == gc.collect()
    finally:
        gc.enable()
        logging.getLogger(LOGGER).disabled = False
