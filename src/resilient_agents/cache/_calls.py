"""The way of a call: a fresh value, an old one that will do, or the origin; decided once for both ways."""

from functools import partial
from typing import Any

from resilient_agents import events
from resilient_agents._flow import Flow
from resilient_agents.cache._entry import MISS, Entry, Miss, Missing, may_pass, monotonic
from resilient_agents.cache._flights import Flight, Outcome, waiting_for
from resilient_agents.cache._loading import load, perform
from resilient_agents.cache._tiers import Call, Tiers
from resilient_agents.cache._ways import Way
from resilient_agents.errors import DeadlineExceeded, NotFound, classify
from resilient_agents.policies._deadline import check, remaining


def answer(tiers: Tiers, call: Call, way: Way, found: tuple[Entry | None, str] | None = None) -> Flow[Any]:
    """Answer a call.

    Args:
        tiers: The cache.
        call: What is asked for.
        way: How the flow is performed.
        found: What a look has brought already.

    Raises:
        NotFound: It is remembered that the thing does not exist.
        DeadlineExceeded: The deadline in force passed while the value was loaded.
        Exception: What the origin raised, where no old value may stand in.
    """
    first = True
    while True:
        entry, tier = found or (yield from tiers.look(call, way))
        found = None
        if entry is not None:
            how = _verdict(tiers, call, entry, tier)
            if how is not None:
                if how in ("due", "refreshing"):
                    refresh_later(tiers, call, way, entry)
                return _served(tiers, call, entry, tier, how)
            if call.reason == "absent":
                call.reason = "expired"
        if first:
            tiers.counters.misses += 1
            tiers.tell(events.CacheMiss, key=call.key, reason=call.reason)
        stand_in = _stand_in(call, entry)
        if stand_in is None:
            check()
        result = yield from _loaded(tiers, call, way, stand_in, first=first)
        if not isinstance(result, _Abandoned):
            return result
        first = False


class _Abandoned:
    """Nobody knows how a load ended that was waited for: its leader was cancelled. It is begun anew."""


_ABANDONED = _Abandoned()


def _verdict(tiers: Tiers, call: Call, entry: Entry, tier: str) -> str | None:
    """Tell how an entry answers a call: as a ``"hit"``, for a reason of `CacheStale`, or not at all."""
    freshness, pauses, now = call.plan.freshness, call.plan.pauses, monotonic()
    paused = pauses.reason(call.key, now)
    if now < entry.soft:
        if not tier:
            return "unavailable"
        return "due" if paused is None and freshness.due(entry, now) else "hit"
    if isinstance(entry.value, Missing) or pauses.hides(call.key):
        return None
    late = now - entry.soft
    if late < freshness.stale:
        return paused or "refreshing"
    return paused if late < freshness.stale_if_error else None


def _stand_in(call: Call, entry: Entry | None) -> Entry | None:
    """Return *entry* if it may be answered with, should the origin fail or take long."""
    if entry is None or isinstance(entry.value, Missing) or call.plan.pauses.hides(call.key):
        return None
    freshness = call.plan.freshness
    grace = max(freshness.stale, freshness.stale_if_error)
    return entry if monotonic() - entry.soft < grace else None


def _served(tiers: Tiers, call: Call, entry: Entry, tier: str, how: str) -> Any:
    """Answer with an entry, and say so."""
    if how in ("hit", "due"):
        if tier == "memory":
            tiers.counters.memory_hits += 1
        else:
            tiers.counters.store_hits += 1
        tiers.tell(events.CacheHit, key=call.key, tier=tier)
    else:
        tiers.counters.stale += 1
        tiers.tell(events.CacheStale, key=call.key, reason=how, age=monotonic() - entry.born)
    return reveal(entry)


def reveal(entry: Entry) -> Any:
    """Return the value of an entry.

    Raises:
        NotFound: It says that the thing does not exist.
    """
    value = entry.value
    if isinstance(value, Missing):
        raise NotFound(value.detail, code=value.code)
    return value


def refresh_later(tiers: Tiers, call: Call, way: Way, entry: Entry) -> None:
    """Load anew in the background, once at a time for each key."""
    flight, leads = tiers.flights.join(call.key, call.tags, way.place())
    if not leads:
        return
    flight.background = True
    call.seen = entry
    call.left = tiers.budget
    ended = partial(tiers.flights.end, flight, None)
    if not way.begin(flight, partial(perform, tiers, call, way, flight), ended):
        ended()


def _patience(call: Call, stand_in: Entry | None) -> float | None:
    """Return for how long a load is waited for, in seconds."""
    soft = call.plan.soft_timeout if stand_in is not None else None
    left = remaining()
    if soft is None or left is None:
        return left if soft is None else soft
    return min(soft, left)


