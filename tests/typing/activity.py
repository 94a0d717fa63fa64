"""What type checkers see of the activity log. Nothing here is run: ``mypy`` and ``basedpyright`` read it."""

from typing import assert_type

from resilient_agents.activity import Activity, ActivityLog, SinkStats


def take(batch: list[Activity]) -> None:
    """Be a sink."""


activity = ActivityLog("sqlite:///activity.db", take)


@activity.track("deal.counted")
def count(city: str, *, limit: int = 10) -> int:
    """Take arguments of all kinds."""
    return len(city) + limit


@activity.track("deal.fetched", organization_id="1", on_failure="closed")
async def fetch(number: int) -> str:
    """Be awaited."""
    return str(number)


async def use() -> None:
    """Use all of it."""
    assert_type(count("Graz", limit=3), int)
    assert_type(await fetch(7), str)
    assert_type(activity.record("a", error=ValueError(), critical=True, priority="low"), bool)
    with activity.track("a") as tracked:
        tracked.metadata["n"] = 1
    async with activity.track("a") as tracked:
        tracked.status = "partial"
    assert_type(activity.flush(2.0), bool)
    assert_type(activity.stats().sinks["a"], SinkStats)
