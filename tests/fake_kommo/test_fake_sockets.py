"""Every fault as a client's socket meets it, on a real server in a real process."""

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from resilient_agents.testing import FakeKommo, Fault
from resilient_agents.testing.fake_kommo.account import Account
from resilient_agents.testing.fake_kommo.gate import Switches
from resilient_agents.testing.fake_kommo.server import Server

LEADS = "/api/v4/leads"
HEADERS = {"Authorization": "Bearer test-token"}


@pytest.fixture(scope="module")
def running() -> Iterator[FakeKommo]:
    """One process for the whole module."""
    with FakeKommo(rate=None) as kommo:
        yield kommo


@pytest.fixture
def kommo(running: FakeKommo) -> FakeKommo:
    """The process, as fresh as at its start."""
    running.reset()
    return running


PATIENCE = 60.0
"""Time in seconds after which a test gives up."""


def connect(kommo: FakeKommo) -> http.client.HTTPConnection:
    """Return a connection to the fake."""
    return http.client.HTTPConnection(kommo.url.removeprefix("http://"), timeout=PATIENCE)


def ask(
    connection: http.client.HTTPConnection, method: str = "GET", path: str = LEADS, value: Any = None
) -> Any:
    """Send a request and return the response, its body not read yet."""
    body = None if value is None else json.dumps(value)
    connection.request(method, path, body=body, headers=HEADERS)
    return connection.getresponse()


def post(kommo: FakeKommo, patience: float = PATIENCE) -> tuple[int, str, bytes]:
    """Create a lead called x on a connection of its own; return status, media type and body.

    *patience* is for the answer: the request has been sent by then.
    """
    connection = connect(kommo)
    try:
        connection.request("POST", LEADS, body=b'[{"name": "x"}]', headers=HEADERS)
        connection.sock.settimeout(patience)
        response = connection.getresponse()
        return response.status, response.getheader("Content-Type", ""), response.read()
    finally:
        connection.close()


def eventually(holds: Callable[[], bool]) -> bool:
    """Return whether *holds* comes true; give up in the end."""
    end = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


# ---------------------------------------------------------------- plain HTTP


def test_answers_carry_an_id_and_their_media_type(kommo: FakeKommo) -> None:
    """Each answer, good or bad, has an X-Request-Id of its own; a 429 has no Retry-After."""
    kommo.switch(rate=2)
    connection = connect(kommo)
    seen, ids = [], set()
    for path in ("/api/v4/account", "/api/v4/nowhere", "/api/v4/account"):
        response = ask(connection, path=path)
        response.read()
        seen.append((response.status, response.getheader("Content-Type"), response.getheader("Retry-After")))
        ids.add(response.getheader("X-Request-Id"))
    connection.close()
    assert 3 == len(ids - {None})
    assert [
        (200, "application/hal+json", None),
        (404, "application/problem+json", None),
        (429, "application/problem+json", None),
    ] == seen


def test_a_connection_serves_many_requests(kommo: FakeKommo) -> None:
    """HTTP/1.1 connections stay open, also after a 204, whose answer has no body."""
    connection = connect(kommo)
    assert b"" == ask(connection).read()
    used = connection.sock
    response = ask(connection, "POST", LEADS, [{"name": "x"}])
    assert 200 == response.status
    response.read()
    assert used is connection.sock
    connection.close()


def test_links_lead_back_to_the_fake(kommo: FakeKommo) -> None:
    """Links are written for the address by which the client came, and encoded queries are understood."""
    connection = connect(kommo)
    ask(connection, "POST", LEADS, [{"name": "x"}]).read()
    response = ask(connection, path=f"{LEADS}?filter%5Bid%5D%5B%5D=10000001&limit=1")
    (lead,) = json.loads(response.read())["_embedded"]["leads"]
    connection.close()
    assert f"{kommo.url}{LEADS}/10000001" == lead["_links"]["self"]["href"]


