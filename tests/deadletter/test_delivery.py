"""One try at leased entries: what is looked for, what is sent, what is recorded."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from resilient_agents import DeadLetterQueue, Delivered, Queued, Replayer, events
from resilient_agents._flow import Flow, run
from resilient_agents.deadletter import Entry, Limits, Outcome, Pass, State, Traits
from resilient_agents.deadletter.pauses import STRIKES
from resilient_agents.deadletter.sqlite import claim, expire
from resilient_agents.deadletter.target import Handler
from resilient_agents.errors import (
    Blocked,
    ConfigurationError,
    ExternalFailure,
    Origin,
    OutcomeUnknown,
    StorageFull,
    Unreachable,
    ValidationFailed,
    classify,
)
from resilient_agents.testing import FakeClock

LEASE = 60.0
GRACE = 30.0
REJECTED = ValidationFailed("no phone", origin=Origin.DEPENDENCY)

Answer = Exception | Callable[[], object] | None
"""What the CRM does with a lead: fail, do something first, or just take it."""


class Crm:
    """A CRM in memory, which numbers the leads it has and does as it is told."""

    def __init__(self, **traits: Any) -> None:
        self.traits = Traits(**{"awaiting": False, "reconcilable": True, "grace": GRACE, **traits})
        self.leads: list[str] = []
        self.calls: list[list[str]] = []
        self.looks: list[str] = []
        self.answers: dict[str, list[Answer]] = {}
        self.search_fails: list[Exception] = []
        self.on_look: Callable[[], object] = list

    def answer(self, key: str, *answers: Answer) -> None:
        """Say what becomes of the next sends of *key*; after them it is simply taken."""
        self.answers[key] = list(answers)

    def deliver(self, entries: Sequence[Entry]) -> Flow[Sequence[Outcome]]:
        """Take *entries* in one call."""
        outcomes: list[Outcome] = yield partial(self._take, [entry.key for entry in entries])
        return outcomes

    def find(self, entry: Entry) -> Flow[str | None]:
        """Look for a lead."""
        found: str | None = yield partial(self._look, entry.key)
        return found

    def _take(self, keys: list[str]) -> list[Outcome]:
        self.calls.append(keys)
        return [self._take_one(key) for key in keys]

    def _take_one(self, key: str) -> Outcome:
        answer = self.answers[key].pop(0) if self.answers.get(key) else None
        if isinstance(answer, Unreachable | ValidationFailed):
            return Outcome(error=answer)
        self.leads.append(key)
        if callable(answer):
            answer()
            return Outcome(reference=key)
        return Outcome(reference=key, value=len(self.leads)) if answer is None else Outcome(error=answer)

    def _look(self, key: str) -> str | None:
        self.looks.append(key)
        self.on_look()
        if self.search_fails:
            raise self.search_fails.pop(0)
        return key if key in self.leads else None


@pytest.fixture
def queue(url: str, clock: FakeClock) -> Iterator[DeadLetterQueue]:
    """Open an empty queue."""
    with DeadLetterQueue(url, lease=LEASE, limits=Limits(max_attempts=3, max_crashes=3)) as opened:
        yield opened


@pytest.fixture
def crm(queue: DeadLetterQueue) -> Crm:
    """Attach a CRM to topic ``t``."""
    target = Crm()
    queue.attach("t", target)
    return target


def in_one_step(step: Callable[[], Any]) -> Flow[Any]:
    """Return a flow of one step."""
    return (yield step)


def crash(queue: DeadLetterQueue, clock: FakeClock) -> None:
    """Take everything that is due and never come back, until that is noticed."""
    queue.blocking(claim(topic="t", limit=100, now=clock.time(), lease=LEASE))
    clock.advance(LEASE + 1)
    limits = queue.limits
    queue.blocking(expire(now=clock.time(), max_crashes=limits.max_crashes, delay=limits.wait_initial))


def kinds(heard: list[events.Event]) -> list[str]:
    """Return the names of the events."""
    return [type(event).__name__ for event in heard]


def test_delivered(queue: DeadLetterQueue, crm: Crm, clock: FakeClock, heard: list[events.Event]) -> None:
    """What arrives leaves the queue for the ledger, in one step, and it is said."""
    entry = queue.enqueue("t", {}, key="k")
    clock.advance(7)

    assert Pass(delivered=1) == Replayer(queue).run_once()

    line = queue.get("t", "k")
    assert line is not None
    assert (entry.id, State.DELIVERED, "k", 1, 0) == (
        line.id,
        line.state,
        line.reference,
        line.attempts,
        line.crashes,
    )
    assert (clock.time() - 7, clock.time()) == (line.created, line.updated)
    delivered = events.EntryDelivered(topic="t", entry_id=entry.id, key="k", reference="k", reconciled=False)
    assert delivered == heard[-1]
    assert [] == crm.looks


def test_unknown_outcome_is_looked_for(
    queue: DeadLetterQueue, crm: Crm, clock: FakeClock, heard: list[events.Event]
) -> None:
    """A lead that arrived without an answer is found, and not sent a second time."""
    crm.answer("k", OutcomeUnknown())
    queue.enqueue("t", {}, key="k")

    assert Pass(deferred=1) == Replayer(queue).run_once()
    waiting = queue.get("t", "k")
    assert waiting is not None
    assert (State.UNCERTAIN, clock.time(), 1) == (waiting.state, waiting.sent_at, waiting.attempts)
    clock.advance(GRACE)
    assert Pass(delivered=1) == Replayer(queue).run_once()

    assert (["k"], ["k"]) == (crm.leads, crm.looks)
    line = queue.get("t", "k")
    assert line is not None
    assert ("k", 1) == (line.reference, line.attempts)
    assert ["EntryAccepted", "EntryDeferred", "EntryDelivered"] == kinds(heard)
    assert getattr(heard[-1], "reconciled", None) is True


def test_not_found_is_not_believed_at_once(queue: DeadLetterQueue, crm: Crm, clock: FakeClock) -> None:
    """A slow target may still be at it: only after the grace is a missing lead sent again."""
    queue.enqueue("t", {}, key="k")
    crash(queue, clock)
    sent_at = clock.time() - 1
    replayer = Replayer(queue)

    while clock.time() < sent_at + GRACE:
        assert 0 == replayer.run_once().delivered
        assert [] == crm.calls
        clock.advance(1)
    clock.advance(1)

    assert 1 == replayer.run_once().delivered
    assert ["k"] == crm.leads
    assert 1 < len(crm.looks) < 10


def test_failing_search(queue: DeadLetterQueue, crm: Crm, clock: FakeClock) -> None:
    """A search that fails proves nothing: nothing is sent, and it is looked for again."""
    crm.answer("k", OutcomeUnknown())
    crm.search_fails = [ExternalFailure()]
    queue.enqueue("t", {}, key="k")
    Replayer(queue).run_once()
    clock.advance(GRACE)

    assert Pass(deferred=1) == Replayer(queue).run_once()
    clock.advance(GRACE)
    assert Pass(delivered=1) == Replayer(queue).run_once()

    assert ["k"] == crm.leads


def test_search_at_a_dead_target_pauses_it(
    queue: DeadLetterQueue, crm: Crm, clock: FakeClock, heard: list[events.Event]
) -> None:
    """Searches that find the target down count as strikes, and cost the entry nothing."""
    crm.search_fails = [ExternalFailure() for _ in range(3)]
    queue.enqueue("t", {}, key="k")
    crash(queue, clock)
    for _ in range(3):
        Replayer(queue).run_once()
        clock.advance(4)

    assert "TopicPaused" in kinds(heard)
    entry = queue.get("t", "k")
    assert entry is not None
    assert (State.UNCERTAIN, 0, 1) == (entry.state, entry.errors, entry.crashes)


def test_search_stops_at_a_dead_target(queue: DeadLetterQueue, crm: Crm, clock: FakeClock) -> None:
    """Once the searches of a call have paused their target, the others are put off unasked."""
    crm.traits = replace(crm.traits, batch=50)
    crm.search_fails = [ExternalFailure() for _ in range(50)]
    for n in range(20):
        queue.enqueue("t", {"n": n})
    crash(queue, clock)

    assert Pass(deferred=20) == Replayer(queue).run_once()

    assert STRIKES == len(crm.looks)
    assert queue.pauses.wait("t") <= queue.limits.wait_initial


def test_search_ends_suspicion(queue: DeadLetterQueue, crm: Crm, clock: FakeClock) -> None:
    """When a suspect target answers a search, the rest is looked for in whole batches again."""
    crm.traits = replace(crm.traits, batch=50)
    crm.leads = [str(n) for n in range(20)]
    for n in range(20):
        queue.enqueue("t", {}, key=str(n))
    crash(queue, clock)
    queue.pauses.failed("t", classify(Blocked(retry_after=5.0)))
    clock.advance(6)

    assert Pass(delivered=20) == Replayer(queue).run_once()


def test_leases_are_renewed_between_searches(
    queue: DeadLetterQueue, crm: Crm, clock: FakeClock, heard: list[events.Event]
) -> None:
    """A call that looks for many entries, slowly, does not lose the leases of those it will send."""
    crm.traits = replace(crm.traits, batch=50, grace=0.0)
    crm.on_look = partial(clock.advance, LEASE / 4)
    for n in range(8):
        queue.enqueue("t", {"n": n})
    crash(queue, clock)

    assert Pass(delivered=8) == Replayer(queue).run_once()
    assert "LeaseLost" not in kinds(heard)


def test_failures_of_a_crowd_are_held_against_nobody(
    queue: DeadLetterQueue, crm: Crm, clock: FakeClock
) -> None:
    """Of many entries in one failed call nobody knows which is to blame; of one it is clear."""
    crm.traits = replace(crm.traits, batch=2)
    for key in "ab":
        crm.answer(key, ExternalFailure(), ExternalFailure())
        queue.enqueue("t", {}, key=key)
    clock.advance(1)
    queue.pauses.served("t")
    Replayer(queue).run_once()

    assert [0, 0] == [entry.errors for entry in queue.entries()]

    crm.traits = replace(crm.traits, batch=1, reconcilable=False, idempotent=True)
    clock.advance(5)
    queue.pauses.served("t")
    Replayer(queue).run_once()

    assert 1 == max(entry.errors for entry in queue.entries())


def test_who_failed_twice_goes_alone(queue: DeadLetterQueue, crm: Crm, clock: FakeClock) -> None:
    """An entry that breaks each call it is in ends up alone and parked, and the others arrive."""
    crm.traits = replace(crm.traits, batch=50, grace=0.0)
    take = crm._take

    def choke(keys: list[str]) -> list[Outcome]:
        if "poison" in keys:
            raise ExternalFailure
        return take(keys)

    crm.deliver = lambda entries: in_one_step(partial(choke, [entry.key for entry in entries]))  # type: ignore[method-assign]
    for key in ("a", "poison", "b", "c"):
        queue.enqueue("t", {}, key=key)
    for n in range(12):
        queue.enqueue("t", {}, key=f"live-{n}")
        Replayer(queue).run_once()
        clock.advance(2000)

    assert {"a", "b", "c"} < set(crm.leads)
    assert [("poison", State.PARKED)] == [(entry.key, entry.state) for entry in queue.entries()]


def test_the_rest_of_a_call_is_put_back(queue: DeadLetterQueue, crm: Crm, clock: FakeClock) -> None:
    """When the first of several calls shows that the target is down, the others are not made."""
    crm.traits = replace(crm.traits, batch=50)
    keys = [str(n) for n in range(6)]
    for key in keys:
        crm.answer(key, OutcomeUnknown(), OutcomeUnknown())
        queue.enqueue("t", {}, key=key)
    for _ in range(2):
        crm.leads.clear()
        Replayer(queue).run_once()
        clock.advance(1000)
    crm.leads.clear()
    crm.calls.clear()
    for key in keys:
        crm.answer(key, *[Blocked(retry_after=100)] * 9)

    Replayer(queue).run_once()

    assert 1 == len(crm.calls)
    assert {State.UNCERTAIN} == {entry.state for entry in queue.entries()}
    assert all(entry.due >= clock.time() + 90 for entry in queue.entries())


def test_a_renewal_that_renewed_nothing(
    queue: DeadLetterQueue, crm: Crm, clock: FakeClock, heard: list[events.Event]
) -> None:
    """A worker whose lease another one has taken meanwhile sends nothing, though it tried to renew it."""
    crm.traits = replace(crm.traits, grace=0.0)
    queue.enqueue("t", {}, key="k")
    crash(queue, clock)

    def slow() -> None:
        clock.advance(LEASE / 2)
        later = clock.time() + LEASE
        queue.blocking(expire(now=later, max_crashes=9, delay=0.0))
        queue.blocking(claim(topic="t", limit=9, now=later, lease=LEASE))

    crm.on_look = slow
    Replayer(queue).run_once()

    assert [] == crm.calls
    assert "LeaseLost" in kinds(heard)


def test_what_the_disk_does_not_record(
    queue: DeadLetterQueue, crm: Crm, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """When the disk fails after the call, the caller keeps his receipt, and the lead is found later."""

    def perform(operation: Any) -> Any:
        if crm.leads:
            raise StorageFull("queue.db: the disk is full")
        return queue.blocking(operation)

    receipt = run(queue.hand_in(perform, "t", {}, key="k"))

    assert isinstance(receipt, Queued)
    assert (State.LEASED, "internal.storage_full") == (receipt.state, receipt.code)
    assert "not recorded" in caplog.text
    clock.advance(LEASE + 1)
    assert Pass(delivered=1) == Replayer(queue).run_once()
    assert ["k"] == crm.leads


@pytest.mark.parametrize(
    ("error", "traits", "state", "seconds"),
    [
        (ExternalFailure(), {}, State.UNCERTAIN, 1.0),
        (ExternalFailure(), {"reconcilable": False}, State.PARKED, 0.0),
        (ExternalFailure(), {"reconcilable": False, "idempotent": True}, State.SCHEDULED, 1.0),
        (Unreachable(), {}, State.SCHEDULED, 1.0),
        (Unreachable(retry_after=20.0), {}, State.SCHEDULED, 20.0),
        (REJECTED, {}, State.PARKED, 0.0),
        (KeyError(), {"reconcilable": False}, State.PARKED, 0.0),
    ],
)
def test_try_that_was_made_elsewhere(
    queue: DeadLetterQueue,
    clock: FakeClock,
    heard: list[events.Event],
    error: Exception,
    traits: dict[str, bool],
    state: State,
    seconds: float,
) -> None:
    """Work comes with what became of it, and goes on as if the queue had made that try; nothing is sent."""
    crm = Crm(**traits)
    queue.attach("elsewhere", crm)
    for _ in range(3):  # a topic that is down all the same takes its failure in
        queue.pauses.failed("elsewhere", classify(Unreachable(retry_after=60.0)))

    receipt = run(queue.hand_in(queue.blocking, "elsewhere", {}, key="k", error=error))

    assert isinstance(receipt, Queued)
    assert (state, classify(error).code) == (receipt.state, receipt.code)
    assert seconds / 2 <= receipt.due - clock.time() <= seconds
    assert ([], []) == (crm.calls, crm.looks)
    outcome = "EntryParked" if state is State.PARKED else "EntryDeferred"
    assert ["EntryAccepted", outcome] == [name for name in kinds(heard) if name.startswith("Entry")]
    assert 1 == queue.entries()[0].attempts


def test_try_that_was_made_elsewhere_is_taken_in_once(queue: DeadLetterQueue) -> None:
    """A message that comes twice, and fails twice, is one entry."""
    queue.attach("elsewhere", Crm())
    queue.pauses.served("elsewhere")

    first, second = (
        run(queue.hand_in(queue.blocking, "elsewhere", {}, key="k", error=Unreachable())) for _ in range(2)
    )

    assert isinstance(first, Queued)
    assert first == second
    (entry,) = queue.entries()
    assert (1, 0) == (entry.attempts, entry.errors)  # whether the target works now, nobody here knows


def test_defective_search_ends(queue: DeadLetterQueue, crm: Crm, clock: FakeClock) -> None:
    """A search that can never work parks its entry in the end, for a person to look."""
    crm.search_fails = [KeyError()] * 10
    queue.enqueue("t", {}, key="k")
    crash(queue, clock)
    parked = 0
    while not parked:
        parked = Replayer(queue).run_once().parked
        clock.advance(1000)

    assert 3 == len(crm.looks)
    assert [] == crm.calls


def test_nobody_can_look(queue: DeadLetterQueue, clock: FakeClock, heard: list[events.Event]) -> None:
    """Without a search, work whose worker died is never repeated blindly: a person is asked."""
    calls: list[Any] = []
    queue.handler("t")(calls.append)
    queue.enqueue("t", {}, key="k")
    crash(queue, clock)

    assert Pass(parked=1) == Replayer(queue).run_once()

    entry = queue.get("t", "k")
    assert entry is not None
    assert [] == calls
    assert ("external.outcome_unknown", State.PARKED) == (entry.code, entry.state)
    assert entry.last_error is not None
    assert "look, then redrive it with resend=True" in entry.last_error
    assert "EntryParked" == kinds(heard)[-1]


def test_harmless_work_is_repeated(queue: DeadLetterQueue, clock: FakeClock) -> None:
    """Work that may be done twice is simply done again after a crash."""
    calls: list[Any] = []
    queue.handler("t", idempotent=True)(calls.append)
    queue.enqueue("t", {"n": 1})
    crash(queue, clock)

    assert Pass(delivered=1) == Replayer(queue).run_once()
    assert [{"n": 1}] == calls


def test_rejected(queue: DeadLetterQueue, crm: Crm, heard: list[events.Event]) -> None:
    """What the target rejects for what it is, a person must see."""
    crm.answer("k", REJECTED)
    entry = queue.enqueue("t", {}, key="k")

    assert Pass(parked=1) == Replayer(queue).run_once()

    failure = classify(REJECTED)
    parked = events.EntryParked(
        topic="t", entry_id=entry.id, key="k", reason="validation.invalid", failure=failure
    )
    assert parked == heard[-1]
    kept = queue.get("t", "k")
    assert kept is not None
    assert "Invalid input: no phone" == kept.last_error


def test_defect_of_the_handler(queue: DeadLetterQueue, caplog: pytest.LogCaptureFixture) -> None:
    """A bug in a handler is logged with its traceback, and the entry says where it was."""

    @queue.handler("bug")
    def work(_: object) -> None:
        raise KeyError("phone")

    queue.enqueue("bug", {}, key="k")
    Replayer(queue).run_once()

    entry = queue.get("bug", "k")
    assert entry is not None
    assert entry.last_error is not None
    assert "test_delivery.py" in entry.last_error
    assert "in work" in entry.last_error
    assert "phone" not in entry.last_error
    assert ["KeyError"] == [
        it.exc_info[0].__name__ for it in caplog.records if it.exc_info and it.exc_info[0]
    ]


def test_outage_spends_nothing(queue: DeadLetterQueue, crm: Crm, clock: FakeClock) -> None:
    """A long outage parks nobody, however many tries it takes."""
    crm.answer("k", *[Unreachable()] * 50)
    queue.enqueue("t", {}, key="k")
    replayer = Replayer(queue)
    while not replayer.run_once().delivered:
        clock.advance(600)

    line = queue.get("t", "k")
    assert line is not None
    assert (51, ["k"]) == (line.attempts, crm.leads)


def test_attempts_spent(queue: DeadLetterQueue, clock: FakeClock) -> None:
    """A failure that is the work's own parks it after as many as are allowed."""
    calls: list[int] = []

    @queue.handler("t", idempotent=True)
    def work(_: object) -> None:
        calls.append(1)
        raise KeyError

    queue.enqueue("t", {})
    states = []
    for _ in range(4):
        states.append(Replayer(queue).run_once())
        clock.advance(1000)

    assert [Pass(deferred=1), Pass(deferred=1), Pass(parked=1), Pass()] == states
    assert 3 == len(calls)


