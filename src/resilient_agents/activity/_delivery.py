"""How entries get to the sinks: batches, what happens when a sink fails, and what waits on disk meanwhile.

All of it runs on the worker's thread; a courier only performs a sink's own call.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any

from resilient_agents import events
from resilient_agents._clock import clock
from resilient_agents.activity._lane import Flight, Lane
from resilient_agents.activity._spill import Spill
from resilient_agents.activity.entry import Activity
from resilient_agents.errors import Category, Failure, StorageBusy, classify

if TYPE_CHECKING:
    from resilient_agents.activity._intake import Reason

ADOPTION_PAUSE = 30.0
"""Time in seconds between two looks for what dead processes left."""

MOST_IN_MEMORY = 10_000

PRUNING_PAUSE = 60.0
"""Time in seconds between two looks for entries that are too old or too many."""

PRUNED_AT_ONCE = 5000
"""How many old entries a sink deletes in one go."""

SPILL_PAUSE = 1.0
"""Time in seconds before a local disk that failed is tried again."""


class Delivery:
    """The lanes, and the disk behind them.

    Args:
        lanes: The ways to the sinks.
        spill: Where entries wait on disk.
        call: Performs a function on the worker's thread, at its next turn.
        overdue: Time in seconds after which a sink that has not answered counts as down.
        keep: Time in seconds that entries are kept, and how many a sink keeps; each may be *None*.
        most_in_memory: How many entries wait in memory for a sink that works; more go to disk.

    Attributes:
        dropped: How many entries were dropped here, by reason.
        news: Events to be emitted.
    """

    def __init__(
        self,
        lanes: Sequence[Lane],
        spill: Spill,
        call: Callable[[Callable[[], object]], object],
        *,
        overdue: float,
        keep: tuple[float | None, int | None],
        most_in_memory: int = MOST_IN_MEMORY,
    ) -> None:
        self._most_in_memory = most_in_memory
        self.lanes = lanes
        self._names = [lane.name for lane in lanes]
        self._spill = spill
        self._call = call
        self._overdue = overdue
        self._keep = keep
        self._prunes = keep != (None, None)
        self.dropped: Counter[Reason] = Counter()
        self.news: list[tuple[type[events.Event], dict[str, Any]]] = []
        self._spill_retry_at = -inf
        self._orphans = spill.orphans()
        self._looked_at = clock().monotonic()

    @property
    def settled(self) -> bool:
        """Whether everything has arrived."""
        return not self._orphans and not any(lane.backlog for lane in self.lanes)

    @property
    def hungry(self) -> bool:
        """Whether a sink could do with more; if none could, entries stay where they are, in memory."""
        return any(not lane.up or len(lane.waiting) < self._most_in_memory for lane in self.lanes)

    def hopeless(self, until: float) -> bool:
        """Tell whether nothing more will arrive before a time: the sinks that lack something are down."""
        return not any(lane.backlog and (lane.up or lane.retry_at < until) for lane in self.lanes)

    def offer(self, entries: Sequence[Activity]) -> None:
        """Let every sink have *entries*."""
        for lane in self.lanes:
            lane.waiting.extend(entries)

    def keep(self, entries: Sequence[Activity]) -> None:
        """Write *entries* to disk for every sink, and return when they would survive a power cut.

        Raises:
            StorageFailure: None of them was written.
        """
        self._spill.add_for(self._names, entries, durable=True)
        for lane in self.lanes:
            lane.on_disk += len(entries)

    def advance(self) -> None:
        """Do what is due in each lane."""
        now = clock().monotonic()
        for lane in self.lanes:
            flight = lane.flight
            if flight is None:
                if now >= lane.retry_at:
                    self._dispatch(lane, now)
            elif lane.up and now - flight.since >= self._overdue:
                self._lost(
                    lane, classify(StorageBusy(f"{lane.name}: no answer for {self._overdue:g} s")), now
                )
            excess = len(lane.waiting) if not lane.up else len(lane.waiting) - self._most_in_memory
            if excess > 0:
                self._put_aside(lane, excess, now)
        self._adopt(now)

    def next_due(self) -> float:
        """Return when something is due, on the monotonic clock, if nothing happens before."""
        adopts = self._orphans and not self._spill.full
        due = self._looked_at + (0.0 if adopts else ADOPTION_PAUSE)
        for lane in self.lanes:
            if lane.flight is not None:
                due = min(due, lane.flight.since + self._overdue if lane.up else inf)
            elif lane.backlog:
                due = min(due, lane.retry_at)
            elif self._prunes:
                due = min(due, max(lane.pruned_at + PRUNING_PAUSE, lane.retry_at))
        return due

    def secure(self) -> None:
        """Write to disk what has not arrived, also what is on its way: nobody will hear whether it did."""
        now = clock().monotonic()
        for lane in self.lanes:
            flight = lane.flight
            if flight is not None and flight.place is None and flight.batch:
                flight.place = self._add(lane, flight.batch, now)
            if lane.waiting:
                self._put_aside(lane, len(lane.waiting), now, anyway=True)

    def disconnect(self) -> None:
        """Close the file for now."""
        self._spill.disconnect()

    def close(self) -> None:
        """Close the sinks that are free, and let go of the file."""
        for lane in self.lanes:
            close = getattr(lane.sink, "close", None)
            if close is not None:
                lane.courier.hand(close, _ignore)
            lane.courier.stop()
        self._spill.close(empty=not any(lane.on_disk for lane in self.lanes))

    def _dispatch(self, lane: Lane, now: float) -> None:
        """Give the sink its next batch: from memory and from disk in turns, where there is both."""
        place = None
        if lane.on_disk and (lane.from_disk_next or not lane.waiting):
            lane.from_disk_next = False
            if lane.arrived is not None:
                self._forget(lane, *lane.arrived, now)
                return
            try:
                place, batch = self._spill.read(lane.name, lane.limit)
            except Exception as exc:
                self._spill_failed(exc, now)
                lane.retry_at = now + SPILL_PAUSE
                return
            if not batch:  # somebody deleted the file
                lane.on_disk = 0
        else:
            lane.from_disk_next = True
            batch = lane.take(lane.limit)
        if batch:
            self._send(lane, Flight(batch, place, now), partial(lane.sink.write, batch))
        elif self._prunes and now - lane.pruned_at >= PRUNING_PAUSE and hasattr(lane.sink, "prune"):
            lane.pruned_at = now
            self._send(lane, Flight((), None, now), partial(self._prune, lane))

    def _send(self, lane: Lane, flight: Flight, task: Callable[[], object]) -> None:
        lane.flight = flight

        def landed(exc: Exception | None) -> None:
            self._call(lambda: self._settle(lane, flight, exc))

        lane.courier.hand(task, landed)

    def _prune(self, lane: Lane) -> None:
        """Let the sink delete old entries; go on soon if there were many."""
        max_age, max_rows = self._keep
        if lane.sink.prune(max_age=max_age, max_rows=max_rows, limit=PRUNED_AT_ONCE) >= PRUNED_AT_ONCE:
            lane.pruned_at = -inf

    def _settle(self, lane: Lane, flight: Flight, exc: Exception | None) -> None:
        """Hear how a batch fared."""
        lane.flight = None
        now = clock().monotonic()
        batch, place = flight.batch, flight.place
        if exc is None:
            news = lane.succeeded(len(batch))
            if place is not None:
                self._forget(lane, place, batch, now)
            if news:
                self._tell(events.SinkRestored, sink=lane.name, waiting=lane.backlog)
            return
        failure = classify(exc)
        if failure.category is Category.VALIDATION and batch:
            self._narrow(lane, batch, place, now)
            return
        if place is None:
            lane.put_back(batch)
        self._lost(lane, failure, now)

    def _narrow(self, lane: Lane, batch: Sequence[Activity], place: Any, now: float) -> None:
        """Look for the entry that the sink will not have; drop it when it stands alone."""
        if len(batch) > 1:
            lane.limit = len(batch) // 2
            if place is None:
                lane.put_back(batch)
            lane.from_disk_next = place is not None
            return
        self.dropped["rejected"] += 1
        if place is not None:
            self._forget(lane, place, batch, now)

    def _forget(self, lane: Lane, place: Any, batch: Sequence[Activity], now: float) -> None:
        """Take from the disk what has arrived; before that is done, nothing more is read from there."""
        try:
            self._spill.remove(place, batch)
        except Exception as exc:
            self._spill_failed(exc, now)
            lane.arrived = (place, batch)
            lane.retry_at = now + SPILL_PAUSE
        else:
            lane.arrived = None
            lane.on_disk -= len(batch)

    def _lost(self, lane: Lane, failure: Failure, now: float) -> None:
        if lane.failed(now):
            self._tell(events.SinkDown, sink=lane.name, failure=failure)

    def _put_aside(self, lane: Lane, count: int, now: float, *, anyway: bool = False) -> None:
        """Move entries from memory to disk, or drop them where there is no room for them."""
        if now < self._spill_retry_at and not anyway:
            if len(lane.waiting) > self._most_in_memory:
                self.dropped["sink_down"] += len(lane.take(len(lane.waiting) - self._most_in_memory))
            return
        batch = lane.take(count)
        if self._add(lane, batch, now) is None:
            if self._spill.full:
                self.dropped["sink_down"] += len(batch)
            elif anyway:
                self.dropped["shutdown"] += len(batch)
            else:
                lane.put_back(batch)

    def _add(self, lane: Lane, batch: Sequence[Activity], now: float) -> range | None:
        if self._spill.full:
            return None
        try:
            place = self._spill.add(lane.name, batch)
        except Exception as exc:
            self._spill_failed(exc, now)
            return None
        self._spill_retry_at = -inf
        lane.on_disk += len(batch)
        return place

    def _spill_failed(self, exc: Exception, now: float) -> None:
        if self._spill_retry_at == -inf:
            self._tell(events.SpillFailed, failure=classify(exc))
        self._spill_retry_at = now + SPILL_PAUSE

    def _adopt(self, now: float) -> None:
        """Take over what dead processes left, a bit at a time."""
        if not self._orphans and now - self._looked_at >= ADOPTION_PAUSE:
            self._looked_at = now
            self._orphans = self._spill.orphans()
        if not self._orphans or self._spill.full:
            return
        try:
            moved = self._spill.adopt(self._orphans[-1], self._names)
        except Exception as exc:
            self._spill_failed(exc, now)
            moved = None
        for lane in self.lanes:
            lane.on_disk += (moved or {}).get(lane.name, 0)
        if moved is None:
            self._orphans.pop()

    def _tell(self, kind: type[events.Event], **attributes: Any) -> None:
        self.news.append((kind, attributes))


def _ignore(exc: Exception | None) -> None:
    """Take no notice: what is closed is not missed."""
