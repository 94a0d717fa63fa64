"""The life of entries, whatever happens in whatever order: nothing accepted is lost or done twice."""

import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from resilient_agents import DeadLetterQueue
from resilient_agents._flow import run
from resilient_agents.deadletter import Entry, Limits, State
from resilient_agents.deadletter.queries import next_due
from resilient_agents.deadletter.sqlite import claim, expire
from resilient_agents.errors import (
    Conflict,
    Origin,
    OutcomeUnknown,
    RateLimited,
    Unreachable,
    ValidationFailed,
)
from resilient_agents.testing import FakeClock

LEASE = 60.0
GRACE = 30.0
TOPICS = ("searchable", "harmless", "blind")
KEYS = tuple("abcdef")
ORDERS = st.sampled_from([None, None, "x", "y"])
MAX_CRASHES = 4

OUTCOMES: dict[str, Callable[[], Exception | None]] = {
    "good": lambda: None,
    "answer lost": OutcomeUnknown,
    "request lost": OutcomeUnknown,
    "unreachable": Unreachable,
    "throttled": lambda: RateLimited(retry_after=20),
    "rejected": lambda: ValidationFailed(origin=Origin.DEPENDENCY),
    "defect": KeyError,
}
DONE = {"good", "answer lost"}
"""The outcomes with which the work was done."""


class Killed(BaseException):
    """The end of a process."""


def die(_: object) -> None:
    """End the process instead of writing."""
    raise Killed


