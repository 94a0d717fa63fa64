"""What happens to entries of a dead-letter queue, and to its topics."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from resilient_agents.events.bus import Event

if TYPE_CHECKING:
    from resilient_agents.errors import Failure


@dataclass(frozen=True, kw_only=True, slots=True)
class EntryEvent(Event):
    """Something happened to an entry of a dead-letter queue.

    Attributes:
        topic: What kind of work the entry is.
        entry_id: The entry's number in its queue.
        key: The entry's idempotency key.
    """

    topic: str
    entry_id: int
    key: str


@dataclass(frozen=True, kw_only=True, slots=True)
class EntryAccepted(EntryEvent):
    """An entry is durable: from now on it is not lost, whatever is killed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EntryDelivered(EntryEvent):
    """An entry reached its target; the ledger holds the proof.

    Attributes:
        reference: What the target calls it (the CRM's id), or *None*.
        reconciled: Whether it was found there by a look-up after an unknown outcome.
    """

    reference: str | None
    reconciled: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class EntryDeferred(EntryEvent):
    """An entry was not delivered and will be tried again.

    Attributes:
        state: ``"scheduled"``, or ``"uncertain"`` when it may have arrived and is looked for first.
        wait: Time in seconds until it is due.
        failure: What went wrong.
    """

    state: str
    wait: float
    failure: "Failure"


@dataclass(frozen=True, kw_only=True, slots=True)
class EntryParked(EntryEvent):
    """An entry needs a person: it was rejected, spent its attempts, or kills its worker.

    Attributes:
        reason: The failure's code, or ``"internal.crashes"``.
        failure: What went wrong, or *None* when its workers died.
    """

    reason: str
    failure: "Failure | None" = None


@dataclass(frozen=True, kw_only=True, slots=True)
class LeaseLost(EntryEvent):
    """A worker finished an entry whose lease had passed to another; what it found was not recorded."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TopicPaused(Event):
    """A target is down, blocked or refuses us: its entries wait, and no attempts are spent.

    Attributes:
        topic: What kind of work waits.
        wait: Time in seconds until the target is probed again.
        failure: What went wrong.
    """

    topic: str
    wait: float
    failure: "Failure"


@dataclass(frozen=True, kw_only=True, slots=True)
class TopicResumed(Event):
    """A paused target answers again.

    Attributes:
        topic: What kind of work goes on.
    """

    topic: str
