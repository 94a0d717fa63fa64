"""One life of a service under test: it accepts leads, delivers them, and is killed.

Usage: ``python life.py DATABASE KOMMO_URL FIRST_NUMBER MODE``. Each accepted key is one line on stdout,
written with one system call after `submit` has returned, so that a kill cannot take it back.
"""

import os
import signal
import sys
import threading
from collections.abc import Sequence
from itertools import count
from typing import Any

from resilient_agents import DeadLetterQueue, Replayer, events
from resilient_agents._flow import Flow
from resilient_agents.crm.kommo import KommoClient, Timeouts
from resilient_agents.deadletter import Entry, Limits, Outcome

GRACE = 2.0
"""Time in seconds: half a second for a late commit, and three times that for a machine that is busy."""

TIMEOUTS = Timeouts(connect=0.4, read=0.4, write=0.4, pool=0.4, total=0.6)
LIMITS = Limits(max_crashes=10_000, wait_initial=0.05, wait_max=0.4)


def tell(line: str) -> None:
    """Write a whole line at once."""
    os.write(1, f"{line}\n".encode())


def die(*_: object) -> None:
    """End as a power cut of the process would: nothing is flushed, nothing is closed."""
    os.kill(os.getpid(), signal.SIGKILL)


class DiesAfterSending:
    """A target that kills its process when the CRM has done the work and nobody has noted it yet."""

    def __init__(self, target: Any) -> None:
        self._target = target
        self.traits = target.traits
        self.find = target.find

    def deliver(self, entries: Sequence[Entry]) -> Flow[Sequence[Outcome]]:
        """Deliver, then die."""
        yield from self._target.deliver(entries)
        die()
        return ()


def submit_for_ever(client: KommoClient, first: int, step: int, *, acknowledge_first: bool) -> None:
    """Submit lead after lead; tell of each when it is accepted."""
    for number in count(first, step):
        key = f"lead-{number:06d}"
        if acknowledge_first:
            tell(key)
        client.submit({"name": f"Лид {number} 🙂", "phone": "+7 900 000-00-00"}, key=key, wait=number % 3)
        if not acknowledge_first:
            tell(key)


def main(database: str, url: str, first: int, mode: str) -> None:
    """Live until killed; in mode ``drain`` until nothing waits any more."""
    with (
        DeadLetterQueue(f"sqlite:///{database}", lease=1.0, limits=LIMITS) as queue,
        KommoClient(
            url, tokens="test-token", queue=queue, timeouts=TIMEOUTS, rate=200, grace=GRACE, topic="kommo"
        ) as client,
    ):
        replayer = Replayer(queue, concurrency=8 if mode == "drain" else 2, poll=0.05)
        if mode == "drain":
            worker = threading.Thread(target=replayer.run)
            worker.start()
            try:
                while queue.stats().waiting:
                    worker.join(0.05)
            finally:
                replayer.stop()
                worker.join()
            return
        if mode == "dies-accepted":
            events.subscribe(events.EntryAccepted)(die)
        elif mode == "dies-recorded":
            events.subscribe(events.EntryDelivered)(die)
        elif mode == "dies-sent":
            queue.targets["kommo"] = DiesAfterSending(queue.targets["kommo"])
        threads = [
            threading.Thread(
                target=submit_for_ever,
                args=(client, first + offset, 4),
                kwargs={"acknowledge_first": mode == "acknowledges-first"},
                daemon=True,
            )
            for offset in range(4)
        ]
        for thread in threads:
            thread.start()
        replayer.run()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
