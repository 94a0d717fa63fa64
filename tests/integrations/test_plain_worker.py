"""The plain worker, with a real Redis, a real process and a service that fails on purpose."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integrations.notes_service import Program, running, serving
from tests.policies.redis_server import Server
from tests.policies.redis_server import running as redis_running

from resilient_agents.deadletter import DeadLetterQueue, State

READY = "taking messages"


@pytest.fixture
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run a Redis."""
    with redis_running(tmp_path_factory.mktemp("redis")) as server:
        yield server


def message(name: str) -> str:
    """Return a message."""
    return json.dumps({"id": name, "request_id": f"request-{name}", "lead": "Ann", "text": "called"})


def test_plain_worker(source: Server, tmp_path: Path) -> None:
    """Messages are done once, retried where that helps, refused where they are none, and never lost.

    SIGTERM in the middle of a job lets it end.
    """
    with serving() as service:
        settings = {"REDIS_URL": source.url, "CRM_URL": service.url, "WAIT_INITIAL": "0.02"}
        source.client.rpush("messages:running", message("left-behind"))
        service.statuses[:] = [503, 503]
        with running(Program(tmp_path, "-m", "worker_plain", **settings)) as worker:
            worker.says(READY)
            for _ in range(3):
                assert "request-left-behind" == service.next_call("left-behind").request_id
            worker.says("for request request-left-behind")

            for text in ("no message", message("again"), message("again")):
                source.client.rpush("messages", text)
            service.next_call("again")
            worker.says("take_in: internal.data")
            worker.says("for request request-again")

            service.statuses[:] = [None]
            source.client.rpush("messages", message("last"))
            service.next_call("last")
            worker.process.terminate()
            service.release.set()
            told = worker.finished()

    assert "ended; 0 jobs wait for the next worker" in told
    assert 1 == told.count("for request request-again")
    assert ["left-behind", "again", "last"] == list(service.done)
    assert [b"no message"] == source.client.lrange("messages:refused", 0, -1)
    assert 0 == source.client.llen("messages:running")
    with DeadLetterQueue(f"sqlite:///{tmp_path}/jobs.db") as jobs:
        assert 3 == jobs.stats().states[State.DELIVERED]
