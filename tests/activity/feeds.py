"""A log that can be read from, and entries for it."""

from collections import deque
from types import SimpleNamespace
from typing import Any

from resilient_agents._clock import clock
from resilient_agents.activity.entry import TICKS, Activity, uuid7
from resilient_agents.activity.feed import Feed


class Log(Feed):
    """The reading half of a log, on one sink."""

    def __init__(self, sink: Any) -> None:
        self.latest: deque[Activity] = deque(maxlen=1000)
        self._memory = SimpleNamespace(sinks={"sink": sink}, latest=self.latest)


def entry(number: int, organization: str = "org-1", *, at: float | None = None, **fields: Any) -> Activity:
    """Return an entry that was recorded now, or at another time; its action says its number."""
    moment = clock().time() if at is None else at
    activity = Activity(
        id=uuid7(int(moment * TICKS), number),
        source="test",
        organization_id=organization,
        agent_id="a-1",
        action=f"done.{number}",
        status="ok",
        duration_ms=1.5,
        request_id="r-1",
        job_id=None,
        error_code=None,
        error_category=None,
        metadata=f'{{"n":{number}}}',
        created_at=moment,
    )
    return activity._replace(**fields)


def numbers(page: Any) -> list[int]:
    """Return the numbers of the entries of a page, in its order."""
    return [int(activity.action.partition(".")[2]) for activity in page]
