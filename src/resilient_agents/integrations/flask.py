"""Flask: every error is the one body, with the id of the request, and a request has an end.

    from resilient_agents.integrations import flask as answers

    app = Flask(__name__)
    answers.install(app)

The answer to an error goes through your ``after_request`` functions as any other. It is logged once, by
`resilient_agents.requests`; Flask's own line about it is left out.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException, InternalServerError
from werkzeug.http import HTTP_STATUS_CODES

from resilient_agents import _clock
from resilient_agents._clock import clock
from resilient_agents.correlation import BOUND, Binding, accepted_id
from resilient_agents.errors import ValidationFailed
from resilient_agents.errors.refusals import wrong_fields
from resilient_agents.errors.responses import ErrorResponse
from resilient_agents.integrations._flask_feed import activity_blueprint
from resilient_agents.integrations._web import ENVOY_TIMEOUT, QUIET, REQUEST_ID, TIMEOUT, Incoming, Settings
from resilient_agents.policies import deadline as ends_after
from resilient_agents.policies._deadline import end_of_time, put_back

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from pydantic import BaseModel

__all__ = ["activity_blueprint", "body_as", "install"]

M = TypeVar("M", bound="BaseModel")

_KEY: Final = "resilient_agents"


def _in_environ(header: str) -> str:
    return f"HTTP_{header.upper().replace('-', '_')}"


_ID, _TIMEOUT, _ENVOY = map(_in_environ, (REQUEST_ID, TIMEOUT, ENVOY_TIMEOUT))
_ID_LOWER = REQUEST_ID.lower()


def install(
    app: Flask,
    *,
    quiet: Iterable[str] = QUIET,
    deadline: float | None = None,
    max_deadline: float = 300.0,
) -> None:
    """Answer every error of *app* with the one body, and give each request an id and an end.

    The id comes from the header ``X-Request-ID``, or is made; it is in the header and the body of the answer,
    in the log line, in `events.RequestFailed`, and bound in `correlation`.

    The end comes from the headers ``X-Request-Timeout`` (seconds) and ``x-envoy-expected-rq-timeout-ms``. It
    is the `deadline` that retries, limits and clients obey. A view is not interrupted; it can look at
    `remaining`.

    The handlers of ``Exception`` and ``HTTPException`` are replaced; those that you register for classes of
    your own stay, and so do those of a blueprint. A response that you give to ``abort()`` is sent as it is.

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
    installation: _Installation | None = app.extensions.get(_KEY)
    if installation is not None:
        installation.settings = settings
        return
    installation = _Installation(app, settings)
    try:
        app.register_error_handler(Exception, installation.answer)
    except AssertionError:
        text = "install() comes too late: call it before the application answers its first request"
        raise RuntimeError(text) from None
    app.register_error_handler(HTTPException, installation.answer)
    app.extensions[_KEY] = installation
    app.log_exception = installation.log  # type: ignore[method-assign]
    app.wsgi_app = installation  # type: ignore[method-assign]


def body_as(model: type[M]) -> M:
    """Return the JSON body of the request as a pydantic model; call it in a view.

    Args:
        model: The class.

    Raises:
        ValidationFailed: A field is wrong; the answer is a 422 that names the fields and never their values.
        BadRequest: It is no JSON; the answer is a 400.
        UnsupportedMediaType: It does not say that it is JSON; the answer is a 415.
    """
    from pydantic import ValidationError

    try:
        return model.model_validate(request.get_json())
    except ValidationError as exc:
        errors = [{**field, "loc": ["body", *field["loc"]]} for field in wrong_fields(exc)]
    raise ValidationFailed(errors=errors)