@pytest.mark.parametrize("header", ["Token test-token", "Bearer", "test-token"])
def test_only_a_bearer_token_counts(kommo: FakeKommo, header: str) -> None:
    """Other schemes are no token."""
    connection = connect(kommo)
    connection.request("GET", LEADS, headers={"Authorization": header})
    assert 401 == connection.getresponse().status
    connection.close()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Transfer-Encoding": "chunked"}, 411),
        ({"Content-Length": "many"}, 411),
        ({"Content-Length": "9" * 5000}, 411),
        ({"Content-Length": str(10**9)}, 413),
    ],
)
def test_bodies_that_cannot_be_read_are_refused(
    kommo: FakeKommo, headers: dict[str, str], status: int
) -> None:
    """Chunked and huge bodies end the connection with an error, unread."""
    connection = connect(kommo)
    connection.putrequest("POST", LEADS)
    for name, text in headers.items():
        connection.putheader(name, text)
    connection.endheaders()
    response = connection.getresponse()
    assert (status, "close") == (response.status, response.getheader("Connection"))
    connection.close()
    assert [] == kommo.requests()


def test_what_is_no_request_is_a_problem_too(kommo: FakeKommo) -> None:
    """An unknown method is answered like every other error, with an id, and ends the connection."""
    connection = connect(kommo)
    response = ask(connection, "PURGE")
    assert (501, "application/problem+json") == (response.status, response.getheader("Content-Type"))
    assert response.getheader("X-Request-Id")
    assert 501 == json.loads(response.read())["status"]
    connection.close()


def test_half_a_request_is_not_executed(kommo: FakeKommo) -> None:
    """A client that goes away in the middle of its body has asked for nothing."""
    with socket.create_connection(("127.0.0.1", int(kommo.url.rpartition(":")[2]))) as client:
        client.sendall(b'POST /api/v4/leads HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n[{"name":"x"}]')
        client.shutdown(socket.SHUT_WR)
        assert b"" == client.recv(100)
    assert ([], []) == (kommo.leads(), kommo.requests())


def test_the_control_addresses_are_open_to_every_process(kommo: FakeKommo) -> None:
    """Over HTTP too they need no token, know no block and are not logged."""
    kommo.switch(blocked=True)
    kommo.script([Fault(kind="drop")])
    connection = connect(kommo)
    response = ask(connection, "POST", "/_fake/switches", {"blocked": False})
    assert not json.loads(response.read())["blocked"]
    response = ask(connection, path="/_fake/nothing")
    assert (404, 404) == (response.status, json.loads(response.read())["status"])
    response = ask(connection, "POST", "/_fake/script", {})
    assert (422, 422) == (response.status, json.loads(response.read())["status"])
    connection.request("POST", "/_fake/script", body="[")
    response = connection.getresponse()
    assert (400, "the body is not valid JSON") == (response.status, json.loads(response.read())["detail"])
    connection.close()
    assert [] == kommo.requests()


# ---------------------------------------------------------------- faults


def test_refuse_closes_the_port() -> None:
    """The client meets a real ECONNREFUSED, idle connections are closed, and the handle still works."""
    with FakeKommo(rate=None) as kommo:
        idle = connect(kommo)
        ask(idle).read()
        kommo.script([Fault(kind="refuse", seconds=3600)])
        with pytest.raises(http.client.RemoteDisconnected):
            post(kommo)
        with pytest.raises(ConnectionRefusedError):
            post(kommo)
        assert [] == kommo.leads()
        assert b"" == idle.sock.recv(1)
        idle.close()


def test_a_port_that_refused_opens_again(kommo: FakeKommo) -> None:
    """When the time is up the same port takes connections again."""
    kommo.script([Fault(kind="refuse", seconds=0.15, times=1)])
    started = time.monotonic()
    with pytest.raises(http.client.RemoteDisconnected):
        post(kommo)

    def opened() -> bool:
        try:
            return post(kommo)[0] == 200
        except ConnectionRefusedError:
            return False

    assert eventually(opened)
    assert time.monotonic() - started >= 0.15


def test_refusals_add_up(kommo: FakeKommo) -> None:
    """Two requests that are under way when the port closes keep it closed until the later end."""
    clients = [connect(kommo) for _ in range(2)]
    for client in clients:
        ask(client).read()
    kommo.script([Fault(kind="refuse", seconds=0.1, times=2)])
    for client in clients:
        client.request("GET", LEADS, headers=HEADERS)
    for client in clients:
        with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
            client.getresponse()
        client.close()

    def opened() -> bool:
        try:
            return post(kommo)[0] == 200
        except OSError:
            return False

    assert eventually(opened)


def test_reset_is_a_real_rst(kommo: FakeKommo) -> None:
    """The client meets ECONNRESET and nothing is stored."""
    kommo.script([Fault(kind="reset")])
    with pytest.raises(ConnectionResetError) as caught:
        post(kommo)
    assert not isinstance(caught.value, http.client.RemoteDisconnected)
    assert [] == kommo.leads()


