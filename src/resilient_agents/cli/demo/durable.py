"""The intake service on this library: a lead is on disk before it is acknowledged."""

from collections.abc import Mapping
from typing import Any

from resilient_agents.cli.demo.front import open_front, settings_from_parent
from resilient_agents.crm.kommo import KommoClient
from resilient_agents.crm.transport import Timeouts
from resilient_agents.deadletter import DeadLetterQueue, Limits, Replayer, State

# Everything is shorter than in earnest, since the faults are.
_LEASE = 2.5
_CONCURRENCY = 8
_POLL = 0.1
_TIMEOUTS = Timeouts(connect=1.5, read=1.5, write=1.5, pool=1.5, total=5.0)


def main() -> None:
    """Serve until SIGTERM, or until the parent dies."""
    settings = settings_from_parent()
    limits = Limits(max_crashes=settings["kills"] + 10, wait_initial=0.2, wait_max=1.0)
    with (
        DeadLetterQueue(f"sqlite:///{settings['folder']}/leads.db", lease=_LEASE, limits=limits) as queue,
        KommoClient(
            settings["kommo"],
            tokens=settings["token"],
            queue=queue,
            timeouts=_TIMEOUTS,
            rate=settings["rate"],
            grace=settings["grace"],
        ) as kommo,
    ):

        def accept(key: str, lead: Mapping[str, Any]) -> None:
            kommo.submit(lead, key=key, wait=0)

        def stats() -> dict[str, int]:
            now = queue.stats()
            return {"waiting": now.waiting, "parked": now.states[State.PARKED]}

        with open_front(settings["port"], accept=accept, stats=stats, status=202):
            Replayer(queue, concurrency=_CONCURRENCY, poll=_POLL).run()


if __name__ == "__main__":
    main()
