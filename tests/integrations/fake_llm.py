"""A language model over HTTP that does what it is told; for the tests of the examples."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class _Handler(BaseHTTPRequestHandler):
    server: "FakeModel"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt, message = (turn["content"] for turn in asked["messages"])
        self.server.asked.append(message)
        if message == "hang":
            self.server.stopped.wait()
        elif message == "too many":
            self._answer(
                429, {"error": "rate limit reached for key sk-secret0123456789"}, {"Retry-After": "41.5"}
            )
        elif message == "fail":
            self._answer(500, {"error": "internal"})
        elif message == "nonsense":
            self._answer(200, {"unexpected": True})
        elif message.startswith("no suggestions") and prompt.startswith("Suggest"):
            self._answer(503, {"error": "overloaded"})
        else:
            text = "What else?\nHow much?" if prompt.startswith("Suggest") else message.removesuffix("?")
            self._answer(200, {"choices": [{"message": {"content": text}}]})

    def _answer(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(raw)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


class FakeModel(ThreadingHTTPServer):
    """The server; *asked* holds the messages that it got."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[str] = []
        self.stopped = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}/v1"


@contextmanager
def fake_model() -> Iterator[FakeModel]:
    """Serve until the block ends."""
    with FakeModel() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.stopped.set()
            server.shutdown()
            thread.join()
