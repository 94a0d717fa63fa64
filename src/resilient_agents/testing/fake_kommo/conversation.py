"""One connection to the fake: HTTP/1.1, and the faults that are seen on an established connection."""

import json
import math
import socket
import struct
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qsl, unquote
from uuid import uuid4

from resilient_agents._clock import clock
from resilient_agents.errors import ApiError
from resilient_agents.testing.fake_kommo.account import Account
from resilient_agents.testing.fake_kommo.answers import Answer, Request, encode, problem
from resilient_agents.testing.fake_kommo.control import PREFIX, control
from resilient_agents.testing.fake_kommo.faults import Fault
from resilient_agents.testing.fake_kommo.playback import play

if TYPE_CHECKING:
    from resilient_agents.testing.fake_kommo.server import Server

_MAX_BODY = 16 * 1024 * 1024
_DRIPS = 20
_RST_ON_CLOSE = struct.pack("ii", 1, 0)


class Conversation(BaseHTTPRequestHandler):
    """One connection: reads requests and sends what the account answers."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    @property
    def _fake(self) -> "Server":
        return cast("Server", self.server)

    def _converse(self) -> None:
        request = self._read()
        if request is None:
            return
        if request.path.startswith(PREFIX):
            self._send(_control_answer(self._fake.account, request))
            return
        fault, line = self._fake.account.receive(request)
        if fault is None:
            answer: Answer | None = self._fake.account.answer(request)
        else:
            answer = play(self._fake.account, fault, request)
        line["status"] = answer and answer.status
        if answer is None:
            self._hang_up(fault)
        else:
            self._send(answer, fault)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _converse  # noqa: N815 - http.server's names

    def _read(self) -> Request | None:
        """Return the whole request; *None* if it is not one, when the connection ends."""
        length = self.headers.get("Content-Length", "0")
        countable = length.isdecimal() and len(length) < 16
        if not countable or "Transfer-Encoding" in self.headers:
            self._reject(problem(411, "FakeKommo takes bodies with a Content-Length only"))
            return None
        if int(length) > _MAX_BODY:
            self._reject(problem(413, f"FakeKommo takes at most {_MAX_BODY} bytes"))
            return None
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            self.close_connection = True
            return None
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        path, _, query = self.path.partition("?")
        return Request(
            method=self.command,
            path=unquote(path),
            query=tuple(parse_qsl(query, keep_blank_values=True)),
            token=token.strip() if scheme.lower() == "bearer" else None,
            body=body,
            origin=f"http://{self.headers.get('Host', self._fake.authority)}",
        )

    def _reject(self, answer: Answer) -> None:
        self.close_connection = True
        self._send(answer)

    def _send(self, answer: Answer, fault: Fault | None = None) -> None:
        """Send *answer*: whole, or as a truncating or dripping *fault* wants it."""
        kind = None if fault is None else fault.kind
        if kind == "truncate":
            self.close_connection = True
        head = self._head(answer)
        if kind == "truncate":
            half = answer.body[: len(answer.body) // 2]
            self.wfile.write(head + half if half else head[: len(head) // 2])
        elif fault is not None and kind == "drip":
            self.wfile.write(head)
            self._drip(answer.body, fault.seconds)
        else:
            self.wfile.write(head + answer.body)

    def _head(self, answer: Answer) -> bytes:
        lines = [f"HTTP/1.1 {answer.status} {_phrase(answer.status)}", f"X-Request-Id: {uuid4()}"]
        if answer.body:
            lines.append(f"Content-Type: {answer.content_type}")
        if answer.status != 204:
            lines.append(f"Content-Length: {len(answer.body)}")
        if self.close_connection:
            lines.append("Connection: close")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def _drip(self, body: bytes, seconds: float) -> None:
        size = math.ceil(len(body) / _DRIPS) or 1
        drops = [body[start : start + size] for start in range(0, len(body), size)]
        for drop in drops:
            clock().sleep(seconds / len(drops))
            self.wfile.write(drop)

    def _hang_up(self, fault: Fault | None) -> None:
        """End the connection without an answer, as *fault* wants it."""
        self.close_connection = True
        if fault is not None and fault.kind == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST_ON_CLOSE)
        if fault is not None and fault.kind == "refuse":
            self._fake.refuse(fault.seconds)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer what is not HTTP, or a method that nobody knows, in the form of all other errors."""
        self._reject(problem(code, message or explain or ""))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is inherited
        """Stay silent: the account has a log of its own."""


def _phrase(status: int) -> str:
    return BaseHTTPRequestHandler.responses[status][0]


def _control_answer(account: Account, request: Request) -> Answer:
    try:
        value = json.loads(request.body) if request.body else None
        result = control(account, request.method, request.path, value)
    except ApiError as exc:
        return problem(exc.status, exc.detail)
    except ValueError:
        return problem(400, "the body is not valid JSON")
    return Answer(status=200, content_type="application/json", body=encode(result))
