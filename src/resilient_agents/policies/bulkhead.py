"""Never more than so many calls at a time."""

from resilient_agents.policies._slots import Slots


class Bulkhead(Slots):
    """Never more than *limit* calls at a time; a few more may wait in a line.

    A target that hangs then takes *limit* threads or tasks with it, and not all that the service has. It is
    a decorator, a block and a part of a pipeline. One bulkhead serves threads and tasks alike, in one line,
    first come, first served: a place that becomes free goes to the first in the line, never to a newcomer::

        crm = Bulkhead(20, queue=100, queue_timeout=5)

        @crm
        async def fetch_deal(deal_id): ...

    Whoever stops waiting, by a time limit or a cancellation, leaves the line, and a place that was handed to
    him at that very moment goes to the next one.

    Args:
        limit: How many calls are under way at a time, 1 or more.
        queue: How many calls wait for a place at most; the next one is refused with `BulkheadFull`. The
            default is 0: nobody waits.
        queue_timeout: Time in seconds that a call waits at most. It is refused with `BulkheadFull` then. The
            default is *None*: as long as the deadline in force allows.
        name: What events and messages call it.

    Raises:
        TypeError: A parameter is of the wrong kind.
        ValueError: A parameter is out of range, or contradicts another one.
    """

    kind = "bulkhead"

    def __init__(
        self, limit: int, *, queue: int = 0, queue_timeout: float | None = None, name: str = ""
    ) -> None:
        super().__init__(limit, queue=queue, queue_timeout=queue_timeout, name=name)

    def __repr__(self) -> str:
        parts = [str(self._limit), f"queue={self._queue}"]
        if self._queue_timeout is not None:
            parts.append(f"queue_timeout={self._queue_timeout}")
        if self.name:
            parts.append(f"name={self.name!r}")
        return f"Bulkhead({', '.join(parts)})"

    @property
    def limit(self) -> int:
        """How many calls are let in at a time."""
        return self._limit

    def describe(self) -> str:
        """Return what it does, as a clause."""
        patience = "" if self._queue_timeout is None else f", each {self._queue_timeout:g} s at most"
        line = f"{self._queue} more wait{patience}" if self._queue else "nobody waits"
        return f"at most {self._limit} calls at a time; {line}"
