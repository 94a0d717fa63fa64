"""Log lines in JSON that no payload and no broken disk makes raise, and one for each event, with structlog.

    from resilient_agents.integrations import structlog as logs

    logs.configure("chat-service")
    logs.install()

`configure` decides how lines of structlog and of the standard library's `logging` are written, `install`
writes one for each event. A line of an event has flat keys that stay the same: the event's name, its
attributes, and of a failure its code, category and detail; nothing of an exception's own text.
"""

import logging
import re
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, TextIO

import structlog

from resilient_agents import events
from resilient_agents.errors import Failure
from resilient_agents.events import Event
from resilient_agents.integrations import _loggers
from resilient_agents.integrations._log_lines import Lines
from resilient_agents.integrations._loggers import LEVELS

_LOGGED = (events.CacheDegraded, events.CacheRestored, events.CallFailed, events.RequestFailed)
"""Events that come with a log line of their own: one is enough."""

_LEVELS: dict[type[Event], str] = {
    events.ActivityDropped: "error",
    events.BreakerOpened: "error",
    events.CacheHerded: "debug",
    events.CacheHit: "debug",
    events.CacheMiss: "debug",
    events.CacheStale: "debug",
    events.CallRefused: "warning",
    events.CallersParked: "warning",
    events.EntryParked: "error",
    events.FaultInjected: "warning",
    events.FellBack: "warning",
    events.HedgeStarted: "debug",
    events.HedgeWon: "debug",
    events.CallWaited: "debug",
    events.ConcurrencyChanged: "debug",
    events.EntryAccepted: "debug",
    events.LeaseLost: "warning",
    events.RetryBudgetExhausted: "error",
    events.RetryScheduled: "warning",
    events.SharedStateLost: "error",
    events.SinkDown: "error",
    events.SpillFailed: "critical",
    events.TopicPaused: "error",
}
"""How loud a kind of event is; those that are not listed are *info*."""


_SERVERS = ("uvicorn", "uvicorn.error", "uvicorn.access", "gunicorn.error", "gunicorn.access")
"""Loggers that come with handlers of their own, whose lines would be the only ones in another form."""


def install(logger: Any = None) -> Callable[[], None]:
    """Write a line for each event from now on.

    Args:
        logger: A structlog logger. The default is ``structlog.get_logger("resilient_agents")``.

    Returns:
        A function that stops it. A second installation on the same logger, or on the default one, replaces
        the first: no event is written twice.
    """
    writer = _Writer(logger)
    events.unsubscribe(writer)
    events.subscribe(Event)(writer)
    return lambda: events.unsubscribe(writer)


class _Writer:
    """Writes events to one logger; equal to any other that does."""

    def __init__(self, logger: Any) -> None:
        self._given = logger  # structlog makes a new object each time that it is asked for the same logger
        self._logger = structlog.get_logger("resilient_agents") if logger is None else logger

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Writer) and other._given is self._given

    def __hash__(self) -> int:
        return id(self._given)

    def __call__(self, event: Event) -> None:
        if isinstance(event, _LOGGED):
            return
        getattr(self._logger, _level(event))(name_of(type(event)), **attributes(event))


