"""The port on loopback that can vanish and come back, and `serve`, the blocking front door."""

import selectors
import signal
import socket
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from socketserver import ThreadingTCPServer
from threading import Event
from typing import Any

from resilient_agents._clock import clock
from resilient_agents.errors import ConfigurationError
from resilient_agents.testing.fake_kommo.account import Account
from resilient_agents.testing.fake_kommo.conversation import Conversation
from resilient_agents.testing.fake_kommo.faults import Fault
from resilient_agents.testing.fake_kommo.gate import Switches

HOST = "127.0.0.1"


class Server(ThreadingTCPServer):
    """Serves an account on loopback, a thread for each connection.

    Args:
        account: What is served.
        port: Where to listen; 0 takes any free port.

    Attributes:
        url: The address of the fake, without a slash at its end.
        bell_rope: A socket that never blocks; whoever writes to it wakes `run`.
    """

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 1024

    def __init__(self, account: Account, port: int = 0) -> None:
        self.account = account
        self._refusals: SimpleQueue[tuple[float, Event]] = SimpleQueue()
        self._reopens_at: float | None = None
        self._stopping = False
        self.bell_rope, self._bell = socket.socketpair()
        self.bell_rope.setblocking(False)
        self._open: set[socket.socket] = set()
        super().__init__((HOST, port), Conversation)  # closes everything itself if it fails
        self.authority = f"{HOST}:{self.server_address[1]}"
        self.url = f"http://{self.authority}"

    def run(self) -> None:
        """Serve until `stop` is called."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._bell, selectors.EVENT_READ)
            selector.register(self.socket, selectors.EVENT_READ)
            while not self._stopping:
                for key, _ in selector.select(self._until_reopening()):
                    if key.fileobj is self.socket:
                        self._accept()
                    else:
                        self._bell.recv(4096)
                self._mind_the_port(selector)

    def stop(self) -> None:
        """Make `run` return. May be called from a signal handler or another thread."""
        self._stopping = True
        self._ring()

    def refuse(self, seconds: float) -> None:
        """Refuse connections for *seconds*. Returns once nobody listens any more."""
        closed = Event()
        self._refusals.put((seconds, closed))
        self._ring()
        closed.wait()

    def _ring(self) -> None:
        with suppress(BlockingIOError):  # it is ringing already
            self.bell_rope.send(b"!")

    def _accept(self) -> None:
        with suppress(OSError):  # the client has gone already
            connection, address = self.get_request()
            self._open.add(connection)
            self.process_request(connection, address)

    def _until_reopening(self) -> float | None:
        return None if self._reopens_at is None else max(0.0, self._reopens_at - clock().monotonic())

    def _mind_the_port(self, selector: selectors.BaseSelector) -> None:
        """Close and open the port as the refusals ask; the thread of `run` alone touches it."""
        with suppress(Empty):
            while True:
                seconds, closed = self._refusals.get_nowait()
                if self._reopens_at is None:
                    selector.unregister(self.socket)
                    self._close_port()
                self._reopens_at = clock().monotonic() + seconds
                closed.set()
        if self._until_reopening() == 0:
            self._reopens_at = None
            self.server_activate()
            selector.register(self.socket, selectors.EVENT_READ)

    def _close_port(self) -> None:
        """Stop listening but keep the port bound, so that nobody else takes it; let idle clients go."""
        self.socket.close()
        self.socket = socket.socket(self.address_family, self.socket_type)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        for connection in tuple(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RD)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection; no polite goodbye first, which would spoil a reset."""
        self._open.discard(request)
        self.close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report a fault of the fake itself; a client that has gone is none."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def server_close(self) -> None:
        """Let go of the port and of every connection."""
        super().server_close()
        for connection in tuple(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._bell.close()
        self.bell_rope.close()


def listen(account: Account, *, port: int, ready: Callable[[str], None]) -> None:
    """Serve *account* until the process is told to end by SIGTERM or SIGINT; main thread only.

    Args:
        account: What is served.
        port: Where to listen on 127.0.0.1; 0 takes any free port.
        ready: Called with the URL once connections are taken.

    Raises:
        ConfigurationError: Nothing can listen on *port*.
    """
    try:
        server = Server(account, port)
    except (OSError, OverflowError) as exc:
        reason = getattr(exc, "strerror", None) or "there is no such port"
        raise ConfigurationError(
            f"FakeKommo cannot listen on port {port} of {HOST}: {reason}; choose another, or 0 for a free one"
        ) from None
    ends = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(end, lambda *_: server.stop()) for end in ends]
    # A signal that comes just before the wait, or to another thread, does not interrupt it; the bell does.
    rope_before = signal.set_wakeup_fd(server.bell_rope.fileno(), warn_on_full_buffer=False)
    try:
        ready(server.url)
        server.run()
    finally:
        signal.set_wakeup_fd(rope_before)
        server.server_close()
        for end, handler in zip(ends, before, strict=True):
            signal.signal(end, handler)


def serve(
    *,
    port: int = 0,
    rate: int | None = 7,
    faults: Iterable[Fault] = (),
    seed: int = 0,
    data: str | Path | None = None,
    ready: Callable[[str], None],
    **switches: Any,
) -> None:
    """Be a Kommo account until SIGTERM or SIGINT; main thread only.

    Args:
        port: Where to listen on 127.0.0.1. The default is any free port.
        rate: Requests admitted in any second, or *None* for no limit. The default is 7.
        faults: The fault script. The default is none.
        seed: What the probabilities of faults are drawn from. The default is 0.
        data: A file in which the records outlive the process. The default keeps them in memory.
        ready: Called with the URL once connections are taken.
        **switches: Other switches than *rate*, as `FakeKommo.switch` takes them.

    Raises:
        ValidationFailed: A switch is unknown or its value is wrong; nothing was started.
        ConfigurationError: Nothing can listen on *port*.
    """
    account = Account(Switches.from_json({"rate": rate, **switches}), faults, seed=seed, data=data)
    listen(account, port=port, ready=ready)
