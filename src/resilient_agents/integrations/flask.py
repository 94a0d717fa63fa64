"""Flask: every error is the one body, with the id of the request, and a request has an end.

    from resilient_agents.integrations import flask as answers

    app = Flask(__name__)
    answers.install(app)

The answer to an error goes through your ``after_request`` functions as any other. It is logged once, by
`resilient_agents.requests`; Flask's own line about it is left out.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException, InternalServerError

from resilient_agents._clock import clock
from resilient_agents.correlation import Binding
from resilient_agents.errors import ValidationFailed
from resilient_agents.errors.refusals import wrong_fields
from resilient_agents.integrations._web import ENVOY_TIMEOUT, QUIET, REQUEST_ID, TIMEOUT, Incoming, Settings
from resilient_agents.policies import deadline as ends_after
from resilient_agents.policies._deadline import end_of_time

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from pydantic import BaseModel

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
    app.after_request(installation.watch)
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

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        get = environ.get
        path: str = get("PATH_INFO", "")
        if not path.isascii():  # PEP 3333 has bytes in the shape of text
            path = path.encode("latin-1").decode("utf-8", "replace")
        incoming = Incoming(environ["REQUEST_METHOD"], path, get(_ID), get("HTTP_ACCEPT"))
        environ[_KEY] = incoming
        request_id = incoming.request_id
        seconds = self.settings.seconds(get(_TIMEOUT), get(_ENVOY))

        def start(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            headers = [header for header in headers if header[0].lower() != _ID_LOWER]
            headers.append((REQUEST_ID, request_id))
            return start_response(status, headers, *more)

        with Binding({"request_id": request_id}):
            if seconds is None:
                return self._inner(environ, cast("StartResponse", start))
            with ends_after(seconds):
                return self._inner(environ, cast("StartResponse", start))

    def answer(self, exc: Exception) -> Any:
        """Answer what was raised, but for redirects and ready-made responses."""
        if isinstance(exc, HTTPException):
            if exc.response is not None or (exc.code or 0) < 400:
                return exc
            if isinstance(exc, InternalServerError) and isinstance(exc.original_exception, Exception):
                exc = exc.original_exception
        answer = _incoming().failed(exc, self.settings, route=_route())
        return Response(answer.encoded(), answer.status, answer.headers)

    def log(self, exc_info: Any) -> None:
        """Stand in for Flask's own log line, about what an ``after_request`` function raised."""
        _incoming().failed(exc_info[1], self.settings, route=_route())

    def watch(self, response: Response) -> Response:
        """Keep the id and the end of a request while its answer is streamed."""
        if response.is_streamed and not response.direct_passthrough:
            response.response = _Stream(self.settings, response)
        return response


def _incoming() -> Incoming:
    """Return the request; one that came by another way, as in a test, gets its id here."""
    environ = request.environ
    if _KEY not in environ:
        environ[_KEY] = Incoming(request.method, request.path, environ.get(_ID), environ.get("HTTP_ACCEPT"))
    return cast("Incoming", environ[_KEY])


def _route() -> str:
    return "" if request.url_rule is None else request.url_rule.rule


class _Stream:
    """An answer in parts, of which each is made when Flask has left the request already."""

    def __init__(self, settings: Settings, response: Response) -> None:
        self._settings = settings
        self._parts: Iterator[Any] = iter(response.response)
        self._close = getattr(response.response, "close", None)
        self._incoming, self._route, self._status = _incoming(), _route(), response.status_code
        self._end = end_of_time()

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        with Binding({"request_id": self._incoming.request_id}):
            try:
                if self._end is None:
                    return next(self._parts)
                with ends_after(max(0.0, self._end - clock().monotonic())):
                    return next(self._parts)
            except StopIteration:
                raise
            except Exception as exc:  # the server breaks off: who reads it must not take it for whole
                self._incoming.failed(exc, self._settings, route=self._route, sent=self._status)
                raise

    def close(self) -> None:
        """Close the parts, as PEP 3333 wants it."""
        if self._close is not None:
            self._close()
