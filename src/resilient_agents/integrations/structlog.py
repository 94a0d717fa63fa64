"""A log line for each event, with structlog.

    from resilient_agents.integrations import structlog as events_to_log

    events_to_log.install()

A line has flat keys that stay the same: the event's name, its attributes, and of a failure its code, category
and detail. Nothing of an exception's own text is logged.
"""

import re
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import structlog

from resilient_agents import events
from resilient_agents.errors import Failure
from resilient_agents.events import Event

_LEVELS: dict[type[Event], str] = {
    events.BreakerOpened: "error",
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
    events.TopicPaused: "error",
}
"""How loud a kind of event is; those that are not listed are *info*."""


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
        getattr(self._logger, _level(event))(name_of(event), **attributes(event))


def name_of(event: Event) -> str:
    """Return what an event is called in a log: ``retry_scheduled``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(event).__name__).lower()


def attributes(event: Event) -> dict[str, Any]:
    """Return the attributes of an event as flat values; a failure becomes its code, category and detail."""
    flat: dict[str, Any] = {}
    for one in fields(event):
        value = getattr(event, one.name)
        if isinstance(value, Failure):
            flat.update(code=value.code, category=str(value.category), detail=value.detail)
        elif isinstance(value, BaseException):
            continue  # its text may hold input and secrets
        elif one.name == "name":
            flat["policy_name"] = value  # structlog's own word for the logger is name
        else:
            flat[one.name] = value
    return flat


def _level(event: Event) -> str:
    if isinstance(event, events.RetryGaveUp):
        return str(event.failure.level)
    if isinstance(event, events.PipelineReconfigured) and not event.accepted:
        return "error"
    return _LEVELS.get(type(event), "info")