@pytest.mark.parametrize(("commit", "count"), [(False, 0), (True, 1)])
def test_drop_closes_without_an_answer(kommo: FakeKommo, commit: bool, count: int) -> None:
    """The client cannot tell a write that was executed from one that was not."""
    kommo.script([Fault(kind="drop", commit=commit)])
    with pytest.raises(http.client.RemoteDisconnected):
        post(kommo)
    assert count == len(kommo.leads())
    assert {"none": 1} == kommo.statuses()


@pytest.mark.parametrize(("commit", "count"), [(False, 0), (True, 1)])
def test_hang_outlasts_the_clients_patience(kommo: FakeKommo, commit: bool, count: int) -> None:
    """The client's own timeout ends the wait, whether the write was executed or not."""
    kommo.script([Fault(kind="hang", seconds=30, commit=commit)])
    with pytest.raises(TimeoutError):
        post(kommo, patience=0.05)
    assert eventually(lambda: len(kommo.leads()) == count)


def test_hang_ends_by_itself_without_an_answer(kommo: FakeKommo) -> None:
    """A patient client meets a closed connection."""
    kommo.script([Fault(kind="hang", seconds=0.05)])
    with pytest.raises(http.client.RemoteDisconnected):
        post(kommo)


def test_a_write_may_come_through_after_the_client_has_gone(kommo: FakeKommo) -> None:
    """A late commit: the client gave up, nothing had been stored, and the lead appears afterwards."""
    kommo.script([Fault(kind="hang", seconds=0.1, commit="late", times=1)])
    kommo.pause()
    with pytest.raises(TimeoutError):
        post(kommo, patience=0.03)
    given_up = time.time()
    kommo.resume()
    assert eventually(lambda: len(kommo.leads()) == 1)
    (lead,) = kommo.leads()
    assert lead["stored_at"] - given_up >= 0.1


def test_latency_delays_the_usual_answer(kommo: FakeKommo) -> None:
    """The answer is right, only late."""
    kommo.script([Fault(kind="latency", seconds=0.1)])
    started = time.monotonic()
    assert 200 == post(kommo)[0]
    assert time.monotonic() - started >= 0.1


def test_truncate_ends_in_the_middle_of_the_body(kommo: FakeKommo) -> None:
    """The headers promise more than comes; the write was executed."""
    kommo.script([Fault(kind="truncate", times=1)])
    with pytest.raises(http.client.IncompleteRead) as caught:
        post(kommo)
    missing = caught.value.expected or 0
    assert len(caught.value.partial) in (missing, missing - 1)
    assert 1 == len(kommo.leads())


def test_truncate_of_an_empty_answer_cuts_its_head(kommo: FakeKommo) -> None:
    """A 204 has no body to cut, so the client gets half a head."""
    kommo.script([Fault(kind="truncate", times=1)])
    with socket.create_connection(("127.0.0.1", int(kommo.url.rpartition(":")[2]))) as client:
        client.sendall(b"GET /api/v4/leads HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer test-token\r\n\r\n")
        received = b"".join(iter(lambda: client.recv(4096), b""))
    assert received.startswith(b"HTTP/1.1 204 ")
    assert b"\r\n\r\n" not in received


def test_drip_takes_its_time(kommo: FakeKommo) -> None:
    """The body is whole at the end, and not before."""
    kommo.script([Fault(kind="drip", seconds=0.1)])
    started = time.monotonic()
    body = post(kommo)[2]
    assert time.monotonic() - started >= 0.1
    assert 10_000_001 == json.loads(body)["_embedded"]["leads"][0]["id"]


def test_drip_spreads_the_body(held: Any) -> None:
    """The head comes at once, the body in pieces; on a clock of the test, and so in this process."""
    server = Server(Account(Switches(), [Fault(kind="drip", seconds=5)]))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    connection = http.client.HTTPConnection(server.authority, timeout=PATIENCE)
    response = ask(connection, "POST", LEADS, [{"name": "x"}])
    pieces: list[bytes] = []
    while response.length:
        held.end_a_wait()
        pieces.append(response.read1())
    connection.close()
    server.stop()
    thread.join(PATIENCE)
    server.server_close()
    assert len(pieces) > 10
    assert 10_000_001 == json.loads(b"".join(pieces))["_embedded"]["leads"][0]["id"]
    assert pytest.approx(5) == sum(held.sleeps)


