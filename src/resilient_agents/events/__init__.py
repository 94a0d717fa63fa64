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
- `cache`: hits, misses and outages of a cache.
"""

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

__all__ = [
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
    "LeaseLost",
    "PipelineReconfigured",
    "PolicyEvent",
    "RetryBudgetExhausted",
    "RetryGaveUp",
    "RetryScheduled",
    "SharedStateLost",
    "SharedStateRestored",
    "Subscriber",
    "TopicPaused",
    "TopicResumed",
    "emit",
    "subscribe",
    "subscribed",
    "unsubscribe",
]
