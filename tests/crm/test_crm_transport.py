"""One exchange with real servers on loopback: everything ends, and ends in time."""

import asyncio
import gc
import gzip
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

import httpx
import pytest
from tests.crm.loopback import PATIENCE, Server, finish_with, saying

from resilient_agents.crm.transport import (
    ANSWER_LIMIT,
    Answer,
    AwaitingTransport,
    BlockingTransport,
    Request,
    Timeouts,
)
from resilient_agents.deadletter.settlement import provably_not_executed
from resilient_agents.errors import ConfigurationError, OutcomeUnknown, Unreachable, classify
from resilient_agents.policies import deadline
from resilient_agents.testing import FakeClock, FakeKommo

GET = Request(method="GET", path="/api/v4/account")
PHASES = {"connect": PATIENCE, "read": PATIENCE, "write": PATIENCE, "pool": PATIENCE}
PATIENT = Timeouts(**PHASES, total=PATIENCE)

Serve = Callable[[Callable[[socket.socket], object]], Server]


class Exchange:
    """Sends requests by either transport, in the same blocking way."""

    def __init__(self, transport: Any, finish: Callable[[Any], Any]) -> None:
        self._transport = transport
        self._finish = finish

    def send(self, request: Request = GET) -> Answer:
        """Send a request."""
        answer: Answer = self._finish(self._transport.send(request))
        return answer

    def close(self) -> None:
        """Close the connections."""
        self._finish(self._transport.close())


@pytest.fixture(params=[BlockingTransport, AwaitingTransport])
def exchange_with(request: pytest.FixtureRequest) -> Iterator[Callable[..., Exchange]]:
    """A function that makes a transport to an address; each test runs with both kinds."""
    made: list[Exchange] = []
    with asyncio.Runner() as runner:

        def exchange_with(url: str, timeouts: Timeouts = PATIENT) -> Exchange:
            finish = finish_with(runner if request.param is AwaitingTransport else None)
            made.append(Exchange(request.param(url, timeouts), finish))
            return made[-1]

        yield exchange_with
        for exchange in made:
            exchange.close()


