"""Counters, gauges and a histogram of what happens."""

import subprocess
import sys
from collections.abc import Iterator

import prometheus_client
import pytest

from resilient_agents import RetryPolicy, events
from resilient_agents.errors import Unreachable, classify
from resilient_agents.integrations import prometheus
from resilient_agents.policies import CircuitBreaker
from resilient_agents.testing import FakeClock

FAILURE = classify(Unreachable())


@pytest.fixture
def registry() -> Iterator[prometheus_client.CollectorRegistry]:
    """Return a registry of its own, in which everything is counted."""
    registry = prometheus_client.CollectorRegistry()
    stop = prometheus.install(registry)
    yield registry
    stop()


def value(registry: prometheus_client.CollectorRegistry, name: str, /, **labels: str) -> float | None:
    """Return one sample."""
    return registry.get_sample_value(f"resilient_agents_{name}", labels)


def test_retries(registry: prometheus_client.CollectorRegistry) -> None:
    """Retries, their waits and what was given up are counted by function and category."""

    @RetryPolicy(3, jitter="none")
    def fetch() -> None:
        raise Unreachable

    with FakeClock(), pytest.raises(Unreachable):
        fetch()

    target = "test_prometheus.test_retries.<locals>.fetch"
    assert 2 == value(registry, "retries_total", target=target, category="external")
    assert 1 == value(registry, "given_up_total", target=target, category="external", reason="attempts")
    assert 3 == value(registry, "wait_seconds_sum", policy="retry", name="", dictated_by="backoff")


def test_breaker(registry: prometheus_client.CollectorRegistry) -> None:
    """The state of a breaker is a gauge; its openings and refusals are counted."""
    breaker = CircuitBreaker(name="crm")
    breaker.force_open()

    with pytest.raises(Exception, match="open"):
        breaker(len)(())

    assert 2 == value(registry, "breaker_state", name="crm")
    assert 1 == value(registry, "breaker_opened_total", name="crm", reason="forced", enforced="true")
    assert 1 == value(registry, "refused_total", policy="breaker", name="crm")
    breaker.release()
    assert 0 == value(registry, "breaker_state", name="crm")


@pytest.mark.parametrize(
    ("kind", "attributes", "name", "labels", "expected"),
    [
        (
            events.RetryBudgetExhausted,
            {"name": "crm", "target": "f"},
            "budget_exhausted_total",
            {"name": "crm"},
            1,
        ),
        (
            events.CallWaited,
            {"policy": "limiter", "name": "crm", "seconds": 2.0, "dictated_by": "rate"},
            "wait_seconds_sum",
            {"policy": "limiter", "name": "crm", "dictated_by": "rate"},
            2,
        ),
        (
            events.CallersParked,
            {"policy": "limiter", "name": "crm", "wait": 30.0},
            "parked_total",
            {"policy": "limiter", "name": "crm"},
            1,
        ),
        (events.BreakerHalfOpened, {"policy": "breaker", "name": "crm"}, "breaker_state", {"name": "crm"}, 1),
        (
            events.ConcurrencyChanged,
            {"policy": "adaptive", "name": "llm", "before": 10, "limit": 7},
            "concurrency_limit",
            {"name": "llm"},
            7,
        ),
        (
            events.SharedStateLost,
            {"policy": "breaker", "name": "redis", "failure": FAILURE},
            "shared_state_lost",
            {"policy": "breaker", "name": "redis"},
            1,
        ),
        (
            events.SharedStateRestored,
            {"policy": "breaker", "name": "redis"},
            "shared_state_lost",
            {"policy": "breaker", "name": "redis"},
            0,
        ),
        (events.HedgeStarted, {"target": "f", "number": 1, "after": 0.5}, "hedges_total", {"target": "f"}, 1),
        (events.HedgeWon, {"target": "f", "number": 1}, "hedges_won_total", {"target": "f"}, 1),
        (
            events.FellBack,
            {"target": "f", "failure": FAILURE},
            "fallbacks_total",
            {"target": "f", "category": "external"},
            1,
        ),
        (
            events.FaultInjected,
            {"target": "f", "fault": "latency"},
            "faults_injected_total",
            {"target": "f", "fault": "latency"},
            1,
        ),
        (
            events.EntryDelivered,
            {"topic": "t", "entry_id": 1, "key": "k", "reference": None, "reconciled": False},
            "entries_total",
            {"topic": "t", "event": "delivered"},
            1,
        ),
        (
            events.LeaseLost,
            {"topic": "t", "entry_id": 1, "key": "k"},
            "entries_total",
            {"topic": "t", "event": "lease_lost"},
            1,
        ),
        (
            events.TopicPaused,
            {"topic": "t", "wait": 1.0, "failure": FAILURE},
            "topic_paused",
            {"topic": "t"},
            1,
        ),
        (events.TopicResumed, {"topic": "t"}, "topic_paused", {"topic": "t"}, 0),
    ],
    ids=lambda it: it.__name__ if isinstance(it, type) else "",
)
def test_each_event_has_its_metric(
    kind: type[events.Event],
    attributes: dict[str, object],
    name: str,
    labels: dict[str, str],
    expected: float,
    registry: prometheus_client.CollectorRegistry,
) -> None:
    """What happens adds to the metric of its name."""
    events.emit(kind, **attributes)

    assert expected == value(registry, name, **labels)


