"""What is behind one `ActivityLog`: put together, closed, and renewed in a forked child."""

from collections import deque
from collections.abc import Iterable
from functools import partial

from resilient_agents.activity import _exit
from resilient_agents.activity._delivery import Delivery
from resilient_agents.activity._intake import Intake
from resilient_agents.activity._lane import Courier, Lane
from resilient_agents.activity._spill import Spill
from resilient_agents.activity._worker import Worker
from resilient_agents.activity.entry import Activity, Clerk
from resilient_agents.activity.sinks import Sink
from resilient_agents.activity.stats import ActivityStats, SinkStats

LATEST = 1000
"""How many entries of this process are kept in memory for the live feed."""


class Engine:
    """The intake, the worker, and the sinks of one log.

    Args:
        sinks: Where entries go.
        spill: Where they wait on disk.
        intake: Where they come in.
        source: What this process is called in them.
        overdue: Time in seconds after which a sink that has not answered counts as down.
        keep: Time in seconds that entries are kept, and how many a sink keeps; each may be *None*.
        exit_timeout: Time in seconds for which entries are still delivered when the process ends.

    Attributes:
        latest: The last entries of this process, the oldest first.
    """

    def __init__(
        self,
        sinks: Iterable[Sink],
        *,
        spill: Spill,
        intake: Intake,
        source: str,
        overdue: float,
        keep: tuple[float | None, int | None],
        exit_timeout: float,
    ) -> None:
        self.sinks = _by_name(sinks)
        self.intake = intake
        self._spill = spill
        self._source = source
        self._overdue = overdue
        self._keep = keep
        self._exit_timeout = exit_timeout
        self._begin()
        _exit.register(self)
        if spill.orphans():
            intake.wake()

    def _begin(self) -> None:
        intake = self.intake
        self.latest: deque[Activity] = deque(maxlen=LATEST)
        lanes = [
            Lane(name, sink, Courier(name, intake.staff), getattr(sink, "batch_size", 500))
            for name, sink in self.sinks.items()
        ]
        delivery = Delivery(lanes, self._spill, intake.inbox.put, overdue=self._overdue, keep=self._keep)
        self.worker = Worker(
            intake, delivery, Clerk(self._source), self.latest, partial(_exit.end_with_process, self)
        )
        self._closed = False

    def stats(self) -> ActivityStats:
        """Return what is known now."""
        return ActivityStats(
            queued=self.intake.waiting(),
            dropped={str(reason): count for reason, count in self.worker.drops.counted().items()},
            sinks={
                lane.name: SinkStats(
                    up=lane.up, written=lane.written, backlog=lane.backlog, on_disk=lane.on_disk
                )
                for lane in self.worker.delivery.lanes
            },
        )

    def close(self) -> None:
        """Deliver what there is, put the rest on disk, and end."""
        if not self._closed:
            self._closed = True
            self.hold()
            self.worker.stop()
            _exit.forget(self)

    def secure(self) -> None:
        """Put on disk what the sinks have not taken, at once."""
        self.worker.flush(0.0)

    def hold(self) -> None:
        """Take nothing any more; deliver what there is, and put the rest on disk."""
        self.intake.close()
        self.worker.flush(self._exit_timeout, patient=False)

    def reopen(self) -> None:
        """Take entries again, after `hold`."""
        self.intake.closed = False

    def before_fork(self) -> None:
        """Let go of files: a child must not inherit SQLite's idea of its locks."""
        self.worker.rest()

    def after_fork_in_parent(self) -> None:
        """Go on after a fork."""
        self.worker.go_on()

    def after_fork_in_child(self) -> None:
        """Begin empty: what the parent has recorded, the parent delivers."""
        self.intake.renew()
        self._spill.renew()
        for sink in self.sinks.values():
            renew = getattr(sink, "after_fork_in_child", None)
            if renew is not None:
                renew()
        self._begin()


def _by_name(sinks: Iterable[Sink]) -> dict[str, Sink]:
    """Return the sinks by name: what waits on disk is found again by it."""
    named: dict[str, Sink] = {}
    for sink in sinks:
        if sink.name in named:
            raise ValueError(f"two sinks are called {sink.name!r}: give one of them another name")
        named[sink.name] = sink
    return named
