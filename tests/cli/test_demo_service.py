"""An intake in a process of its own: killed, restarted, and never left behind."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from resilient_agents.cli.demo.service import Service
from resilient_agents.errors import ConfigurationError
from resilient_agents.testing import FakeKommo

NAIVE = "resilient_agents.cli.demo.naive"
DURABLE = "resilient_agents.cli.demo.durable"


def settings(folder: Path, **changes: object) -> dict[str, object]:
    """Settings for either intake, with nobody behind it."""
    nobody = {"kommo": "http://127.0.0.1:9", "token": "t", "rate": 50, "grace": 1.0, "kills": 1}
    return {**nobody, "folder": str(folder), **changes}


def test_killed_service_comes_back_on_its_port_with_its_leads(tmp_path: Path) -> None:
    """What the durable intake acknowledged before a SIGKILL still waits after it."""
    lead = {"key": "form-1-00001", "lead": {"name": "Анна"}}
    with Service(DURABLE, settings(tmp_path), log=tmp_path / "log") as service:
        url = service.url
        assert 202 == httpx.post(f"{url}/leads", json=lead, timeout=60).status_code
        service.kill()
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/stats", timeout=60)
        service.start()

        assert url == service.url
        assert {"waiting": 1, "parked": 0} == httpx.get(f"{url}/stats", timeout=60).json()


@pytest.mark.parametrize(("module", "status"), [(NAIVE, 200), (DURABLE, 202)])
def test_intake_delivers(module: str, status: int, tmp_path: Path) -> None:
    """Where nothing fails, both intakes bring a lead to the CRM, and end politely."""
    lead = {"key": "form-1-00001", "lead": {"name": "Анна", "contact": "Анна", "price": 5}}
    with FakeKommo(rate=None) as kommo:
        field = [{"name": "External ID", "type": "text", "code": "EXTERNAL_ID"}]
        headers = {"Authorization": f"Bearer {kommo.token}"}
        httpx.post(f"{kommo.url}/api/v4/leads/custom_fields", json=field, headers=headers, timeout=60)
        known = settings(tmp_path, kommo=kommo.url, token=kommo.token)
        with Service(module, known, log=tmp_path / "log") as service:
            assert status == httpx.post(f"{service.url}/leads", json=lead, timeout=60).status_code
            stats = (httpx.get(f"{service.url}/stats", timeout=60).json() for _ in range(10_000))
            assert 0 in (sum(waiting.values()) for waiting in stats)
        assert ["form-1-00001"] == [held["custom_fields"]["EXTERNAL_ID"][0] for held in kommo.leads()]
    assert "" == (tmp_path / "log").read_text()


def test_service_that_does_not_start_says_why(tmp_path: Path) -> None:
    """The last line of its log is in the message, and no process is left."""
    service = Service("resilient_agents.cli.demo.missing", {}, log=tmp_path / "log")

    with pytest.raises(ConfigurationError, match="No module named"), service:
        pass
    service.kill()


def test_service_is_killed_when_the_block_fails(tmp_path: Path) -> None:
    """An error, or Ctrl-C, leaves no child behind."""
    service = Service(NAIVE, settings(tmp_path), log=tmp_path / "log")

    with pytest.raises(KeyboardInterrupt), service:
        raise KeyboardInterrupt
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{service.url}/stats", timeout=60)


def test_service_dies_with_its_parent(tmp_path: Path, ends: Callable[[int], bool]) -> None:
    """A demo that is killed with SIGKILL leaves no intake behind."""
    code = (
        "import sys, pathlib; from resilient_agents.cli.demo.service import Service\n"
        f"service = Service({NAIVE!r}, {settings(tmp_path)!r}, log=pathlib.Path({str(tmp_path / 'log')!r}))\n"
        "service.start(); print(service._process.pid, flush=True); sys.stdin.read()"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)

    assert ends(child)