def drip(start: bytes) -> Callable[[socket.socket], None]:
    """Return a handler that says *start* and then a byte every 20 ms, until nobody waits for it any more."""

    def handle(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(start)
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            connection.sendall(b"x")
            time.sleep(0.02)

    return handle


def hang(connection: socket.socket) -> None:
    """Read and say nothing, until the client leaves."""
    while connection.recv(65_536):
        pass


@pytest.mark.parametrize(
    "start",
    [b"HTTP/1.1 200 OK\r\nx-long: ", b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n"],
    ids=["headers", "body"],
)
def test_a_dripping_answer_ends_at_the_total(
    serve: Serve, exchange_with: Callable[..., Exchange], start: bytes
) -> None:
    """A server that keeps every phase alive is left when the total time is up."""
    exchange = exchange_with(serve(drip(start)).url, Timeouts(**PHASES, total=0.3))
    with pytest.raises(OutcomeUnknown, match=r"did not answer within 0\.3 s in all") as caught:
        exchange.send()

    assert ("external.timeout", 504) == (caught.value.code, caught.value.status)


def test_a_server_that_says_nothing_ends_at_the_read_timeout(
    serve: Serve, exchange_with: Callable[..., Exchange]
) -> None:
    """A hang ends after the time for one piece of the answer, with an unknown outcome."""
    exchange = exchange_with(serve(hang).url, Timeouts(**{**PHASES, "read": 0.2}, total=PATIENCE))
    with pytest.raises(httpx.ReadTimeout) as caught:
        exchange.send()

    assert "external.timeout" == classify(caught.value).code
    assert classify(caught.value).outcome_unknown


def test_a_refused_connection_was_provably_not_used(exchange_with: Callable[..., Exchange]) -> None:
    """Where nobody listens nothing was sent."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(httpx.ConnectError) as caught:
        exchange_with(url).send()

    assert provably_not_executed(classify(caught.value))


def test_an_oversized_answer_is_not_swallowed(serve: Serve, exchange_with: Callable[..., Exchange]) -> None:
    """The limit counts what the answer unpacks to."""
    bomb = gzip.compress(bytes(ANSWER_LIMIT + 1))
    server = serve(saying("200 OK\r\ncontent-encoding: gzip", bomb))

    with pytest.raises(OutcomeUnknown, match="sent more than"):
        exchange_with(server.url).send()


@pytest.mark.parametrize(("limit", "counts"), [(0.1, 0.1), (60.0, 0.3)])
def test_a_deadline_can_only_shorten_the_total(
    serve: Serve, exchange_with: Callable[..., Exchange], limit: float, counts: float
) -> None:
    """An earlier deadline of the caller counts, in whatever thread the exchange runs; no later one."""
    server = serve(drip(b"HTTP/1.1 200 OK\r\nx-long: "))
    exchange = exchange_with(server.url, Timeouts(**PHASES, total=0.3))
    with FakeClock(), deadline(limit), pytest.raises(OutcomeUnknown, match=f"within {counts} s in all"):
        exchange.send()


def test_no_time_left_means_no_connection(serve: Serve, exchange_with: Callable[..., Exchange]) -> None:
    """What could not end in time is not begun, and no dependency is to blame for that."""
    server = serve(hang)
    with deadline(0), pytest.raises(Unreachable, match="no time was left") as caught:
        exchange_with(server.url).send()

    assert 0 == server.connections
    assert provably_not_executed(classify(caught.value))
    assert not classify(caught.value).outage


def test_a_redirect_is_an_answer(serve: Serve, exchange_with: Callable[..., Exchange]) -> None:
    """Nobody takes the token elsewhere: a redirect is handed back, not followed."""
    server = serve(saying("301 Moved\r\nlocation: http://127.0.0.1:9/\r\nContent-Type: Text/HTML; charset=x"))
    answer = exchange_with(server.url).send()

    assert (301, "text/html", b"") == (answer.status, answer.media_type, answer.content)


def test_this_machine_is_reached_without_a_proxy(
    serve: Serve, exchange_with: Callable[..., Exchange], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy from the environment does not stand before the own machine."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")

    assert 200 == exchange_with(serve(saying("200 OK")).url).send().status


def test_what_is_sent_is_json_in_utf8(serve: Serve, exchange_with: Callable[..., Exchange]) -> None:
    """Method, path, query, headers and body arrive as given."""
    seen: list[bytes] = []

    def handle(connection: socket.socket) -> None:
        for piece in iter(partial(connection.recv, 65_536), b""):
            seen.append(piece)
            if b"\xd0\xb9" in piece:
                connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    request = Request(
        method="POST", path="/api", query={"order[id]": "asc"}, body=["ключ — чай й"], headers={"x-a": "1"}
    )
    answer = exchange_with(serve(handle).url).send(request)
    told = b"".join(seen).decode()

    assert (204, "") == (answer.status, answer.media_type)
    assert told.startswith("POST /api?order%5Bid%5D=asc HTTP/1.1\r\n")
    assert "content-type: application/json\r\n" in told.lower()
    assert "x-a: 1\r\n" in told
    assert told.endswith('["ключ — чай й"]')


def test_a_closed_transport_opens_again(fake: FakeKommo, exchange_with: Callable[..., Exchange]) -> None:
    """Closing, even twice, is no end: the next call opens new connections."""
    exchange = exchange_with(fake.url)
    exchange.close()
    statuses = []
    for _ in range(2):
        statuses.append(exchange.send().status)
        exchange.close()
        exchange.close()

    assert [401, 401] == statuses


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_each_event_loop_has_its_own_connections(fake: FakeKommo) -> None:
    """One transport serves one event loop after the other, as with a loop for each task or request."""
    transport = AwaitingTransport(fake.url, Timeouts())

    async def send_and_close() -> int:
        answer = await transport.send(GET)
        await transport.close()
        return answer.status

    assert [401] * 3 == [asyncio.run(transport.send(GET)).status for _ in range(3)]
    assert 401 == asyncio.run(send_and_close())
    gc.collect()  # the connections of the loops that are gone complain here, not in another test


def test_threads_share_a_transport(fake: FakeKommo) -> None:
    """Many threads send over one transport at the same time, and each gets its own answer."""
    transport = BlockingTransport(fake.url, Timeouts())
    queries = [Request(method="GET", path=f"/api/v4/nowhere-{number}") for number in range(60)]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(transport.send, queries))
    transport.close()

    assert [401] * 60 == [answer.status for answer in answers]
    assert {request.path for request in queries} == {request["path"] for request in fake.requests()}


def test_closing_waits_for_the_calls_under_way(serve: Serve) -> None:
    """A call that another thread is in the middle of is finished before the connections are closed."""
    asked, go_on = threading.Event(), threading.Event()

    def handle(connection: socket.socket) -> None:
        connection.recv(65_536)
        asked.set()
        go_on.wait(PATIENCE)
        connection.sendall(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")

    transport = BlockingTransport(serve(handle).url, Timeouts())
    with ThreadPoolExecutor(2) as pool:
        call = pool.submit(transport.send, GET)
        asked.wait(PATIENCE)
        closing = pool.submit(transport.close)
        assert not closing.done()
        go_on.set()
        closing.result(PATIENCE)

        assert 204 == call.result(PATIENCE).status


def test_ctrl_c_ends_the_call(serve: Serve) -> None:
    """What Ctrl-C interrupts does not go on in the background."""
    asked, gone = threading.Event(), threading.Event()

    def handle(connection: socket.socket) -> None:
        connection.recv(65_536)
        asked.set()
        with suppress(OSError):
            hang(connection)
        gone.set()

    def interrupt() -> None:
        asked.wait(PATIENCE)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    transport = BlockingTransport(serve(handle).url, Timeouts())
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # as a job of a shell it is ignored
    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        transport.send(GET)
    signal.signal(signal.SIGINT, before)

    assert gone.wait(PATIENCE)
    transport.close()


FORKING = """
import os, sys, threading
from resilient_agents.crm.transport import BlockingTransport, Request, Timeouts

transport = BlockingTransport(sys.argv[1], Timeouts())
def send():
    return transport.send(Request(method="GET", path="/api/v4/account")).status
send()
transport._lock.acquire()  # as though another thread were in the middle of a call
child = os.fork()
if child == 0:
    os._exit(send() == 401)
transport._lock.release()
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), send())
"""


def test_a_child_process_has_its_own_connections(fake: FakeKommo) -> None:
    """After a fork both processes send; and a program ends without closing its transport."""
    program = [sys.executable, "-W", "ignore", "-c", FORKING, fake.url]
    done = subprocess.run(program, capture_output=True, text=True, timeout=PATIENCE, check=False)

    assert ("1 401\n", 0) == (done.stdout, done.returncode)


@pytest.mark.parametrize("name", ["connect", "read", "write", "pool", "total"])
@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_every_timeout_must_make_sense(name: str, seconds: float) -> None:
    """There is no waiting for ever, and none for less than nothing."""
    with pytest.raises(ConfigurationError, match="positive number of seconds"):
        Timeouts(**{name: seconds})
