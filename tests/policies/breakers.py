"""What the tests of breakers share: calls that end as told, and processes that agree in memory."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from resilient_agents.errors import Unreachable
from resilient_agents.policies._shared import SharedView
from resilient_agents.policies.breaker import CircuitBreaker

NO_LONGER_THAN = 1.1
"""How much longer than `open_for` a breaker stays open at most."""


def end(breaker: CircuitBreaker, exc: BaseException | None = None) -> None:
    """Let one call through that ends at once, in *exc* if there is one."""
    breaker.leave(breaker.try_enter(), exc)


def fail(breaker: CircuitBreaker, times: int = 1) -> None:
    """Let calls through that the target fails."""
    for _ in range(times):
        end(breaker, Unreachable())


def attempt(call: Callable[[], Any]) -> None:
    """Call, and pass over what is raised."""
    with suppress(Exception):
        call()


class Meeting:
    """Where breakers meet: so many votes open it for all, one probe at a time, and one success closes it."""

    def __init__(self, quorum: int = 2) -> None:
        self.quorum = quorum
        self.votes: list[tuple[str, float]] = []
        self.reports: list[tuple[str, bool]] = []
        self.view = SharedView(open=False, wait=0.0)
        self.leases = 1

    def vote(self, key: str, open_for: float) -> None:
        """Count a vote."""
        self.votes.append((key, open_for))
        if len(self.votes) >= self.quorum:
            self.view = SharedView(open=True, wait=open_for)

    def state(self, key: str) -> SharedView:
        """Return what is agreed."""
        return self.view

    def lease_probe(self, key: str) -> bool:
        """Give away a lease if there is one."""
        self.leases -= 1
        return self.leases >= 0

    def report_probe(self, key: str, ok: bool) -> None:
        """Take note of how a probe ended."""
        self.reports.append((key, ok))
