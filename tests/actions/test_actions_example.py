"""The example of an agent, run as a process against a fake model and a fake CRM, over real HTTP."""

import json
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "agent_actions.py"


class World:
    """A model and a CRM on one server; each fails as it is told to.

    Attributes:
        down: Which of ``llm``, ``deals`` and ``tasks`` answer with 503.
        answer: What the model answers.
        requests: The requests so far, by what they asked.
        tasks: The tasks in the CRM, by idempotency key.
    """

    def __init__(self) -> None:
        self.down: set[str] = set()
        self.answer = '{"intent": "call_back", "phone": "+1 555 010-0002"}'
        self.requests: list[str] = []
        self.tasks: dict[str, Any] = {}

    def respond(self, path: str, key: str | None, body: Any) -> tuple[int, Any]:
        """Return a status and a body."""
        name = "llm" if path.startswith("/chat") else path.split("/")[2]
        self.requests.append(name)
        if name in self.down:
            return 503, {}
        if name == "llm":
            return 200, {"choices": [{"message": {"content": self.answer}}]}
        if name == "deals":
            return 200, {"id": 7, "name": "Ann"}
        assert key is not None
        self.tasks.setdefault(key, body)
        return 200, {"id": f"task-{len(self.tasks)}"}


@pytest.fixture
def world() -> World:
    """Return a world in which everything works."""
    return World()


@pytest.fixture
def url(world: World) -> Iterator[str]:
    """Serve the world, and return its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            status, answer = world.respond(self.path, self.headers.get("Idempotency-Key"), body)
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST  # noqa: N815 - the name that http.server calls

        def log_message(self, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def run(url: str, tmp_path: Path) -> Any:
    """Return a function that runs the example with a message, and returns the outcome."""

    def run(text: str, message_id: str = "m-1") -> dict[str, Any]:
        settings = {
            "LLM_URL": url,
            "LLM_KEY": "sk-test",
            "CRM_URL": url,
            "DATA": str(tmp_path),
            "MESSAGE_ID": message_id,
        }
        child = subprocess.run(
            [sys.executable, EXAMPLE, text],
            env={**os.environ, **settings},
            check=True,
            capture_output=True,
            text=True,
        )
        outcome: dict[str, Any] = json.loads(child.stdout)
        return outcome

    return run


def recorded(folder: Path) -> list[tuple[str, str]]:
    """Return what is in the activity log: actions and how they ended."""
    with sqlite3.connect(folder / "activity.db") as connection:
        rows = connection.execute("SELECT action, status FROM activity_logs ORDER BY id").fetchall()
    connection.close()
    return rows


def test_all_goes_well(run: Any, world: World, tmp_path: Path) -> None:
    """The call is booked with the phone of the message and the deal of the client."""
    outcome = run("Call me back")

    assert ("done", "task-1", []) == (outcome["status"], outcome["result"], outcome["degraded"])
    assert {"m-1": {"phone": "+1 555 010-0002", "deal": 7}} == world.tasks
    told = [("agent.intent", "ok"), ("agent.context", "ok"), ("agent.action", "ok")]
    assert told == recorded(tmp_path)


def test_the_model_is_down(run: Any, world: World) -> None:
    """After two attempts the agent asks back, and says why."""
    world.down = {"llm"}

    outcome = run("Call me back")

    assert ["llm", "llm"] == [name for name in world.requests if name == "llm"]
    assert ("other", "done") == (outcome["intent"]["name"], outcome["status"])
    assert ["external.overloaded"] == [step["code"] for step in outcome["degraded"]]
    assert {} == world.tasks


@pytest.mark.parametrize("answer", ["no JSON", '{"intent": "transfer_money"}'])
def test_the_model_talks_nonsense(run: Any, world: World, answer: str) -> None:
    """What is no intent of ours is other, and nothing is booked."""
    world.answer = answer

    assert "other" == run("Call me back")["intent"]["name"]
    assert {} == world.tasks


def test_the_deals_are_down(run: Any, world: World) -> None:
    """The call is booked without its deal."""
    world.down = {"deals"}

    outcome = run("Call me back")

    assert 2 == world.requests.count("deals")
    assert "done" == outcome["status"]
    assert ["context"] == [step["step"] for step in outcome["degraded"]]
    assert {"m-1": {"phone": "+1 555 010-0002", "deal": None}} == world.tasks


def test_the_tasks_are_down(run: Any, world: World, tmp_path: Path) -> None:
    """The call waits on disk, and the next process books it, once."""
    world.down = {"tasks"}
    outcome = run("Call me back")
    assert ("queued", 1) == (outcome["status"], outcome["entry_id"])
    world.down = set()
    make_due(tmp_path)

    world.answer = '{"intent": "greet"}'
    assert "Hello, Ann!" == run("Hi", "m-2")["result"]

    assert ["m-1"] == [*world.tasks]
    assert ("agent.action", "queued") in recorded(tmp_path)


def make_due(folder: Path) -> None:
    """Let the time pass after which a target is tried again."""
    with sqlite3.connect(folder / "actions.db") as connection:
        connection.execute("UPDATE entries SET due = 0")
    connection.close()


def test_the_same_message_twice(run: Any, world: World) -> None:
    """A channel that delivers twice books once."""
    first, second = run("Call me back"), run("Call me back")

    assert ("done", "done") == (first["status"], second["status"])
    assert 1 == world.requests.count("tasks")
