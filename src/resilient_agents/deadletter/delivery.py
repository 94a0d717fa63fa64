"""One try at some leased entries: look for those in doubt, send the rest, record what became of them."""

import logging
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from resilient_agents import events
from resilient_agents._clock import clock
from resilient_agents._flow import Flow, in_threads
from resilient_agents.deadletter._writer import Operation
from resilient_agents.deadletter.entry import Delivered, Entry, Queued, Receipt, State
from resilient_agents.deadletter.pauses import Pauses
from resilient_agents.deadletter.settlement import Limits, not_found, postpone, settle
from resilient_agents.deadletter.sqlite import Change, Delivery, conclude
from resilient_agents.deadletter.target import Outcome, Target
from resilient_agents.errors import Category, Failure, Origin, OutcomeUnknown, classify

_log = logging.getLogger("resilient_agents.deadletter")

T = TypeVar("T")

Perform = Callable[[Operation[Any]], Any]
"""How an operation on the store is performed: blocking, or awaiting."""

_IN_DOUBT = (
    "it may have been done, and nothing here can tell: look, then redrive it with resend=True if it was not"
)


@dataclass(kw_only=True, slots=True)
class Attempt:
    """One try at leased entries of one topic.

    Attributes:
        topic: Their topic.
        target: Who takes them.
        limits: How patient the queue is.
        pauses: Where it is noted whether the target works.
        holds: Whether an entry's lease is still ours: after a long stop of the process it may not be.
        keep: Renews the leases between two look-ups, when it is time.
        threaded: Whether the target blocks in an event loop, so that its calls need threads.
    """

    topic: str
    target: Target
    limits: Limits
    pauses: Pauses
    holds: Callable[[Entry], bool]
    keep: Callable[[Perform], Flow[None]] | None = None
    threaded: bool = False
    _outage: Failure | None = None
    _delivered: dict[int, Delivery] = field(default_factory=dict)
    _changed: dict[int, tuple[Entry, Change]] = field(default_factory=dict)
    _failures: dict[int, Failure] = field(default_factory=dict)
    _values: dict[int, Any] = field(default_factory=dict)

    def make(self, perform: Perform, entries: Sequence[Entry]) -> Flow[list[Receipt[Any]]]:
        """Try to deliver *entries*, which the caller has leased.

        Args:
            perform: How an operation on the store is performed.
            entries: The entries.

        Returns:
            A receipt for each entry, in their order.
        """
        to_send: list[Entry] = []
        for entry in entries:
            if entry.sent_at is None or (yield from self._is_missing(entry)):
                to_send.append(entry)
            if self.keep is not None:
                yield from self.keep(perform)
        lost: set[int] = set()
        for company in _in_company(to_send):
            if self.pauses.paused(self.topic):
                self._put_back(company)
                continue
            lost.update(entry.id for entry in company if not self.holds(entry))
            if ours := [entry for entry in company if entry.id not in lost]:
                yield from self._send(ours)
            if self.keep is not None:
                yield from self.keep(perform)
        return (yield from self._record(perform, entries, lost))

    def note(self, perform: Perform, entry: Entry, error: Exception) -> Flow[Receipt[Any]]:
        """Record a try at a leased *entry* that somebody else made, and that ended in *error*.

        It says nothing about whether the target works now, and who made it has logged it.
        """
        self._settle(entry, error, alone=False)
        receipts = yield from self._record(perform, [entry], set())
        return receipts[0]

    def _record(self, perform: Perform, entries: Sequence[Entry], lost: set[int]) -> Flow[list[Receipt[Any]]]:
        record = conclude(list(self._delivered.values()), list(self._changed.values()), now=clock().time())
        lost |= yield partial(perform, record)
        self._announce(entries, lost)
        return [self._receipt(entry, lost) for entry in entries]

    def _put_back(self, entries: Sequence[Entry]) -> None:
        """Leave *entries* for when the target is tried again: it has turned out to be down."""
        due = clock().time() + self.pauses.wait(self.topic)
        for entry in entries:
            state = State.SCHEDULED if entry.sent_at is None else State.UNCERTAIN
            change = Change(
                state=state,
                due=due,
                sent_at=entry.sent_at,
                code=entry.code,
                last_error=entry.last_error,
                attempted=False,
            )
            self._changed[entry.id] = (entry, change)

    def _is_missing(self, entry: Entry) -> Flow[bool]:
        """Tell whether an entry that may have arrived is to be sent again; look for it first."""
        if not self.target.traits.reconcilable:
            if not self.target.traits.idempotent:
                self._fail(entry, OutcomeUnknown(_IN_DOUBT))
            return self.target.traits.idempotent
        if self._outage is not None and self.pauses.paused(self.topic):
            self._postpone(entry, self._outage)
            return False
        try:
            reference = yield from self._fitted(self.target.find(entry))
        except Exception as exc:
            failure = classify(exc)
            self._postpone(entry, failure)
            self.pauses.failed(self.topic, failure)
            self._outage = failure if failure.outage else self._outage
            return False
        self.pauses.answered(self.topic)
        if reference is not None:
            self._delivered[entry.id] = Delivery(entry=entry, reference=reference or None, reconciled=True)
            return False
        later = not_found(entry, limits=self.limits, now=clock().time(), grace=self.target.traits.grace)
        if later is not None:
            self._changed[entry.id] = (entry, later)
        return later is None

    def _postpone(self, entry: Entry, failure: Failure) -> None:
        change = postpone(entry, failure, limits=self.limits, now=clock().time())
        self._changed[entry.id] = (entry, change)
        self._failures[entry.id] = failure

    def _send(self, entries: Sequence[Entry]) -> Flow[None]:
        outcomes: Sequence[Outcome]
        try:
            outcomes = yield from self._fitted(self.target.deliver(entries))
        except Exception as exc:
            outcomes = [Outcome(error=exc)] * len(entries)
        for entry, outcome in zip(entries, outcomes, strict=True):
            if outcome.error is None:
                self._delivered[entry.id] = Delivery(
                    entry=entry, reference=outcome.reference, reconciled=False
                )
                self._values[entry.id] = outcome.value
            else:
                self._fail(entry, outcome.error, alone=len(entries) == 1)
        self._judge_target(outcomes)

    def _fitted(self, flow: Flow[T]) -> Flow[T]:
        return in_threads(flow) if self.threaded else flow

    def _judge_target(self, outcomes: Sequence[Outcome]) -> None:
        """Note whether the target works, once for the whole call."""
        errors = {id(outcome.error): outcome.error for outcome in outcomes if outcome.error is not None}
        failures = [classify(error) for error in errors.values()]
        if all(failure.origin is Origin.DEPENDENCY and not failure.outage for failure in failures):
            self.pauses.served(self.topic)
        outages = [failure for failure in failures if failure.outage]
        if outages:
            self.pauses.failed(self.topic, max(outages, key=_certainty))

    def _fail(self, entry: Entry, error: Exception, *, alone: bool = True) -> None:
        if self._settle(entry, error, alone=alone).category is Category.INTERNAL:
            _log.error("topic %s: the handler failed at entry %d", self.topic, entry.id, exc_info=error)

    def _settle(self, entry: Entry, error: Exception, *, alone: bool) -> Failure:
        failure = self._failures[entry.id] = classify(error)
        change = settle(
            entry,
            failure,
            limits=self.limits,
            now=clock().time(),
            target=self.target,
            target_works=alone and self.pauses.served_since(self.topic, entry.updated),
        )
        if failure.category is Category.INTERNAL:
            change = replace(change, last_error=f"{change.last_error} at {_place(error)}")
        self._changed[entry.id] = (entry, change)
        return failure

    def _announce(self, entries: Sequence[Entry], lost: set[int]) -> None:
        for entry in entries:
            names = {"topic": entry.topic, "entry_id": entry.id, "key": entry.key}
            if entry.id in lost:
                events.emit(events.LeaseLost, **names)
            elif entry.id in self._delivered:
                delivery = self._delivered[entry.id]
                found = {"reference": delivery.reference, "reconciled": delivery.reconciled}
                events.emit(events.EntryDelivered, **names, **found)
            else:
                self._announce_change(self._changed[entry.id][1], names, self._failures.get(entry.id))

    def _announce_change(self, change: Change, names: dict[str, Any], failure: Failure | None) -> None:
        if change.state is State.PARKED:
            events.emit(events.EntryParked, **names, reason=change.code, failure=failure)
        elif failure is not None:
            wait = max(0.0, change.due - clock().time())
            events.emit(events.EntryDeferred, **names, state=change.state, wait=wait, failure=failure)

    def _receipt(self, entry: Entry, lost: set[int]) -> Receipt[Any]:
        if entry.id in self._delivered:
            reference, value = self._delivered[entry.id].reference, self._values.get(entry.id)
            return Delivered(entry_id=entry.id, reference=reference, value=value)
        if entry.id in lost:
            return Queued(entry_id=entry.id, due=entry.due, state=State.LEASED, code=entry.code)
        _, change = self._changed[entry.id]
        return Queued(entry_id=entry.id, due=change.due, state=change.state, code=change.code)


def _certainty(outage: Failure) -> tuple[bool, float]:
    return outage.category is not Category.EXTERNAL, outage.retry_after or 0.0


def _in_company(entries: Sequence[Entry]) -> list[list[Entry]]:
    """Divide entries into calls: what has failed twice goes alone, so that it shows who is to blame."""
    alone = [[entry] for entry in entries if entry.attempts + entry.crashes >= 2]
    together = [entry for entry in entries if entry.attempts + entry.crashes < 2]
    return [together, *alone] if together else alone


def _place(error: Exception) -> str:
    """Return where *error* was raised, as a person looks for it."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno} in {frames[-1].name}" if frames else "?"


def receipt_of(entry: Entry) -> Receipt[Any]:
    """Return the receipt for an entry that was accepted earlier."""
    if entry.state is State.DELIVERED:
        return Delivered(entry_id=entry.id, reference=entry.reference)
    return Queued(entry_id=entry.id, due=entry.due, state=entry.state, code=entry.code)
