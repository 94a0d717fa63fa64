"""What the agents did: an activity log that is never slow, never in the way, and not lost.

- `log`: `ActivityLog`, the front.
- `tracking`: an action from its beginning to its end.
- `entry`: what is kept of one action.
- `sinks`: what a sink is; `sqlite`, `postgres`, `redis`, `lines`: those there are.
- `feed`, `stream`: what happened lately, page by page or as it happens.
- `_intake`, `_worker`, `_delivery`, `_lane`, `_spill`, `_exit`: from the caller to the sink, in this order.
"""

from resilient_agents.activity.entry import Activity
from resilient_agents.activity.feed import Page
from resilient_agents.activity.log import ActivityLog, ActivityStats, SinkStats
from resilient_agents.activity.sinks import FunctionSink, Sink
from resilient_agents.activity.stream import Stream, as_json, page_as_json
from resilient_agents.activity.tracking import Tracked

__all__ = [
    "Activity",
    "ActivityLog",
    "ActivityStats",
    "FunctionSink",
    "Page",
    "Sink",
    "SinkStats",
    "Stream",
    "Tracked",
    "as_json",
    "page_as_json",
]
