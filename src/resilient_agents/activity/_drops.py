"""What was dropped, and how it is told: one entry and one event for all of it."""

from collections import Counter
from typing import TYPE_CHECKING

from resilient_agents import events
from resilient_agents._clock import clock
from resilient_agents.activity._delivery import Delivery
from resilient_agents.activity._intake import Intake
from resilient_agents.activity.entry import TICKS, Activity, Clerk, snapshot

if TYPE_CHECKING:
    from resilient_agents.activity._intake import Reason

REPORT_PAUSE = 10.0
"""Time in seconds between two reports."""


class Drops:
    """Counts what was dropped on the way in and on the way out.

    Args:
        intake: Where entries come in.
        delivery: Where they go out.
        clerk: Who makes the entry that tells of it.

    Attributes:
        report_at: When the next report may be made, on the monotonic clock.
    """

    def __init__(self, intake: Intake, delivery: Delivery, clerk: Clerk) -> None:
        self._intake = intake
        self._delivery = delivery
        self._clerk = clerk
        self._reported: Counter[Reason] = Counter()
        self.report_at = 0.0

    def counted(self) -> "Counter[Reason]":
        """Return how many entries were dropped, by reason."""
        return self._intake.dropped + self._delivery.dropped

    def unreported(self) -> "Counter[Reason]":
        """Return how many of them nobody has heard of."""
        return self.counted() - self._reported

    def report(self, now: float) -> Activity | None:
        """Return the entry that says what was dropped since the last report, if it is time for one."""
        if now < self.report_at or not (lost := self.unreported()):
            return None
        self.report_at = now + REPORT_PAUSE
        self._reported = self._reported + lost
        told = {"count": lost.total(), "reasons": {str(reason): count for reason, count in lost.items()}}
        self._delivery.news.append((events.ActivityDropped, told))
        copy = snapshot(("activity.dropped", "", None, "dropped", None, None, None, told))
        return self._clerk.activity(int(clock().time() * TICKS), {}, copy)
