"""The Flask example, with a real server and a real client; the model and the CRM fail on purpose."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.integrations.notes_service import Program, Service, run, running, serving

from resilient_agents.deadletter import DeadLetterQueue, State
from resilient_agents.testing import FakeKommo, Fault

LEAD = {"form_id": "f-1", "name": "Ann Lee", "phone": "+1 555 010-00-02"}
REPLAY = ("-c", "from resilient_agents.cli import main; main()", *("worker", "flask_app:queue", "--once"))


@pytest.fixture(scope="module")
def model() -> Iterator[Service]:
    """Run a language model that does as it is told."""
    with serving() as one:
        yield one


@pytest.fixture(scope="module")
def kommo() -> Iterator[FakeKommo]:
    """Run a Kommo account."""
    with FakeKommo() as account:
        yield account


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder in which the programs run."""
    return tmp_path_factory.mktemp("flask")


@pytest.fixture(scope="module")
def settings(model: Service, kommo: FakeKommo) -> dict[str, str]:
    """Return what the example wants to know."""
    return {"LLM_URL": model.url, "KOMMO_HOST": kommo.url, "KOMMO_TOKEN": kommo.token}


@pytest.fixture(scope="module")
def server(folder: Path, settings: dict[str, str]) -> Iterator[Program]:
    """Run the application in a process of its own."""
    command = ("-m", "flask", "--app", "flask_app", "run", "--port", "0")
    with running(Program(folder, *command, **settings)) as program:
        program.says("Running on http")
        yield program


@pytest.fixture
def client(server: Program) -> Iterator[httpx.Client]:
    """Return a client of the application."""
    found = re.search(r"Running on (http://\S+)", server.told)
    assert found is not None
    with httpx.Client(base_url=found[1], timeout=60, headers={"X-Request-ID": "r-1"}) as one:
        yield one


def test_agents(client: httpx.Client) -> None:
    """Agents are listed and found, and one that does not exist is a 404 of the one body."""
    listed = client.get("/agents").json()
    assert (True, "r-1") == (listed["success"], listed["request_id"])
    assert ["sales", "support"] == [agent["id"] for agent in listed["data"]]
    assert "Sales" == client.get("/agents/sales").json()["data"]["name"]

    missing = client.get("/agents/nobody")

    assert (404, "not_found.missing") == (missing.status_code, missing.json()["code"])
    assert "r-1" == missing.json()["request_id"] == missing.headers["X-Request-ID"]


def test_chat_asks_the_model_again(client: httpx.Client, model: Service) -> None:
    """A failure of the model that passes is not seen by the visitor."""
    model.statuses[:] = [503, 500]

    answer = client.post("/agents/sales/chat", json={"message": "hello"})

    assert 200 == answer.status_code
    assert "hello" in answer.json()["data"]["reply"]
    assert "hello" in str([model.next_call().body for _ in range(3)][2])


def test_chat_when_the_model_is_down(client: httpx.Client, model: Service, server: Program) -> None:
    """A failure that does not pass is a 5xx of the dependency, with the id that is in the log."""
    model.statuses[:] = [503] * 3

    answer = client.post("/agents/sales/chat", json={"message": "hello"}, headers={"X-Request-ID": "r-2"})

    assert (503, "external", True) == (
        answer.status_code,
        answer.json()["category"],
        answer.json()["retryable"],
    )
    assert "r-2" == answer.json()["request_id"] == answer.headers["X-Request-ID"]
    server.says("(request r-2)")


def test_time_of_the_caller_is_kept(client: httpx.Client, model: Service) -> None:
    """Who waits only so long is not kept waiting by a model that hangs."""
    model.statuses[:] = [None]

    answer = client.post(
        "/agents/sales/chat", json={"message": "hello"}, headers={"X-Request-Timeout": "0.2"}
    )

    assert 504 == answer.status_code
    model.release.set()


@pytest.mark.parametrize(
    ("body", "status"),
    [({"content": b"{"}, 400), ({"json": {"message": ""}}, 422), ({"data": {"message": "hello"}}, 415)],
)
def test_chat_that_makes_no_sense(client: httpx.Client, body: dict[str, bytes], status: int) -> None:
    """What a visitor sends wrong is his own fault, in the one body."""
    headers = {} if "data" in body else {"Content-Type": "application/json"}

    answer = client.post("/agents/sales/chat", headers=headers, **body)  # type: ignore[arg-type]

    assert (status, "validation") == (answer.status_code, answer.json()["category"])


def test_leads_are_never_lost(
    client: httpx.Client, kommo: FakeKommo, folder: Path, settings: dict[str, str]
) -> None:
    """A lead is in Kommo, or safe until Kommo is back; twice is once; one that makes no sense is refused."""
    first, again = (client.post("/leads", json=LEAD) for _ in range(2))
    kommo.script([Fault(kind="429")])
    later = client.post("/leads", json={**LEAD, "form_id": "f-2"})
    wrong = client.post("/leads", json={**LEAD, "phone": "no"})
    kommo.script([])
    with DeadLetterQueue(f"sqlite:///{folder}/leads.db") as queue:
        queue.redrive(later.json()["data"]["queued"])
        run(folder, *REPLAY, environment=settings)
        states = queue.stats().states

    assert [201, 201, 202, 422] == [answer.status_code for answer in (first, again, later, wrong)]
    assert first.json()["data"] == again.json()["data"]
    assert [["body", "phone"]] == [error["loc"] for error in wrong.json()["errors"]]
    assert 2 == states[State.DELIVERED] == len(kommo.leads())