def _loaded(tiers: Tiers, call: Call, way: Way, stand_in: Entry | None, *, first: bool) -> Flow[Any]:
    """Load, or wait for who loads already; an old value stands in where it may."""
    flight, leads = tiers.flights.join(call.key, call.tags, way.place())
    try:
        if leads:
            soft = stand_in is not None and call.plan.soft_timeout is not None and first
            yield from _begun(tiers, call, way, flight, inline=way.inline and not soft)
        with waiting_for(flight) as circular:
            if circular:
                return reveal((yield from load(tiers, call, way, bypassed=False)))
            seconds = _patience(call, stand_in)
            flight.lasting |= stand_in is not None
            if not (yield from tiers.flights.wait(flight, way.waiting, seconds)):
                return _impatient(tiers, call, stand_in)
        if flight.outcome is None:
            return _without_outcome(way, leads=leads)
        if first and not leads and _is_older(tiers, call, flight.outcome):
            return _ABANDONED
        return _result(tiers, call, flight.outcome, stand_in, leads=leads)
    finally:
        flight = None  # type: ignore[assignment]  # a failure holds this frame


def _begun(
    tiers: Tiers, call: Call, way: Way, flight: Flight, *, inline: bool, take_over: bool = False
) -> Flow[None]:
    """Perform a load *inline*, in the flow of its leader, or else begin it beside him."""
    load = partial(perform, tiers, call, way, flight, take_over=take_over)
    if inline or not way.begin(flight, load, partial(tiers.flights.end, flight, None)):
        yield from load()


def _without_outcome(way: Way, *, leads: bool) -> _Abandoned:
    """Begin anew, unless it is our own load that was cancelled, from within or by the end of the loop."""
    if leads and not way.inline:
        import asyncio

        raise asyncio.CancelledError
    return _ABANDONED


def _impatient(tiers: Tiers, call: Call, stand_in: Entry | None) -> Any:
    """Answer a caller who waits no longer."""
    if stand_in is None:
        raise DeadlineExceeded(f"the deadline passed while {call.plan.name} was loaded for the cache")
    call.plan.pauses.slow(call.key, monotonic(), call.plan.freshness.throttle)
    return _served(tiers, call, stand_in, "store", "slow")


def _result(tiers: Tiers, call: Call, outcome: Outcome, stand_in: Entry | None, *, leads: bool) -> Any:
    """Answer with how a load ended."""
    try:
        if outcome.failure is not None:
            if not leads and _is_not_ours(outcome.failure):
                return _ABANDONED
            if stand_in is not None and may_pass(classify(outcome.failure)):
                return _served(tiers, call, stand_in, "store", "failed")
            raise outcome.failure
        herd = outcome.herd or ("" if leads else "process")
        if herd:
            tiers.counters.herded += 1
            tiers.tell(events.CacheHerded, key=call.key, across=herd)
        assert outcome.entry is not None  # noqa: S101 - for type checkers
        return reveal(outcome.entry)
    finally:
        outcome = None  # type: ignore[assignment]  # a failure holds this frame


def _is_older(tiers: Tiers, call: Call, outcome: Outcome) -> bool:
    """Tell whether a load may have begun before a change that the call, which joined it later, must see.

    Its lease was void, or the tags had other versions when it began. Whatever is joined next begins later.
    """
    if outcome.entry is None or tiers.store is None:
        return False
    if outcome.refused:
        return True
    seen = [mark or b"" for mark in call.marks]
    return bool(seen) and call.reason != "unavailable" and seen != list(outcome.entry.marks)


def _is_not_ours(failure: Exception) -> bool:
    """Tell whether a load failed only because the deadline of another caller had passed."""
    return isinstance(failure, DeadlineExceeded) and failure.code == DeadlineExceeded.code


def renewed(tiers: Tiers, call: Call, way: Way) -> Flow[Any]:
    """Load now, whatever is there, and keep it; loads that began before are not kept.

    Raises:
        Exception: What the origin raised.
    """
    while True:
        check()
        tiers.flights.invalidate((call.key,))
        flight, leads = tiers.flights.join(call.key, call.tags, way.place())
        result: Any
        try:
            if leads:
                yield from _begun(tiers, call, way, flight, inline=way.inline, take_over=True)
            if not (yield from tiers.flights.wait(flight, way.waiting, remaining())):
                return _impatient(tiers, call, None)
            if flight.outcome is None:
                result = _without_outcome(way, leads=leads)
            else:
                result = _result(tiers, call, flight.outcome, None, leads=leads)
        finally:
            flight = None  # type: ignore[assignment]  # a failure holds this frame
        if not isinstance(result, _Abandoned):
            return result


def glimpsed(tiers: Tiers, call: Call, way: Way) -> Flow[Any | Miss]:
    """Return the value that a call would be answered with from the cache, or `MISS`."""
    entry, tier = yield from tiers.look(call, way)
    if entry is None or isinstance(entry.value, Missing) or _verdict(tiers, call, entry, tier) is None:
        return MISS
    return entry.value
