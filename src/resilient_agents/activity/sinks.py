"""Where entries go: what a sink is, which there are, and how an address names one."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from resilient_agents.activity.entry import Activity
from resilient_agents.errors import ConfigurationError
from resilient_agents.policies._functions import is_awaited, name_of


@runtime_checkable
class Sink(Protocol):
    """Takes batches of entries, on a thread of its own, one batch at a time.

    It may have more: ``batch_size``, how many entries a batch has at most (500); ``close()``;
    ``prune(max_age=, max_rows=, limit=)``, which deletes up to *limit* entries that are too old or too many
    and returns how many; ``before_fork()``, ``after_fork_in_parent()`` and ``after_fork_in_child()``.

    Attributes:
        name: What events and `ActivityLog.stats` call it. What waits on disk is found again by it, so it
            stays the same from one start to the next. It holds no secret.
    """

    name: str

    def write(self, batch: list[Activity], /) -> None:
        """Take a batch: all of it, or raise.

        A batch may come a second time after a failure or a crash: *source* and *id* tell what has been taken.
        After a `ValidationFailed` the batch is divided until the entry is found that is not wanted; after
        any other exception the sink counts as down, and the batch comes again later.
        """


class FunctionSink:
    """Hands batches to a function.

    Args:
        function: It is called with a list of `Activity`, on a thread of its own. If it raises, it has taken
            none of them.
        name: What events and statistics call it. The default is its qualified name.

    Raises:
        TypeError: It is no plain function.
    """

    def __init__(self, function: Callable[[list[Activity]], object], *, name: str | None = None) -> None:
        if not callable(function) or is_awaited(function):  # type: ignore[redundant-expr]
            raise TypeError(
                f"a sink is an address, an object with write(), or a plain function, not {function!r}"
            )
        self.name = f"function:{name_of(function)}" if name is None else name
        self._function = function

    def write(self, batch: list[Activity]) -> None:
        """Hand over a batch."""
        self._function(batch)


def sink_for(target: Any) -> Sink:
    """Return the sink that *target* stands for.

    Raises:
        ConfigurationError: The address cannot be read.
        TypeError: It is neither an address nor a sink nor a function.
    """
    if isinstance(target, str):
        return _at(target)
    if isinstance(target, Sink):
        return target
    return FunctionSink(target)


def _at(address: str) -> Sink:
    scheme, _, rest = address.partition(":")
    if scheme == "sqlite" and rest.startswith("///") and rest[3:] not in ("", ":memory:"):
        from resilient_agents.activity.sqlite import SQLiteSink

        return SQLiteSink(rest[3:])
    if scheme in ("postgresql", "postgres"):
        from resilient_agents.activity.postgres import PostgresSink

        return PostgresSink(address)
    if scheme in ("redis", "rediss", "unix"):
        from resilient_agents.activity.redis import RedisSink

        return RedisSink(address)
    if scheme == "jsonl" and rest:
        from resilient_agents.activity.lines import JSONLinesSink

        return JSONLinesSink(rest)
    if scheme == "structlog":
        from resilient_agents.activity.lines import StructlogSink

        return StructlogSink(rest or "activity")
    raise ConfigurationError(
        f"no sink has an address that begins with {scheme!r}: write sqlite:///activity.db, postgresql://…, "
        "redis://…, jsonl:activity.jsonl or structlog:"
    )
