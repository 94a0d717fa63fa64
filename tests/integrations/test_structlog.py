"""A log line for each event."""

from typing import Any

import pytest
import structlog

from resilient_agents import events
from resilient_agents.errors import QuotaExhausted, Unreachable, classify
from resilient_agents.integrations.structlog import install, name_of

FAILURE = classify(Unreachable("crm.test is down"))


def test_lines() -> None:
    """Each event is one line with flat keys, as loud as it deserves."""
    with structlog.testing.capture_logs() as lines:
        stop = install(structlog.get_logger())
        events.emit(
            events.RetryScheduled, target="fetch", attempt=1, wait=1.0, dictated_by="backoff", failure=FAILURE
        )
        events.emit(
            events.RetryGaveUp,
            target="fetch",
            attempts=3,
            reason="attempts",
            failure=classify(QuotaExhausted("spent")),
        )
        events.emit(events.BreakerClosed, policy="breaker", name="crm")
        events.emit(events.CallRefused, policy="breaker", name="crm", wait=None)
        stop()
        events.emit(events.BreakerClosed, policy="breaker", name="crm")

    assert [
        {
            "event": "retry_scheduled",
            "log_level": "warning",
            "target": "fetch",
            "attempt": 1,
            "wait": 1.0,
            "dictated_by": "backoff",
            "code": "external.unreachable",
            "category": "external",
            "detail": "crm.test is down",
        },
        {
            "event": "retry_gave_up",
            "log_level": "error",
            "target": "fetch",
            "attempts": 3,
            "reason": "attempts",
            "code": "rate_limit.quota",
            "category": "rate_limit",
            "detail": "spent",
        },
        {"event": "breaker_closed", "log_level": "info", "policy": "breaker", "policy_name": "crm"},
        {
            "event": "call_refused",
            "log_level": "warning",
            "policy": "breaker",
            "policy_name": "crm",
            "wait": None,
        },
    ] == lines


@pytest.mark.parametrize(("accepted", "level"), [(True, "info"), (False, "error")])
def test_refused_reconfiguration(accepted: bool, level: str) -> None:
    """A configuration that was refused is an error, one that was accepted is news."""
    with structlog.testing.capture_logs() as lines:
        install()
        events.emit(events.PipelineReconfigured, name="crm", accepted=accepted, reason="")

    assert [level] == [line["log_level"] for line in lines]


def test_twice_is_once() -> None:
    """A second installation on the same logger writes no second line; another logger does."""
    one, other = structlog.get_logger(), structlog.get_logger()
    with structlog.testing.capture_logs() as lines:
        install(one)
        install(one)
        events.emit(events.BreakerClosed, policy="breaker", name="crm")
        assert 1 == len(lines)
        install(other)
        events.emit(events.BreakerClosed, policy="breaker", name="crm")

    assert 3 == len(lines)


def test_default_twice_is_once() -> None:
    """So it is with the default logger; stopping it twice harms nobody."""
    with structlog.testing.capture_logs() as lines:
        install()
        stop = install()
        events.emit(events.BreakerClosed, policy="breaker", name="crm")
        stop()
        stop()
        events.emit(events.BreakerClosed, policy="breaker", name="crm")

    assert 1 == len(lines)


def test_every_event_can_be_written() -> None:
    """No kind of event makes the writer raise: none is reported as broken."""
    kinds = [kind for name in events.__all__ if isinstance(kind := getattr(events, name), type)]
    with structlog.testing.capture_logs() as lines:
        install()
        for kind in kinds:
            events.emit(kind, **_attributes(kind))

    logged = {"cache_degraded", "cache_restored", "call_failed", "request_failed"}
    assert {name_of(kind) for kind in kinds} - logged == {line["event"] for line in lines}


def test_what_is_logged_already_is_not_logged_twice() -> None:
    """A failed request, a failed call and a cache's outage have a log line of their own."""
    with structlog.testing.capture_logs() as lines:
        install()
        for kind in (events.CacheDegraded, events.CacheRestored, events.CallFailed, events.RequestFailed):
            events.emit(kind, **_attributes(kind))

    assert [] == lines


def _attributes(kind: type) -> dict[str, Any]:
    from dataclasses import fields

    return {one.name: FAILURE if one.name == "failure" else 1 for one in fields(kind)}
