"""What was known of a log at one moment."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class SinkStats:
    """What was known of a sink at one moment.

    Attributes:
        up: Whether it took the last batch.
        written: How many entries it has taken from this process.
        backlog: How many have not arrived; *on_disk* of them wait on disk.
        on_disk: How many wait on disk.
    """

    up: bool
    written: int
    backlog: int
    on_disk: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ActivityStats:
    """What was known of a log at one moment.

    Attributes:
        queued: How many entries wait to be prepared.
        dropped: How many were dropped, by reason.
        sinks: The sinks, by name.
    """

    queued: int
    dropped: Mapping[str, int]
    sinks: Mapping[str, SinkStats]