def test_labels_are_bounded(registry: prometheus_client.CollectorRegistry) -> None:
    """Beyond a hundred functions, names or topics, all others share a label, and have no gauge."""
    for number in range(prometheus.LIMIT + 5):
        name = f"n{number}"
        events.emit(events.HedgeWon, target=name, number=1)
        events.emit(events.CallRefused, policy="breaker", name=name, wait=None)
        events.emit(events.BreakerClosed, policy="breaker", name=name)
        events.emit(events.EntryAccepted, topic=name, entry_id=1, key="k")

    for metric, labels in {
        "hedges_won_total": {"target": ""},
        "refused_total": {"policy": "breaker", "name": ""},
        "entries_total": {"topic": "", "event": "accepted"},
    }.items():
        own, other = ({key: it or word for key, it in labels.items()} for word in ("n99", "other"))
        assert (1, 5) == (value(registry, metric, **own), value(registry, metric, **other))
    assert 0 == value(registry, "breaker_state", name="n99")
    assert value(registry, "breaker_state", name="other") is None


def test_no_key_becomes_a_label(registry: prometheus_client.CollectorRegistry) -> None:
    """No label holds what is different for each call."""
    for metric in registry.collect():
        for sample in metric.samples:
            assert not {"key", "entry_id", "detail", "host"} & sample.labels.keys()


def test_stopped() -> None:
    """After it was stopped nothing is counted, and it can be installed anew."""
    registry = prometheus_client.CollectorRegistry()
    prometheus.install(registry)()
    events.emit(events.HedgeWon, target="f", number=1)
    assert [] == list(registry.collect())

    stop = prometheus.install(registry, namespace="own")
    events.emit(events.HedgeWon, target="f", number=1)
    assert 1 == registry.get_sample_value("own_hedges_won_total", {"target": "f"})
    stop()


def test_twice_is_once(registry: prometheus_client.CollectorRegistry) -> None:
    """A second installation on the same registry counts nothing twice; stopping it twice harms nobody."""
    stop = prometheus.install(registry)
    events.emit(events.HedgeWon, target="f", number=1)
    assert 1 == value(registry, "hedges_won_total", target="f")

    stop()
    stop()
    again = prometheus.install(registry)
    stop()
    events.emit(events.HedgeWon, target="f", number=1)
    assert 1 == value(registry, "hedges_won_total", target="f")
    again()
    assert [] == list(registry.collect())


def test_names_that_are_taken() -> None:
    """Metrics of somebody else's are left alone, and none of ours stay behind."""
    registry = prometheus_client.CollectorRegistry()
    own = prometheus_client.Counter("refused", "Mine", namespace="resilient_agents", registry=registry)

    with pytest.raises(ValueError, match="Duplicated"):
        prometheus.install(registry)

    assert ["resilient_agents_refused"] == [metric.name for metric in registry.collect()]
    registry.unregister(own)
    prometheus.install(registry)()


FORK = """
import os, signal, prometheus_client
from resilient_agents.integrations import prometheus

prometheus._lock.acquire()
child = os.fork()
if not child:
    signal.alarm(10)
    prometheus.install()()
    os._exit(0)
print(os.waitpid(child, 0)[1])
"""


def test_fork() -> None:
    """A lock that was held at the fork keeps nobody waiting in the child."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK]
    parent = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=30)

    assert "0\n" == parent.stdout


def test_missing_library() -> None:
    """Where prometheus-client is not installed, the message says what to run."""
    code = (
        "import sys; sys.modules['prometheus_client'] = None\n"
        "from resilient_agents.integrations import prometheus\n"
        "try: prometheus.install()\n"
        "except ImportError as exc: print(exc)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True, timeout=30
    )

    assert "pip install 'resilient-agents[prometheus]'" in ran.stdout
