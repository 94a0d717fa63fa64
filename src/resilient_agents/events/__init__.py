"""What the library says happened: frozen event objects; `subscribe` and `emit`.

Events are how logs, metrics, alerts and tests hear of retries, outages and dead letters::

    from resilient_agents import events

    @events.subscribe(events.RetryScheduled)
    def note(event):
        print(f"attempt {event.attempt} failed, next in {event.wait:.1f} s")

A subscriber is called in the thread that emits, so it must be quick. What it raises is logged once per
subscriber and never reaches the code that emitted. Without a subscriber an event is not even built.

- `bus`: who hears of what.
- `policies`: retries, breakers, limits, hedges, fallbacks.
- `deadletter`: entries and topics of a dead-letter queue.
- `activity`: what an activity log dropped, and its sinks.
- `cache`: hits, misses and outages of a cache.
- `requests`: requests that a service answers, jobs of its workers.
"""

from resilient_agents.events.activity import (
    ActivityDropped,
    ActivityEvent,
    SinkDown,
    SinkRestored,
    SpillFailed,
)
from resilient_agents.events.bus import Event, Subscriber, emit, subscribe, subscribed, unsubscribe
from resilient_agents.events.cache import (
    CacheDegraded,
    CacheEvent,
    CacheHerded,
    CacheHit,
    CacheMiss,
    CacheRestored,
    CacheStale,
)
from resilient_agents.events.deadletter import (
    EntryAccepted,
    EntryDeferred,
    EntryDelivered,
    EntryEvent,
    EntryParked,
    LeaseLost,
    TopicPaused,
    TopicResumed,
)
from resilient_agents.events.policies import (
    BreakerClosed,
    BreakerHalfOpened,
    BreakerOpened,
    CallersParked,
    CallRefused,
    CallWaited,
    ConcurrencyChanged,
    FaultInjected,
    FellBack,
    HedgeStarted,
    HedgeWon,
    PipelineReconfigured,
    PolicyEvent,
    RetryBudgetExhausted,
    RetryGaveUp,
    RetryScheduled,
    SharedStateLost,
    SharedStateRestored,
)
from resilient_agents.events.requests import (
    CallFailed,
    JobCompleted,
    JobEvent,
    JobFailed,
    JobStarted,
    RequestFailed,
)

__all__ = [
    "ActivityDropped",
    "ActivityEvent",
    "BreakerClosed",
    "BreakerHalfOpened",
    "BreakerOpened",
    "CacheDegraded",
    "CacheEvent",
    "CacheHerded",
    "CacheHit",
    "CacheMiss",
    "CacheRestored",
    "CacheStale",
    "CallFailed",
    "CallRefused",
    "CallWaited",
    "CallersParked",
    "ConcurrencyChanged",
    "EntryAccepted",
    "EntryDeferred",
    "EntryDelivered",
    "EntryEvent",
    "EntryParked",
    "Event",
    "FaultInjected",
    "FellBack",
    "HedgeStarted",
    "HedgeWon",
    "JobCompleted",
    "JobEvent",
    "JobFailed",
    "JobStarted",
    "LeaseLost",
    "PipelineReconfigured",
    "PolicyEvent",
    "RequestFailed",
    "RetryBudgetExhausted",
    "RetryGaveUp",
    "RetryScheduled",
    "SharedStateLost",
    "SharedStateRestored",
    "SinkDown",
    "SinkRestored",
    "SpillFailed",
    "Subscriber",
    "TopicPaused",
    "TopicResumed",
    "emit",
    "subscribe",
    "subscribed",
    "unsubscribe",
]
