"""Calls, writes and invalidations of two processes, interleaved step by step in every order hypothesis likes.

What was invalidated is never seen by who asks afterwards; nobody waits for ever; nothing is left held.
"""

import os
from functools import partial
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.cache.stepping import Steps, Strand

from resilient_agents.cache import Cache
from resilient_agents.cache._calls import answer, renewed
from resilient_agents.cache._entry import Entry, Freshness, monotonic
from resilient_agents.cache._plan import Plan
from resilient_agents.cache._tiers import Call
from resilient_agents.cache.codec import Codec
from resilient_agents.testing import BrokenStore, FakeClock, FakeStore

TTL = 10.0
EXAMPLES = int(os.environ.get("EXAMPLES", "40"))
KEYS = ("a", "b")
BUDGET = 1000.0
"""Time in seconds for the store, which is not what is looked at here."""


class Process:
    """One process: its cache, and what is known of its calls."""

    def __init__(self, store: BrokenStore | None, *, local_ttl: float | None, stale: float) -> None:
        self.store = store
        self.cache = Cache(store, local_ttl=None if store is None else local_ttl, jitter=0.0, budget=BUDGET)
        self.tiers = self.cache._tiers
        ages = Freshness(TTL, 0.0, stale, stale, 0.0, None, 1.0, lambda: 0.5)
        self.plan = Plan("f", ages, codec=Codec(int))
        self.floor = dict.fromkeys(KEYS, 0)


class Interleavings(RuleBasedStateMachine):
    """Two processes and the database whose rows they cache: version numbers that only grow."""

    inline = True
    shared = True

    @initialize(
        local=st.lists(st.sampled_from([None, 2.0]), min_size=2, max_size=2),
        stale=st.sampled_from([0.0, 20.0]),
        unused=st.sampled_from(["put", "tag"]),
    )
    def begin(self, local: list[float | None], stale: float, unused: str) -> None:
        """Start two processes; without a store, one. What is written by hand has no tags."""
        self.unused = unused
        self.clock = FakeClock()
        self.clock.__enter__()
        self.steps = Steps(inline=self.inline)
        self.rows = dict.fromkeys(KEYS, 0)
        self.was_broken = False
        self.stale = stale
        stores = [BrokenStore(twin) for twin in FakeStore.twins(2)] if self.shared else [None]
        self.processes = [
            Process(store, local_ttl=ttl, stale=stale) for store, ttl in zip(stores, local, strict=False)
        ]
        self.checks: list[tuple[Strand, Any]] = []

    def teardown(self) -> None:
        """Let everything end, and see that nothing is left."""
        try:
            self.steps.finish()
            self.look_at_the_ended()
            assert [] == [strand.name for strand in self.steps.strands if not strand.done]
            assert [0 for _ in self.processes] == [len(process.tiers.flights) for process in self.processes]
            if self.shared and not self.was_broken:
                store = self.processes[0].store
                assert store is not None
                assert set() == store._store.leases
        finally:
            self.clock.__exit__(None, None, None)

    def load(self, process: Process, key: str) -> int:
        """Read the row; the answer is on its way until the strand is advanced once more."""
        return self.rows[key]

    def call_of(self, process: Process, key: str) -> Call:
        """Return a call."""
        tags = (f"cache:{{{key}}}:tag",)
        return Call(process.plan, f"cache:{{{key}}}", tags, partial(self.load, process, key), BUDGET)

    @rule(who=st.integers(0, 1), key=st.sampled_from(KEYS), again=st.booleans())
    def call(self, who: int, key: str, again: bool) -> None:
        """Begin a call, or a refresh."""
        process = self.processes[who % len(self.processes)]
        flow = renewed if again else answer
        strand = self.steps.start(flow(process.tiers, self.call_of(process, key), self.steps), f"get {key}")
        self.checks.append((strand, partial(self.is_new_enough, key, process.floor[key])))

    def is_new_enough(self, key: str, floor: int, result: int) -> None:
        """A call sees at least what was invalidated before it began, and nothing that never was."""
        assert floor <= result <= self.rows[key]

    @rule(who=st.integers(0, 1), key=st.sampled_from(KEYS), how=st.sampled_from(["key", "tag", "put"]))
    def change(self, who: int, key: str, how: str) -> None:
        """Change a row, and begin to tell the cache."""
        how = "key" if how == self.unused else how
        under_way = {strand.name for strand in self.steps.strands if not strand.done}
        if f"put {key}" in under_way or (how == "put" and under_way & {f"key {key}", f"tag {key}"}):
            return  # who writes values into a cache in two places at once decides by himself which is newer
        process = self.processes[who % len(self.processes)]
        self.rows[key] += 1
        call, way = self.call_of(process, key), self.steps
        if how == "put":
            now = monotonic()
            entry = Entry(self.rows[key], born=now, soft=now + TTL, tags=(), marks=())
            flow = process.tiers.write(call, entry, way)
        elif how == "tag":
            flow = process.tiers.invalidate((), call.tags, way)
        else:
            flow = process.tiers.invalidate((call.key,), (), way)
        strand = self.steps.start(flow, f"{how} {key}")
        self.checks.append((strand, partial(self.is_known, process, key, self.rows[key])))

    def is_known(self, process: Process, key: str, version: int, done: bool) -> None:
        """From now on nobody may see older ones; if the store does not know yet, nobody of this process."""
        for each in self.processes if done else [process]:
            each.floor[key] = max(each.floor[key], version)

    @rule(order=st.lists(st.integers(0, 5), min_size=1, max_size=20))
    def advance(self, order: list[int]) -> None:
        """Advance strands, in this order."""
        for choice in order:
            ready = [strand for strand in self.steps.strands if strand.ready]
            if ready:
                ready[choice % len(ready)].advance()
                self.look_at_the_ended()

    @rule()
    def finish(self) -> None:
        """Let all that is under way end."""
        self.steps.finish()

    @rule(choice=st.integers(0, 99))
    def cancel(self, choice: int) -> None:
        """Cancel one, now and then."""
        live = [strand for strand in self.steps.strands if not strand.done]
        if choice < len(live):
            live[choice].cancel()

    @rule(seconds=st.sampled_from([0.1, 0.5, 3.0, 12.0]))
    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.advance(seconds)

    @precondition(lambda self: self.shared)
    @rule(who=st.integers(0, 5), how=st.sampled_from(["down", "raise", "garbage", "lost"]))
    def break_store(self, who: int, how: Any) -> None:
        """Break the store for one process, now and then."""
        if who < 2:
            store = self.processes[who].store
            assert store is not None
            self.was_broken = True
            store.breaks(how)

    @precondition(lambda self: self.shared)
    @rule(who=st.integers(0, 1))
    def mend_store(self, who: int) -> None:
        """Mend it."""
        store = self.processes[who].store
        assert store is not None
        store.mend()

    @invariant()
    def look_at_the_ended(self) -> None:
        """Judge the calls that have ended."""
        remaining = []
        for strand, judge in getattr(self, "checks", ()):
            if strand.done and not strand.cancelled:
                if strand.failure is not None:
                    raise strand.failure
                judge(strand.result)
            elif not strand.done:
                remaining.append((strand, judge))
        self.checks = remaining


