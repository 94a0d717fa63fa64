"""The HTTP side of an intake service: ``POST /leads``, ``GET /stats``, and a life that hangs on a pipe."""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from io import FileIO
from socketserver import ThreadingTCPServer
from threading import Thread
from typing import Any, cast

from resilient_agents.errors import ApiError, ValidationFailed

Accept = Callable[[str, Mapping[str, Any]], None]
Stats = Callable[[], Mapping[str, int]]


class _Conversation(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        """Accept a lead; answer only then."""
        front = cast("_Front", self.server)
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        try:
            front.accept(*_read(self.path, body))
        except ApiError as exc:
            self._answer(exc.status, {"error": exc.detail})
        else:
            self._answer(front.status, {"accepted": True})

    def do_GET(self) -> None:
        """Tell how many leads wait, and why."""
        self._answer(200, cast("_Front", self.server).stats())

    def _answer(self, status: int, value: Mapping[str, Any]) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is inherited
        """Stay silent: the log is for what goes wrong."""


class _Front(ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, *, accept: Accept, stats: Stats, status: int) -> None:
        self.accept, self.stats, self.status = accept, stats, status
        super().__init__(("127.0.0.1", port), _Conversation)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report what went wrong; a client that has gone is nothing."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def open_front(port: int, *, accept: Accept, stats: Stats, status: int) -> Iterator[None]:
    """Serve until the block ends, and tell the parent the URL on standard output.

    Args:
        port: Where to listen on 127.0.0.1; 0 takes any free port.
        accept: Called with key and fields of each lead, in several threads. The lead is acknowledged when
            it returns.
        stats: Returns how many leads it still holds, by what they wait for.
        status: The HTTP status of an acknowledgement.
    """
    with _Front(port, accept=accept, stats=stats, status=status) as front:
        thread = Thread(target=front.serve_forever, args=(0.05,), name="front")
        thread.start()
        try:
            sys.stdout.write(json.dumps({"url": f"http://127.0.0.1:{front.server_address[1]}"}) + "\n")
            sys.stdout.flush()
            yield
        finally:
            front.shutdown()
            thread.join()


def settings_from_parent() -> dict[str, Any]:
    """Return the settings, which are the first line of standard input; end by SIGTERM when the parent dies.

    A parent that dies, however it dies, closes the pipe.
    """
    pipe = FileIO(0, closefd=False)  # unlike sys.stdin, it has no lock that a blocked thread would keep
    settings: dict[str, Any] = json.loads(pipe.readline())

    def mourn() -> None:
        pipe.read(1)
        os.kill(os.getpid(), signal.SIGTERM)

    Thread(target=mourn, name="parent-watch", daemon=True).start()
    return settings


def _read(path: str, body: bytes) -> tuple[str, dict[str, Any]]:
    """Return key and fields of the lead in a request."""
    if path != "/leads":
        raise ValidationFailed("there is only POST /leads", status=404)
    try:
        document = json.loads(body)
        return str(document["key"]), dict(document["lead"])
    except (ValueError, KeyError, TypeError):
        raise ValidationFailed('the body must be JSON: {"key": "...", "lead": {...}}', status=400) from None
