"""How the entries of a queue become leads in Kommo."""

from collections.abc import Sequence
from typing import Final

from resilient_agents._flow import Flow
from resilient_agents.crm.kommo.answers import BatchTooLarge, Refused
from resilient_agents.crm.kommo.calls import Calls
from resilient_agents.crm.kommo.models import NewLead, new_lead
from resilient_agents.deadletter import Entry, Outcome, Traits
from resilient_agents.errors import Origin, OutcomeUnknown, RateLimited, ValidationFailed, classify
from resilient_agents.policies import deadline

BATCH_LIMIT: Final = 50
"""Most leads in one ``/leads/complex`` request (developers.kommo.com, "Complex creation of leads")."""


class LeadTarget:
    """Takes the leads of one account, many in a request.

    Args:
        calls: What the account can be asked.
        awaiting: Whether the steps of the calls return awaitables.
        batch: How many leads one request carries at most.
        grace: Time in seconds after a send of unknown outcome for which a failed look-up is not believed.
        patience: Time in seconds that one delivery or one look-up takes at most, waits included.
    """

    def __init__(self, calls: Calls, *, awaiting: bool, batch: int, grace: float, patience: float) -> None:
        self._calls = calls
        self._awaiting = awaiting
        self._most = self._batch = min(batch, BATCH_LIMIT)
        self._grace = grace
        self._patience = patience

    @property
    def traits(self) -> Traits:
        """Batches shrink when Kommo chokes on them; leads are found again by their external id."""
        return Traits(
            awaiting=self._awaiting,
            reconcilable=True,
            grace=self._grace,
            batch=self._batch,
            patience=self._patience,
        )

    def deliver(self, entries: Sequence[Entry]) -> Flow[Sequence[Outcome]]:
        """Create the leads of *entries* in one request.

        The request is begun within the patience or not at all: a process that was stopped in the middle
        must not wake up long after its lease and send leads that another one has sent by then.
        """
        leads, outcomes = _leads(entries)
        if leads:
            with deadline(self._patience):
                sent = yield from self._create([entries[place] for place in leads], list(leads.values()))
            outcomes.update(zip(leads, sent, strict=True))
        return [outcomes[place] for place in range(len(entries))]

    def find(self, entry: Entry) -> Flow[str | None]:
        """Look for the lead of *entry* by its external id."""
        with deadline(self._patience):
            found = yield from self._calls.find_lead(entry.key)
        return None if found is None else str(found)

    def _create(self, entries: Sequence[Entry], leads: Sequence[NewLead]) -> Flow[list[Outcome]]:
        keys = [entry.key for entry in entries]
        try:
            ids = yield from self._calls.create(list(zip(keys, leads, strict=True)))
        except Refused as exc:
            return self._blame(exc, len(entries))
        except Exception as exc:
            if classify(exc).outcome_unknown:
                self._shrink()
            raise
        if len(entries) >= self._batch:  # a smaller request proves nothing for a larger one
            self._batch = min(self._most, self._batch * 2)
        return [self._outcome(ids.get(number)) for number in range(len(entries))]

    def _shrink(self) -> None:
        self._batch = max(1, self._batch // 2)

    def _blame(self, exc: Refused, count: int) -> list[Outcome]:
        """Reject the leads that Kommo names; look for the others before they are sent again.

        The documentation implies that nothing of a refused request is stored, and does not say so.
        """
        if count == 1:
            return [Outcome(error=exc)]
        if isinstance(exc, BatchTooLarge):
            self._shrink()
            return [Outcome(error=_not_taken(exc))] * count
        named = {error["loc"][0] for error in exc.errors}
        if named.isdisjoint(map(str, range(count))):
            self._batch = 1
        innocent = OutcomeUnknown(
            f"{self._calls.host} refused a request with this lead because of another lead in it",
            origin=Origin.SELF,  # Kommo works: it was we who put them together
        )
        return [Outcome(error=exc if str(number) in named else innocent) for number in range(count)]

    def _outcome(self, lead_id: int | None) -> Outcome:
        if lead_id is None:
            return Outcome(
                error=OutcomeUnknown(f"{self._calls.host} did not name one of the leads it created")
            )
        return Outcome(reference=str(lead_id), value=lead_id)


def _leads(entries: Sequence[Entry]) -> tuple[dict[int, NewLead], dict[int, Outcome]]:
    """Return the leads of *entries* by their places, and an outcome for each entry that holds none.

    Such an entry was put into the queue by hand, or by another version of this library.
    """
    leads, outcomes = {}, {}
    for place, entry in enumerate(entries):
        try:
            leads[place] = new_lead(entry.payload)
        except ValidationFailed as exc:
            outcomes[place] = Outcome(error=Refused(f"not sent: {exc.detail}", errors=exc.errors))
    return leads, outcomes


def _not_taken(exc: BatchTooLarge) -> RateLimited:
    """A request that was too large is not the fault of the leads in it: they go again, fewer at a time."""
    return RateLimited(exc.detail, origin=Origin.SELF, code="rate_limit.batch")
