"""The layers that the FastAPI adapter puts around and into an application: plain ASGI, in one task."""

import asyncio
import inspect
from collections.abc import Awaitable
from functools import lru_cache
from typing import Any, Final

from anyio import CancelScope
from starlette.exceptions import HTTPException
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from resilient_agents import _clock
from resilient_agents.correlation import BOUND, accepted_id, new_id
from resilient_agents.errors import DeadlineExceeded
from resilient_agents.errors.responses import ErrorResponse
from resilient_agents.integrations._web import ENVOY_TIMEOUT, REQUEST_ID, TIMEOUT, Incoming, Settings
from resilient_agents.policies import deadline as ends_after
from resilient_agents.policies import remaining
from resilient_agents.policies._deadline import put_back

KEY: Final = "resilient_agents"
"""What the exchange is called in the scope of a request."""

_LIMIT: Final = "starlette.max_body_size"
_ID = REQUEST_ID.lower().encode()
_TIMEOUT, _ENVOY = TIMEOUT.lower().encode(), ENVOY_TIMEOUT.lower().encode()


class Installed:
    """What the layers need to know of an installation.

    Attributes:
        settings: How requests are treated; they may be replaced.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings


class Exchange:
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

    def __init__(self, request_id: str, installation: Installed) -> None:
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


class Unasked(ServerErrorMiddleware):
    """Stands where the framework watches for errors that nobody handles: of requests there are none."""

    def __init__(self, stack: ServerErrorMiddleware) -> None:
        super().__init__(stack.app)
        watched: Any = stack.app
        while type(watched).__module__.startswith("fastapi."):
            watched = watched.app
        self._watched: ASGIApp = watched

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:  # type: ignore[override]
        return (self._watched if scope["type"] == "http" else self.app)(scope, receive, send)


class Outermost:
    """Gives a request its id and its end, and answers what the middlewares of the application let out.

    Where there are no middlewares, it is *alone* and does what `Innermost` does.
    """

    def __init__(self, app: ASGIApp, installation: Installed, *, alone: bool = False) -> None:
        self.app = app
        self._installation = installation
        self._alone = alone

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != "http":
            return self.app(scope, receive, send)
        return self._inside(scope, receive, send) if KEY in scope else self._begin(scope, receive, send)

    async def _begin(self, scope: Scope, receive: Receive, send: Send) -> None:
        settings = self._installation.settings
        given = dict(scope["headers"])
        request_id = accepted_id(given[_ID].decode("latin-1")) if _ID in given else new_id()
        exchange = scope[KEY] = Exchange(request_id, self._installation)
        pass_on = _noting(exchange, scope, send, settings)
        seconds = settings.deadline
        if _TIMEOUT in given or _ENVOY in given:
            seconds = settings.seconds(given.get(_TIMEOUT), given.get(_ENVOY))
        outer = BOUND.get()
        token = BOUND.set({**outer, "request_id": request_id} if outer else {"request_id": request_id})
        try:
            if seconds is None:
                await self.app(scope, receive, pass_on)
            else:
                exchange.timed = False
                with ends_after(seconds):
                    await self._in_time(scope, receive, pass_on)
        except Exception as exc:
            await answer(exc, scope, pass_on, settings)
        finally:
            put_back(BOUND, token)

    async def _inside(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer for an application that is mounted in another one, or that has a limit on the body."""
        try:
            await self._in_time(scope, receive, send)
        except Exception as exc:
            await answer(exc, scope, send, self._installation.settings)
            if scope[KEY].installation is not self._installation:
                raise

    def _in_time(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        return in_time(self.app, scope, receive, send) if self._alone else self.app(scope, receive, send)


class Innermost:
    """Ends a request whose time is up, and answers what nobody handles before it goes on."""

    def __init__(self, app: ASGIApp, installation: Installed) -> None:
        self.app = app
        self._installation = installation

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if KEY not in scope:
            await self.app(scope, receive, send)
            return
        try:
            if scope[KEY].timed:
                await self.app(scope, receive, send)
            else:
                await in_time(self.app, scope, receive, send)
        except Exception as exc:
            await answer(exc, scope, send, self._installation.settings)
            raise


def _noting(exchange: Exchange, scope: Scope, send: Send, settings: Settings) -> Send:
    """Return *send* such that the answer has the id, and the exchange knows how far it has come."""
    own_id = (_ID, exchange.request_id.encode("ascii"))

    def pass_on(message: Message) -> Awaitable[None]:
        kind = message["type"]
        if kind == "http.response.start":
            exchange.status = message["status"]
            headers = message.get("headers", ())
            for name, _ in headers:
                if name == _ID:
                    headers = [pair for pair in headers if pair[0] != _ID]
                    break
            message["headers"] = [*headers, own_id]
            if exchange.status == 413 and _LIMIT in scope:
                _refuse_body(message, exchange, scope, settings)
        elif exchange.body is not None:
            message["body"] = exchange.body
        elif kind != "http.response.body" or not message.get("more_body", False):
            exchange.whole = True
        return send(message)

    return pass_on


def _refuse_body(message: Message, exchange: Exchange, scope: Scope, settings: Settings) -> None:
    """Put our answer into that of the framework's limit on the body, which is not to be had otherwise."""
    headers = dict(message["headers"])
    if not headers.get(b"content-type", b"").startswith(b"text/plain"):
        return
    incoming, exc = exchange.told(scope), HTTPException(413, "Content Too Large")
    sendable = Sendable(incoming.answer(exc) if incoming.told else incoming.failed(exc, settings))
    exchange.body = sendable.body
    message["headers"] = [*sendable.headers, (_ID, headers[_ID])]


async def in_time(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Perform *app* until the deadline in force, unless an application around it looks after that."""
    exchange: Exchange = scope[KEY]
    if exchange.timed:
        await app(scope, receive, send)
        return
    exchange.timed = True
    with CancelScope() as limit:
        timer = asyncio.get_running_loop().call_later(remaining() or 0.0, _end, limit, scope)
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
    if scope[KEY].status is None and not in_thread:
        limit.cancel()


async def answer(exc: Exception, scope: Scope, send: Send, settings: Settings) -> None:
    """Answer *exc*, unless an answer has begun, and say what happened."""
    exchange: Exchange = scope[KEY]
    incoming, route = exchange.told(scope), route_of(scope)
    if exchange.status is not None:
        # A limit on the body ends what is behind it by an exception, once it has answered.
        if not incoming.knows(exc) and type(exc).__module__ != "starlette.middleware.body_limit":
            incoming.failed(exc, settings, route=route, sent=exchange.status, whole=exchange.whole)
        return
    await Sendable(incoming.failed(exc, settings, route=route))(scope, send=send)


class Sendable:
    """An answer as the framework sends it; much of what a `Response` can do, an error does not need."""

    def __init__(self, answered: ErrorResponse) -> None:
        self.status = answered.status
        self.body = answered.encoded()
        self.headers = [_raw(name, value) for name, value in answered.headers.items()]
        self.headers.append((b"content-length", b"%d" % len(self.body)))

    async def __call__(self, scope: Scope, receive: Receive | None = None, send: Send | None = None) -> None:
        """Send it."""
        assert send is not None  # noqa: S101 - an application is always called with it
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body})


@lru_cache(maxsize=256)
def _raw(name: str, value: str) -> tuple[bytes, bytes]:
    return name.lower().encode("latin-1", "replace"), value.encode("latin-1", "replace")


def route_of(scope: Scope) -> str:
    """Return what the path has matched, as ``"/agents/{agent_id}"``."""
    context = scope.get("fastapi", {}).get("effective_route_context")
    path = getattr(context, "path", None) or getattr(scope.get("route"), "path", None)
    if not isinstance(path, str):
        return ""
    mounted = scope.get("root_path", "").removeprefix(scope.get("app_root_path", scope.get("root_path", "")))
    return f"{mounted}{path}"