def test_deferred_event(
    queue: DeadLetterQueue, crm: Crm, clock: FakeClock, heard: list[events.Event]
) -> None:
    """A try that will be repeated says so: when, and why."""
    crm.answer("k", Unreachable(retry_after=77))
    queue.enqueue("t", {}, key="k")
    Replayer(queue).run_once()

    (event,) = (event for event in heard if isinstance(event, events.EntryDeferred))
    assert ("scheduled", "external.unreachable") == (event.state, event.failure.code)
    assert 77 == pytest.approx(event.wait)


class TestLeases:
    """Who may work at an entry, and until when."""

    def test_lost_in_the_middle(
        self, queue: DeadLetterQueue, crm: Crm, clock: FakeClock, heard: list[events.Event]
    ) -> None:
        """A worker that was away for too long records nothing; the next one finds what it did."""

        def sleep_through_the_lease() -> None:
            clock.advance(LEASE + 1)
            queue.blocking(expire(now=clock.time(), max_crashes=3, delay=1))

        crm.answer("k", sleep_through_the_lease)
        entry = queue.enqueue("t", {}, key="k")

        step = Replayer(queue)._step(queue.blocking, awaiting=False)
        run(step)

        assert events.LeaseLost(topic="t", entry_id=entry.id, key="k") == heard[-1]
        lost = queue.get("t", "k")
        assert lost is not None
        assert (State.UNCERTAIN, 1, 0) == (lost.state, lost.crashes, lost.attempts)
        assert 1 == Replayer(queue).run_once().delivered
        assert (["k"], ["k"]) == (crm.leads, crm.looks)

    @pytest.mark.parametrize("answer", [None, OutcomeUnknown(), Unreachable(), REJECTED], ids=repr)
    def test_fencing(self, queue: DeadLetterQueue, crm: Crm, clock: FakeClock, answer: Answer) -> None:
        """When another worker has the entry already, the old one's word does not count."""
        crm.answer("k", answer)
        queue.enqueue("t", {}, key="k")
        perform = queue.blocking
        (old,) = perform(claim(topic="t", limit=1, now=clock.time(), lease=LEASE))
        clock.advance(LEASE + 1)
        perform(expire(now=clock.time(), max_crashes=3, delay=0))
        (new,) = perform(claim(topic="t", limit=1, now=clock.time(), lease=LEASE))

        late = queue.attempt("t", holds=lambda _: True)
        run(late.make(perform, [old]))

        assert (1, 2) == (old.token, new.token)
        assert new == queue.get("t", "k")

    def test_lease_over_before_the_call(
        self, queue: DeadLetterQueue, crm: Crm, clock: FakeClock, heard: list[events.Event]
    ) -> None:
        """A worker whose lease ran out while it looked does not send any more."""
        queue.enqueue("t", {}, key="k")
        (entry,) = queue.blocking(claim(topic="t", limit=1, now=clock.time(), lease=LEASE))

        (receipt,) = run(queue.attempt("t", holds=lambda _: False).make(queue.blocking, [entry]))

        assert [] == crm.calls
        assert State.LEASED is getattr(receipt, "state", None)
        assert ["EntryAccepted", "LeaseLost"] == kinds(heard)

    def test_crashes_park(
        self, queue: DeadLetterQueue, crm: Crm, clock: FakeClock, heard: list[events.Event]
    ) -> None:
        """An entry that kills its worker each time is put aside, and counted apart from errors."""
        entry = queue.enqueue("t", {}, key="k")
        for _ in range(3):
            queue.blocking(claim(topic="t", limit=1, now=clock.time(), lease=LEASE))
            clock.advance(LEASE + 10)
            queue.blocking(expire(now=clock.time(), max_crashes=4, delay=1))
            clock.advance(10)
        queue.blocking(claim(topic="t", limit=1, now=clock.time(), lease=LEASE))
        clock.advance(LEASE + 1)

        assert 0 == Replayer(queue).run_once().handled

        parked = queue.get("t", "k")
        assert parked is not None
        assert (State.PARKED, 4, 0, "internal.crashes") == (
            parked.state,
            parked.crashes,
            parked.errors,
            parked.code,
        )
        gone = events.EntryParked(topic="t", entry_id=entry.id, key="k", reason="internal.crashes")
        assert gone == heard[-1]
        assert [] == crm.calls

    def test_renewed(self, queue: DeadLetterQueue, crm: Crm, clock: FakeClock) -> None:
        """A worker that lives renews its lease, so nobody takes a long call from it."""
        replayer = Replayer(queue)
        others: list[int] = []

        def work_long() -> None:
            for _ in range(4):
                clock.advance(LEASE / 2)
                replayer._beat()
                others.append(Replayer(queue).run_once().handled)

        crm.answer("k", work_long)
        queue.enqueue("t", {}, key="k")

        assert Pass(delivered=1) == replayer.run_once()
        assert [0, 0, 0, 0] == others
        line = queue.get("t", "k")
        assert line is not None
        assert 0 == line.crashes

    def test_lost_lease_is_not_renewed(self, queue: DeadLetterQueue, crm: Crm, clock: FakeClock) -> None:
        """A lease that ran out stays lost, even if its worker wakes up again."""
        replayer = Replayer(queue)

        leases: list[float | None] = []

        def oversleep() -> None:
            clock.advance(LEASE + 1)
            replayer._beat()
            leases.extend(entry.lease_until for entry in queue.entries())

        crm.answer("k", oversleep)
        queue.enqueue("t", {}, key="k")
        replayer.run_once()

        assert [clock.time() - 1] == leases

    def test_caller_of_a_patient_target(self, queue: DeadLetterQueue, clock: FakeClock) -> None:
        """Tried at once, work is the caller's for as long as the target may take, twice over."""
        queue.attach("slow", crm := Crm(patience=100))
        leases: list[float | None] = []
        crm.answer("k", lambda: leases.extend(entry.lease_until for entry in queue.entries()))

        run(queue.hand_in(queue.blocking, "slow", {}, key="k"))

        assert [clock.time() + 200] == leases