class Life(RuleBasedStateMachine):
    """A queue beside a simple model of it: what was accepted, and how often it was done."""

    claimed = Bundle("claimed")

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.clock.__enter__()
        self.folder = Path(tempfile.mkdtemp())
        limits = Limits(max_attempts=3, max_crashes=MAX_CRASHES, wait_max=10)
        self.queue = DeadLetterQueue(f"sqlite:///{self.folder}/queue.db", lease=LEASE, limits=limits)
        self.accepted: dict[tuple[str, str], dict[str, Any]] = {}
        self.done: dict[tuple[str, str], int] = {}
        self.outcome = "good"
        handler = self.queue.handler
        handler("searchable", reconcile=self.search, grace=GRACE)(partial(self.work, "searchable"))
        handler("harmless", idempotent=True)(partial(self.work, "harmless"))
        handler("blind")(partial(self.work, "blind"))

    def teardown(self) -> None:
        """Remove the file."""
        self.queue.close()
        self.clock.__exit__(None, None, None)
        shutil.rmtree(self.folder)

    def work(self, topic: str, payload: dict[str, Any]) -> str:
        """Do the work, or not, as the target that the next outcome is of."""
        name = (topic, payload["key"])
        if self.outcome in DONE:
            self.done[name] = self.done.get(name, 0) + 1
        error = OUTCOMES[self.outcome]()
        if error is not None:
            raise error
        return f"ref-{payload['key']}"

    def search(self, payload: dict[str, Any]) -> str | None:
        """Look whether the work was done."""
        return f"ref-{payload['key']}" if self.done.get(("searchable", payload["key"])) else None

    @rule(topic=st.sampled_from(TOPICS), key=st.sampled_from(KEYS), version=st.integers(0, 1), order=ORDERS)
    def enqueue(self, topic: str, key: str, version: int, order: str | None) -> None:
        """Hand work in, perhaps again, perhaps with another payload."""
        payload = {"key": key, "version": version}
        known = self.accepted.setdefault((topic, key), payload)
        try:
            entry = self.queue.enqueue(topic, payload, key=key, ordering_key=order)
        except Conflict:
            assert known != payload
        else:
            assert known == payload
            assert (entry.topic, entry.key) == (topic, key)

    @rule(topic=st.sampled_from(TOPICS), key=st.sampled_from(KEYS), outcome=st.sampled_from([*OUTCOMES]))
    def hand_in(self, topic: str, key: str, outcome: str) -> None:
        """Hand work in and try it at once."""
        self.outcome = outcome
        payload = self.accepted.setdefault((topic, key), {"key": key, "version": 0})
        run(self.queue.hand_in(self.queue.blocking, topic, payload, key=key))

    @rule(target=claimed, topic=st.sampled_from(TOPICS), limit=st.integers(1, 3))
    def claim(self, topic: str, limit: int) -> list[Entry]:
        """Take what is due, as a worker that may never come back."""
        operation = claim(topic=topic, limit=limit, now=self.clock.time(), lease=LEASE)
        entries: list[Entry] = self.queue.blocking(operation)
        orders = [entry.ordering_key for entry in entries if entry.ordering_key is not None]
        assert len(orders) == len(set(orders))
        assert all(entry.due <= self.clock.time() for entry in entries)
        return entries

    @rule(entries=consumes(claimed), outcome=st.sampled_from([*OUTCOMES]))
    def deliver(self, entries: list[Entry], outcome: str) -> None:
        """Let a worker, perhaps one that is long overdue, try what it took."""
        self.outcome = outcome
        if not entries:
            return
        before = {entry.id: self.queue.get(entry.topic, entry.key) for entry in entries}
        attempt = self.queue.attempt(entries[0].topic, holds=self.holds)
        run(attempt.make(self.queue.blocking, entries))
        for entry in entries:
            was = before[entry.id]
            assert was is not None
            if was.state is not State.LEASED or was.token != entry.token:
                assert was == self.queue.get(entry.topic, entry.key)

    @rule(entries=consumes(claimed), outcome=st.sampled_from([*OUTCOMES]))
    def deliver_and_die(self, entries: list[Entry], outcome: str) -> None:
        """Kill a worker when it has called the target and has noted nothing."""
        self.outcome = outcome
        if entries:
            attempt = self.queue.attempt(entries[0].topic, holds=self.holds)
            with suppress(Killed):
                run(attempt.make(die, entries))

    def holds(self, entry: Entry) -> bool:
        """Tell whether the lease runs, as a worker does."""
        known = self.queue.get(entry.topic, entry.key)
        ours = known is not None and (known.state, known.token) == (State.LEASED, entry.token)
        return ours and self.clock.time() < (entry.lease_until or 0.0)

    @rule()
    def expire(self) -> None:
        """Take back what its workers have left lying."""
        operation = expire(now=self.clock.time(), max_crashes=MAX_CRASHES, delay=1)
        for entry in self.queue.blocking(operation):
            assert entry.state in (State.UNCERTAIN, State.PARKED)
            assert entry.crashes >= 1

    @rule(resend=st.booleans())
    def redrive(self, resend: bool) -> None:
        """Redrive what is parked, resending only what a look shows to be missing."""
        for entry in self.queue.entries(states=[State.PARKED]):
            name = (entry.topic, entry.key)
            missing = not self.done.get(name)
            fresh = self.queue.redrive(entry.id, resend=resend and missing)
            assert fresh.state in (State.SCHEDULED, State.UNCERTAIN)

    @rule(seconds=st.sampled_from([1, 20, GRACE, LEASE + 1, 1000]))
    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.advance(seconds)

    @invariant()
    def nothing_is_lost(self) -> None:
        """What was accepted is either waiting or in the ledger, once, with the payload it came with."""
        stats = self.queue.stats()
        waiting = self.queue.entries(limit=1000)
        delivered = [name for name in self.accepted if self.is_in(State.DELIVERED, name)]

        assert len(self.accepted) == sum(stats.states.values())
        assert len(delivered) == stats.states[State.DELIVERED]
        assert {*self.accepted} == {*delivered, *((entry.topic, entry.key) for entry in waiting)}
        assert len(self.accepted) == len(delivered) + len(waiting)
        assert all(self.accepted[entry.topic, entry.key] == entry.payload for entry in waiting)

    @invariant()
    def nothing_is_done_twice(self) -> None:
        """Only harmless work is repeated after it was done, and nothing is confirmed that was not."""
        for name, times in self.done.items():
            assert times == 1 or name[0] == "harmless"
        for name in self.accepted:
            if self.is_in(State.DELIVERED, name):
                assert self.done[name] >= 1

    @invariant()
    def one_at_a_time(self) -> None:
        """Of each order, one entry at most is in work."""
        leased = self.queue.entries(states=[State.LEASED])
        orders = [(entry.topic, entry.ordering_key) for entry in leased if entry.ordering_key is not None]

        assert len(orders) == len(set(orders))

    @invariant()
    def nothing_is_stuck(self) -> None:
        """As long as anything waits, there is a moment at which a worker will look."""
        assert (self.queue.blocking(next_due(TOPICS)) is None) == (self.queue.stats().waiting == 0)

    def is_in(self, state: State, name: tuple[str, str]) -> bool:
        """Tell whether work is in *state*."""
        entry = self.queue.get(*name)
        return entry is not None and entry.state is state


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=25, stateful_step_count=30, suppress_health_check=list(HealthCheck))
