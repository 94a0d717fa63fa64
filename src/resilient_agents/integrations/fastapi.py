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
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from resilient_agents.correlation import Binding
from resilient_agents.errors import DeadlineExceeded
from resilient_agents.errors.schema import document_errors
from resilient_agents.integrations._web import ENVOY_TIMEOUT, QUIET, REQUEST_ID, TIMEOUT, Incoming, Settings
from resilient_agents.policies import deadline as ends_after
from resilient_agents.policies import remaining

_KEY: Final = "resilient_agents"
_BODY_LIMIT: Final = "starlette.max_body_size"
_ID = REQUEST_ID.lower().encode()
_TIMEOUT, _ENVOY = TIMEOUT.lower().encode(), ENVOY_TIMEOUT.lower().encode()
_READ = frozenset({_ID, _TIMEOUT, _ENVOY, b"accept"})


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
        """Return the application with ours outermost and innermost, whenever the others were added."""
        first, last = Middleware(_Outermost, self), Middleware(_Innermost, self)
        self._app.user_middleware[:] = [first, *self._app.user_middleware, last]
        stack = self._build()
        # A limit on the body is outside of all middlewares, and has an answer of its own.
        limited = getattr(self._app, "max_body_size", None) is not None
        return _Outermost(stack, self) if limited else stack

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document, with the errors."""
        return document_errors(self._openapi())

    async def refuse(self, request: Request, exc: Exception) -> Response:
        """Answer what an endpoint, or the framework itself, refuses. Redirects and websockets pass."""
        exchange: _Exchange | None = request.scope.get(_KEY)
        if isinstance(exc, HTTPException) and (exchange is None or not 400 <= exc.status_code <= 599):
            return await http_exception_handler(request, exc)
        assert exchange is not None  # noqa: S101 - a RequestValidationError is one of a request
        answer = exchange.failed(exc, self.settings, route=_route(request.scope))
        return Response(answer.encoded(), answer.status, answer.headers)


class _Exchange(Incoming):
    """A request, and how far its answer has come.

    Attributes:
        seconds: Time in seconds that it was given, until an application looks after that.
        status: The HTTP status of the answer, once it has begun.
        whole: Whether the answer was sent to its end.
    """

    __slots__ = ("seconds", "status", "whole")

    def __init__(self, scope: Scope, settings: Settings) -> None:
        found: dict[bytes, str] = {}
        for name, value in scope["headers"]:
            if name in _READ:
                found[name] = value.decode("latin-1")
        super().__init__(scope["method"], scope["path"], found.get(_ID), found.get(b"accept"))
        self.seconds = settings.seconds(found.get(_TIMEOUT), found.get(_ENVOY))
        self.status: int | None = None
        self.whole = False


class _Outermost:
    """Gives a request its id and its end, and answers what fails in the middlewares of the application."""

    def __init__(self, app: ASGIApp, installation: _Installation) -> None:
        self.app = app
        self._installation = installation

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _KEY in scope:
            await self.app(scope, receive, send)
            return
        settings = self._installation.settings
        exchange = scope[_KEY] = _Exchange(scope, settings)
        own_id = (_ID, exchange.request_id.encode("ascii"))

        def pass_on(message: Message) -> Awaitable[None]:
            kind = message["type"]
            if kind == "http.response.start":
                exchange.status = message["status"]
                headers = [pair for pair in message.get("headers", ()) if pair[0] != _ID]
                message = {**message, "headers": [*headers, own_id]}
            elif kind != "http.response.body" or not message.get("more_body", False):
                exchange.whole = True
            return send(message)

        with Binding({"request_id": exchange.request_id}):
            try:
                if exchange.seconds is None:
                    await self.app(scope, receive, pass_on)
                else:
                    with ends_after(exchange.seconds):
                        await self.app(scope, receive, pass_on)
            except Exception as exc:
                await _answer(exc, scope, pass_on, settings)


class _Innermost:
    """Ends a request whose time is up, and answers what nobody handles before it goes on."""

    def __init__(self, app: ASGIApp, installation: _Installation) -> None:
        self.app = app
        self._installation = installation

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange: _Exchange | None = scope.get(_KEY)
        if exchange is None:
            await self.app(scope, receive, send)
            return
        try:
            if exchange.seconds is None:
                await self.app(scope, receive, send)
            else:
                exchange.seconds = None  # a mounted application has the same end
                await _in_time(self.app, scope, receive, send)
        except Exception as exc:
            await _answer(exc, scope, send, self._installation.settings)
            raise


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
    route = _route(scope)
    if exchange.status is not None:
        if not exchange.knows(exc):
            exchange.failed(exc, settings, route=route, sent=exchange.status, whole=exchange.whole)
        return
    answer = exchange.failed(exc, settings, route=route)
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