class TestBatches:
    """Targets that take many entries in one call."""

    def test_batches(self, queue: DeadLetterQueue, clock: FakeClock) -> None:
        """As many as the target allows go in one call."""
        queue.attach("t", crm := Crm(batch=4))
        for number in range(10):
            queue.enqueue("t", {}, key=str(number))

        assert Pass(delivered=10) == Replayer(queue).run_once()
        assert [["0", "1", "2", "3"], ["4", "5", "6", "7"], ["8", "9"]] == crm.calls

    def test_each_has_its_own_outcome(self, queue: DeadLetterQueue, clock: FakeClock) -> None:
        """One bad entry does not drag the others of its call along."""
        queue.attach("t", crm := Crm(batch=4))
        crm.answer("rejected", REJECTED)
        crm.answer("unknown", OutcomeUnknown())
        crm.answer("later", Unreachable())
        for key in ("rejected", "unknown", "later", "good"):
            queue.enqueue("t", {}, key=key)

        assert Pass(delivered=1, deferred=2, parked=1) == Replayer(queue).run_once()

        left = {entry.key: entry.state for entry in queue.entries()}
        assert {"rejected": State.PARKED, "unknown": State.UNCERTAIN, "later": State.SCHEDULED} == left

    def test_call_that_fails_as_a_whole(self, queue: DeadLetterQueue, clock: FakeClock) -> None:
        """What the call itself raises is the outcome of all, and one strike."""

        class Broken(Crm):
            def deliver(self, entries: Sequence[Entry]) -> Flow[Sequence[Outcome]]:
                raise Unreachable
                yield

        queue.attach("t", Broken(batch=10))
        for number in range(5):
            queue.enqueue("t", {}, key=str(number))

        assert Pass(deferred=5) == Replayer(queue).run_once()
        assert 0.0 == queue.pauses.wait("t")

    def test_probe_of_one(self, queue: DeadLetterQueue, clock: FakeClock) -> None:
        """A target that was down gets one entry first, and the rest when that has passed."""
        queue.attach("t", crm := Crm(batch=10))
        for number in range(6):
            queue.enqueue("t", {}, key=str(number))
            crm.answer(str(number), Unreachable(retry_after=5))
        Replayer(queue).run_once()
        assert 1 == len(crm.calls)
        clock.advance(10)

        assert Pass(delivered=6) == Replayer(queue).run_once()
        assert [6, 1, 5] == [len(call) for call in crm.calls]

    def test_rejection_is_an_answer(
        self, queue: DeadLetterQueue, clock: FakeClock, heard: list[events.Event]
    ) -> None:
        """A target that rejects the probe is up again."""
        queue.attach("t", crm := Crm())
        crm.answer("k", Unreachable(retry_after=5), REJECTED)
        queue.enqueue("t", {}, key="k")
        Replayer(queue).run_once()
        clock.advance(10)
        Replayer(queue).run_once()

        assert ["EntryAccepted", "TopicPaused", "EntryDeferred", "TopicResumed", "EntryParked"] == kinds(
            heard
        )


