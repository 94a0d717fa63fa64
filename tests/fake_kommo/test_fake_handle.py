"""`FakeKommo` as a test holds it: start, stop, kill, freeze, restart."""

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from resilient_agents import testing
from resilient_agents.errors import ConfigurationError, ValidationFailed
from resilient_agents.testing import FakeKommo, Fault


@pytest.fixture(scope="module")
def running() -> Iterator[FakeKommo]:
    """One process for the tests that do not end it."""
    with FakeKommo(token="secret", rate=50, faults=[Fault(kind="503", times=1)], retry_after=2) as kommo:
        yield kommo


def post(kommo: FakeKommo, name: str = "x", patience: float = 60.0) -> int:
    """Create a lead and return the status; give up when *patience* is over after the request was sent."""
    connection = http.client.HTTPConnection(kommo.url.removeprefix("http://"), timeout=60)
    headers = {"Authorization": f"Bearer {kommo.token}"}
    try:
        connection.request("POST", "/api/v4/leads", body=json.dumps([{"name": name}]), headers=headers)
        connection.sock.settimeout(patience)
        return connection.getresponse().status
    finally:
        connection.close()


def test_the_handle_carries_its_settings_over(running: FakeKommo) -> None:
    """Token, faults and switches of the constructor are in force in the process."""
    running.reset()
    assert [503, 200] == [post(running), post(running)]
    assert {"503": 1, "200": 1} == running.statuses()
    switches = running.switch(paid=False)
    assert ("secret", 50, 2, False) == tuple(
        switches[name] for name in ("token", "rate", "retry_after", "paid")
    )
    assert 402 == post(running)


def test_wrong_settings_are_refused_before_anything_starts() -> None:
    """The constructor names the wrong switch."""
    with pytest.raises(ValidationFailed, match="'rate' must be"):
        FakeKommo(rate=0)
    with pytest.raises(ValidationFailed, match="'tariff' is unknown"):
        FakeKommo(tariff="pro")


def test_wrong_switches_are_refused_by_the_running_fake(running: FakeKommo) -> None:
    """What the process refuses is raised here, and the handle goes on."""
    with pytest.raises(ValidationFailed, match="'lookup_lag' must be"):
        running.switch(lookup_lag=-1)
    assert 0 == running.switch()["lookup_lag"]


def test_a_paused_fake_answers_after_it_is_resumed(running: FakeKommo) -> None:
    """Frozen, it takes connections and says nothing; resumed, it serves what came meanwhile."""
    running.reset()
    running.script([])
    running.pause()
    running.pause()
    with pytest.raises(TimeoutError):
        post(running, patience=0.05)
    with pytest.raises(RuntimeError, match=r"call resume\(\) first"):
        running.leads()
    running.resume()
    assert 200 == post(running)


def test_a_killed_fake_can_be_started_again_with_its_data(tmp_path: Path) -> None:
    """After SIGKILL the port refuses; a new start has the same address and the stored leads."""
    with FakeKommo(data=tmp_path / "kommo.jsonl") as kommo:
        url = kommo.url
        assert 200 == post(kommo, "before")
        kommo.kill()
        kommo.kill()
        with pytest.raises(ConnectionRefusedError):
            post(kommo)
        with pytest.raises(RuntimeError, match="is not running"):
            kommo.leads()
        kommo.start()
        assert url == kommo.url
        assert 200 == post(kommo, "after")
        assert ["before", "after"] == [lead["name"] for lead in kommo.leads()]
    kommo.stop()


def test_a_paused_fake_can_be_stopped() -> None:
    """Stopping wakes it first."""
    kommo = FakeKommo()
    kommo.start()
    kommo.pause()
    kommo.stop()
    with pytest.raises(RuntimeError, match="is not running"):
        _ = kommo.pid


def test_a_fake_that_died_by_itself_says_so() -> None:
    """If something else killed the process, the handle tells what to do."""
    kommo = FakeKommo()
    kommo.start()
    os.kill(kommo.pid, signal.SIGKILL)
    os.waitid(os.P_PID, kommo.pid, os.WEXITED | os.WNOWAIT)
    kommo.pause()
    kommo.resume()
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"has died: call stop\(\)"):
            kommo.statuses()
    kommo.stop()
    kommo.start()
    assert [] == kommo.leads()
    kommo.stop()


def test_misuse_is_explained(running: FakeKommo) -> None:
    """No address before the start, and no second start."""
    with pytest.raises(RuntimeError, match="has no address yet"):
        _ = FakeKommo().url
    with pytest.raises(RuntimeError, match="is running already"):
        running.start()


@pytest.mark.parametrize(
    ("taken", "reason"), [(True, "Address already in use"), (False, "there is no such port")]
)
def test_a_start_that_fails_says_why(running: FakeKommo, taken: bool, reason: str) -> None:
    """The error holds what the process said, and the handle can be used again."""
    port = int(running.url.rpartition(":")[2]) if taken else 70_000
    kommo = FakeKommo(port=port)
    with pytest.raises(ConfigurationError, match=f"did not start: FakeKommo cannot listen.*{reason}"):
        kommo.start()
    kommo.stop()


def test_a_file_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    """A data file in a folder that is not there is reported by its reason."""
    with pytest.raises(ConfigurationError, match=r"did not start: .*No such file"):
        FakeKommo(data=tmp_path / "nowhere" / "kommo.jsonl").start()


def test_a_fault_of_the_fake_itself_is_passed_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A data file that vanishes is no scripted fault: the process's own words are shown when it ends."""
    folder = tmp_path / "data"
    folder.mkdir()
    with FakeKommo(data=folder / "kommo.jsonl") as kommo:
        (folder / "kommo.jsonl").unlink()
        folder.rmdir()
        with pytest.raises(http.client.RemoteDisconnected):
            post(kommo)
        assert [] == kommo.leads()
        with pytest.raises(RuntimeError, match="has died"):
            kommo.reset()
    assert 2 == capsys.readouterr().err.count("FileNotFoundError: ")


def test_the_module_is_not_started_by_hand() -> None:
    """Without a parent it points to the command."""
    told = subprocess.run(
        [sys.executable, "-m", "resilient_agents.testing.fake_kommo"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (1, "") == (told.returncode, told.stdout)
    assert "resilient-agents fake-kommo" in told.stderr


@pytest.mark.parametrize("name", ["FakeKommo", "Fault", "load_faults"])
def test_the_doors_of_testing(name: str) -> None:
    """Doubles are found in resilient_agents.testing under their names."""
    assert name in dir(testing)
    assert name == getattr(testing, name).__name__


def test_a_door_that_is_not_there() -> None:
    """An unknown name is an AttributeError that names the module."""
    unknown: Any = testing
    with pytest.raises(AttributeError, match=r"'resilient_agents.testing' has no attribute 'FakeSalesforce'"):
        _ = unknown.FakeSalesforce
