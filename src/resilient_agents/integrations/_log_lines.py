"""How a log line is made: no payload raises into who logs, and no secret is told."""

import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

from resilient_agents import correlation
from resilient_agents._clock import clock, timestamp
from resilient_agents._json import encode
from resilient_agents.errors import classify
from resilient_agents.integrations._log_writer import Writer
from resilient_agents.redaction import redact, redact_field

NAMES = {
    "request_id": "requestId",
    "job_id": "jobId",
    "job_name": "jobName",
    "organization_id": "orgId",
    "agent_id": "agentId",
}
"""What a log line calls the fields of `correlation`."""

OWN = ("timestamp", "level", "service", "logger")
"""The keys that every line begins with; a field of the caller's with such a name gets an underscore."""

MOST_FRAMES = 30
_MOST_LINKS, _MOST_OF_A_MESSAGE = 8, 2000


class Lines:
    """Makes lines of one service and writes them.

    Attributes:
        writer: Who writes them.

    Args:
        service: The name of the service.
        target: A text stream or the path of a file.
        show: How a line for people is made of its fields; *None* for JSON.
    """

    def __init__(
        self,
        service: str,
        target: TextIO | Path,
        show: Callable[[dict[str, Any]], str] | None = None,
    ) -> None:
        self._service = service
        self._quoted: dict[str | None, str] = {}
        self._show = show
        self.writer = Writer(target, self._told_of_loss)

    def write(
        self, logger: str | None, level: str, fields: Mapping[str, Any], seconds: float | None = None
    ) -> None:
        """Write a line; whatever fails is counted.

        Args:
            logger: Its name.
            level: ``"debug"`` to ``"critical"``.
            fields: ``event``, ``message`` and what else there is to tell.
            seconds: When it was, in seconds since the epoch. The default is now.
        """
        try:
            try:
                line = self.line(logger, level, fields, seconds)
            except Exception as exc:  # a stack without room, a subclass of dict that does as it likes
                line = self.line(logger, level, {"event": "log_line_broken", "code": type(exc).__name__})
        except Exception:
            line = f'{{"level":"{level}","event":"log_line_broken"}}'
        self.writer.write(line)

    def line(
        self, logger: str | None, level: str, fields: Mapping[str, Any], seconds: float | None = None
    ) -> str:
        """Return the text of a line, as for `write`."""
        moment = timestamp(clock().time() if seconds is None else seconds)
        body = tidy(fields)
        if self._show is not None:
            return self._show({"timestamp": moment, "level": level, "logger": logger, **body})
        quoted = self._quoted.get(logger)
        if quoted is None:
            named = {"service": self._service} | ({} if logger is None else {"logger": logger})
            quoted = self._quoted[logger] = encode(named)[1:-1]
        return f'{{"timestamp":"{moment}","level":"{level}",{quoted},{encode(body)[1:]}'

    def _told_of_loss(self, lost: int, why: str) -> str:
        fields = {"event": "log_lines_lost", "message": f"{lost} log lines were lost: {why}", "lost": lost}
        return self.line("resilient_agents", "error", fields)


def tidy(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a line in their order, with what the context knows, without secrets."""
    given = dict(fields)
    exc, stack = given.pop("exc_info", None), given.pop("stack", None)
    event = _text(given.pop("event", None))
    message = given.pop("message", None)
    body = {"message": event if message is None else _text(message), "event": event}
    for name, value in correlation.current().items():
        body[NAMES[name]] = redact_field("id", value)
    for key, value in given.items():
        name = NAMES.get(key, key)
        body[f"{name}_" if name in OWN else name] = redact_field(name, value)
    if isinstance(exc, BaseException):
        if isinstance(exc, Exception):
            failure = classify(exc)
            body.setdefault("code", failure.code)
            body.setdefault("category", str(failure.category))
        body["exception"] = told(exc)
    if stack is not None:
        body["stack"] = redact(str(stack), limit=20_000)
    return body


def _text(value: Any) -> str:
    value = redact_field("event", value)
    return value if isinstance(value, str) else encode(value)


def told(exc: BaseException) -> str:
    """Return the traceback of an exception, those of its causes first: no variables, and no secrets."""
    chain: list[BaseException] = []
    link: BaseException | None = exc
    while link is not None and len(chain) < _MOST_LINKS and not any(link is seen for seen in chain):
        chain.append(link)
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return "\n\nThis led to:\n\n".join(map(_told_alone, reversed(chain)))


def _told_alone(exc: BaseException) -> str:
    lines = []
    if exc.__traceback__ is not None:
        frames = traceback.extract_tb(exc.__traceback__, limit=-MOST_FRAMES)
        lines = ["Traceback (most recent call last):\n", *map(redact, frames.format())]
    try:
        text = str(exc)
    except Exception:
        text = "<an exception that cannot be shown>"
    name = type(exc).__qualname__
    module = type(exc).__module__
    lines.append(name if module == "builtins" else f"{module}.{name}")
    if text:
        lines.append(f": {redact(text, limit=_MOST_OF_A_MESSAGE)}")
    lines += [f"\n{redact(str(note), limit=_MOST_OF_A_MESSAGE)}" for note in getattr(exc, "__notes__", ())]
    if isinstance(exc, BaseExceptionGroup):
        lines += [f"\n  | {type(one).__qualname__}: {redact(str(one))}" for one in exc.exceptions[:10]]
    return "".join(lines)
