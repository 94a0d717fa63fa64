"""FastAPI: every error is the one body, with the id of the request, and a request has an end.

    from resilient_agents.integrations import fastapi as answers

    app = FastAPI()
    answers.install(app)

An exception that nobody handles is answered behind your middlewares, so that CORS headers and compression are
on the answer. Then it goes on through them, as in Starlette, so that one that holds a transaction sees it. It
ends at the outermost one: the server logs nothing more, and an error tracker hears of it by
`events.RequestFailed`.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Iterable
from typing import Any, Final

from anyio import CancelScope
from fastapi import FastAPI
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from resilient_agents import _clock
from resilient_agents.correlation import BOUND, accepted_id, new_id
from resilient_agents.errors import DeadlineExceeded
from resilient_agents.errors.schema import document_errors
from resilient_agents.integrations._web import ENVOY_TIMEOUT, QUIET, REQUEST_ID, TIMEOUT, Incoming, Settings
from resilient_agents.policies import deadline as ends_after
from resilient_agents.policies import remaining
from resilient_agents.policies._deadline import put_back

_KEY: Final = "resilient_agents"
_LIMIT: Final = "starlette.max_body_size"
_ID = REQUEST_ID.lower().encode()
_TIMEOUT, _ENVOY = TIMEOUT.lower().encode(), ENVOY_TIMEOUT.lower().encode()


def install(
    app: FastAPI,
    *,
    quiet: Iterable[str] = QUIET,
    deadline: float | None = None,
    max_deadline: float = 300.0,
) -> None:
    """Answer every error of *app* with the one body, and give each request an id and an end.

    The id comes from the header ``X-Request-ID``, or is made; it is in the header and the body of the answer,
    in the log line of `resilient_agents.requests`, in `events.RequestFailed`, and bound in `correlation`.

    The end comes from the headers ``X-Request-Timeout`` (seconds) and ``x-envoy-expected-rq-timeout-ms``. It
    is the `deadline` that retries, limits and clients obey. An ``async def`` endpoint is cancelled when its
    time is up, and the answer is a 504; a plain ``def`` cannot be, and sees it in `remaining`. An answer that
    has begun is not broken off.

    The handlers of ``HTTPException`` and ``RequestValidationError`` are replaced; those that you register for
    classes of your own stay. Websockets are left alone. A mounted application has an installation of its own,
    and the same id.

    Args:
        app: The application, before its first request. A second installation replaces the settings of the
            first.
        quiet: Paths whose failures are answered, and neither logged nor said as events, unless they are
            defects. The default is what probes ask: ``/health``, ``/healthz``, ``/livez``, ``/readyz``,
            ``/ready``.
        deadline: Time in seconds for a request that does not say how long its caller waits. The default is no
            end.
        max_deadline: Time in seconds that no caller can exceed. The default is 300.

    Raises:
        RuntimeError: The application has answered a request already.
        TypeError: *quiet* is a text.
        ValueError: A time is not more than 0.
    """
    settings = Settings.checked(quiet, deadline, max_deadline)
    if app.middleware_stack is not None:
        raise RuntimeError(
            "install() comes too late: call it before the application answers its first request"
        )
    installation: _Installation | None = getattr(app.state, _KEY, None)
    if installation is not None:
        installation.settings = settings
        return
    installation = _Installation(app, settings)
    setattr(app.state, _KEY, installation)
    app.build_middleware_stack = installation.build  # type: ignore[method-assign]
    app.openapi = installation.openapi  # type: ignore[method-assign]
    app.add_exception_handler(HTTPException, installation.refuse)
    app.add_exception_handler(RequestValidationError, installation.refuse)


class _Installation:
    """What `install` has put into one application."""

    def __init__(self, app: FastAPI, settings: Settings) -> None:
        self.settings = settings
        self._app = app
        self._build, self._openapi = app.build_middleware_stack, app.openapi

    def build(self) -> ASGIApp:
        """Return the application with ours around it, whenever the other middlewares were added."""
        others = self._app.user_middleware
        outermost = Middleware(_Outermost, self, alone=not others)
        self._app.user_middleware = [outermost, *others, *([Middleware(_Innermost, self)] if others else [])]
        stack = self._build()
        # A limit on the body stands outside of all middlewares, and has an answer of its own.
        if getattr(self._app, "max_body_size", None) is not None:
            return _Outermost(stack, self)
        return _Unasked(stack) if isinstance(stack, ServerErrorMiddleware) else stack

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document, with the errors."""
        return document_errors(self._openapi())

    async def refuse(self, request: Request, exc: Exception) -> Response:
        """Answer what an endpoint, or the framework itself, refuses. Redirects and websockets pass."""
        exchange: _Exchange | None = request.scope.get(_KEY)
        if isinstance(exc, HTTPException) and (exchange is None or not 400 <= exc.status_code <= 599):
            return await http_exception_handler(request, exc)
        assert exchange is not None  # noqa: S101 - a RequestValidationError is one of a request
        answer = exchange.told(request.scope).failed(exc, self.settings, route=_route(request.scope))
        return Response(answer.encoded(), answer.status, answer.headers)


