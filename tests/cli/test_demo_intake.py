"""The parts of the demo that speak HTTP: the front, the naive intake and the sender."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from resilient_agents.cli.demo.front import open_front
from resilient_agents.cli.demo.naive import TRIES, Background
from resilient_agents.cli.demo.scenario import Lead
from resilient_agents.cli.demo.sender import Sender
from resilient_agents.errors import StorageFull
from resilient_agents.testing import no_waits

LEAD = Lead(
    key="form-1-00001", fields={"name": "Ремонт 🏠", "contact": "Анна", "price": 100, "phone": "+7900"}
)


class Intake:
    """An intake that notes what it accepts, after as many refusals as told."""

    def __init__(self, refusals: int = 0) -> None:
        self.refusals = refusals
        self.accepted: dict[str, Mapping[str, Any]] = {}

    def accept(self, key: str, lead: Mapping[str, Any]) -> None:
        """Note a lead, or refuse it."""
        if self.refusals:
            self.refusals -= 1
            raise StorageFull("the disk is full")
        self.accepted[key] = lead

    def stats(self) -> Mapping[str, int]:
        """Tell how many were accepted."""
        return {"waiting": len(self.accepted)}


@contextmanager
def served(intake: Intake, capsys: pytest.CaptureFixture[str]) -> Iterator[str]:
    """Serve *intake*; give its URL."""
    with open_front(0, accept=intake.accept, stats=intake.stats, status=202):
        yield json.loads(capsys.readouterr().out)["url"]


def test_lead_is_acknowledged_once_it_was_accepted(capsys: pytest.CaptureFixture[str]) -> None:
    """The answer comes after the intake took the lead, unharmed by its journey."""
    intake = Intake()
    with served(intake, capsys) as url:
        answer = httpx.post(f"{url}/leads", json={"key": LEAD.key, "lead": LEAD.fields}, timeout=60)

        assert 202 == answer.status_code
        assert {"waiting": 1} == httpx.get(f"{url}/stats", timeout=60).json()
    assert {LEAD.key: LEAD.fields} == intake.accepted


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/leads", b"not JSON", 400),
        ("/leads", b'{"key": "k"}', 400),
        ("/leads", b"[]", 400),
        ("/other", b"{}", 404),
    ],
)
def test_request_that_is_no_lead_is_refused(
    path: str, body: bytes, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is acknowledged that was not accepted."""
    intake = Intake()
    with served(intake, capsys) as url:
        assert status == httpx.post(f"{url}{path}", content=body, timeout=60).status_code
    assert {} == intake.accepted


def test_lead_that_cannot_be_stored_is_not_acknowledged(capsys: pytest.CaptureFixture[str]) -> None:
    """A full disk is told to the caller, who keeps the lead."""
    with served(Intake(refusals=1), capsys) as url:
        answer = httpx.post(f"{url}/leads", json={"key": LEAD.key, "lead": LEAD.fields}, timeout=60)

    assert answer.is_server_error
    assert {"error": "the disk is full"} == answer.json()


def test_defect_of_the_intake_is_reported_and_not_acknowledged(capsys: pytest.CaptureFixture[str]) -> None:
    """An unexpected error ends the connection and lands in the log of the process."""

    def accept(key: str, lead: Mapping[str, Any]) -> None:
        raise KeyError(key)

    with open_front(0, accept=accept, stats=Intake().stats, status=202):
        url = json.loads(capsys.readouterr().out)["url"]
        with pytest.raises(httpx.RemoteProtocolError):
            httpx.post(f"{url}/leads", json={"key": LEAD.key, "lead": {}}, timeout=60)
    assert "KeyError" in capsys.readouterr().err