def test_drip_of_an_empty_answer_is_that_answer(kommo: FakeKommo) -> None:
    """Nothing can be spread where there is nothing."""
    kommo.script([Fault(kind="drip", seconds=0.05)])
    connection = connect(kommo)
    assert 204 == ask(connection).status
    connection.close()


@pytest.mark.parametrize(
    ("kind", "status", "media_type"),
    [
        ("html", 200, "text/html"),
        ("429", 429, "application/problem+json"),
        ("500", 500, "application/problem+json"),
        ("502", 502, "text/html"),
        ("503", 503, "text/html"),
        ("504", 504, "text/html"),
    ],
)
def test_errors_come_with_the_media_type_of_their_sender(
    kommo: FakeKommo, kind: str, status: int, media_type: str
) -> None:
    """The API answers JSON, the gateway HTML; nothing is stored and the log names the fault."""
    kommo.script([Fault(kind=kind)])
    seen_status, seen_type, body = post(kommo)
    assert (status, media_type) == (seen_status, seen_type)
    assert (b"<html>" in body) == (media_type == "text/html")
    assert [] == kommo.leads()
    (line,) = kommo.requests()
    assert (status, kind) == (line["status"], line["fault"])


@pytest.mark.parametrize("kind", ["500", "502", "504"])
def test_a_server_error_may_hide_a_write(kommo: FakeKommo, kind: str) -> None:
    """With commit the lead is stored although the client was told of a failure."""
    kommo.script([Fault(kind=kind, commit=True)])
    assert int(kind) == post(kommo)[0]
    assert 1 == len(kommo.leads())


def test_a_connection_outlives_a_server_error(kommo: FakeKommo) -> None:
    """After a 504 the same connection goes on."""
    kommo.script([Fault(kind="504", times=1)])
    connection = connect(kommo)
    response = ask(connection)
    response.read()
    used = connection.sock
    assert [504, 204] == [response.status, ask(connection).status]
    assert used is connection.sock
    connection.close()


def test_many_clients_at_once(kommo: FakeKommo) -> None:
    """Forty clients connect in the same moment; every batch is answered and stored once."""
    statuses: list[int] = []
    batch = [{"name": "x"}] * 25

    def work() -> None:
        connection = connect(kommo)
        for _ in range(2):
            response = ask(connection, "POST", f"{LEADS}/complex", batch)
            response.read()
            statuses.append(response.status)
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [200] * 80 == statuses
    assert 2000 == len({lead["id"] for lead in kommo.leads()})


# ---------------------------------------------------------------- the process

SERVE = """
from resilient_agents.testing.fake_kommo.server import serve
serve(port=0, rate=3, faults=[], retry_after=9, ready=lambda url: print(url, flush=True))
print("ended", flush=True)
"""


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_serve_ends_politely_on_a_signal(end: signal.Signals) -> None:
    """`serve` tells its address, serves, and returns when told to end."""
    process = subprocess.Popen([sys.executable, "-c", SERVE], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=PATIENCE)
        switches = json.loads(ask(connection, path="/_fake/switches").read())
        process.send_signal(end)
        assert "ended" == process.stdout.readline().strip()
        connection.close()
    assert 0 == process.returncode
    assert (3, 9) == (switches["rate"], switches["retry_after"])


ELSEWHERE = """
import signal, threading, time
from resilient_agents.testing.fake_kommo.server import serve

def end():
    time.sleep(0.05)
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

serve(ready=lambda url: threading.Thread(target=end, daemon=True).start())
"""


def test_serve_ends_whichever_thread_the_signal_meets() -> None:
    """A signal that does not interrupt the wait for connections ends it all the same."""
    assert 0 == subprocess.run([sys.executable, "-c", ELSEWHERE], timeout=PATIENCE, check=False).returncode


PARENT = """
import os, signal
from resilient_agents.testing import FakeKommo
kommo = FakeKommo()
kommo.start()
print(kommo.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_process_dies_with_its_parent() -> None:
    """A parent that is killed leaves no fake behind."""
    told = subprocess.run([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True, check=False)
    child = int(told.stdout)

    def gone() -> bool:
        try:
            with open(f"/proc/{child}/stat") as stat:  # noqa: PTH123 - not a file of ours
                return stat.read().rpartition(")")[2].split()[0] == "Z"
        except (FileNotFoundError, ProcessLookupError):
            return True

    assert -signal.SIGKILL == told.returncode
    assert eventually(gone)
