"""What becomes of an entry whose delivery failed, for every failure there is."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_agents.deadletter import Entry, Limits, State, Traits
from resilient_agents.deadletter.settlement import not_found, postpone, provably_not_executed, settle
from resilient_agents.deadletter.sqlite import Change
from resilient_agents.deadletter.target import Handler
from resilient_agents.errors import (
    Advice,
    AuthFailed,
    Blocked,
    Category,
    Conflict,
    DeadlineExceeded,
    ExternalFailure,
    Failure,
    Level,
    NotFound,
    Origin,
    OutcomeUnknown,
    QuotaExhausted,
    RateLimited,
    ReauthRequired,
    Unreachable,
    ValidationFailed,
    classify,
)

NOW = 1_000_000.0
LIMITS = Limits()
ENTRY = Entry(
    id=1,
    topic="t",
    key="k",
    ordering_key=None,
    payload={},
    state=State.LEASED,
    due=NOW - 1,
    created=NOW - 10,
    updated=NOW - 1,
)
PLAIN = Handler(print)
RECONCILABLE = Handler(print, reconcile=print)
IDEMPOTENT = Handler(print, idempotent=True)
TARGETS = (PLAIN, RECONCILABLE, IDEMPOTENT, Handler(print, reconcile=print, idempotent=True))
DEPENDENCY = Origin.DEPENDENCY

entries = st.builds(
    replace,
    st.just(ENTRY),
    attempts=st.integers(0, 10_000),
    errors=st.integers(0, LIMITS.max_attempts - 1),
    sent_at=st.none() | st.floats(NOW - 200, NOW),
)
failures = st.builds(
    Failure,
    category=st.sampled_from(Category),
    origin=st.sampled_from(Origin),
    code=st.just("c"),
    status=st.just(500),
    advice=st.sampled_from(Advice),
    retry_after=st.none() | st.floats(0, 1e7),
    level=st.just(Level.ERROR),
    title=st.just("Title"),
    detail=st.just("detail"),
)
targets = st.sampled_from(TARGETS)


def settled(
    failure: Failure | Exception, target: Handler, entry: Entry = ENTRY, *, target_works: bool = False
) -> Change:
    """Settle *entry* under the default limits."""
    if isinstance(failure, Exception):
        failure = classify(failure)
    return settle(entry, failure, limits=LIMITS, now=NOW, target=target, target_works=target_works)


S, U, P = State.SCHEDULED, State.UNCERTAIN, State.PARKED


@pytest.mark.parametrize(
    ("error", "states", "held_against"),
    [
        (Unreachable(), (S, S, S), False),
        (RateLimited(), (S, S, S), False),
        (Blocked(), (S, S, S), False),
        (QuotaExhausted(), (S, S, S), False),
        (ReauthRequired(), (S, S, S), False),
        (AuthFailed(origin=DEPENDENCY), (S, S, S), False),
        (ValidationFailed(origin=DEPENDENCY), (P, P, P), True),
        (NotFound(origin=DEPENDENCY), (P, P, P), True),
        (Conflict(origin=DEPENDENCY), (P, P, P), True),
        (ExternalFailure(), (P, U, S), False),
        (OutcomeUnknown(), (P, U, S), False),
        (DeadlineExceeded(), (P, U, S), False),
        (TimeoutError(), (P, U, S), False),
        (ConnectionResetError(), (P, U, S), False),
        (ConnectionRefusedError(), (S, S, S), False),
        (ValueError("a bug"), (P, U, S), True),
        (ValidationFailed(), (P, U, S), True),
        (AuthFailed(), (P, U, S), True),
    ],
    ids=lambda it: type(it).__name__ if isinstance(it, Exception) else "",
)
def test_table(error: Exception, states: tuple[State, ...], held_against: bool) -> None:
    """Each kind of failure has its consequence, by what the target allows."""
    changes = [settled(error, target) for target in (PLAIN, RECONCILABLE, IDEMPOTENT)]

    assert states == tuple(change.state for change in changes)
    assert {held_against} == {change.held_against for change in changes}
    assert {classify(error).code} == {change.code for change in changes}


@given(failures, entries, targets)
def test_no_outage_parks(failure: Failure, entry: Entry, target: Handler) -> None:
    """An outage never costs an entry anything, unless it may have been executed and nobody can tell."""
    change = settled(failure, target, entry)
    can_go_on = provably_not_executed(failure) or target is not PLAIN

    if failure.outage and can_go_on:
        assert change.state is not State.PARKED
    if failure.outage:
        assert not change.held_against


@given(failures, entries, targets, st.booleans())
def test_nothing_doubtful_is_just_sent_again(
    failure: Failure, entry: Entry, target: Handler, target_works: bool
) -> None:
    """What may have been executed is looked for, or harmless to repeat, or parked."""
    change = settled(failure, target, entry, target_works=target_works)
    perhaps_executed = failure.advice is Advice.IDEMPOTENT and failure.category is Category.EXTERNAL
    a_bug = failure.origin is not Origin.DEPENDENCY and failure.advice is Advice.NEVER

    if perhaps_executed or a_bug:
        assert NOW == change.sent_at
    if change.state is State.SCHEDULED and not target.traits.idempotent:
        assert entry.sent_at == change.sent_at
        assert not perhaps_executed
        assert not a_bug
        assert entry.sent_at is None or not target.traits.reconcilable


@given(failures, entries, targets, st.booleans())
def test_hint_is_never_undercut(failure: Failure, entry: Entry, target: Handler, target_works: bool) -> None:
    """Asked to wait, an entry waits at least as long, even if it only wants to look."""
    change = settled(failure, target, entry, target_works=target_works)
    later = postpone(entry, failure, limits=LIMITS, now=NOW)

    for it in (change, later):
        assert it.state is State.PARKED or it.due >= NOW + (failure.retry_after or 0.0)


@given(failures, entries, targets, st.booleans())
def test_attempts_run_out(failure: Failure, entry: Entry, target: Handler, target_works: bool) -> None:
    """The last failure held against an entry parks it, and the one before does not yet."""
    change = settled(failure, target, entry, target_works=target_works)

    if change.held_against and entry.errors == LIMITS.max_attempts - 1:
        assert change.state is State.PARKED
    if change.state is State.PARKED and entry.errors < LIMITS.max_attempts - 1:
        assert not failure.outage or not provably_not_executed(failure)


@given(failures.filter(lambda it: it.category is not Category.EXTERNAL), entries)
def test_everything_that_is_no_outage_ends(failure: Failure, entry: Entry) -> None:
    """No entry goes round for ever because of itself: it waits for the target, or counts down."""
    change = settled(failure, IDEMPOTENT, entry)

    assert change.held_against or failure.outage or failure.category is Category.RATE_LIMIT


@pytest.mark.parametrize("target", [RECONCILABLE, IDEMPOTENT])
def test_one_bad_entry_at_a_good_target(target: Handler) -> None:
    """A server error for one entry only, while others pass, is that entry's own and ends."""
    alone = settled(ExternalFailure(), target, target_works=True)
    last = settled(ExternalFailure(), target, replace(ENTRY, errors=9), target_works=True)

    assert alone.held_against
    assert State.PARKED is last.state