def test_sender_repeats_with_the_same_key_until_acknowledged(capsys: pytest.CaptureFixture[str]) -> None:
    """A refused lead comes again, and counts as acknowledged once."""
    intake = Intake(refusals=3)
    with served(intake, capsys) as url, Sender(url, [LEAD], pace=100) as sender:
        wait_until(lambda: sender.finished)

    assert [LEAD.key] == list(sender.acknowledged) == list(intake.accepted)
    assert sender.acknowledged[LEAD.key] > 0
    assert 1 == sender.sent


def test_sender_gives_up_when_nobody_answers() -> None:
    """Without an intake nothing is acknowledged, and the sending ends."""
    leads = [Lead(key=f"form-{number}", fields={}) for number in range(50)]
    with Sender("http://127.0.0.1:9", leads, pace=1000, patience=0.0) as sender:
        wait_until(lambda: sender.finished)

    assert {} == sender.acknowledged
    assert sender.sent < len(leads)


def test_sender_stops_when_told_to() -> None:
    """Leaving the block ends the sending, however much is left."""
    with Sender("http://127.0.0.1:9", [LEAD] * 50, pace=1000) as sender:
        assert not sender.finished
    assert sender.finished


Answer = Callable[[httpx.Request], httpx.Response]


def background(answer: Answer) -> Background:
    """A naive intake whose CRM answers as told."""
    return Background(httpx.Client(base_url="http://crm", transport=httpx.MockTransport(answer)))


def test_naive_intake_sends_the_whole_lead() -> None:
    """The request carries the fields, and the key by which the ledgers are compared."""
    seen: list[Any] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(json.loads(request.content))
        return httpx.Response(200, json=[{"id": 7}])

    assert 7 == background(answer).deliver(LEAD.key, {**LEAD.fields, "tags": ["сайт"]})
    [[body]] = seen
    assert "Ремонт 🏠" == body["name"]
    assert [{"field_code": "EXTERNAL_ID", "values": [{"value": LEAD.key}]}] == body["custom_fields_values"]
    assert [{"name": "сайт"}] == body["_embedded"]["tags"]
    assert "+7900" == body["_embedded"]["contacts"][0]["custom_fields_values"][0]["values"][0]["value"]


@pytest.mark.parametrize(
    "failure",
    [
        httpx.Response(502),
        httpx.Response(429),
        httpx.Response(200, html="<html>"),
        httpx.ReadTimeout("no answer"),
    ],
)
def test_naive_intake_tries_again(failure: httpx.Response | httpx.HTTPError) -> None:
    """It is no straw man: statuses, timeouts and unreadable answers are retried."""
    answers: list[httpx.Response | httpx.HTTPError] = [failure, httpx.Response(200, json=[{"id": 7}])]

    def answer(_: httpx.Request) -> httpx.Response:
        found = answers.pop(0)
        if isinstance(found, httpx.HTTPError):
            raise found
        return found

    with no_waits() as clock:
        assert 7 == background(answer).deliver(LEAD.key, LEAD.fields)
    assert [0.5] == clock.sleeps


def test_naive_intake_gives_up_with_a_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """After its tries the lead is gone, and only the log knows."""
    with no_waits() as clock:
        assert background(lambda _: httpx.Response(500)).deliver(LEAD.key, LEAD.fields) is None

    assert TRIES - 1 == len(clock.sleeps)
    assert f"lead {LEAD.key} could not be delivered" in caplog.text


def test_naive_intake_acknowledges_before_it_delivers() -> None:
    """A lead waits in memory only, and is counted until it is through."""
    gate = threading.Event()

    def answer(_: httpx.Request) -> httpx.Response:
        gate.wait(60)
        return httpx.Response(200, json=[{"id": 7}])

    intake = background(answer)
    intake.accept(LEAD.key, LEAD.fields)
    assert {"waiting": 1} == intake.stats()
    gate.set()
    intake.close()
    assert {"waiting": 0} == intake.stats()


def wait_until(condition: Callable[[], bool]) -> None:
    """Return once *condition* holds; fail after a minute."""
    ticks, end = threading.Event(), time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        ticks.wait(0.01)
