"""The web form of the demo: posts leads at a steady pace until each is acknowledged."""

from collections.abc import Sequence
from threading import Event, Lock, Thread
from types import TracebackType
from typing import Self

import httpx

from resilient_agents._clock import clock
from resilient_agents.cli.demo.scenario import Lead

_THREADS = 4
_REPEAT_AFTER = 0.05
_TIMEOUT = 5.0


class Sender:
    """Posts leads in a few threads, and repeats each with the same key until it is acknowledged.

    Args:
        url: The intake service.
        leads: The leads.
        pace: How many are begun in a second.
        patience: Time in seconds after which a lead without an acknowledgement ends the sending. The default
            is 30.

    Attributes:
        acknowledged: The ledger: how long the request took that was answered with a 2xx, in seconds, by the
            lead's key.
        sent: How many leads were posted at least once.
    """

    def __init__(self, url: str, leads: Sequence[Lead], *, pace: float, patience: float = 30.0) -> None:
        self.acknowledged: dict[str, float] = {}
        self.sent = 0
        self._url = f"{url}/leads"
        self._leads = leads
        self._pace = pace
        self._patience = patience
        self._lock = Lock()
        self._stopping = Event()
        self._threads = [Thread(target=self._work, name=f"sender-{n}") for n in range(_THREADS)]
        self._started = clock().monotonic()

    def __enter__(self) -> Self:
        self._started = clock().monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    @property
    def finished(self) -> bool:
        """Whether nothing more will be sent."""
        return not any(thread.is_alive() for thread in self._threads)

    def _work(self) -> None:
        with httpx.Client(timeout=_TIMEOUT, trust_env=False) as client:
            while not self._stopping.is_set():
                with self._lock:
                    number = self.sent
                    if number == len(self._leads):
                        return
                    self.sent += 1
                self._stopping.wait(self._started + number / self._pace - clock().monotonic())
                self._post(client, self._leads[number])

    def _post(self, client: httpx.Client, lead: Lead) -> None:
        give_up = clock().monotonic() + self._patience
        while not self._stopping.is_set():
            begun = clock().monotonic()
            try:
                answer = client.post(self._url, json={"key": lead.key, "lead": lead.fields})
                took = clock().monotonic() - begun
            except httpx.HTTPError:
                pass
            else:
                if answer.is_success:
                    self.acknowledged[lead.key] = took
                    return
            if clock().monotonic() > give_up:
                self._stopping.set()
            self._stopping.wait(_REPEAT_AFTER)
