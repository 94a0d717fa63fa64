"""One scenario through one intake service, and what became of it."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx

from resilient_agents._clock import clock
from resilient_agents.cli.demo.ledger import Result, compare, keys_of
from resilient_agents.cli.demo.scenario import EXTERNAL_ID, Scenario
from resilient_agents.cli.demo.sender import Sender
from resilient_agents.cli.demo.service import Service
from resilient_agents.testing import FakeKommo

INTAKES: Final = {"naive": "resilient_agents.cli.demo.naive", "library": "resilient_agents.cli.demo.durable"}
"""The modules of the intake services, by the name of the trial, in the order of the trials."""

_TICK = 0.05
_LOOK_EVERY = 0.5
_PATIENCE = 30.0
"""Time in seconds, beyond what the faults take, after which an intake that delivers nothing is given up."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far a trial is: leads sent, acknowledged and delivered, and kills."""

    sent: int
    acknowledged: int
    delivered: int
    kills: int


Watch = Callable[[Progress], None]


def run_trial(name: str, scenario: Scenario, *, folder: Path, watch: Watch) -> Result:
    """Send the leads of *scenario* through an intake service, which is killed meanwhile; compare the ledgers.

    Args:
        name: Which intake: a name in `INTAKES`.
        scenario: What happens.
        folder: Where database, logs and ledgers are written.
        watch: Called with the progress, several times a second.

    Raises:
        ConfigurationError: A process did not start.
    """
    with FakeKommo(rate=scenario.rate, seed=scenario.seed) as kommo:
        _create_key_field(kommo)
        kommo.script(scenario.faults)
        settings = {
            "kommo": kommo.url,
            "token": kommo.token,
            "folder": str(folder),
            "rate": scenario.rate,
            "grace": scenario.grace,
            "kills": scenario.kills,
        }
        with (
            Service(INTAKES[name], settings, log=folder / "intake.log") as service,
            Sender(service.url, scenario.workload(), pace=scenario.pace) as sender,
        ):
            course = _Course(scenario, kommo, service, sender, watch)
            course.kill_as_scheduled()
            course.wait_for(lambda: sender.finished)
            waiting = course.drain()
        leads = kommo.leads()
    _write(folder / "accepted.json", sender.acknowledged)
    _write(folder / "kommo.json", leads)
    return compare(sender.acknowledged, keys_of(leads), waiting=waiting, restarts=course.kills)


class _Course:
    """The course of a trial: kill, wait, drain, and tell how far it is."""

    def __init__(
        self, scenario: Scenario, kommo: FakeKommo, service: Service, sender: Sender, watch: Watch
    ) -> None:
        self.kills = 0
        self._scenario = scenario
        self._kommo = kommo
        self._service = service
        self._sender = sender
        self._watch = watch
        self._delivered = 0
        self._look_at = 0.0

    def kill_as_scheduled(self) -> None:
        """Kill and restart the service, each time after it has acknowledged something in its present life."""
        before = 0
        for kill in self._scenario.schedule():
            self.wait_for(partial(self._has_acknowledged, max(kill.after, before + 1)))
            clock().sleep(kill.delay)
            self._service.kill()
            self.kills += 1
            before = len(self._sender.acknowledged)
            self._service.start()

    def drain(self) -> int:
        """Wait until nothing waits in the service, or nothing moves; return how many leads still wait.

        After that, what the CRM commits late has the time to come.
        """
        patience = _PATIENCE + 2 * self._scenario.grace
        waiting, since = self._waiting(), clock().monotonic()
        while waiting and clock().monotonic() < since + patience:
            self._tick()
            before, waiting = waiting, self._waiting()
            if waiting != before:
                since = clock().monotonic()
        settled = clock().monotonic() + self._scenario.settling
        self.wait_for(lambda: clock().monotonic() >= settled)
        self._look_at = 0.0
        self._tick()
        return waiting

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Return once *condition* holds."""
        while not condition():
            self._tick()

    def _has_acknowledged(self, count: int) -> bool:
        return self._sender.finished or len(self._sender.acknowledged) >= count

    def _waiting(self) -> int:
        answer = httpx.get(f"{self._service.url}/stats", timeout=_PATIENCE, trust_env=False)
        return sum(answer.json().values())

    def _tick(self) -> None:
        """Tell how far it is, and wait a moment."""
        now = clock().monotonic()
        if now >= self._look_at:
            self._look_at = now + _LOOK_EVERY
            self._delivered = len(set(keys_of(self._kommo.leads())))
        self._watch(
            Progress(
                sent=self._sender.sent,
                acknowledged=len(self._sender.acknowledged),
                delivered=self._delivered,
                kills=self.kills,
            )
        )
        clock().sleep(_TICK)


def _create_key_field(kommo: FakeKommo) -> None:
    """Create the field that carries the key, before anything fails: both intakes need it."""
    httpx.post(
        f"{kommo.url}/api/v4/leads/custom_fields",
        json=[{"name": "External ID", "type": "text", "code": EXTERNAL_ID}],
        headers={"Authorization": f"Bearer {kommo.token}"},
        trust_env=False,
    ).raise_for_status()


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1), encoding="utf-8")
