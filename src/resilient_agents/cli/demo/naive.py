"""The intake service that the library is compared with: careful code, and nothing on disk.

It acknowledges at once and delivers in the background, with a timeout, three tries and a line in the log when
all fail, as many services do.
"""

import logging
import signal
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any

import httpx

from resilient_agents._clock import clock
from resilient_agents.cli.demo.front import open_front, settings_from_parent
from resilient_agents.cli.demo.scenario import EXTERNAL_ID

_log = logging.getLogger("naive")

TRIES = 3
TIMEOUT = 10.0
WORKERS = 16


class Background:
    """Delivers leads in a pool of threads.

    Args:
        client: The HTTP client, with address and token of the CRM.
    """

    def __init__(self, client: httpx.Client) -> None:
        self._client = client
        self._pool = ThreadPoolExecutor(WORKERS)
        self._lock = Lock()
        self._waiting = 0

    def accept(self, key: str, lead: Mapping[str, Any]) -> None:
        """Have a lead delivered in the background."""
        with self._lock:
            self._waiting += 1
        self._pool.submit(self._work, key, lead)

    def stats(self) -> dict[str, int]:
        """Tell how many leads wait or are under way."""
        return {"waiting": self._waiting}

    def close(self) -> None:
        """Forget what waits, and wait for what is under way."""
        self._pool.shutdown(cancel_futures=True)

    def _work(self, key: str, lead: Mapping[str, Any]) -> None:
        try:
            self.deliver(key, lead)
        finally:
            with self._lock:
                self._waiting -= 1

    def deliver(self, key: str, lead: Mapping[str, Any]) -> int | None:
        """Create a lead; try again when it fails; return its id, or *None* once the tries are spent."""
        for attempt in range(1, TRIES + 1):
            try:
                response = self._client.post("/api/v4/leads/complex", json=[_body(key, lead)])
                response.raise_for_status()
                return int(response.json()[0]["id"])
            except (httpx.HTTPError, ValueError) as exc:
                _log.warning("lead %s, try %d: %r", key, attempt, exc)
                if attempt < TRIES:
                    clock().sleep(0.25 * 2**attempt)
        _log.error("lead %s could not be delivered", key)
        return None


def _body(key: str, lead: Mapping[str, Any]) -> dict[str, Any]:
    ways = {"PHONE": lead.get("phone"), "EMAIL": lead.get("email")}
    contact = {
        "first_name": lead["contact"],
        "custom_fields_values": [
            {"field_code": code, "values": [{"value": value, "enum_code": "WORK"}]}
            for code, value in ways.items()
            if value
        ],
    }
    return {
        "name": lead["name"],
        "price": lead["price"],
        "custom_fields_values": [{"field_code": EXTERNAL_ID, "values": [{"value": key}]}],
        "_embedded": {"contacts": [contact], "tags": [{"name": tag} for tag in lead.get("tags", ())]},
    }


def main() -> None:
    """Serve until SIGTERM, or until the parent dies."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    settings = settings_from_parent()
    headers = {"Authorization": f"Bearer {settings['token']}"}
    with httpx.Client(
        base_url=settings["kommo"], headers=headers, timeout=TIMEOUT, trust_env=False
    ) as client:
        background = Background(client)
        try:
            with open_front(settings["port"], accept=background.accept, stats=background.stats, status=200):
                while True:
                    signal.pause()
        finally:
            background.close()


if __name__ == "__main__":
    main()
