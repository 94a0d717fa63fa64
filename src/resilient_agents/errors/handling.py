"""What is done with a failure at the edge of a program: it is logged once, said as an event, and answered."""

import logging
import re
from collections.abc import Awaitable, Callable
from functools import wraps
from inspect import isawaitable, iscoroutinefunction
from traceback import StackSummary, walk_tb
from types import FrameType, TracebackType
from typing import Any, ParamSpec, TypeVar, cast, overload

from resilient_agents import events
from resilient_agents.errors.failure import Category, Failure, Level
from resilient_agents.errors.responses import ErrorResponse, error_response

__all__ = ["handle_errors"]

P = ParamSpec("P")
R = TypeVar("R")
A = TypeVar("A")

LEVELS = {
    Level.INFO: logging.INFO,
    Level.WARNING: logging.WARNING,
    Level.ERROR: logging.ERROR,
    Level.CRITICAL: logging.CRITICAL,
}
"""The levels of `logging`."""

_MACHINERY = re.compile(
    r"(anyio|asyncio|sentry_sdk|fastapi|flask|resilient_agents\.integrations|starlette|werkzeug)\b"
)
_FRAMES = 20
_DEEPEST = 8
_log = logging.getLogger("resilient_agents.errors")


def log_failure(log: logging.Logger, event: str, what: str, failure: Failure, exc: Exception) -> None:
    """Write one line about *failure*, as loud as it deserves; for a defect, where in the code it is.

    The text of the exception is left out, for it may hold input and secrets.

    Args:
        log: Where to.
        event: What happened, for machines, as ``"request_failed"``.
        what: What failed, as ``"POST /chat"``.
        failure: What went wrong.
        exc: What was raised.
    """
    level = LEVELS[failure.level]
    if not log.isEnabledFor(level):
        return
    extra = {
        "event": event,
        "code": failure.code,
        "category": str(failure.category),
        "status": failure.status,
    }
    if failure.category is Category.INTERNAL:
        log.log(level, "%s: %s: %s\n%s", what, failure.code, failure.detail, trace(exc), extra=extra)
    else:
        log.log(level, "%s: %s: %s", what, failure.code, failure.detail, extra=extra)


def trace(exc: BaseException) -> str:
    """Return where *exc* was raised, and its causes: files, lines and classes, no texts and no variables."""
    parts: list[str] = []
    seen: set[int] = set()
    link: BaseException | None = exc
    while link is not None and id(link) not in seen and len(seen) < _DEEPEST:
        seen.add(id(link))
        name = f"{type(link).__module__}.{type(link).__qualname__}".removeprefix("builtins.")
        parts.append("".join(StackSummary.extract(_telling(link.__traceback__)).format()) + name)
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return "\ncaused by\n".join(parts)


def _telling(traceback: TracebackType | None) -> list[tuple[FrameType, int]]:
    """Return the frames that say something: not those of web frameworks, but for the last one."""
    frames = list(walk_tb(traceback))
    telling = [one for one in frames[:-1] if not _MACHINERY.match(one[0].f_globals.get("__name__", ""))]
    return [*telling, *frames[-1:]][-_FRAMES:]


@overload
def handle_errors(fn: Callable[P, Awaitable[R]], /) -> Callable[P, Awaitable[R | ErrorResponse]]: ...
@overload
def handle_errors(fn: Callable[P, R], /) -> Callable[P, R | ErrorResponse]: ...
@overload
def handle_errors(
    *, respond: Callable[[ErrorResponse], Any] | None = None, code: str | None = None
) -> Callable[[Callable[P, R]], Callable[P, Any]]: ...
def handle_errors(
    fn: Callable[..., Any] | None = None,
    /,
    *,
    respond: Callable[[ErrorResponse], Any] | None = None,
    code: str | None = None,
) -> Any:
    """Wrap a handler or a job, so that it returns what its caller may know instead of raising.

    The failure is logged once, at its level, and said as `events.CallFailed`. Cancellation and Ctrl-C pass
    through. The adapters of `integrations` do this for every request and job by themselves; this is for what
    has none, such as a serverless function or a consumer of messages::

        @handle_errors
        def consume(message): ...

        @handle_errors(respond=lambda answer: (answer.encoded(), answer.status, answer.headers))
        async def endpoint(request): ...

    Args:
        fn: A ``def`` or ``async def``.
        respond: What makes an answer of the `ErrorResponse`; for an ``async def`` it may be one itself. The
            default is the `ErrorResponse` as it is.
        code: A finer code than the one that `classify` finds.

    Returns:
        The wrapped function, or the decorator where *fn* is not given.
    """

    def decorate(fn: Callable[P, Any]) -> Callable[P, Any]:
        if not callable(fn):
            raise TypeError(
                "handle_errors is for functions: write @handle_errors or @handle_errors(respond=…)"
            )
        target = f"{fn.__module__}.{fn.__qualname__}"

        def answer(exc: Exception) -> Any:
            response = error_response(exc, code=code)
            log_failure(_log, "call_failed", target, response.failure, exc)
            events.emit(events.CallFailed, target=target, failure=response.failure, exception=exc)
            return response if respond is None else respond(response)

        if iscoroutinefunction(fn):

            @wraps(fn)
            async def awaiting(*args: P.args, **kwargs: P.kwargs) -> Any:
                try:
                    return await fn(*args, **kwargs)
                except Exception as exc:
                    answered = answer(exc)
                return await answered if isawaitable(answered) else answered

            return cast("Callable[P, Any]", awaiting)

        @wraps(fn)
        def blocking(*args: P.args, **kwargs: P.kwargs) -> Any:
            try:
                return fn(*args, **kwargs)
            except Exception as exc:
                return answer(exc)

        return blocking

    return decorate if fn is None else decorate(fn)
