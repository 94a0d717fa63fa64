"""How a value is loaded: one load for each key, here and across processes."""

import secrets
from enum import Enum, auto
from functools import partial
from typing import Any

from resilient_agents._flow import Flow
from resilient_agents.cache._entry import Entry, Missing, monotonic
from resilient_agents.cache._flights import Flight, Outcome, leading
from resilient_agents.cache._tiers import Call, Tiers
from resilient_agents.cache._ways import Way
from resilient_agents.cache.store import StoreUnavailable
from resilient_agents.errors import Category, Failure, classify

FIRST_PAUSE, LONGEST_PAUSE = 0.005, 0.1
"""Time in seconds between two looks at what another process loads, at first and at last."""

SHORTEST_PATIENCE = 0.5
"""For how long, in seconds, another process is waited for at least."""


LASTING = 0.9
"""What part of the memory of a slow load the next one leaves."""

SAME = 0.001
"""Entries that were born within so many seconds are one: each look reads two clocks anew."""


def perform(tiers: Tiers, call: Call, way: Way, flight: Flight, *, take_over: bool = False) -> Flow[None]:
    """Perform the load *flight*, and tell those who wait for it how it ended, however it ends."""
    outcome: Outcome | None = None
    try:
        with leading(flight):
            outcome = yield from _load(tiers, call, way, flight, take_over=take_over)
    except Exception as exc:
        outcome = Outcome(failure=_as_it_came(exc))
    finally:
        tiers.flights.end(flight, outcome)
        outcome = flight = None  # type: ignore[assignment]  # a failure holds this frame


def _as_it_came(exc: Exception) -> Exception:
    """Take the frames of this module off a failure: they hold the load, which will hold the failure."""
    traceback = exc.__traceback__
    while traceback is not None and traceback.tb_frame.f_globals is globals():
        traceback = traceback.tb_next
    return exc.with_traceback(traceback)


class _Lease:
    """The right to fill a key.

    Attributes:
        token: Names it.
        held: Whether it may be ours: also where the store was asked for it, and nobody heard the answer.
    """

    __slots__ = ("held", "token")

    def __init__(self) -> None:
        self.token = secrets.token_hex(8)
        self.held = False


def _load(tiers: Tiers, call: Call, way: Way, flight: Flight, *, take_over: bool) -> Flow[Outcome | None]:
    """Load once the lease is there, or cannot be had."""
    lease = _Lease()
    bypassed = False
    try:
        if tiers.store is None:
            entry = None if tiers.memory is None else tiers.memory.entries.get(call.key)
            if not take_over and entry is not None and _will_do(call, flight, entry):
                return Outcome(entry=entry, herd="process")
        else:
            try:
                entry = yield from _claim(tiers, call, way, flight, lease, take_over=take_over)
            except StoreUnavailable:
                bypassed = True
            else:
                if entry is not None:
                    return Outcome(entry=entry, herd="processes")
                if flight.background and not lease.held:
                    return None
        if flight.background:
            tiers.counters.refreshes += 1
        entry = yield from load(tiers, call, way, bypassed=bypassed)
        kept = yield from _keep(tiers, call, way, flight, entry, lease)
        if take_over and kept is _Kept.NOT and not flight.void:
            # It could not be written: at least nobody shall find the older value any more.
            yield from tiers.expel((call.key,), (), way)
        return Outcome(entry=entry, refused=kept is _Kept.REFUSED)
    finally:
        if lease.held:
            _release(tiers, call, way, lease)


def _release(tiers: Tiers, call: Call, way: Way, lease: _Lease) -> None:
    """End a lease that is not used, so that others need not wait for it; the caller need not wait either."""
    store = tiers.store
    if store is not None and store.usable():
        way.afterwards(partial(way.half(store).release, call.key, lease.token, within=tiers.budget))