@pytest.mark.parametrize("local_ttl", [None, 2.0])
@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("inline", [False, True])
@pytest.mark.parametrize("how", ["key", "tag", "put"])
@pytest.mark.parametrize("whose", [0, 1])
def test_a_change_between_any_two_steps_of_a_call_is_seen_by_the_next(
    local_ttl: float | None, beside: bool, inline: bool, how: str, whose: int
) -> None:
    """Who asks after a change sees it, whether a call that began before is over by then or under way."""
    for steps in range(16):
        for warm in (True, False):
            machine = Interleavings()
            machine.inline = inline
            machine.begin(local=[local_ttl, local_ttl], stale=0.0, unused="")
            try:
                if warm:
                    machine.call(1, "a", again=False)
                    machine.finish()
                machine.call(0, "a", again=False)
                machine.advance([0, 1] * steps)
                machine.steps.strands, under_way = [], machine.steps.strands
                machine.change(whose, "a", how)
                machine.finish()
                machine.look_at_the_ended()
                if beside:  # the newcomer gets as far as he can without the other one
                    machine.call(0, "a", again=False)
                    machine.finish()
                machine.steps.strands += under_way
                machine.finish()
                machine.call(0, "a", again=False)
                machine.finish()
                machine.look_at_the_ended()
            finally:
                machine.teardown()


@pytest.mark.parametrize("how", ["key", "tag", "put"])
@pytest.mark.parametrize("whose", [0, 1])
def test_a_call_between_any_two_steps_of_a_change_brings_nothing_back(how: str, whose: int) -> None:
    """What a call finds while a change is being told is gone once it is."""
    for steps in range(5):
        machine = Interleavings()
        machine.begin(local=[2.0, 2.0], stale=0.0, unused="")
        try:
            machine.call(1, "a", again=False)
            machine.finish()
            machine.change(whose, "a", how)
            machine.advance([0] * steps)
            machine.steps.strands, under_way = [], machine.steps.strands
            machine.call(0, "a", again=False)
            machine.call(1, "a", again=False)
            machine.finish()
            machine.steps.strands += under_way
            machine.finish()
            machine.look_at_the_ended()
            machine.call(0, "a", again=False)
            machine.call(1, "a", again=False)
            machine.finish()
            machine.look_at_the_ended()
        finally:
            machine.teardown()


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("inline", [False, True])
def test_no_order_of_steps_brings_back_what_was_invalidated(inline: bool, shared: bool) -> None:
    """Whatever the order, the cancellations and the faults of the store, a call is as new as it must be."""
    machine: Any = type("Machine", (Interleavings,), {"inline": inline, "shared": shared})
    run_state_machine_as_test(machine, settings=settings(max_examples=EXAMPLES, stateful_step_count=40))