class _Exchange:
    """A request, and how far its answer has come. It is made for every request, so it is small.

    Attributes:
        status: The HTTP status of the answer, once it has begun.
        whole: Whether the answer was sent to its end.
        timed: Whether somebody looks after the time that it has.
        incoming: What is told of it, once it has failed.
        body: What takes the place of the framework's own answer to a body that is over its limit.
    """

    status: int | None = None
    whole = False
    timed = True
    incoming: Incoming | None = None
    body: bytes | None = None

    def __init__(self, request_id: str, installation: _Installation) -> None:
        self.request_id = request_id
        self.installation = installation
        self.began = _clock.in_force.monotonic()

    def told(self, scope: Scope) -> Incoming:
        """Return what is told of the request."""
        if self.incoming is None:
            accept = dict(scope["headers"]).get(b"accept", b"").decode("latin-1")
            method, path = scope["method"], scope["path"]
            self.incoming = Incoming(method, path, self.request_id, accept, self.began)
        return self.incoming


class _Unasked(ServerErrorMiddleware):
    """Stands where the framework watches for errors that nobody handles: of requests there are none."""

    def __init__(self, stack: ServerErrorMiddleware) -> None:
        super().__init__(stack.app)
        watched: Any = stack.app
        while type(watched).__module__.startswith("fastapi."):
            watched = watched.app
        self._watched: ASGIApp = watched

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:  # type: ignore[override]
        return (self._watched if scope["type"] == "http" else self.app)(scope, receive, send)


