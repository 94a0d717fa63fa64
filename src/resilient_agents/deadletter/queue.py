"""`DeadLetterQueue`: hand work in, and it arrives."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from resilient_agents import events
from resilient_agents._clock import clock
from resilient_agents._flow import Flow
from resilient_agents.deadletter import queries, sqlite
from resilient_agents.deadletter._schema import prepare
from resilient_agents.deadletter._writer import Writer
from resilient_agents.deadletter.delivery import Attempt, Perform, receipt_of
from resilient_agents.deadletter.entry import (
    Entry,
    Queued,
    Receipt,
    State,
    Stats,
    check_label,
)
from resilient_agents.deadletter.intake import acceptance, as_stored, path_of
from resilient_agents.deadletter.pauses import Pauses
from resilient_agents.deadletter.protection import Protector, protected
from resilient_agents.deadletter.settlement import Limits
from resilient_agents.deadletter.target import Handler, Target
from resilient_agents.errors import ConfigurationError, StorageFailure

F = TypeVar("F", bound=Callable[..., Any])

_log = logging.getLogger("resilient_agents.deadletter")

ALL_WAITING = (State.PENDING, State.LEASED, State.SCHEDULED, State.UNCERTAIN, State.PARKED)


class DeadLetterQueue:
    """Durable work: what it has accepted is delivered, whatever is killed.

    Work is on disk before the first call is made (write-ahead), not after the last one failed. Use one
    object a process; several processes may share the file. Safe to use from threads and event loops, and
    after a fork.

    Args:
        url: ``"sqlite:///leads.db"`` for a file in the working directory, ``"sqlite:////srv/leads.db"`` for
            an absolute path. The file must be on a local disk.
        lease: Time in seconds after which a worker that went silent is taken for dead. Running workers
            renew it. The default is 60.
        limits: When to give an entry to a person, and how long to wait between tries.
        payload_limit: Greatest size of one payload as JSON, in bytes. The default is 1 MiB.
        patience: Time in seconds to wait for the disk before a `StorageBusy`. The default is 30.

    Raises:
        ConfigurationError: The URL or a number makes no sense.
        StorageFailure: The file cannot be opened, written or understood.
    """

    def __init__(
        self,
        url: str,
        *,
        lease: float = 60.0,
        limits: Limits | None = None,
        payload_limit: int = 1 << 20,
        patience: float = 30.0,
    ) -> None:
        for name, number in (("lease", lease), ("payload_limit", payload_limit), ("patience", patience)):
            if not 0 < number < math.inf:
                raise ConfigurationError(f"{name} must be more than 0, not {number}")
        self.lease = lease
        self.limits = limits or Limits()
        self.pauses = Pauses(self.limits)
        self._acceptance = partial(acceptance, limit=payload_limit)
        self.targets: dict[str, Target] = {}
        self._listeners: list[Callable[[], object]] = []
        self._writer = Writer(path_of(url), prepare, patience=patience)
        self.blocking: Perform = self._writer.perform
        self.awaiting: Perform = self._writer.aperform

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the file. Nothing is lost by not calling it; a later call opens the file again."""
        self._writer.close()

    def enqueue(
        self,
        topic: str,
        payload: Mapping[str, Any],
        *,
        key: str | None = None,
        ordering_key: str | None = None,
        delay: float = 0.0,
    ) -> Entry:
        """Accept work; it is durable when this returns.

        Args:
            topic: What kind of work it is; a handler takes it.
            payload: The work, as JSON values.
            key: Idempotency key: a second call with the same topic, key and payload finds the first
                entry. The default is a new random key.
            ordering_key: Entries with the same ordering key are delivered in order, one at a time. The
                default is *None*: no order.
            delay: Time in seconds before the first try. The default is 0.

        Returns:
            The entry, delivered already if it was accepted before.

        Raises:
            ValidationFailed: The topic, a key or the payload cannot be stored.
            PayloadTooLarge: The payload is over the limit.
            Conflict: Another payload was accepted under this key.
            StorageFailure: The disk refuses; nothing was accepted. Only after a `StorageBusy` it may be
                stored yet: submit it again with the same key.
        """
        operation = self._acceptance(topic, payload, key=key, ordering_key=ordering_key, delay=delay)
        return self._accepted(self._writer.perform(operation))

    async def aenqueue(
        self,
        topic: str,
        payload: Mapping[str, Any],
        *,
        key: str | None = None,
        ordering_key: str | None = None,
        delay: float = 0.0,
    ) -> Entry:
        """Do what `enqueue` does, without blocking the event loop."""
        operation = self._acceptance(topic, payload, key=key, ordering_key=ordering_key, delay=delay)
        return self._accepted(await self._writer.aperform(operation))

    def handler(
        self,
        topic: str,
        *,
        reconcile: Callable[..., Any] | None = None,
        idempotent: bool = False,
        grace: float = 60.0,
    ) -> Callable[[F], F]:
        """Return a decorator that makes a function take the payloads of *topic*.

        Args:
            topic: What kind of work it takes.
            reconcile: Called with the payload when an earlier call may have done the work; returns the
                target's reference for it, or *None* when it was not done. The default is *None*: nobody
                can tell, so such work is parked for a person, unless it is idempotent.
            idempotent: Whether doing the work twice is harmless. The default is False.
            grace: Time in seconds after an unknown outcome for which *reconcile*'s *None* is not believed,
                because the target may still be at it. The default is 60.

        Raises:
            ConfigurationError: The topic has a handler.
        """

        def register(function: F) -> F:
            self.attach(topic, Handler(function, reconcile=reconcile, idempotent=idempotent, grace=grace))
            return function

        return register

    def protect(
        self,
        topic: str,
        *,
        key: str,
        reconcile: Callable[..., Any] | None = None,
        idempotent: bool = False,
        grace: float = 60.0,
    ) -> Protector:
        """Return a decorator that makes a function durable: its arguments are stored before it is called.

        The decorated function returns a `Delivered` with the function's value, or a `Queued` when it
        failed and will be called again by a `Replayer`. Its arguments must be JSON values.

        Args:
            topic: A name for this work.
            key: Idempotency key, as a template of the arguments: ``"{invoice_id}"``.
            reconcile: As for `handler`.
            idempotent: As for `handler`.
            grace: As for `handler`.

        Raises:
            ConfigurationError: The topic has a handler, the key names no argument of the function, or the
                function's arguments cannot be stored by name.
        """
        target = partial(Handler, reconcile=reconcile, idempotent=idempotent, grace=grace)
        return cast("Protector", partial(protected, self, topic, key, target))

    def attach(self, topic: str, target: Target) -> None:
        """Make *target* take the entries of *topic*. `handler` and clients call it.

        Raises:
            ConfigurationError: The topic has a target.
        """
        check_label(topic, field="topic")
        if topic in self.targets:
            raise ConfigurationError(f"topic {topic!r} has a handler already: one topic, one handler")
        self.targets[topic] = target

    def get(self, topic: str, key: str) -> Entry | None:
        """Return the entry with this topic and key, delivered ones included, or *None*."""
        check_label(topic, field="topic")
        check_label(key, field="key")
        return self._writer.perform(queries.find(topic, key))

    def entries(
        self,
        *,
        states: Sequence[State] = ALL_WAITING,
        topic: str | None = None,
        after: int = 0,
        limit: int = 100,
    ) -> list[Entry]:
        """List entries that are not delivered, by rising id.

        Args:
            states: Which states. The default is all.
            topic: Which topic. The default is all.
            after: Leave out ids up to this one: pass the last id of a page to get the next.
            limit: Most entries to return. The default is 100.
        """
        return self._writer.perform(queries.listing(states=states, topic=topic, after=after, limit=limit))

    def stats(self) -> Stats:
        """Count the entries by state."""
        return self._writer.perform(queries.stats())

    def redrive(self, entry_id: int, *, resend: bool = False) -> Entry:
        """Give an entry a fresh start now, parked or not. What may have been sent is still looked for first.

        Args:
            entry_id: The entry's number.
            resend: Send it without looking, because you have looked and it did not arrive. The default is
                False: where nobody can look, what may have been sent is parked again.

        Raises:
            NotFound: No entry has this number.
            Conflict: A worker is at it.
        """
        entry = self._writer.perform(sqlite.redrive(entry_id, resend=resend, now=clock().time()))
        self._notify()
        return entry

    def forget(self, *, confirmed_before: float) -> int:
        """Delete the ledger's lines about what was confirmed before a time; return how many.

        Their keys are then unknown again: keep lines for as long as a key may come back.

        Args:
            confirmed_before: The time, in seconds since the epoch.
        """
        return self._writer.perform(sqlite.forget(confirmed_before=confirmed_before))

    def listen(self, listener: Callable[[], object]) -> Callable[[], None]:
        """Call *listener* whenever this process has put new work in; return a function that stops it."""
        self._listeners.append(listener)
        return partial(self._listeners.remove, listener)

    def hand_in(
        self,
        perform: Perform,
        topic: str,
        payload: Mapping[str, Any],
        *,
        key: str | None,
        ordering_key: str | None = None,
        at_once: bool = True,
        error: Exception | None = None,
    ) -> Flow[Receipt[Any]]:
        """Accept work and try to deliver it at once, unless its target is known to be down.

        Args:
            perform: How an operation on the store is performed: `blocking` or `awaiting`.
            topic: What kind of work it is; it must have a target.
            payload: The work, as JSON values.
            key: Its idempotency key, or *None* for a random one.
            ordering_key: Its place in an order, or *None*.
            at_once: Whether to try now. The default is True.
            error: What a try ended in that was made already, elsewhere: it is not made again, but counts.
        """
        target = self.targets[topic]
        lease = None
        if error is not None or (at_once and self.pauses.admits(topic)):
            lease = max(self.lease, 2.0 * (target.traits.patience or 0.0))
        operation = self._acceptance(topic, payload, key=key, ordering_key=ordering_key, lease=lease)
        acceptance: sqlite.Acceptance = yield partial(perform, operation)
        entry = self._accepted(acceptance)
        if not acceptance.fresh or entry.state is not State.LEASED:
            return receipt_of(entry)
        attempt = self.attempt(topic, holds=_lease_runs)
        try:
            if error is not None:
                return (yield from attempt.note(perform, as_stored(entry), error))
            receipts = yield from attempt.make(perform, [as_stored(entry)])
        except StorageFailure as exc:
            _log.error("topic %s: what became of entry %d is not recorded: %s", topic, entry.id, exc.detail)
            return Queued(entry_id=entry.id, due=entry.due, state=entry.state, code=exc.code)
        return receipts[0]

    def attempt(self, topic: str, *, holds: Callable[[Entry], bool], **how: Any) -> Attempt:
        """Return a fresh try at entries of *topic*; see `Attempt` for what else it takes."""
        target, limits, pauses = self.targets[topic], self.limits, self.pauses
        return Attempt(topic=topic, target=target, limits=limits, pauses=pauses, holds=holds, **how)

    def _accepted(self, acceptance: sqlite.Acceptance) -> Entry:
        """Tell of new work, and return its entry."""
        entry = acceptance.entry
        if acceptance.fresh:
            events.emit(events.EntryAccepted, topic=entry.topic, entry_id=entry.id, key=entry.key)
            if entry.state is State.PENDING:
                self._notify()
        return entry

    def _notify(self) -> None:
        for listener in tuple(self._listeners):
            with suppress(Exception):  # the work is accepted, whatever a listener makes of it
                listener()


def _lease_runs(entry: Entry) -> bool:
    return entry.lease_until is not None and clock().time() < entry.lease_until
