"""The account as a whole: script, gate, routes and store behind one lock. No sockets, no waiting."""

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from pathlib import Path
from threading import Lock
from typing import Any

from resilient_agents._clock import clock
from resilient_agents.testing.fake_kommo.answers import Answer, Request
from resilient_agents.testing.fake_kommo.entities import truth_of
from resilient_agents.testing.fake_kommo.faults import Fault, Script
from resilient_agents.testing.fake_kommo.gate import Gate, Switches
from resilient_agents.testing.fake_kommo.routes import perform
from resilient_agents.testing.fake_kommo.store import Store

LOG_LENGTH = 100_000
"""How many requests are remembered."""


class Account:
    """A Kommo account, and the record of what was asked of it. Safe to use from many threads.

    Args:
        switches: How it behaves at first, and after `reset`.
        faults: The fault script at first, and after `reset`.
        seed: What the probabilities of faults are drawn from.
        data: A file in which the records outlive the process, or *None*.
    """

    def __init__(
        self,
        switches: Switches,
        faults: Iterable[Fault] = (),
        *,
        seed: int = 0,
        data: str | Path | None = None,
    ) -> None:
        self._lock = Lock()
        self._switches = switches
        self._faults = tuple(faults)
        self._seed = seed
        self._store = Store(data)
        self.generation = 0
        self._begin()

    def _begin(self) -> None:
        self._gate = Gate(self._switches)
        self._script = Script(self._faults, self._seed)
        self._log: deque[dict[str, Any]] = deque(maxlen=LOG_LENGTH)

    def receive(self, request: Request) -> tuple[Fault | None, dict[str, Any]]:
        """Return the fault that happens to *request*, and its line in the log, whose status is still open."""
        with self._lock:
            fault = self._script.pick(request.method, request.path)
            line = {
                "at": clock().time(),
                "method": request.method,
                "path": request.path,
                "status": None,
                "fault": None if fault is None else fault.kind,
            }
            self._log.append(line)
            return fault, line

    def answer(self, request: Request) -> Answer:
        """Let *request* through the whole gate, execute it and return the answer."""
        with self._lock:
            return self._gate.admit() or self._execute(request)

    def execute(self, request: Request, *, generation: int | None = None) -> None:
        """Execute *request* past block and rate, for a fault that hides the answer.

        Args:
            request: What came.
            generation: The account's generation when it came: a reset since then makes it void. *None*
                executes it in any case.
        """
        with self._lock:
            if generation in (None, self.generation):
                self._execute(request)

    def _execute(self, request: Request) -> Answer:
        return self._gate.authorize(request.token) or perform(request, self._store, self._gate.switches)

    def throttled(self) -> Answer:
        """Return the 429 that the switches ask for, without counting anything."""
        return self._gate.throttled()

    def leads(self) -> list[dict[str, Any]]:
        """Return every stored lead, oldest first."""
        with self._lock:
            return [truth_of(self._store, lead) for lead in self._store.all("leads")]

    def requests(self) -> list[dict[str, Any]]:
        """Return the latest requests, oldest first; the status is *None* where none was answered."""
        with self._lock:
            return [dict(line) for line in self._log]

    def statuses(self) -> dict[str, int]:
        """Return how many requests were answered with each status; ``"none"`` counts the unanswered."""
        return dict(Counter(str(line["status"] or "none") for line in self.requests()))

    def switches(self) -> Switches:
        """Return how the account behaves now."""
        with self._lock:
            return self._gate.switches

    def switch(self, changes: Mapping[str, Any]) -> Switches:
        """Turn some switches and return all of them.

        Raises:
            ValidationFailed: A switch is unknown or its value is wrong; nothing was turned.
        """
        with self._lock:
            self._gate.switch(changes)
            return self._gate.switches

    def script(self, faults: Iterable[Fault]) -> None:
        """Replace the fault script; counting starts anew."""
        script = Script(faults, self._seed)
        with self._lock:
            self._script = script

    def faults(self) -> list[Fault]:
        """Return the fault script."""
        with self._lock:
            return self._script.faults()

    def reset(self) -> None:
        """Go back to the beginning: no records, no log, first script, first switches."""
        with self._lock:
            self._store.reset()
            self.generation += 1
            self._begin()