class _Installation:
    """What `install` has put into one application; the outermost layer of it, too."""

    def __init__(self, app: Flask, settings: Settings) -> None:
        self.settings = settings
        self._inner: WSGIApplication = app.wsgi_app
        self._rules = app.url_map

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        get = environ.get
        environ[_KEY] = _clock.in_force.monotonic()
        environ[_ID] = request_id = accepted_id(get(_ID))
        streamed: tuple[int, str] | None = None

        def start(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            nonlocal streamed
            names = [name.lower() for name, _ in headers]
            if _ID_LOWER in names:
                headers = [header for header in headers if header[0].lower() != _ID_LOWER]
            if "content-length" not in names:
                streamed = int(status[:3]), _route()
            headers.append((REQUEST_ID, request_id))
            return start_response(status, headers, *more)

        timeout, envoy, seconds = get(_TIMEOUT), get(_ENVOY), self.settings.deadline
        if timeout is not None or envoy is not None:
            seconds = self.settings.seconds(timeout, envoy)
        outer = BOUND.get()
        token = BOUND.set({**outer, "request_id": request_id} if outer else {"request_id": request_id})
        try:
            if seconds is None:
                parts = self._inner(environ, cast("StartResponse", start))
                return _Stream(self.settings, parts, environ, *streamed) if streamed else parts
            with ends_after(seconds):
                parts = self._inner(environ, cast("StartResponse", start))
                return _Stream(self.settings, parts, environ, *streamed) if streamed else parts
        except Exception as exc:
            answer = _incoming(environ).failed(exc, self.settings, route=self._route_of(environ))
            return _instead(answer, environ, start, exc)
        finally:
            put_back(BOUND, token)

    def _route_of(self, environ: "WSGIEnvironment") -> str:
        """Return what the path matches, where Flask has left the request already."""
        try:
            rule, _ = self._rules.bind_to_environ(environ).match(return_rule=True)
        except HTTPException:
            return ""
        return rule.rule

    def answer(self, exc: Exception) -> Any:
        """Answer what was raised, but for redirects and ready-made responses."""
        if isinstance(exc, HTTPException):
            if exc.response is not None or (exc.code or 0) < 400:
                return exc
            if isinstance(exc, InternalServerError) and isinstance(exc.original_exception, Exception):
                exc = exc.original_exception
        answer = _incoming(request.environ).failed(exc, self.settings, route=_route())
        return Response([answer.encoded()], answer.status, [*answer.headers.items()])

    def log(self, exc_info: Any) -> None:
        """Stand in for Flask's own log line, about what an ``after_request`` function raised."""
        _incoming(request.environ).failed(exc_info[1], self.settings, route=_route())


def _instead(
    answer: ErrorResponse, environ: "WSGIEnvironment", start: Callable[..., Any], exc: Exception
) -> Iterable[bytes]:
    """Send *answer* for what a teardown function raised: of the view's own nothing is sent yet."""
    body = answer.encoded()
    headers = [*answer.headers.items(), ("Content-Length", str(len(body)))]
    status = f"{answer.status} {HTTP_STATUS_CODES.get(answer.status, 'Unknown')}"
    start(status, headers, (type(exc), exc, exc.__traceback__))  # PEP 3333: it takes the place of the first
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]


def _incoming(environ: "WSGIEnvironment") -> Incoming:
    """Return the request, of which no more is made than it needs: most do not fail."""
    found = environ.get(_KEY)
    if isinstance(found, Incoming):
        return found
    path: str = environ.get("PATH_INFO", "").encode("latin-1").decode("utf-8", "replace")  # PEP 3333
    accept = environ.get("HTTP_ACCEPT")
    incoming = Incoming(environ["REQUEST_METHOD"], path, environ.get(_ID), accept, began=found)
    environ[_KEY] = incoming
    return incoming


def _route() -> str:
    return "" if request.url_rule is None else request.url_rule.rule


class _Stream:
    """An answer of unknown length, whose parts are made when Flask has left the request already."""

    def __init__(
        self,
        settings: Settings,
        parts: Iterable[bytes],
        environ: "WSGIEnvironment",
        status: int,
        route: str,
    ) -> None:
        self._settings, self._environ = settings, environ
        self._status, self._route = status, route
        self._parts, self._close = iter(parts), getattr(parts, "close", None)
        self._end = end_of_time()

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        with Binding({"request_id": self._environ[_ID]}):
            try:
                if self._end is None:
                    return next(self._parts)
                with ends_after(max(0.0, self._end - clock().monotonic())):
                    return next(self._parts)
            except StopIteration:
                raise
            except Exception as exc:  # the server breaks off: who reads it must not take it for whole
                incoming = _incoming(self._environ)
                incoming.failed(exc, self._settings, route=self._route, sent=self._status)
                raise

    def close(self) -> None:
        """Close the parts, as PEP 3333 wants it."""
        if self._close is not None:
            self._close()
