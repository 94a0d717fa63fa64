"""Failures that really happen, on the wire, in servers and on disks, and the decision about each."""

import asyncio
import json
import os
import resource
import shutil
import socket
import sqlite3
import ssl
import struct
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import httpx2
import psycopg
import psycopg.errors
import psycopg_pool
import pytest
import redis
import trustme
from redis.backoff import NoBackoff
from redis.retry import Retry
from tests.policies.redis_server import running
from tests.servers import PostgresServer

from resilient_agents.errors import Advice, Failure, Level, Origin, classify, dependency

NEVER, SAFE, IDEMPOTENT = Advice.NEVER, Advice.SAFE, Advice.IDEMPOTENT
SECRET = "hunter22"
LONG = 30.0
"""A timeout in seconds that is not meant to pass."""

both = pytest.mark.parametrize("client", [httpx, httpx2])


def caught(call: Callable[[], object]) -> Exception:
    """Return what *call* raises."""
    try:
        call()
    except Exception as exc:
        return exc
    raise AssertionError("nothing was raised")


def decided(found: Failure) -> tuple[str, Advice, int]:
    """Return the part of a decision that these tests are about."""
    return found.code, found.advice, found.status


def get(client: Any, url: str, read: float = LONG) -> Any:
    """Ask for *url*, whatever proxies the environment names; wait *read* seconds for the answer."""
    return client.get(url, timeout=client.Timeout(LONG, read=read), trust_env=False)


def open_url(url: str, timeout: float = LONG) -> bytes:
    """Ask for *url* with nothing but Python."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=timeout) as response:
        body: bytes = response.read()
        return body


@pytest.fixture
def closed_port() -> int:
    """Return a port of the loopback on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Return a port on which connections are taken and never answered."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


