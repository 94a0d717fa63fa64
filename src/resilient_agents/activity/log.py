"""`ActivityLog`: what the agents did, on record, at the price of a microsecond."""

import socket
from collections.abc import Callable, Mapping
from math import inf
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias

from resilient_agents.activity._engine import Engine
from resilient_agents.activity._intake import Intake
from resilient_agents.activity._spill import Spill
from resilient_agents.activity.entry import Activity, snapshot
from resilient_agents.activity.feed import Feed
from resilient_agents.activity.sinks import Sink, sink_for
from resilient_agents.activity.stats import ActivityStats
from resilient_agents.activity.tracking import Options, Tracked
from resilient_agents.errors import Failure, StorageFailure, classify
from resilient_agents.policies._parameters import number, text, whole
from resilient_agents.policies._parameters import patience as _patience

Target: TypeAlias = str | Sink | Callable[[list[Activity]], object]
"""Where entries go: an address, a sink, or a function that takes a batch."""


class ActivityLog(Feed):
    """What the agents did, on record: never slow, never in the way, and not lost when a sink is down.

    `record` copies what it is told and returns, in about a microsecond; it is the same function for threads
    and event loops. A thread of the log's own takes out secrets and hands batches to the sinks. What a sink
    does not take waits on the local disk, and so does what is left when the process ends. One object a
    process::

        activity = ActivityLog("sqlite:///activity.db")
        activity.record("deal.updated", organization_id="1", agent_id="42", metadata={"stage": "won"})

    Args:
        *sinks: Where entries go: ``"sqlite:///activity.db"``, ``"postgresql://…"``, ``"redis://…"``,
            ``"jsonl:activity.jsonl"``, ``"structlog:"``, a sink, or a function that takes a list of
            `Activity`. Several at once are independent of each other: one that is dead or slow holds up none.
        spill: Folder for what cannot be delivered now. It must be on a local disk. The default is
            ``"activity-spill"`` in the working directory.
        source: What this process is called in the entries. The default is the name of the machine.
        max_entries: How many entries wait in memory at most. The default is 100000.
        max_bytes: How many bytes they take at most. The default is 64 MiB.
        max_entry_bytes: How many bytes one entry takes at most. The default is 64 KiB.
        max_spill_bytes: How many bytes wait on disk at most. The default is 1 GiB.
        max_age: Time in seconds that sinks keep entries, where they can delete. The default is *None*: for
            ever.
        max_rows: How many entries sinks keep, where they can delete. The default is *None*: all.
        overdue: Time in seconds after which a sink that has not answered counts as down. The default is 5.
        patience: Time in seconds that a critical entry waits for the disk. The default is 5.
        exit_timeout: Time in seconds for which entries are still delivered when the process ends, before the
            rest goes to disk. The default is 2, less than process managers wait before they kill.

    Raises:
        ConfigurationError: An address cannot be read.
        MissingExtra: The package that a sink needs is not installed.
        TypeError: A parameter is of the wrong kind.
        ValueError: A parameter is out of range.
    """

    def __init__(
        self,
        *sinks: Target,
        spill: str | Path = "activity-spill",
        source: str | None = None,
        max_entries: int = 100_000,
        max_bytes: int = 64 << 20,
        max_entry_bytes: int = 64 << 10,
        max_spill_bytes: int = 1 << 30,
        max_age: float | None = None,
        max_rows: int | None = None,
        overdue: float = 5.0,
        patience: float = 5.0,
        exit_timeout: float = 2.0,
    ) -> None:
        if not sinks:
            raise TypeError("an activity log needs a sink, as in ActivityLog('sqlite:///activity.db')")
        self._engine = Engine(
            [sink_for(target) for target in sinks],
            spill=Spill(Path(spill).absolute(), max_bytes=whole("max_spill_bytes", max_spill_bytes, "bytes")),
            intake=Intake(
                max_entries=whole("max_entries", max_entries, "entries"),
                max_bytes=whole("max_bytes", max_bytes, "bytes"),
                max_entry_bytes=whole("max_entry_bytes", max_entry_bytes, "bytes"),
            ),
            source=text("source", socket.gethostname() if source is None else source),
            overdue=_seconds("overdue", overdue),
            keep=(_patience("max_age", max_age), _optional_whole("max_rows", max_rows)),
            exit_timeout=_seconds("exit_timeout", exit_timeout, zero=True),
        )
        self._memory = self._engine
        self._patience = _seconds("patience", patience)
        self._put = self._engine.intake.put

    def record(
        self,
        action: str,
        *,
        organization_id: str | None = None,
        agent_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        status: str = "ok",
        duration_ms: float | None = None,
        error: "BaseException | Failure | None" = None,
        critical: bool = False,
        priority: Literal["normal", "low"] = "normal",
        on_failure: Literal["open", "closed"] = "open",
    ) -> bool:
        """Put an action on record.

        It copies what it is given, so change it afterwards as you like, and it takes whatever it is given:
        what cannot be copied or is not JSON is told in words. Secrets are taken out before anything leaves
        the process. It does not wait, but for a *critical* action.

        Args:
            action: What was done, like ``"deal.updated"``.
            organization_id: For which organisation. The default is what `correlation.bind` says.
            agent_id: Which agent did it. The default is what `correlation.bind` says.
            metadata: What else there is to say.
            status: How it ended. The default is ``"ok"``, and ``"error"`` where there is an *error*.
            duration_ms: How long it took, in milliseconds.
            error: What went wrong; its code and category are recorded, never its text.
            critical: Whether the entry must be on disk before this returns: it survives ``kill -9`` and a
                power cut. That takes about a millisecond, as the disk does. The default is *False*.
            priority: ``"low"`` for what is dropped first when there is too much. The default is
                ``"normal"``.
            on_failure: ``"closed"`` for an action that must not be done without a record: the entry is
                critical, and it raises if that is not possible. The default is ``"open"``: it tells by what
                it returns, by `stats` and by an event.

        Returns:
            Whether the entry was taken.

        Raises:
            StorageFailure: With ``on_failure="closed"``: the entry could not be written to disk.
        """
        code = category = None
        if error is not None:
            status, code, category = _told(error, status)
        copy = snapshot((action, organization_id, agent_id, status, duration_ms, code, category, metadata))
        if critical or on_failure != "open":
            return self._record_durably(copy, on_failure)
        return self._put(copy, low=priority == "low")

    def _record_durably(self, copy: bytes, on_failure: str) -> bool:
        if on_failure not in ("open", "closed"):
            raise ValueError(f"on_failure must be 'open' or 'closed', not {on_failure!r}")
        try:
            self._engine.intake.put_durably(copy, patience=self._patience)
        except StorageFailure:
            if on_failure == "closed":
                raise
            return False
        return True

    def track(
        self,
        action: str,
        *,
        organization_id: str | None = None,
        agent_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        critical: bool = False,
        priority: Literal["normal", "low"] = "normal",
        on_failure: Literal["open", "closed"] = "open",
    ) -> Tracked:
        """Put an action on record with how long it took and how it ended.

        As a ``with`` block, an ``async with`` block, or a decorator of ``def`` and ``async def``::

            with activity.track("message.answered", agent_id="42") as tracked:
                tracked.metadata["words"] = len(answer(message).split())

        What the action raises goes on its way; its `classify` code and category are recorded. What is no
        `Exception`, as a cancellation, is recorded as ``"cancelled"``.

        Args:
            action: What is done.
            organization_id: For which organisation. The default is what `correlation.bind` says.
            agent_id: Which agent does it. The default is what `correlation.bind` says.
            metadata: What else there is to say.
            critical: As in `record`.
            priority: As in `record`.
            on_failure: As in `record`. With ``"closed"`` there is a second entry, with the status
                ``"started"``, which is on disk before the action begins; where it cannot be, the action does
                not begin.
        """
        options: Options = {
            "organization_id": organization_id,
            "agent_id": agent_id,
            "critical": critical,
            "priority": priority,
            "on_failure": on_failure,
        }
        return Tracked(self, action, metadata, options)

    def stats(self) -> ActivityStats:
        """Return what is known now."""
        return self._engine.stats()

    def flush(self, timeout: float = 2.0) -> bool:
        """Wait until the sinks have taken everything; what they have not taken by then is on disk.

        Args:
            timeout: Time in seconds. The default is 2.

        Returns:
            Whether the sinks have taken everything.
        """
        return self._engine.worker.flush(timeout)

    def close(self) -> None:
        """Deliver what there is, put the rest on disk, and end. Happens by itself when the process ends."""
        self._close_feed()  # first: who writes last cleans up after SQLite
        self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _told(error: BaseException | Failure, status: str) -> tuple[str, str | None, str | None]:
    """Return the status, code and category of what went wrong."""
    if not isinstance(error, Failure):
        if not isinstance(error, Exception):
            return "cancelled" if status == "ok" else status, None, None
        error = classify(error)
    return "error" if status == "ok" else status, error.code, str(error.category)


def _seconds(parameter: str, value: Any, *, zero: bool = False) -> float:
    seconds = _patience(parameter, number(parameter, value, "a time in seconds"), zero=zero)
    return inf if seconds is None else seconds


def _optional_whole(parameter: str, value: Any) -> int | None:
    return None if value is None else whole(parameter, value, "entries")