def _claim(
    tiers: Tiers, call: Call, way: Way, flight: Flight, lease: _Lease, *, take_over: bool
) -> Flow[Entry | None]:
    """Take the lease on filling the key, or wait for who has it; return what he has loaded.

    Nobody waits longer than twice as long as loads have taken lately: then it is loaded without a lease.
    """
    assert tiers.store is not None  # noqa: S101 - for type checkers
    claim, typical = way.half(tiers.store).claim, call.plan.typical
    patience = tiers.lease if typical is None else max(SHORTEST_PATIENCE, 2 * typical)
    seconds = max(tiers.lease, 3 * (typical or 0.0))
    given_up_at, pause = monotonic() + patience, FIRST_PAUSE
    while True:
        epoch = 0 if tiers.memory is None else tiers.memory.epoch
        lease.held = lease.held or tiers.answers(call)
        lease.held, values = yield from tiers.ask(
            call, claim, call.names, lease.token, seconds, take_over=take_over
        )
        entry = tiers.read(call, values)
        if entry is not None and not take_over and _will_do(call, flight, entry):
            tiers.remember(call, entry, epoch)
            return entry
        left = given_up_at - monotonic()
        if lease.held or flight.background or left <= 0:
            return None
        yield partial(way.waiting.sleep, min(pause, left))
        pause = min(LONGEST_PAUSE, pause * 1.5)


def _will_do(call: Call, flight: Flight, entry: Entry) -> bool:
    """Tell whether *entry*, which is there by now, is what was to be loaded."""
    if monotonic() >= entry.soft:
        return False
    seen = call.seen if flight.background else None
    return seen is None or entry.born > seen.born + SAME


def load(tiers: Tiers, call: Call, way: Way, *, bypassed: bool) -> Flow[Entry]:
    """Call the origin; return what it says as a new entry.

    Args:
        tiers: The cache.
        call: What to load.
        way: How.
        bypassed: Whether the store is away: then only so many loads run at a time.
    """
    plan, counters = call.plan, tiers.counters
    counters.loads += 1
    permit = None
    if bypassed:
        permit = plan.origin.try_enter()
        if permit is None:
            permit = yield from plan.origin.enter(way.waiting)
    born = monotonic()
    value: Any
    try:
        value = yield call.load
    except Exception as exc:
        counters.failed_loads += 1
        value = _absent(call, classify(exc))
        if value is None:
            raise
    finally:
        if permit is not None:
            plan.origin.leave(permit, None)
    now = monotonic()
    plan.typical = max(now - born, LASTING * (plan.typical or 0.0))
    plan.pauses.end(call.key)
    return Entry(
        value,
        born=born,
        soft=now + plan.freshness.lifetime(value),
        cost=now - born,
        tags=call.tags,
        marks=[mark or b"" for mark in call.marks],
    )


def _absent(call: Call, failure: Failure) -> Missing | None:
    """Return what is remembered in place of a failure; note one that is not remembered."""
    plan = call.plan
    if failure.category is Category.NOT_FOUND and plan.freshness.negative_ttl is not None:
        return Missing(failure.code, failure.detail)
    plan.pauses.failed(call.key, failure, monotonic(), plan.freshness.throttle)
    return None


def _wanted(tiers: Tiers, call: Call, entry: Entry) -> bool:
    """Ask the function's condition whether a value is kept."""
    condition = call.plan.condition
    if condition is None or isinstance(entry.value, Missing):
        return True
    try:
        return bool(condition(entry.value))
    except Exception as exc:
        tiers.warn(call.plan, exc)
        return False


class _Kept(Enum):
    """Where a loaded value has got to."""

    WELL = auto()
    """Where it belongs; or nowhere, as it should."""
    REFUSED = auto()
    """Nowhere: the key was written or invalidated, or loaded by somebody who began later."""
    NOT = auto()
    """Not into the store."""


def _keep(tiers: Tiers, call: Call, way: Way, flight: Flight, entry: Entry, lease: _Lease) -> Flow[_Kept]:
    """Keep what was loaded, unless it was old at birth."""
    epoch = None if tiers.memory is None else tiers.memory.epoch
    if flight.void or not _wanted(tiers, call, entry):
        return _Kept.WELL
    kept = _Kept.WELL if tiers.store is None else _Kept.NOT
    if lease.held and tiers.store is not None:
        data = tiers.sealed(call, entry)
        if data is None:
            return _Kept.NOT
        ttl = entry.soft + call.plan.freshness.grace(entry.value) - monotonic()
        tiers.flights.close(flight)
        try:
            fill = way.half(tiers.store).fill
            stored = yield from tiers.ask(call, fill, call.key, data, ttl, lease.token)
            lease.held = False
            if not stored:
                return _Kept.REFUSED
            kept = _Kept.WELL
        except StoreUnavailable:
            pass  # memory has it all the same
    tiers.remember(call, entry, epoch)
    return kept