@contextmanager
def answering(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """Run a server that gives one client an *answer*; return its port."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.settimeout(LONG)
                answer(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        thread.join(LONG)


def plain(connection: socket.socket) -> None:
    """Answer in plain text, whatever it says."""
    connection.recv(65_536)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


def resetting(connection: socket.socket) -> None:
    """Read the request and reset the connection."""
    connection.recv(65_536)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def hanging_up(connection: socket.socket) -> None:
    """Read the request and close."""
    connection.recv(65_536)


def truncating(connection: socket.socket) -> None:
    """Announce a hundred bytes and send nine."""
    connection.recv(65_536)
    connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"leads":')


def babbling(connection: socket.socket) -> None:
    """Answer with what is no HTTP."""
    connection.recv(65_536)
    connection.sendall(b"SSH-2.0-OpenSSH_9.9\r\n")


def with_html(connection: socket.socket) -> None:
    """Answer with a proxy's page where JSON was asked for."""
    connection.recv(65_536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>")


def refusing(connection: socket.socket) -> None:
    """Answer that it is overloaded."""
    connection.recv(65_536)
    connection.sendall(b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n")


class TestConnections:
    """Between a client and a server."""

    @both
    def test_a_refused_connection_was_provably_not_used(self, client: ModuleType, closed_port: int) -> None:
        """Nothing was sent, so anything may be sent again."""
        found = classify(caught(lambda: get(client, f"http://127.0.0.1:{closed_port}/")))
        assert ("external.connect", SAFE, 503) == decided(found)
        assert "A dependency cannot be reached: ConnectionRefusedError, 127.0.0.1" == found.detail
        assert found.outage
        assert not found.outcome_unknown

    @both
    async def test_an_awaiting_client_is_judged_alike(self, client: Any, closed_port: int) -> None:
        """The wrappers of the event loop do not hide the refusal."""
        async with client.AsyncClient(trust_env=False) as http_client:
            with pytest.raises(client.ConnectError) as raised:
                await http_client.get(f"http://127.0.0.1:{closed_port}/")
        assert ("external.connect", SAFE, 503) == decided(classify(raised.value))

    def test_urllib_says_why_in_its_reason(self, closed_port: int) -> None:
        """What urllib wraps is read, though it names no cause."""
        exc = caught(lambda: open_url(f"http://127.0.0.1:{closed_port}/"))
        assert ("external.connect", SAFE, 503) == decided(classify(exc))

    def test_a_refused_redis_may_have_been_reached_before(self, closed_port: int) -> None:
        """redis-py retries by itself, so its last error does not prove that nothing was sent."""
        with redis.Redis(port=closed_port, retry=Retry(NoBackoff(), 0)) as store:
            found = classify(caught(store.ping))
        assert ("external.unavailable", IDEMPOTENT, 503) == decided(found)

    def test_a_refused_postgresql_is_unavailable(self, closed_port: int) -> None:
        """Psycopg gives no SQLSTATE for a connection that fails."""
        found = classify(caught(lambda: psycopg.connect(f"host=127.0.0.1 port={closed_port} user={SECRET}")))
        assert ("external.unavailable", IDEMPOTENT, 503) == decided(found)
        assert SECRET not in found.detail

    @both
    def test_a_missing_answer_leaves_the_outcome_unknown(self, client: ModuleType, silent_port: int) -> None:
        """A read timeout comes after the request went out."""
        found = classify(caught(lambda: get(client, f"http://127.0.0.1:{silent_port}/", read=0.05)))
        assert ("external.timeout", IDEMPOTENT, 504) == decided(found)
        assert found.outcome_unknown

    def test_a_missing_answer_to_urllib(self, silent_port: int) -> None:
        """The socket's own timeout, which urllib does not wrap."""
        exc = caught(lambda: open_url(f"http://127.0.0.1:{silent_port}/", timeout=0.05))
        assert ("external.timeout", IDEMPOTENT, 504) == decided(classify(exc))

    def test_a_redis_that_hangs(self, silent_port: int) -> None:
        """A command may have been executed, though no answer came."""
        with redis.Redis(
            port=silent_port,
            socket_timeout=0.05,
            socket_connect_timeout=LONG,
            retry=Retry(NoBackoff(), 0),
        ) as store:
            exc = caught(store.ping)
        assert ("external.timeout", IDEMPOTENT, 504) == decided(classify(exc))

    def test_a_pool_without_a_free_connection(self) -> None:
        """Who waits for a connection in vain has sent nothing."""
        arrived, go_on = threading.Event(), threading.Event()

        def holding(connection: socket.socket) -> None:
            connection.recv(65_536)
            arrived.set()
            go_on.wait(LONG)

        with (
            answering(holding) as port,
            httpx.Client(limits=httpx.Limits(max_connections=1), trust_env=False) as client,
        ):
            url = f"http://127.0.0.1:{port}/"
            thread = threading.Thread(target=lambda: caught(lambda: client.get(url, timeout=LONG)))
            thread.start()
            assert arrived.wait(LONG)
            found = classify(caught(lambda: client.get(url, timeout=httpx.Timeout(LONG, pool=0.01))))
            go_on.set()
            thread.join(LONG)
        assert ("external.pool", SAFE, 503) == decided(found)

    @both
    def test_a_connection_that_is_reset(self, client: ModuleType) -> None:
        """The server took the request and broke off: it may have been executed."""
        with answering(resetting) as port:
            found = classify(caught(lambda: get(client, f"http://127.0.0.1:{port}/")))
        assert ("external.reset", IDEMPOTENT, 502) == decided(found)

    @both
    def test_a_server_that_hangs_up(self, client: ModuleType) -> None:
        """It closed without an answer, which the protocol does not allow."""
        with answering(hanging_up) as port:
            found = classify(caught(lambda: get(client, f"http://127.0.0.1:{port}/")))
        assert ("external.protocol", IDEMPOTENT, 502) == decided(found)

    def test_a_server_that_hangs_up_on_urllib(self) -> None:
        """The same, as Python itself sees it."""
        with answering(hanging_up) as port:
            found = classify(caught(lambda: open_url(f"http://127.0.0.1:{port}/")))
        assert ("external.reset", IDEMPOTENT, 502) == decided(found)

    @both
    def test_a_truncated_body(self, client: ModuleType) -> None:
        """The answer broke off in the middle: the work is probably done."""
        with answering(truncating) as port:
            found = classify(caught(lambda: get(client, f"http://127.0.0.1:{port}/")))
        assert ("external.protocol", IDEMPOTENT, 502) == decided(found)

    def test_a_truncated_body_for_urllib(self) -> None:
        """The same, as Python itself sees it."""
        with answering(truncating) as port:
            found = classify(caught(lambda: open_url(f"http://127.0.0.1:{port}/")))
        assert ("external.reset", IDEMPOTENT, 502) == decided(found)

    @both
    def test_an_answer_that_is_no_http(self, client: ModuleType) -> None:
        """Something else listens there."""
        with answering(babbling) as port:
            found = classify(caught(lambda: get(client, f"http://127.0.0.1:{port}/")))
        assert ("external.protocol", IDEMPOTENT, 502) == decided(found)

    @both
    def test_a_body_that_is_no_json(self, client: ModuleType) -> None:
        """Whose data it was, the class does not say; the block of a dependency does."""
        with answering(with_html) as port:
            response = get(client, f"http://127.0.0.1:{port}/")
        with dependency("kommo"):
            inside = classify(caught(response.json))
        assert ("external.bad_body", IDEMPOTENT, 502) == decided(inside)
        outside = classify(caught(response.json))
        assert ("internal.data", NEVER, 500) == decided(outside)
        assert "validation.invalid" == classify(caught(response.json), origin=Origin.INBOUND).code
        left = caught(dependency("kommo")(response.json))
        assert inside == classify(left)

    def test_a_refusal_with_a_time(self) -> None:
        """Httpx and urllib agree on what a server asks."""
        url = "http://127.0.0.1:{}/"
        with answering(refusing) as port:
            by_httpx = classify(caught(get(httpx, url.format(port)).raise_for_status))
        with answering(refusing) as port, closing(caught(lambda: open_url(url.format(port)))) as exc:  # type: ignore[type-var]
            by_urllib = classify(exc)
        for found in (by_httpx, by_urllib):
            assert ("external.overloaded", Advice.AFTER, 503) == decided(found)
            assert 7.0 == found.retry_after

    @both
    def test_a_host_that_does_not_exist(self, client: ModuleType) -> None:
        """No address, so nothing was sent (RFC 2606 keeps .invalid free)."""
        found = classify(caught(lambda: get(client, "http://kommo.invalid/")))
        assert ("external.dns", SAFE, 503) == decided(found)
        assert found.detail.endswith("gaierror, kommo.invalid")

    def test_a_host_that_does_not_exist_for_redis(self) -> None:
        """redis-py hides the resolver's error; it is an outage all the same."""
        with redis.Redis(host="redis.invalid", retry=Retry(NoBackoff(), 0)) as store:
            found = classify(caught(store.ping))
        assert ("external.unavailable", IDEMPOTENT, 503) == decided(found)

    async def test_a_timeout_of_asyncio_is_no_cancellation(self) -> None:
        """asyncio.timeout() raises from a CancelledError, which says nothing."""
        with pytest.raises(TimeoutError) as raised:
            async with asyncio.timeout(0):
                await asyncio.Event().wait()
        assert isinstance(raised.value.__cause__, asyncio.CancelledError)
        assert "external.timeout" == classify(raised.value).code


class TestTLS:
    """What never passes by itself."""

    @both
    def test_tls_to_a_plain_port(self, client: ModuleType) -> None:
        """A broken handshake is a matter of settings, not of time."""
        with answering(plain) as port:
            found = classify(caught(lambda: get(client, f"https://127.0.0.1:{port}/")))
        assert ("external.tls", NEVER, 502) == decided(found)

    def test_tls_to_a_plain_port_for_urllib(self) -> None:
        """The same, as Python itself sees it."""
        with answering(plain) as port:
            found = classify(caught(lambda: open_url(f"https://127.0.0.1:{port}/")))
        assert ("external.tls", NEVER, 502) == decided(found)

    @both
    @pytest.mark.parametrize("fault", ["unknown authority", "another host"])
    def test_a_bad_certificate(self, client: Any, fault: str) -> None:
        """A certificate that nobody vouches for, or that is for somebody else."""
        authority = trustme.CA()
        theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("elsewhere.example").configure_cert(theirs)
        ours = ssl.create_default_context()
        if fault == "another host":
            authority.configure_trust(ours)

        def handshake(connection: socket.socket) -> None:
            with suppress(OSError):  # the client breaks it off, with a word or without
                theirs.wrap_socket(connection, server_side=True).recv(1)

        with answering(handshake) as port:
            url = f"https://127.0.0.1:{port}/"
            exc = caught(lambda: client.get(url, verify=ours, timeout=LONG, trust_env=False))
        found = classify(exc)
        assert ("external.tls", NEVER, 502) == decided(found)
        assert "A secure connection failed: ssl.SSLCertVerificationError, 127.0.0.1" == found.detail


class TestPostgreSQL:
    """A real server."""

    @pytest.mark.parametrize("fault", ["wrong", "missing"])
    def test_a_bad_password(self, postgres_server: PostgresServer, fault: str) -> None:
        """Libpq keeps the SQLSTATE to itself; a person must mend it all the same."""
        url = postgres_server.url_of("postgres", password=SECRET if fault == "wrong" else "")
        found = classify(caught(lambda: psycopg.connect(url, passfile="/nonexistent")))
        assert ("internal.credentials", NEVER, 500) == decided(found)
        assert "A database refuses our credentials: psycopg.OperationalError" == found.detail

    def test_a_database_that_does_not_exist(self, postgres_server: PostgresServer) -> None:
        """A wrong setting, not an outage."""
        found = classify(caught(lambda: psycopg.connect(postgres_server.url_of("nowhere"))))
        assert ("internal.configuration", NEVER, 500) == decided(found)

    @pytest.mark.parametrize(
        ("statement", "expected", "state"),
        [
            ("INSERT INTO leads VALUES (1, 1)", ("conflict.unique", NEVER, 409), "23505"),
            ("INSERT INTO leads VALUES (2, NULL)", ("validation.constraint", NEVER, 422), "23502"),
            ("INSERT INTO leads VALUES (2, -1)", ("validation.constraint", NEVER, 422), "23514"),
            ("INSERT INTO notes VALUES (9)", ("validation.constraint", NEVER, 422), "23503"),
            ("SELECT 'x'::int", ("validation.data", NEVER, 422), "22P02"),
            ("SELECT 1 / 0", ("validation.data", NEVER, 422), "22012"),
            ("SELECT * FROM nowhere", ("internal.query", NEVER, 500), "42P01"),
            ("SELEC 1", ("internal.query", NEVER, 500), "42601"),
            (
                "SET statement_timeout = 10; SELECT pg_sleep(60)",
                ("external.timeout", IDEMPOTENT, 504),
                "57014",
            ),
            ("SELECT pg_terminate_backend(pg_backend_pid())", ("external.unavailable", IDEMPOTENT, 503), ""),
            (
                "BEGIN READ ONLY; INSERT INTO leads VALUES (2, 2)",
                ("external.read_only", IDEMPOTENT, 503),
                "25006",
            ),
        ],
    )
    def test_what_it_refuses(self, postgres_url: str, statement: str, expected: Any, state: str) -> None:
        """Each refusal by its SQLSTATE, and no SQL in the detail."""
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute(
                "CREATE TABLE leads (id int PRIMARY KEY, price int NOT NULL CHECK (price > 0))"
            )
            connection.execute("CREATE TABLE notes (lead int REFERENCES leads)")
            connection.execute("INSERT INTO leads VALUES (1, 1)")
            found = classify(caught(lambda: connection.execute(statement.encode())))
        assert expected == decided(found)
        assert state in found.detail
        assert statement not in found.detail

    def test_a_deadlock(self, postgres_url: str) -> None:
        """Of two transactions that wait for each other, one is sent back to its beginning."""
        with self.two_connections(postgres_url) as (one, other):
            one.execute("UPDATE leads SET price = 2 WHERE id = 1")
            other.execute("UPDATE leads SET price = 2 WHERE id = 2")
            fates: list[Exception | None] = []

            def cross(connection: psycopg.Connection, lead: int) -> None:
                try:
                    connection.execute("UPDATE leads SET price = 3 WHERE id = %s", [lead])
                    fates.append(None)
                except Exception as exc:
                    fates.append(exc)
                connection.rollback()

            threads = [
                threading.Thread(target=cross, args=(one, 2)),
                threading.Thread(target=cross, args=(other, 1)),
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(LONG)
        (exc,) = filter(None, fates)
        found = classify(exc)
        assert ("conflict.transaction", Advice.TRANSACTION, 409) == decided(found)
        assert found.detail.endswith("psycopg.errors.DeadlockDetected, SQLSTATE 40P01")

    def test_a_serialization_failure(self, postgres_url: str) -> None:
        """Of two transactions on the same snapshot, the one that comes later is sent back."""
        with self.two_connections(postgres_url) as (one, other):
            for connection in (one, other):
                connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
                connection.execute("SELECT * FROM leads")
            one.execute("UPDATE leads SET price = 2 WHERE id = 1")
            one.commit()
            exc = caught(lambda: other.execute("UPDATE leads SET price = 3 WHERE id = 1"))
        found = classify(exc)
        assert ("conflict.transaction", Advice.TRANSACTION, 409) == decided(found)
        assert found.detail.endswith("psycopg.errors.SerializationFailure, SQLSTATE 40001")

    def test_a_lock_that_is_held(self, postgres_url: str) -> None:
        """Somebody else is at it: it passes."""
        with self.two_connections(postgres_url) as (one, other):
            one.execute("SELECT * FROM leads FOR UPDATE")
            exc = caught(lambda: other.execute("SELECT * FROM leads FOR UPDATE NOWAIT"))
        assert ("external.locked", IDEMPOTENT, 503) == decided(classify(exc))

    @staticmethod
    @contextmanager
    def two_connections(url: str) -> Iterator[tuple[psycopg.Connection, psycopg.Connection]]:
        """Open two connections to a database with two leads."""
        with psycopg.connect(url) as one, psycopg.connect(url) as other:
            one.execute("CREATE TABLE leads (id int PRIMARY KEY, price int)")
            one.execute("INSERT INTO leads VALUES (1, 1), (2, 1)")
            one.commit()
            for connection in (one, other):
                connection.execute("SET deadlock_timeout = 10")
                connection.commit()
            yield one, other
            one.rollback()
            other.rollback()

    def test_a_pool_without_a_free_connection(self, postgres_url: str) -> None:
        """Who waits for a connection in vain has sent nothing."""
        with (
            psycopg_pool.ConnectionPool(postgres_url, min_size=1, max_size=1, open=True) as pool,
            pool.connection(),
        ):
            found = classify(caught(lambda: pool.getconn(timeout=0.01)))
        assert ("external.pool", SAFE, 503) == decided(found)


class TestRedis:
    """A real server."""

    @pytest.mark.parametrize("password", [SECRET, None], ids=["wrong", "missing"])
    def test_a_bad_password(self, tmp_path: Path, password: str | None) -> None:
        """redis-py calls it a connection error; no new connection helps."""
        with (
            running(tmp_path, password="opensesame") as server,
            redis.Redis(
                unix_socket_path=server.path, password=password, retry=Retry(NoBackoff(), 0)
            ) as store,
        ):
            exc = caught(store.ping)
        assert isinstance(exc, redis.ConnectionError)
        found = classify(exc)
        assert ("auth.rejected", NEVER, 502) == decided(found)
        assert SECRET not in found.detail

    def test_what_it_refuses(self, redis_url: str) -> None:
        """Each refusal by its class."""
        with redis.Redis.from_url(redis_url) as store:
            store.set("text", "x")
            wrong_type = classify(caught(lambda: store.lpush("text", "y")))
            no_script = classify(caught(lambda: store.evalsha("0" * 40, 0)))
            with store.pipeline() as pipe:
                pipe.watch("text")
                store.set("text", "changed")
                pipe.multi()
                pipe.set("text", "mine")
                watch = classify(caught(pipe.execute))
            lock = classify(caught(store.lock("l").release))
        assert ("internal.bug", NEVER, 500) == decided(wrong_type)
        assert ("external.unavailable", IDEMPOTENT, 503) == decided(no_script)
        assert ("conflict.transaction", Advice.TRANSACTION, 409) == decided(watch)
        assert ("conflict.dependency", NEVER, 409) == decided(lock)

    def test_a_redis_without_memory(self, tmp_path: Path) -> None:
        """It can only be helped by a person."""
        with running(tmp_path) as server:
            server.client.config_set("maxmemory", "1")
            found = classify(caught(lambda: server.client.set("k", "v")))
        assert ("external.full", NEVER, 503) == decided(found)
        assert Level.CRITICAL is found.level

    def test_a_replica(self, tmp_path: Path) -> None:
        """It takes no writes; after a failover it does."""
        with running(tmp_path) as server:
            server.client.replicaof("127.0.0.1", "1")
            found = classify(caught(lambda: server.client.set("k", "v")))
        assert ("external.read_only", IDEMPOTENT, 503) == decided(found)


class TestSQLite:
    """A real file."""

    def test_a_locked_file(self, tmp_path: Path) -> None:
        """Another writer holds the lock: it passes."""
        path = tmp_path / "q.db"
        with (
            closing(sqlite3.connect(path, isolation_level=None)) as writer,
            closing(sqlite3.connect(path, timeout=0)) as other,
        ):
            writer.execute("BEGIN EXCLUSIVE")
            found = classify(caught(lambda: other.execute("CREATE TABLE t (a)")))
        assert ("external.locked", IDEMPOTENT, 503) == decided(found)
        assert found.detail.endswith("sqlite3.OperationalError, SQLITE_BUSY")

    def test_a_read_only_file(self, tmp_path: Path) -> None:
        """A file that may not be written."""
        path = tmp_path / "q.db"
        sqlite3.connect(path).close()
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as reader:
            assert "external.read_only" == classify(caught(lambda: reader.execute("CREATE TABLE t (a)"))).code

    @pytest.mark.parametrize(
        ("statement", "code", "advice"),
        [
            ("INSERT INTO t VALUES (1, 1)", "conflict.unique", NEVER),
            ("INSERT INTO t VALUES (2, NULL)", "validation.constraint", NEVER),
            ("SELECT * FROM nowhere", "internal.query", NEVER),
            ("INSERT INTO t VALUES (3, zeroblob(1000000))", "external.full", NEVER),
            ("SELECT zeroblob(3000000000)", "validation.data", NEVER),
        ],
    )
    def test_what_it_refuses(self, statement: str, code: str, advice: Advice) -> None:
        """The error name tells apart what has one class, as a full disk and a spelling mistake."""
        with closing(sqlite3.connect(":memory:")) as database:
            database.executescript("PRAGMA max_page_count = 10; CREATE TABLE t (a PRIMARY KEY, b NOT NULL)")
            database.execute("INSERT INTO t VALUES (1, 1)")
            found = classify(caught(lambda: database.execute(statement)))
        assert (code, advice) == (found.code, found.advice)
        assert statement not in found.detail

    def test_a_file_that_is_no_database(self, tmp_path: Path) -> None:
        """A damaged file does not mend itself."""
        path = tmp_path / "q.db"
        path.write_bytes(b"nothing of the kind" * 100)
        with closing(sqlite3.connect(path)) as database:
            found = classify(caught(lambda: database.execute("SELECT * FROM t")))
        assert ("internal.resource", NEVER, 503) == decided(found)
        assert Level.CRITICAL is found.level


FILL = """
import json, pathlib, sqlite3, sys
from resilient_agents.errors import classify

def decide(call):
    try:
        call()
    except Exception as exc:
        found = classify(exc)
        return [found.code, found.advice, found.status, found.level, found.detail]

folder = pathlib.Path(sys.argv[1])
limit = len(sys.argv) > 2
if limit:
    import resource, signal
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
database = sqlite3.connect(folder / "q.db", isolation_level=None)
database.execute("CREATE TABLE t (a)")
by_sqlite = decide(lambda: database.execute("INSERT INTO t VALUES (zeroblob(2000000))"))
by_file = decide(lambda: (folder / "file").write_bytes(bytes(2_000_000)))
print(json.dumps([by_sqlite, by_file]))
"""


class TestFullDisk:
    """No room, for a database and for a file."""

    def test_a_full_file_system(self, tmp_path: Path) -> None:
        """A small disk of its own: nothing helps but room, and a person must make it."""
        mount = 'mount -t tmpfs -o size=600k none "$0" && exec "$@"'
        command = ["unshare", "-Urm", "sh", "-c", mount, str(tmp_path)]
        if not shutil.which("unshare") or subprocess.run([*command, "true"], capture_output=True).returncode:
            pytest.skip("a small disk cannot be mounted here; the limit below stands for it")

        by_sqlite, by_file = self.fill([*command, sys.executable, "-c", FILL, str(tmp_path)])

        assert ["external.full", "never", 503, "critical"] == by_sqlite[:4]
        assert ["internal.resource", "never", 503, "critical"] == by_file[:4]
        assert by_file[4].endswith("OSError, ENOSPC")

    def test_a_limit_on_the_size_of_files(self, tmp_path: Path) -> None:
        """What the system lets a process write is used up."""
        by_sqlite, by_file = self.fill([sys.executable, "-c", FILL, str(tmp_path), "limit"])

        assert ["internal.resource", "never", 503, "critical"] == by_sqlite[:4]
        assert ["internal.resource", "never", 503, "critical"] == by_file[:4]
        assert by_file[4].endswith("OSError, EFBIG")

    @staticmethod
    def fill(command: list[str]) -> tuple[list[Any], list[Any]]:
        """Run a child that writes more than there is room for; return what it decided."""
        unmeasured = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=unmeasured)
        by_sqlite, by_file = json.loads(done.stdout)
        return by_sqlite, by_file

    def test_no_more_files_can_be_opened(self) -> None:
        """A process that leaks descriptors is out of them."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        held: list[socket.socket] = []
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
        try:
            exc = caught(lambda: held.extend(socket.socket() for _ in range(100)))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for opened in held:
                opened.close()
        found = classify(exc)
        assert ("internal.resource", NEVER, 503) == decided(found)
        assert found.detail.endswith("OSError, EMFILE")