class TestHandler:
    """A user's function as a target."""

    @pytest.mark.parametrize(
        ("value", "reference"),
        [
            ("id-1", "id-1"),
            (42, "42"),
            (0, "0"),
            (None, None),
            (True, None),
            ({"id": 1}, None),
            ("x" * 201, None),
            ("\ud800", None),
        ],
    )
    def test_reference(self, queue: DeadLetterQueue, value: Any, reference: str | None) -> None:
        """A short text or a number names the work; after any other value it is done all the same."""
        queue.handler("t")(lambda _: value)

        receipt = run(queue.hand_in(queue.blocking, "t", {}, key="k"))

        assert Delivered(entry_id=1, reference=reference, value=value) == receipt

    @pytest.mark.parametrize(
        ("found", "reference"),
        [("id-1", "id-1"), (7, "7"), (True, None), ({"id": 1}, None), ("", None), ("x" * 201, None)],
    )
    def test_found(
        self, queue: DeadLetterQueue, clock: FakeClock, found: object, reference: str | None
    ) -> None:
        """Whatever a search gives but None and False means that the work arrived: it is not done twice."""
        calls: list[Any] = []
        queue.handler("t", reconcile=lambda _: found)(calls.append)
        queue.enqueue("t", {}, key="k")
        crash(queue, clock)

        assert Pass(delivered=1) == Replayer(queue).run_once()
        line = queue.get("t", "k")
        assert line is not None
        assert reference == line.reference
        assert [] == calls

    @pytest.mark.parametrize("missing", [None, False])
    def test_missing(self, queue: DeadLetterQueue, clock: FakeClock, missing: object) -> None:
        """None and False mean that it did not arrive: after the grace it is done again."""
        calls: list[Any] = []
        queue.handler("t", reconcile=lambda _: missing, grace=5)(calls.append)
        queue.enqueue("t", {"n": 1}, key="k")
        crash(queue, clock)
        clock.advance(5)

        assert Pass(delivered=1) == Replayer(queue).run_once()
        assert [{"n": 1}] == calls

    def test_search_for_nothing(self) -> None:
        """A handler that cannot look finds nothing."""
        entry = Entry(
            id=1,
            topic="t",
            key="k",
            ordering_key=None,
            payload={},
            state=State.LEASED,
            due=0,
            created=0,
            updated=0,
        )

        assert run(Handler(print).find(entry)) is None

    def test_search_gets_the_payload(self, queue: DeadLetterQueue, clock: FakeClock) -> None:
        """The search is called with the payload, like the work itself."""
        looked_for: list[Mapping[str, Any]] = []

        def search(payload: Mapping[str, Any]) -> str:
            looked_for.append(payload)
            return "found"

        queue.handler("t", reconcile=search)(print)
        queue.enqueue("t", {"n": 1})
        crash(queue, clock)
        Replayer(queue).run_once()

        assert [{"n": 1}] == looked_for

    @pytest.mark.parametrize("idempotent", [True, False])
    def test_forgotten_await(self, queue: DeadLetterQueue, idempotent: bool) -> None:
        """A function that hands back an unstarted coroutine has done nothing: that is no delivery."""

        async def send(_: object) -> None:
            raise AssertionError("never started")

        queue.handler("t", idempotent=idempotent)(lambda payload: send(payload))
        queue.enqueue("t", {}, key="k")

        assert 0 == Replayer(queue).run_once().delivered
        entry = queue.get("t", "k")
        assert entry is not None
        assert "internal.configuration" == entry.code

    async def test_future_that_nobody_awaits(self, queue: DeadLetterQueue) -> None:
        """A search that gives a future has found nothing yet."""
        import asyncio

        future = asyncio.get_running_loop().create_future()
        target = Handler(print, reconcile=lambda _: future)

        with pytest.raises(ConfigurationError, match="returned an awaitable: make it async def"):
            run(target.find(queue.enqueue("t", {})))

    def test_two_kinds_of_function(self, queue: DeadLetterQueue) -> None:
        """Work and search must be of one kind, since one driver performs both."""

        async def search(_: object) -> None:
            return None

        with pytest.raises(ConfigurationError, match="both be def, or both async def"):
            queue.handler("t", reconcile=search)(lambda _: None)
