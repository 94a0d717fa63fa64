"""What happens to an activity log and to its sinks."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from resilient_agents.events.bus import Event

if TYPE_CHECKING:
    from resilient_agents.errors import Failure


@dataclass(frozen=True, kw_only=True, slots=True)
class ActivityEvent(Event):
    """Something happened to an activity log."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ActivityDropped(ActivityEvent):
    """Entries were dropped; one event and one entry in the log itself stand for all of them.

    Attributes:
        count: How many.
        reasons: How many for which reason: ``"queue_full"``, ``"too_big"``, ``"encode"``, ``"sink_down"``,
            ``"rejected"`` or ``"shutdown"``.
    """

    count: int
    reasons: Mapping[str, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class SinkDown(ActivityEvent):
    """A sink takes no entries: they wait on the local disk.

    Attributes:
        sink: Name of the sink.
        failure: What went wrong.
    """

    sink: str
    failure: "Failure"


@dataclass(frozen=True, kw_only=True, slots=True)
class SinkRestored(ActivityEvent):
    """A sink takes entries again, and what waits is delivered.

    Attributes:
        sink: Name of the sink.
        waiting: How many entries wait for it.
    """

    sink: str
    waiting: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SpillFailed(ActivityEvent):
    """The local disk takes no entries either: what cannot be delivered will be dropped.

    Attributes:
        failure: What went wrong.
    """

    failure: "Failure"