def test_in_doubt_is_looked_for_when_the_target_has_settled() -> None:
    """The look comes no later than the grace, however many tries went before."""
    change = settled(OutcomeUnknown(), RECONCILABLE, replace(ENTRY, attempts=50))

    assert (State.UNCERTAIN, NOW, NOW + RECONCILABLE.traits.grace) == (
        change.state,
        change.sent_at,
        change.due,
    )


def test_doubt_outlives_a_failure_that_proves_nothing() -> None:
    """An earlier send of unknown outcome is remembered when the next try does not get through."""
    change = settled(Unreachable(), RECONCILABLE, replace(ENTRY, sent_at=NOW - 500))

    assert (State.UNCERTAIN, NOW - 500) == (change.state, change.sent_at)


def test_last_error_is_redacted() -> None:
    """What is stored of a failure holds no secrets."""
    change = settled(Unreachable("no way to https://user:hunter2@crm.example/"), PLAIN)

    assert change.last_error is not None
    assert "crm.example" in change.last_error
    assert "hunter2" not in change.last_error


@given(
    st.integers(1, 10**6),
    st.floats(0.001, 1000),
    st.floats(0.001, 100_000),
)
def test_wait(tries: int, initial: float, longest: float) -> None:
    """A wait is between half of its ceiling and all of it, and the ceiling doubles up to the greatest."""
    wait = Limits(wait_initial=initial, wait_max=longest).wait(tries)
    ceiling = min(longest, initial * 2.0 ** min(tries - 1, 60))

    assert ceiling / 2 <= wait <= ceiling


def test_waits_differ() -> None:
    """No two entries march in step."""
    waits = {LIMITS.wait(5) for _ in range(20)}

    assert len(waits) > 10


class TestNotFound:
    """A look that found nothing."""

    def test_within_grace(self) -> None:
        """Right after a send, "not found" is not believed."""
        entry = replace(ENTRY, sent_at=NOW - 1, attempts=1, code="c", last_error="e")

        change = not_found(entry, limits=LIMITS, now=NOW, grace=60)

        assert change is not None
        assert (State.UNCERTAIN, NOW - 1, "c", "e", False, False) == (
            change.state,
            change.sent_at,
            change.code,
            change.last_error,
            change.attempted,
            change.held_against,
        )
        assert NOW < change.due <= NOW + 59

    def test_after_grace(self) -> None:
        """Once the target has settled, "not found" means that it may be sent."""
        assert not_found(replace(ENTRY, sent_at=NOW - 60), limits=LIMITS, now=NOW, grace=60) is None

    def test_few_looks(self) -> None:
        """Within the grace the looks grow rarer: a target in trouble is not pestered."""
        now, looks, entry = NOW, 0, replace(ENTRY, sent_at=NOW, attempts=1)
        while (change := not_found(entry, limits=LIMITS, now=now, grace=600)) is not None:
            now, looks = change.due, looks + 1

        assert NOW + 600 == now
        assert looks <= 12


class TestPostpone:
    """A look that failed."""

    def test_outage(self) -> None:
        """An outage costs nothing, and the doubt stays."""
        entry = replace(ENTRY, sent_at=NOW - 5, errors=LIMITS.max_attempts - 1)

        change = postpone(entry, classify(Unreachable()), limits=LIMITS, now=NOW)

        assert (State.UNCERTAIN, NOW - 5, False) == (change.state, change.sent_at, change.held_against)

    def test_defect(self) -> None:
        """A look that can never work does not go on for ever."""
        entry, waits = replace(ENTRY, sent_at=NOW - 5), []
        failure = classify(KeyError())
        while True:
            change = postpone(entry, failure, limits=LIMITS, now=NOW)
            if change.state is State.PARKED:
                break
            waits.append(change.due - NOW)
            entry = replace(entry, errors=entry.errors + 1, attempts=entry.attempts + change.attempted)

        assert LIMITS.max_attempts - 1 == len(waits)
        assert sorted(waits[::2]) == waits[::2]
        assert NOW - 5 == change.sent_at


def test_traits_defaults() -> None:
    """A target that says nothing of itself is trusted with nothing."""
    traits: Any = Traits(awaiting=False, reconcilable=False)

    assert (False, 60.0, 1, None) == (traits.idempotent, traits.grace, traits.batch, traits.patience)