class _Outermost:
    """Gives a request its id and its end, and answers what the middlewares of the application let out.

    Where there are no middlewares, it is *alone* and does what `_Innermost` does.
    """

    def __init__(self, app: ASGIApp, installation: _Installation, *, alone: bool = False) -> None:
        self.app = app
        self._installation = installation
        self._alone = alone

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != "http":
            return self.app(scope, receive, send)
        return self._inside(scope, receive, send) if _KEY in scope else self._begin(scope, receive, send)

    async def _begin(self, scope: Scope, receive: Receive, send: Send) -> None:
        settings = self._installation.settings
        given = dict(scope["headers"])
        request_id = accepted_id(given[_ID].decode("latin-1")) if _ID in given else new_id()
        exchange = scope[_KEY] = _Exchange(request_id, self._installation)
        own_id = (_ID, request_id.encode("ascii"))

        def pass_on(message: Message) -> Awaitable[None]:
            kind = message["type"]
            if kind == "http.response.start":
                exchange.status = message["status"]
                headers = message.get("headers", ())
                for name, _ in headers:
                    if name == _ID:
                        headers = _without_id(headers)
                        break
                message["headers"] = [*headers, own_id]
                if exchange.status == 413 and _LIMIT in scope:
                    _refuse_body(message, exchange, scope, settings)
            elif exchange.body is not None:
                message["body"] = exchange.body
            elif kind != "http.response.body" or not message.get("more_body", False):
                exchange.whole = True
            return send(message)

        seconds = settings.deadline
        if _TIMEOUT in given or _ENVOY in given:
            seconds = settings.seconds(given.get(_TIMEOUT), given.get(_ENVOY))
        token = BOUND.set({**BOUND.get(), "request_id": request_id})
        try:
            if seconds is None:
                await self.app(scope, receive, pass_on)
            else:
                exchange.timed = self._alone
                with ends_after(seconds):
                    await self._in_time(scope, receive, pass_on)
        except Exception as exc:
            await _answer(exc, scope, pass_on, settings)
        finally:
            put_back(BOUND, token)

    async def _in_time(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (_in_time(self.app, scope, receive, send) if self._alone else self.app(scope, receive, send))

    async def _inside(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer for an application that is mounted in another one, or that has a limit on the body."""
        try:
            await self.app(scope, receive, send)
        except Exception as exc:
            await _answer(exc, scope, send, self._installation.settings)
            if scope[_KEY].installation is not self._installation:
                raise


class _Innermost:
    """Ends a request whose time is up, and answers what nobody handles before it goes on."""

    def __init__(self, app: ASGIApp, installation: _Installation) -> None:
        self.app = app
        self._installation = installation

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if _KEY not in scope:
            await self.app(scope, receive, send)
            return
        exchange: _Exchange = scope[_KEY]
        try:
            if exchange.timed:
                await self.app(scope, receive, send)
            else:
                exchange.timed = True
                await _in_time(self.app, scope, receive, send)
        except Exception as exc:
            await _answer(exc, scope, send, self._installation.settings)
            raise


def _refuse_body(message: Message, exchange: _Exchange, scope: Scope, settings: Settings) -> None:
    """Put our answer into that of the framework's limit on the body, which is not to be had otherwise."""
    headers = dict(message["headers"])
    if not headers.get(b"content-type", b"").startswith(b"text/plain"):
        return
    incoming, exc = exchange.told(scope), HTTPException(413, "Content Too Large")
    answer = incoming.answer(exc) if incoming.told else incoming.failed(exc, settings)
    exchange.body = answer.encoded()
    raw = Response(exchange.body, answer.status, answer.headers).raw_headers
    message["headers"] = [*raw, (_ID, headers[_ID])]


def _without_id(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [pair for pair in headers if pair[0] != _ID]


async def _in_time(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Perform *app* until the deadline in force."""
    seconds = remaining() or 0.0
    with CancelScope() as limit:
        timer = asyncio.get_running_loop().call_later(seconds, _end, limit, scope)
        try:
            await app(scope, receive, send)
        finally:
            timer.cancel()
    if limit.cancelled_caught:
        raise DeadlineExceeded("the request was cancelled: its time was up")


def _end(limit: CancelScope, scope: Scope) -> None:
    """Cancel what can be cancelled: neither an answer that has begun, nor a function in a thread."""
    endpoint = inspect.unwrap(scope["endpoint"]) if callable(scope.get("endpoint")) else None
    in_thread = inspect.isroutine(endpoint) and not (
        inspect.iscoroutinefunction(endpoint) or inspect.isasyncgenfunction(endpoint)
    )
    if scope[_KEY].status is None and not in_thread:
        limit.cancel()


async def _answer(exc: Exception, scope: Scope, send: Send, settings: Settings) -> None:
    """Answer *exc*, unless an answer has begun, and say what happened."""
    exchange: _Exchange = scope[_KEY]
    incoming, route = exchange.told(scope), _route(scope)
    if exchange.status is not None:
        if not incoming.knows(exc):
            incoming.failed(exc, settings, route=route, sent=exchange.status, whole=exchange.whole)
        return
    answer = incoming.failed(exc, settings, route=route)
    response = Response(answer.encoded(), answer.status, answer.headers)
    await send({"type": "http.response.start", "status": answer.status, "headers": response.raw_headers})
    await send({"type": "http.response.body", "body": response.body})


def _route(scope: Scope) -> str:
    """Return what the path has matched, as ``"/agents/{agent_id}"``."""
    context = scope.get("fastapi", {}).get("effective_route_context")
    path = getattr(context, "path", None) or getattr(scope.get("route"), "path", None)
    if not isinstance(path, str):
        return ""
    mounted = scope.get("root_path", "").removeprefix(scope.get("app_root_path", scope.get("root_path", "")))
    return f"{mounted}{path}"
