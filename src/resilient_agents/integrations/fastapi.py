"""FastAPI: every error is the one body, with the id of the request, and a request has an end.

    from resilient_agents.integrations import fastapi as answers

    app = FastAPI()
    answers.install(app)

An exception that nobody handles is answered behind your middlewares, so that CORS headers and compression are
on the answer. Then it goes on through them, as in Starlette, so that one that holds a transaction sees it. It
ends at the outermost one: the server logs nothing more, and an error tracker hears of it by
`events.RequestFailed`.
"""

from collections.abc import Iterable
from typing import Any, cast

from fastapi import FastAPI
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from resilient_agents.errors.schema import document_errors
from resilient_agents.integrations._asgi import (
    KEY,
    Exchange,
    Innermost,
    Installed,
    Outermost,
    Sendable,
    Unasked,
    route_of,
)
from resilient_agents.integrations._fastapi_feed import activity_router
from resilient_agents.integrations._web import QUIET, Settings

__all__ = ["activity_router", "install"]


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
    installation: _Installation | None = getattr(app.state, KEY, None)
    if installation is not None:
        installation.settings = settings
        return
    installation = _Installation(app, settings)
    setattr(app.state, KEY, installation)
    app.build_middleware_stack = installation.build  # type: ignore[method-assign]
    app.openapi = installation.openapi  # type: ignore[method-assign]
    app.add_exception_handler(HTTPException, installation.refuse)
    app.add_exception_handler(RequestValidationError, installation.refuse)


class _Installation(Installed):
    """What `install` has put into one application."""

    def __init__(self, app: FastAPI, settings: Settings) -> None:
        super().__init__(settings)
        self._app = app
        self._build, self._openapi = app.build_middleware_stack, app.openapi

    def build(self) -> ASGIApp:
        """Return the application with ours around it, whenever the other middlewares were added."""
        others = self._app.user_middleware
        outermost = Middleware(Outermost, self, alone=not others)
        self._app.user_middleware = [outermost, *others, *([Middleware(Innermost, self)] if others else [])]
        stack = self._build()
        # A limit on the body stands outside of all middlewares, and has an answer of its own.
        if getattr(self._app, "max_body_size", None) is not None:
            return Outermost(stack, self)
        return Unasked(stack) if isinstance(stack, ServerErrorMiddleware) else stack

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document, with the errors."""
        return document_errors(self._openapi())

    async def refuse(self, request: Request, exc: Exception) -> Response:
        """Answer what an endpoint, or the framework itself, refuses. Redirects and websockets pass."""
        exchange: Exchange | None = request.scope.get(KEY)
        if isinstance(exc, HTTPException) and (exchange is None or not 400 <= exc.status_code <= 599):
            return await http_exception_handler(request, exc)
        assert exchange is not None  # noqa: S101 - a RequestValidationError is one of a request
        answer = exchange.told(request.scope).failed(exc, self.settings, route=route_of(request.scope))
        return cast("Response", Sendable(answer))