def name_of(kind: type[Event]) -> str:
    """Return what a kind of event is called in a log: ``retry_scheduled``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind.__name__).lower()


def attributes(event: Event) -> dict[str, Any]:
    """Return the attributes of an event as flat values; a failure becomes its code, category and detail."""
    flat: dict[str, Any] = {}
    for one in fields(event):
        value = getattr(event, one.name)
        if isinstance(value, Failure):
            flat.update(code=value.code, category=str(value.category), detail=value.detail)
        elif one.name == "exception":
            continue  # its text may hold input and secrets
        elif one.name == "name":
            flat["policy_name"] = value  # structlog's own word for the logger is name
        else:
            flat[one.name] = value
    return flat


def _level(event: Event) -> str:
    if isinstance(event, events.JobFailed | events.RetryGaveUp):
        return str(event.failure.level)
    if isinstance(event, events.PipelineReconfigured) and not event.accepted:
        return "error"
    return _LEVELS.get(type(event), "info")


def configure(
    service: str,
    *,
    level: str = "info",
    stream: TextIO | None = None,
    file: str | Path | None = None,
    json: bool | None = None,
) -> Callable[[], None]:
    """Write what structlog and `logging` log as lines of JSON from now on, or for people at a terminal.

    A line has ``timestamp, level, service, logger, message, event``, then ``requestId, jobId, jobName, orgId,
    agentId`` where `correlation` or the context variables of structlog know them, then what the caller gave.
    Secrets are masked as by `redaction.redact_value`. Nothing that is logged raises, and neither does a full
    disk, a closed stream or a broken pipe: lines that could not be written are counted, see `lost_lines`, and
    a line tells of them when writing works again. Of `logging`, handlers that write to a stream give way:
    those of the root logger, and those that uvicorn and gunicorn have set up for their own loggers before.

    Args:
        service: The name of the service.
        level: The least level that is written: ``"debug"``, ``"info"``, ``"warning"``, ``"error"`` or
            ``"critical"``. The default is ``"info"``.
        stream: Where to write. The default is the standard output.
        file: The path of a file to append to instead. It is created for its owner alone (0600).
        json: Whether lines are JSON. The default is that they are, except on a terminal.

    Returns:
        A function that puts back what was before.

    Raises:
        TypeError: *service* is not a text.
        ValueError: *level* is unknown, *service* is empty, or *stream* and *file* are both given.
        OSError: The file cannot be opened.
    """
    if not isinstance(service, str):
        raise TypeError(f"configure() takes the name of the service, not {type(service).__name__}")
    if not service:
        raise ValueError("configure() takes the name of the service, and it is empty")
    if level not in LEVELS:
        raise ValueError(f"level is one of {', '.join(LEVELS)}, not {level!r}")
    if stream is not None and file is not None:
        raise ValueError("configure() writes to a stream or to a file, not to both")
    target = Path(file) if file is not None else sys.stdout if stream is None else stream
    if json is None:
        json = isinstance(target, Path) or not _is_terminal(target)
    return _put_in_force(Lines(service, target, None if json else _console(target)), LEVELS[level])


def lost_lines() -> int:
    """Return how many lines could not be written since `configure`; none where it was not called."""
    return 0 if _loggers.lines is None else _loggers.lines.writer.lost


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except Exception:
        return False


def _console(target: TextIO | Path) -> Callable[[dict[str, Any]], str]:
    """Return how a line for people is made; its values are plain and hold no secrets already."""
    colours = not isinstance(target, Path) and _is_terminal(target)
    renderer = structlog.dev.ConsoleRenderer(
        colors=colours, exception_formatter=structlog.dev.plain_traceback
    )

    def show(fields: dict[str, Any]) -> str:
        if fields["message"] == fields["event"]:
            del fields["message"]
        return str(renderer(None, "", fields))

    return show


def _put_in_force(lines: Lines, least: int) -> Callable[[], None]:
    config = structlog.get_config() if structlog.is_configured() else None
    before = (_loggers.lines, _loggers.least)
    root, handler = logging.getLogger(), _loggers.Handler(lines)
    root_level = root.level
    replaced = [_silenced(one) for one in (root, *map(logging.getLogger, _SERVERS))]
    root.addHandler(handler)
    root.setLevel(least)
    _loggers.lines, _loggers.least = lines, least
    structlog.configure(
        processors=_loggers.PROCESSORS,
        wrapper_class=_loggers.Logger,
        context_class=dict,
        logger_factory=_loggers.Named,
        cache_logger_on_first_use=True,
    )

    def put_back() -> None:
        if _loggers.lines is not lines:
            return
        _loggers.lines, _loggers.least = before
        root.removeHandler(handler)
        for restore in replaced:
            restore()
        root.setLevel(root_level)
        structlog.reset_defaults()
        if config is not None:
            structlog.configure(**config)
        lines.writer.close()

    return put_back


def _silenced(logger: logging.Logger) -> Callable[[], None]:
    """Take from a logger the handlers that write to a stream; return what gives them back."""
    taken = [one for one in logger.handlers if type(one) in (logging.StreamHandler, _loggers.Handler)]
    propagated = logger.propagate
    for one in taken:
        logger.removeHandler(one)
    if taken:
        logger.propagate = True

    def restore() -> None:
        for one in taken:
            logger.addHandler(one)
        logger.propagate = propagated

    return restore
