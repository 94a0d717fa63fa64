"""A service over HTTP that does as a test tells it, and programs that run beside a test."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from threading import Event, Thread
from typing import Any, NamedTuple

EXAMPLES = Path(__file__).parents[2] / "examples"

PATIENCE = 60.0
"""Time in seconds after which a test gives up."""


class Call(NamedTuple):
    """A request that the service got."""

    key: str | None
    request_id: str | None
    body: Any


class Service(ThreadingHTTPServer):
    """Answers every POST with the next of the statuses it was given, and with 200 after them.

    Attributes:
        calls: The requests, as they come.
        statuses: What is answered to the next requests; *None* is to keep the caller waiting until `release`.
        done: The answers with 200, by idempotency key: twice is once.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.calls: Queue[Call] = Queue()
        self.statuses: list[int | None] = []
        self.done: dict[str | None, dict[str, Any]] = {}
        self.release = Event()

    def next_call(self, key: str | None = None) -> Call:
        """Wait for a request with an idempotency key; pass over those of others."""
        while True:
            call = self.calls.get(timeout=PATIENCE)
            if call.key == key:
                return call

    def answer(self, call: Call) -> tuple[int, dict[str, Any]]:
        """Do what was asked for."""
        self.calls.put(call)
        status = self.statuses.pop(0) if self.statuses else 200
        if status is None:
            self.release.wait(PATIENCE)
            status = 200
        if status != 200:
            return status, {}
        spoken = {"choices": [{"message": {"content": f"echo {call.body}"}}]}
        return 200, self.done.setdefault(call.key, {"id": len(self.done) + 1, **spoken})


class _Handler(BaseHTTPRequestHandler):
    server: Service

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        call = Call(self.headers["Idempotency-Key"], self.headers["X-Request-ID"], body)
        status, answer = self.server.answer(call)
        data = json.dumps(answer).encode()
        try:
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        except ConnectionError:  # the caller was killed while it waited
            pass

    def log_message(self, *_: Any) -> None:
        """Write nothing."""


@contextmanager
def serving() -> Iterator[Service]:
    """Run a service for the length of a block."""
    with Service() as service:
        thread = Thread(target=service.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield service
        finally:
            service.release.set()
            service.shutdown()
            thread.join()


class Program:
    """A program in a process, and a session, of its own; what it writes goes to a file."""

    def __init__(self, folder: Path, *command: str, **environment: str) -> None:
        inherited = {name: it for name, it in os.environ.items() if not name.startswith("KOMMO_")}
        self._told = folder / f"{len(list(folder.iterdir()))}.log"
        with self._told.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, *command],
                cwd=folder,
                env={**inherited, "PYTHONPATH": str(EXAMPLES), "PYTHONUNBUFFERED": "1", **environment},
                stdout=file,
                stderr=file,
                start_new_session=True,
            )

    @property
    def told(self) -> str:
        """What it has written."""
        return self._told.read_text()

    def says(self, text: str) -> None:
        """Wait until it has written *text*."""
        pause = Event()
        for _ in range(int(PATIENCE / 0.02)):
            if text in self.told:
                return
            assert self.process.poll() is None, self.told
            pause.wait(0.02)
        raise AssertionError(f"it does not say {text!r}: {self.told}")

    def terminate(self) -> int:
        """Ask it to end, and return its status."""
        self.process.terminate()
        return self.process.wait(PATIENCE)

    def finished(self) -> str:
        """Wait until it has ended well, and return what it has written."""
        assert 0 == self.process.wait(PATIENCE), self.told
        return self.told


@contextmanager
def running(program: Program) -> Iterator[Program]:
    """Kill a program, and all that it has started, at the end of a block."""
    try:
        yield program
    finally:
        if program.process.poll() is None:
            os.killpg(program.process.pid, signal.SIGKILL)
            program.process.wait()


def run(folder: Path, *command: str, environment: Mapping[str, str]) -> str:
    """Run a program to its end, and return what it has written."""
    with running(Program(folder, *command, **environment)) as program:
        return program.finished()
