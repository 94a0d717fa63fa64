"""Loggers whose methods never raise: that of structlog, and a handler for `logging`."""

import logging
import sys
import traceback
from collections.abc import Mapping
from typing import Any

import structlog

from resilient_agents.integrations._log_lines import MOST_FRAMES, Lines

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
"""The levels of log lines, and their numbers in `logging`."""

lines: Lines | None = None
"""What `configure` has put in force; loggers that somebody made long ago follow it."""

least = 0
"""The least level that is written, as a number."""


def _as_arguments(logger: Any, method: str, fields: Any) -> Any:
    """End the chain of processors: hand the fields to the logger as they are."""
    return (fields,), {}


PROCESSORS: list[Any] = [structlog.contextvars.merge_contextvars, _as_arguments]
"""One list for ever: loggers that are cached follow what is put in force."""


class Named:
    """What is below a logger of structlog: it has a name, and hands on what is said."""

    def __init__(self, name: str | None = None, *_: Any) -> None:
        self._name = name

    def say(self, level: str, fields: dict[str, Any]) -> None:
        """Write a line, if anybody does."""
        if lines is not None:
            lines.write(self._name, level, fields)


class Logger(structlog.BoundLoggerBase):
    """A bound logger whose methods never raise: ``info("lead_created", lead=12)`` and its kin.

    Its methods are those of structlog's filtering logger. The awaiting ones, such as ``ainfo``, write at
    once: a line takes microseconds, a thread more.
    """

    def _say(self, level: str, event: Any, args: tuple[Any, ...], fields: dict[str, Any]) -> None:
        if LEVELS[level] < least:
            return
        try:
            if args:
                fields["message"] = _filled(event, args, fields)
            if event is not None and "event" in fields:
                fields["event_"] = fields.pop("event")
            if "exc_info" in fields:
                fields["exc_info"] = _exception(fields["exc_info"])
            if fields.pop("stack_info", False):
                fields["stack"] = "".join(traceback.format_stack(sys._getframe(2), limit=MOST_FRAMES))
            positional, _ = self._process_event(level, event, fields)
            self._logger.say(level, *positional)
        except structlog.DropEvent:  # a line that was recorded by structlog.testing
            pass
        except Exception as exc:
            if lines is not None:
                lines.write(None, level, {"event": "log_line_broken", "code": type(exc).__name__})

    def log(self, level: int, event: Any = None, /, *args: Any, **fields: Any) -> None:
        """Log at a level that is given as a number of `logging`."""
        self._say(nearest(level), event, args, fields)

    async def alog(self, level: int, event: Any = None, /, *args: Any, **fields: Any) -> None:
        """Log at a level that is given as a number of `logging`."""
        self._say(nearest(level), event, args, fields)

    def exception(self, event: Any = None, /, *args: Any, **fields: Any) -> None:
        """Log an error with the exception that is being handled."""
        self._say("error", event, args, {"exc_info": True} | fields)

    async def aexception(self, event: Any = None, /, *args: Any, **fields: Any) -> None:
        """Log an error with the exception that is being handled."""
        self._say("error", event, args, {"exc_info": True} | fields)

    def is_enabled_for(self, level: int) -> bool:
        """Tell whether lines of a level, as a number of `logging`, are written."""
        return level >= least

    def get_effective_level(self) -> int:
        """Return the least level that is written, as a number of `logging`."""
        return least


def _method(level: str) -> Any:
    def method(self: Logger, event: Any = None, /, *args: Any, **fields: Any) -> None:
        self._say(level, event, args, fields)

    return method


def _awaiting(level: str) -> Any:
    async def method(self: Logger, event: Any = None, /, *args: Any, **fields: Any) -> None:
        self._say(level, event, args, fields)

    return method


def _methods() -> None:
    others = {"warn": "warning", "fatal": "critical", "msg": "info"}
    for name, level in ({level: level for level in LEVELS} | others).items():
        setattr(Logger, name, _method(level))
        setattr(Logger, f"a{name}", _awaiting(level))


_methods()


def nearest(number: int) -> str:
    """Return the level that a number of `logging` belongs to."""
    return next((name for name, least in reversed(LEVELS.items()) if number >= least), "debug")


def _filled(template: Any, args: Any, fields: dict[str, Any]) -> Any:
    """Return a template with its values; where they do not fit, it stays, and they stand beside it."""
    try:
        return template % (args[0] if _is_one_mapping(args) else args)
    except Exception:
        fields["args"] = args
        return template


def _is_one_mapping(args: Any) -> bool:
    return isinstance(args, tuple) and len(args) == 1 and isinstance(args[0], Mapping)


def _exception(given: Any) -> BaseException | None:
    """Return the exception that ``exc_info`` means."""
    if isinstance(given, tuple):
        given = given[1] if len(given) == 3 else None
    elif given and not isinstance(given, BaseException):
        given = sys.exc_info()[1]
    return given if isinstance(given, BaseException) else None


_STANDARD = {*vars(logging.makeLogRecord({})), "asctime", "message", "taskName"}


class Handler(logging.Handler):
    """Writes records of `logging` as lines."""

    def __init__(self, lines: Lines) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, whatever is in it."""
        try:
            fields = {name: value for name, value in vars(record).items() if name not in _STANDARD}
            fields.setdefault("event", record.msg)
            fields["message"] = _filled(record.msg, record.args, fields) if record.args else record.msg
            fields["exc_info"] = _exception(record.exc_info)
            fields["stack"] = record.stack_info
        except Exception as exc:
            fields = {"event": "log_line_broken", "code": type(exc).__name__}
        self._lines.write(record.name, nearest(record.levelno), fields, record.created)
