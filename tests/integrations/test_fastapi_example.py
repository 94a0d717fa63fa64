"""The FastAPI example behind a real server, with a real client, a model that fails, a Kommo that is down."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.integrations.fake_llm import FakeModel, fake_model

from resilient_agents.testing import FakeKommo

PROJECT = Path(__file__).parents[2]
NOBODY = "http://127.0.0.1:9"
PATIENCE = 60.0


class Running:
    """The example in a process of its own.

    Attributes:
        http: A client for it.
    """

    def __init__(self, folder: Path, **settings: str) -> None:
        self._log = folder / "log"
        environment = {**os.environ, **settings, "LEADS_DB": f"sqlite:///{folder / 'leads.db'}"}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "error", "-m", "tests.integrations.fastapi_service"],
                cwd=PROJECT,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self._process.stdout is not None
        self._told = self._process.stdout
        port = self._told.readline().strip()
        assert port, self.log
        organization = {"X-Organization-ID": "acme"}
        self.http = httpx.Client(
            base_url=f"http://127.0.0.1:{port}", headers=organization, timeout=PATIENCE, trust_env=False
        )

    @property
    def log(self) -> str:
        """Everything that was logged."""
        return self._log.read_text(encoding="utf-8")

    def stop(self) -> str:
        """End the process politely, and return what its subscriber told."""
        self.http.close()
        self._process.send_signal(signal.SIGTERM)
        told, _ = self._process.communicate(timeout=PATIENCE)
        assert self._process.returncode in (0, -signal.SIGTERM), self.log
        return told

    def told(self) -> str:
        """Return what the subscriber of the process tells next."""
        return self._told.readline()

    def failed(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        """Send a request that fails, and check what every failure has in common."""
        before = self.log
        response = self.http.request(method, path, **arguments)
        assert response.is_error, response.text
        body = response.json()
        assert [body["request_id"], str(body["status"]), body["code"]] == self.told().split()[:3]
        assert (False, response.status_code) == (body["success"], body["status"])
        assert response.headers["X-Request-ID"] == body["request_id"]
        assert "application/json" == response.headers["Content-Type"]
        lines = [line for line in self.log[len(before) :].splitlines() if body["request_id"] in line]
        assert 1 == len(lines)
        assert f"-> {response.status_code} " in lines[0]
        assert body["code"] in lines[0]
        return response


@pytest.fixture(scope="module")
def model() -> Iterator[FakeModel]:
    """A model that does what it is told."""
    with fake_model() as model:
        yield model


@pytest.fixture(scope="module")
def kommo() -> Iterator[FakeKommo]:
    """A Kommo account."""
    with FakeKommo(rate=None) as kommo:
        yield kommo


@pytest.fixture(scope="module")
def running(
    model: FakeModel, kommo: FakeKommo, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """The example, with everything that it needs."""
    settings = {"LLM_URL": model.url, "LLM_KEY": "sk-secret0123456789"}
    running = Running(
        tmp_path_factory.mktemp("example"), **settings, KOMMO_HOST=kommo.url, KOMMO_TOKEN=kommo.token
    )
    yield running
    assert "" == running.stop(), "a failure was told that no test waited for"
    assert "hunter2" not in running.log
    assert "sk-secret" not in running.log
    assert "Exception in ASGI application" not in running.log


@pytest.fixture
def agent(running: Running) -> int:
    """An agent of the organisation, and a model of which nothing bad is known."""
    running.http.post("/reset")
    return int(running.http.post("/agents", json={"name": "Ann"}).json()["id"])


def test_agents(running: Running) -> None:
    """An agent is created, found, listed, changed and deleted, by its own organisation only."""
    created = running.http.post("/agents", json={"name": "Ann", "prompt": "Be brief."})
    agent, path = created.json(), created.headers["Location"]

    assert (201, "Be brief.") == (created.status_code, agent["prompt"])
    assert agent == running.http.get(path).json()
    assert agent in running.http.get("/agents", params={"limit": 100}).json()
    assert agent | {"name": "Bob"} == running.http.patch(path, json={"name": "Bob"}).json()
    assert (
        "not_found.agent"
        == running.failed("GET", path, headers={"X-Organization-ID": "other"}).json()["code"]
    )
    assert 204 == running.http.delete(path).status_code
    assert 404 == running.failed("DELETE", path).status_code


def test_chat(running: Running, agent: int) -> None:
    """The model answers, and the id of the caller comes back."""
    response = running.http.post(
        f"/agents/{agent}/chat", json={"text": "Hello?"}, headers={"X-Request-ID": "form-1"}
    )

    assert {"text": "Hello", "suggestions": ["What else?", "How much?"]} == response.json()
    assert "form-1" == response.headers["X-Request-ID"]


def test_what_is_not_needed_degrades(running: Running, agent: int) -> None:
    """Without suggestions there is an answer all the same."""
    response = running.http.post(f"/agents/{agent}/chat", json={"text": "no suggestions?"})

    assert (200, {"text": "no suggestions", "suggestions": []}) == (response.status_code, response.json())


@pytest.mark.parametrize(
    ("message", "status", "code"),
    [("fail", 502, "external.server_error"), ("nonsense", 502, "external.bad_body")],
)
def test_model_fails(message: str, status: int, code: str, running: Running, agent: int) -> None:
    """What the model does wrong is a 502 that says so, and nothing of what it said."""
    response = running.failed("POST", f"/agents/{agent}/chat", json={"text": message})

    assert (status, code) == (response.status_code, response.json()["code"])


def test_model_hangs(running: Running, agent: int) -> None:
    """A caller that waits for half a second gets a 504 after that."""
    response = running.failed(
        "POST", f"/agents/{agent}/chat", json={"text": "hang"}, headers={"X-Request-Timeout": "0.5"}
    )

    assert 504 == response.status_code
    assert response.json()["retryable"]


def test_model_has_had_enough(running: Running, agent: int, model: FakeModel) -> None:
    """A wait that nobody can wait for is not begun: the caller learns how long it is, not our key."""
    before = model.asked.count("too many")
    response = running.failed(
        "POST", f"/agents/{agent}/chat", json={"text": "too many"}, headers={"X-Request-Timeout": "20"}
    )

    assert (503, "42", 42) == (
        response.status_code,
        response.headers["Retry-After"],
        response.json()["retry_after"],
    )
    assert "sk-secret" not in response.text
    assert 1 == model.asked.count("too many") - before


@pytest.mark.parametrize(
    ("body", "places"),
    [
        ({"name": ""}, [["body", "name"]]),
        ({"name": "Ann", "password": "hunter2"}, [["body", "password"]]),
        ({"name": {"password": "hunter2"}, "prompt": 5}, [["body", "name"], ["body", "prompt"]]),
        ("hunter2", [["body"]]),
    ],
)
def test_bad_input(body: Any, places: list[Any], running: Running) -> None:
    """A 422 names the fields, and holds nothing of what was sent."""
    response = running.failed("POST", "/agents", json=body)

    assert (422, places) == (response.status_code, [error["loc"] for error in response.json()["errors"]])
    assert "hunter2" not in response.text


def test_broken_json(running: Running) -> None:
    """So it is with a body that is no JSON."""
    response = running.failed(
        "POST", "/agents", content=b'{"password": "hunter2', headers={"Content-Type": "application/json"}
    )

    assert 422 == response.status_code
    assert "hunter2" not in response.text


def test_unknown_route(running: Running) -> None:
    """A route that nobody has is a 404."""
    response = running.failed("GET", "/no/such/route?password=hunter2")

    assert (404, "/no/such/route") == (response.status_code, response.json()["instance"])
    assert "hunter2" not in response.text


def test_wrong_method(running: Running) -> None:
    """A method that a route does not have is a 405, with the one that it has."""
    response = running.failed("PUT", "/agents/1/chat")

    assert (405, "POST") == (response.status_code, response.headers["Allow"])


def test_crash(running: Running) -> None:
    """A defect is a 500 without its text; the log says where it is, once, and the server says nothing."""
    response = running.failed("GET", "/crash")

    assert (500, "internal.bug") == (response.status_code, response.json()["code"])
    assert "hunter2" not in response.text
    assert 1 == running.log.count("in crash")


def test_model_is_left_alone(running: Running, agent: int, model: FakeModel) -> None:
    """A model that failed too often is not asked again for a while, and health says so."""
    codes: list[str] = []
    while "external.circuit_open" not in codes:
        asked = len(model.asked)
        response = running.failed("POST", f"/agents/{agent}/chat", json={"text": "fail"})
        codes.append(response.json()["code"])

    assert 503 == response.status_code
    assert 10 >= len(codes)
    assert asked == len(model.asked)
    assert "down" == running.http.get("/health").json()["llm"]


def test_answer_that_breaks(running: Running) -> None:
    """An answer that fails when it has begun is broken off, and the log says so and where, once."""
    with pytest.raises(httpx.RemoteProtocolError):
        running.http.get("/broken")

    assert ["200", "internal.bug", "/broken"] == running.told().split()[1:]
    assert 1 == running.log.count("in parts")
    assert 1 == running.log.count("answer broken off")


def test_lead_is_delivered(running: Running, kommo: FakeKommo) -> None:
    """A lead reaches Kommo, and a form that is sent twice is one lead."""
    form = {"form_id": "form-8731", "name": "Ann Lee", "phone": "+15550100002"}
    first = running.http.post("/leads", json=form)
    second = running.http.post("/leads", json=form)

    assert (202, True) == (first.status_code, first.json()["delivered"])
    assert first.json() == second.json()
    assert 1 == [lead["name"] for lead in kommo.leads()].count("Ann Lee")
    assert 409 == running.failed("POST", "/leads", json=form | {"name": "Bob"}).status_code


def test_health(running: Running) -> None:
    """The service is well."""
    running.http.post("/reset")
    assert {"status": "ok", "llm": "up"} == running.http.get("/health").json()


def test_everybody_is_down(tmp_path: Path) -> None:
    """Without a model the chat says so; without Kommo a lead is accepted all the same."""
    running = Running(tmp_path, LLM_URL=NOBODY, KOMMO_HOST=NOBODY, KOMMO_TOKEN="token")
    agent = running.http.post("/agents", json={"name": "Ann"}).json()["id"]
    chat = running.failed("POST", f"/agents/{agent}/chat", json={"text": "Hello?"})
    lead = running.http.post("/leads", json={"form_id": "1", "name": "Ann", "phone": "+15550100002"})
    running.stop()

    assert (503, "external.connect", True) == (
        chat.status_code,
        chat.json()["code"],
        chat.json()["retryable"],
    )
    assert (202, False) == (lead.status_code, lead.json()["delivered"])
