"""What every web framework needs: the id and the deadline of a request, and what is done when it fails."""

import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from resilient_agents import _clock, events
from resilient_agents.correlation import accepted_id
from resilient_agents.errors import Category
from resilient_agents.errors.handling import LEVELS, log_failure
from resilient_agents.errors.responses import ErrorResponse, error_response
from resilient_agents.events.bus import subscribed

REQUEST_ID: Final = "X-Request-ID"
"""The header that an id comes in and goes out with."""

TIMEOUT: Final = "X-Request-Timeout"
"""The header in which a caller says how long it waits, in seconds."""

ENVOY_TIMEOUT: Final = "x-envoy-expected-rq-timeout-ms"
"""The header in which an Envoy proxy says it, in milliseconds (envoyproxy.io, "Router")."""

QUIET: Final = ("/health", "/healthz", "/livez", "/readyz", "/ready")
"""Paths whose failures are answered, and neither logged nor counted; see `Settings`."""

_LONGEST_PATH = 200
_log = logging.getLogger("resilient_agents.requests")


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How requests are treated.

    Attributes:
        quiet: Paths whose failures are answered, and neither logged nor said as events: probes ask every few
            seconds, and a service that is not ready says so. A defect there is told all the same.
        deadline: Time in seconds for a request that does not say how long its caller waits, or *None* for no
            end.
        max_deadline: Time in seconds that no caller can exceed.

    Raises:
        TypeError: *quiet* is a text.
        ValueError: A time is not more than 0.
    """

    quiet: frozenset[str]
    deadline: float | None
    max_deadline: float

    @classmethod
    def checked(cls, quiet: Iterable[str], deadline: float | None, max_deadline: float) -> "Settings":
        """Return settings that make sense; see the class."""
        if isinstance(quiet, str):
            raise TypeError(f"quiet is a list of paths, as in quiet=[{quiet!r}]")
        for name, seconds in (("deadline", deadline), ("max_deadline", max_deadline)):
            if seconds is not None and not seconds > 0:
                raise ValueError(f"{name} must be a time in seconds of more than 0, not {seconds!r}")
        return cls(quiet=frozenset(quiet), deadline=deadline, max_deadline=max_deadline)

    def seconds(self, timeout: str | bytes | None, envoy: str | bytes | None) -> float | None:
        """Return how long a request may take, in seconds, or *None* for no end.

        Args:
            timeout: Its header `TIMEOUT`, if it has one.
            envoy: Its header `ENVOY_TIMEOUT`. Of two, the shorter one counts. What is no time is ignored, and
                so is 0, with which Envoy says that there is no end.
        """
        said = [s for s in (_number(timeout, 1.0), _number(envoy, 0.001)) if s is not None]
        return min(*said, self.max_deadline) if said else self.deadline


def _number(text: str | bytes | None, unit: float) -> float | None:
    try:
        seconds = float(text) * unit if text is not None else 0.0
    except ValueError:
        return None
    return seconds if seconds > 0 and math.isfinite(seconds) else None


class Incoming:
    """A request that is being answered.

    Args:
        method: The HTTP method.
        path: The path, decoded, without the query.
        offered_id: The header `REQUEST_ID`, if it has one.
        accept: The header ``Accept``, if it has one.
        began: When it came, on the monotonic clock. The default is now.

    Attributes:
        request_id: The id that was offered, or a new one.
    """

    def __init__(
        self, method: str, path: str, offered_id: str | None, accept: str | None, began: float | None = None
    ) -> None:
        self.method = method
        self.path = path
        self.accept = accept
        self.request_id = accepted_id(offered_id)
        self.began = _clock.in_force.monotonic() if began is None else began
        self._told = 0

    @property
    def told(self) -> bool:
        """Whether anything was said of it."""
        return self._told != 0

    def answer(self, exc: Exception) -> ErrorResponse:
        """Return what to answer, and say nothing."""
        return error_response(exc, request_id=self.request_id, instance=self.path, accept=self.accept)

    def knows(self, exc: Exception) -> bool:
        """Tell whether `failed` was asked about *exc* last, or about one of its leaves."""
        if isinstance(exc, ExceptionGroup):
            return any(map(self.knows, exc.exceptions))
        return self._told == id(exc)

    def failed(
        self,
        exc: Exception,
        settings: Settings,
        *,
        route: str = "",
        sent: int | None = None,
        whole: bool = False,
    ) -> ErrorResponse:
        """Return what to answer, and say once what happened: one log line, one `events.RequestFailed`.

        Asked again with the same exception, it says nothing.

        Args:
            exc: What was raised.
            settings: How requests are treated.
            route: What the path matched, as the framework writes it, or an empty text.
            sent: The HTTP status, where an answer has begun already.
            whole: Whether that answer was sent to its end, as when a task in the background fails.
        """
        response = self.answer(exc)
        if self._told == id(exc):
            return response
        self._told = id(exc)  # not the exception itself: its traceback leads back to here
        failure = response.failure
        if self.path in settings.quiet and failure.category is not Category.INTERNAL:
            return response
        loud = _log.isEnabledFor(LEVELS[failure.level])
        if not loud and not subscribed():
            return response
        status = sent or response.status
        path = quote(self.path[:_LONGEST_PATH], errors="replace")
        if loud:
            # What is in a path may be secret, as in that of a webhook; what it matched is not.
            what = f"{self.method} {route or path} -> {status} (request {self.request_id})"
            if sent is not None:
                what += ", after the answer was sent" if whole else ", answer broken off"
            log_failure(_log, "request_failed", what, failure, exc)
        events.emit(
            events.RequestFailed,
            method=self.method,
            path=path,
            route=route,
            status=status,
            request_id=self.request_id,
            duration=_clock.in_force.monotonic() - self.began,
            failure=failure,
            exception=exc,
            aborted=sent is not None and not whole,
        )
        return response
