"""What the agents did: an activity log that is never slow, never in the way, and not lost.

- `log`: `ActivityLog`, the front.
- `tracking`: an action from its beginning to its end.
- `entry`: what is kept of one action.
- `stats`: what is known of a log at one moment.
- `sinks`: what a sink is; `sqlite`, `postgres`, `redis`, `lines`: those there are.
- `feed`, `stream`: what happened lately, page by page or as it happens.
- `_engine`: what is behind a log; from the caller to the sink: `_intake`, `_worker`, `_delivery`, `_lane`;
  `_drops` tells of what was dropped, `_spill` is the disk, `_exit` is what happens when the process ends or
  forks.
"""

from resilient_agents.activity.entry import Activity
from resilient_agents.activity.feed import Page
from resilient_agents.activity.log import ActivityLog
from resilient_agents.activity.sinks import FunctionSink, Sink
from resilient_agents.activity.stats import ActivityStats, SinkStats
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
