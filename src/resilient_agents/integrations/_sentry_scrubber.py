"""Take secrets out of an event of Sentry before it is sent."""

from typing import Any

from resilient_agents.redaction import redact, redact_mapping, redact_value

_DATA = ("breadcrumbs", "contexts", "extra", "logentry", "request", "spans", "tags", "user")
_TEXTS = ("message", "transaction")
_LINES = ("pre_context", "post_context")
_LIMIT, _LONGEST = 500_000, 8000


class Scrubber:
    """Takes secrets out of an event by key, at any depth, and by form; and the body of a request altogether.

    Args:
        then: Another scrubber, as Sentry's ``EventScrubber``, that looks at the event afterwards.
    """

    def __init__(self, then: Any = None) -> None:
        self._then = then

    def scrub_event(self, event: dict[str, Any]) -> None:
        """Take secrets out of *event*, in place. What cannot be searched is left out."""
        for name in (*_DATA, *_TEXTS, "exception", "threads"):
            try:
                if event.get(name) is not None:
                    self._scrub(event, name)
            except Exception:
                event.pop(name, None)
        if self._then is not None:
            self._then.scrub_event(event)

    def _scrub(self, event: dict[str, Any], name: str) -> None:
        if name in _TEXTS:
            event[name] = redact(str(event[name]), limit=_LONGEST)
        elif name in _DATA:
            if name == "request":
                event[name] = {key: part for key, part in event[name].items() if key != "data"}
            event[name] = redact_value(event[name], limit=_LIMIT)
        else:
            for value in event[name]["values"]:
                _scrub_exception(value)


def _scrub_exception(value: dict[str, Any]) -> None:
    """Take secrets out of an exception or a thread: its text, its lines of source, its variables."""
    if value.get("value"):
        value["value"] = redact(str(value["value"]), limit=_LONGEST)
    for frame in (value.get("stacktrace") or {}).get("frames", ()):
        if frame.get("vars"):
            frame["vars"] = redact_mapping(frame["vars"])
        if frame.get("context_line"):
            frame["context_line"] = redact(frame["context_line"])
        for name in _LINES:
            if frame.get(name):
                frame[name] = [redact(line) for line in frame[name]]
