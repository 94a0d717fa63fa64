"""Counters, gauges and a histogram of what happens, with prometheus-client.

    from resilient_agents.integrations import prometheus

    prometheus.install()

Labels have few values: the names that you gave, kinds of policies, reasons, categories. No key, id or message
becomes a label. Of functions, of topics and of names, such as those of the breakers in a `PerKey`, the first
hundred are told apart.
"""

import os
from collections.abc import Callable
from threading import Lock
from typing import Any

from resilient_agents import events
from resilient_agents._extras import require
from resilient_agents.events import Event

LIMIT = 100
"""How many values a label has at most; what comes later is counted as ``other``, and left out of gauges."""

OTHER = "other"

_STATES = {
    events.BreakerClosed: 0,
    events.BreakerHalfOpened: 1,
    events.BreakerOpened: 2,
}

_WAITS = (0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


def install(registry: Any = None, *, namespace: str = "resilient_agents") -> Callable[[], None]:
    """Count events from now on. Where that is done already, nothing changes.

    Args:
        registry: Where the metrics are registered. The default is the registry of prometheus-client.
        namespace: What the names of the metrics begin with. The default is ``"resilient_agents"``.

    Returns:
        A function that stops it and takes the metrics out of the registry.

    Raises:
        MissingExtra: prometheus-client is not installed.
        ValueError: The registry has metrics of these names that are not from here.
    """
    client = require("prometheus_client", extra="prometheus", feature="counting with Prometheus")
    registry = client.REGISTRY if registry is None else registry
    place = (registry, namespace)
    with _lock:
        metrics = _installed.get(place)
        if metrics is None:
            metrics = _installed[place] = _Metrics(client, registry, namespace)
        events.unsubscribe(metrics)
        events.subscribe(Event)(metrics)

    def uninstall() -> None:
        with _lock:
            if _installed.get(place) is metrics:
                del _installed[place]
                events.unsubscribe(metrics)
                metrics.unregister()

    return uninstall


class _Metrics:
    """The metrics of one registry, as a subscriber to all events."""

    def __init__(self, client: Any, registry: Any, namespace: str) -> None:
        self._registry = registry
        self._seen: dict[str, set[str]] = {"target": set(), "name": set(), "topic": set()}
        self._made: list[Any] = []

        def make(kind: Any, name: str, text: str, *labels: str, **more: Any) -> Any:
            metric = kind(name, text, labels, namespace=namespace, registry=registry, **more)
            self._made.append(metric)
            return metric

        try:
            self._make(client, make)
        except ValueError:
            self.unregister()
            raise

    def _make(self, client: Any, make: Callable[..., Any]) -> None:
        counter, gauge = client.Counter, client.Gauge
        retried = ("target", "category")
        self._retries = make(counter, "retries", "Attempts that were made again", *retried)
        self._given_up = make(counter, "given_up", "Calls that no attempt was left for", *retried, "reason")
        self._budgets = make(counter, "budget_exhausted", "Retries that a budget forbade", "name")
        self._waits = make(
            client.Histogram,
            "wait_seconds",
            "How long calls waited at a policy",
            "policy",
            "name",
            "dictated_by",
            buckets=_WAITS,
        )
        admitted = ("policy", "name")
        self._refused = make(counter, "refused", "Calls that a policy did not let in", *admitted)
        self._parked = make(counter, "parked", "Times that a server named", *admitted)
        self._state = make(gauge, "breaker_state", "0 closed, 1 half-open, 2 open", "name")
        self._opened = make(counter, "breaker_opened", "Openings of a breaker", "name", "reason", "enforced")
        self._limit = make(gauge, "concurrency_limit", "Calls that are admitted at a time", "name")
        self._shared = make(gauge, "shared_state_lost", "1 while Redis does not answer", *admitted)
        self._hedges = make(counter, "hedges", "Calls that were begun once more beside themselves", "target")
        self._hedges_won = make(counter, "hedges_won", "Hedges that answered first", "target")
        self._fallbacks = make(counter, "fallbacks", "Calls whose caller got the fallback", *retried)
        self._faults = make(counter, "faults_injected", "Faults that were made on purpose", "target", "fault")
        self._entries = make(counter, "entries", "What happened to dead letters", "topic", "event")
        self._paused = make(gauge, "topic_paused", "1 while the target of a topic is down", "topic")

    def unregister(self) -> None:
        """Take the metrics out of the registry."""
        for metric in self._made:
            self._registry.unregister(metric)

    def __call__(self, event: Event) -> None:
        count = _COUNTERS.get(type(event))
        if count is not None:
            count(self, event)

    def few(self, label: str, value: str) -> str:
        """Return the value of a label: its own for the first hundred."""
        seen = self._seen[label]
        if value not in seen:
            if len(seen) >= LIMIT:
                return OTHER
            seen.add(value)
        return value

    def show(self, gauge: Any, label: str, value: str, number: float, *before: str) -> None:
        """Set a gauge, unless it would be that of many things at a time."""
        if (few := self.few(label, value)) == value:
            gauge.labels(*before, few).set(number)

    def retried(self, event: events.RetryScheduled) -> None:
        self._retries.labels(self.few("target", event.target), event.failure.category).inc()
        self._waits.labels("retry", "", event.dictated_by).observe(event.wait)

    def given_up(self, event: events.RetryGaveUp) -> None:
        target = self.few("target", event.target)
        self._given_up.labels(target, event.failure.category, event.reason).inc()

    def budget(self, event: events.RetryBudgetExhausted) -> None:
        self._budgets.labels(self.few("name", event.name)).inc()

    def waited(self, event: events.CallWaited) -> None:
        name = self.few("name", event.name)
        self._waits.labels(event.policy, name, event.dictated_by).observe(event.seconds)

    def refused(self, event: events.CallRefused) -> None:
        self._refused.labels(event.policy, self.few("name", event.name)).inc()

    def parked(self, event: events.CallersParked) -> None:
        self._parked.labels(event.policy, self.few("name", event.name)).inc()

    def breaker(self, event: events.PolicyEvent) -> None:
        self.show(self._state, "name", event.name, _STATES[type(event)])
        if isinstance(event, events.BreakerOpened):
            name = self.few("name", event.name)
            self._opened.labels(name, event.reason, str(event.enforced).lower()).inc()

    def limit(self, event: events.ConcurrencyChanged) -> None:
        self.show(self._limit, "name", event.name, event.limit)

    def shared(self, event: events.PolicyEvent) -> None:
        lost = isinstance(event, events.SharedStateLost)
        self.show(self._shared, "name", event.name, lost, event.policy)

    def hedged(self, event: events.HedgeStarted) -> None:
        self._hedges.labels(self.few("target", event.target)).inc()

    def hedge_won(self, event: events.HedgeWon) -> None:
        self._hedges_won.labels(self.few("target", event.target)).inc()

    def fell_back(self, event: events.FellBack) -> None:
        self._fallbacks.labels(self.few("target", event.target), event.failure.category).inc()

    def fault(self, event: events.FaultInjected) -> None:
        self._faults.labels(self.few("target", event.target), event.fault).inc()

    def entry(self, event: events.EntryEvent) -> None:
        self._entries.labels(self.few("topic", event.topic), _ENTRY_EVENTS[type(event)]).inc()

    def paused(self, event: events.TopicPaused | events.TopicResumed) -> None:
        self.show(self._paused, "topic", event.topic, isinstance(event, events.TopicPaused))


_ENTRY_EVENTS = {
    events.EntryAccepted: "accepted",
    events.EntryDelivered: "delivered",
    events.EntryDeferred: "deferred",
    events.EntryParked: "parked",
    events.LeaseLost: "lease_lost",
}

_COUNTERS: dict[type[Event], Callable[[_Metrics, Any], None]] = {
    events.RetryScheduled: _Metrics.retried,
    events.RetryGaveUp: _Metrics.given_up,
    events.RetryBudgetExhausted: _Metrics.budget,
    events.CallWaited: _Metrics.waited,
    events.CallRefused: _Metrics.refused,
    events.CallersParked: _Metrics.parked,
    events.BreakerOpened: _Metrics.breaker,
    events.BreakerHalfOpened: _Metrics.breaker,
    events.BreakerClosed: _Metrics.breaker,
    events.ConcurrencyChanged: _Metrics.limit,
    events.SharedStateLost: _Metrics.shared,
    events.SharedStateRestored: _Metrics.shared,
    events.HedgeStarted: _Metrics.hedged,
    events.HedgeWon: _Metrics.hedge_won,
    events.FellBack: _Metrics.fell_back,
    events.FaultInjected: _Metrics.fault,
    **dict.fromkeys(_ENTRY_EVENTS, _Metrics.entry),
    events.TopicPaused: _Metrics.paused,
    events.TopicResumed: _Metrics.paused,
}
"""What each kind of event adds to."""

_installed: dict[tuple[Any, str], _Metrics] = {}
_lock = Lock()


def _renew_lock() -> None:
    """Give a forked child its own lock: nobody in it releases one that was held."""
    global _lock
    _lock = Lock()


os.register_at_fork(after_in_child=_renew_lock)
