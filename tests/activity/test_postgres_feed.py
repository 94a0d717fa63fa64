"""The feed from a real PostgreSQL: in order of arrival, behind slow commits, and never waiting for long."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from tests.activity.feeds import Log, entry, numbers
from tests.servers import PATIENCE, PostgresServer

from resilient_agents.activity._postgres_feed import MOST_READERS, PostgresFeed
from resilient_agents.activity.feed import query_for
from resilient_agents.activity.postgres import PostgresSink
from resilient_agents.errors import Unreachable
from resilient_agents.migrations import migrate


class Readable:
    """A sink with a reader of the test's making."""

    def __init__(self, reader: PostgresFeed) -> None:
        self.reader = lambda: reader


@pytest.fixture
def sink(postgres_url: str) -> Iterator[PostgresSink]:
    """Return a sink in a database of its own."""
    migrate(postgres_url)
    sink = PostgresSink(postgres_url)
    yield sink
    sink.close()


@pytest.fixture
def log(sink: PostgresSink) -> Iterator[Log]:
    """Return a log on that sink, whose feed holds nothing back for safety's sake."""
    log = Log(Readable(PostgresFeed(psycopg, sink._parameters, lag=0.0)))
    yield log
    log._close_feed()


def test_pages_there_and_back(sink: PostgresSink, log: Log) -> None:
    """Pages go back to the first entry and forth to the last, and entries are whole."""
    entries = [entry(n) for n in range(5)]
    for activity in entries:
        sink.write([activity])

    first = log.recent("org-1", limit=2)
    second = log.recent("org-1", limit=2, before=first.previous)
    third = log.recent("org-1", limit=2, before=second.previous)
    forth = log.recent("org-1", limit=3, after=third.next)

    assert [[4, 3], [2, 1], [0], [3, 2, 1]] == [numbers(page) for page in (first, second, third, forth)]
    shown, written = first.entries[0], entries[4]
    assert written._replace(metadata="", created_at=0) == shown._replace(metadata="", created_at=0)
    assert '{"n": 4}' == shown.metadata
    assert abs(written.created_at - shown.created_at) < 1e-5


def test_filters(sink: PostgresSink, log: Log) -> None:
    """A feed is that of one organisation, and can be that of an agent or of some actions."""
    sink.write([entry(1), entry(2, "org-2"), entry(3, agent_id="a-2"), entry(4)])

    assert {4, 3, 1} == {*numbers(log.recent("org-1"))}
    assert [3] == numbers(log.recent("org-1", agent_id="a-2"))
    assert {1, 4} == {*numbers(log.recent("org-1", actions=["done.1", "done.2", "done.4"]))}


def test_held_back_for_a_while(sink: PostgresSink) -> None:
    """What has just arrived is not shown yet: something that arrived before may still be uncommitted."""
    sink.write([entry(1)])
    log = Log(sink)

    assert [] == numbers(log.recent("org-1"))

    with psycopg.connect(**sink._parameters) as connection:
        connection.execute("UPDATE activity_logs SET recorded_at = recorded_at - interval '3 seconds'")
    assert [1] == numbers(log.recent("org-1"))
    log._close_feed()


def test_a_slow_commit_is_waited_for(sink: PostgresSink, log: Log) -> None:
    """Nothing is shown that arrived after the beginning of a transaction that is still open."""
    slow = PostgresSink(psycopg.conninfo.make_conninfo(**sink._parameters))
    insert = (
        "INSERT INTO activity_logs (id, source, organization_id, action, status, created_at)"
        " VALUES (gen_random_uuid(), 's', 'org-1', 'done.1', 'ok', now())"
    )
    slow.connect().execute(insert)
    sink.write([entry(2)])
    page = log.recent("org-1")
    slow.connect().commit()

    assert [] == numbers(page)
    assert [2, 1] == numbers(log.recent("org-1", after=page.next))
    slow.close()


def test_a_commit_while_a_page_is_read(sink: PostgresSink, postgres_url: str) -> None:
    """What commits in the middle of a page is on it, or behind its cursor: nothing is passed over."""
    slow = PostgresSink(postgres_url)
    slow.connect().execute(
        "INSERT INTO activity_logs (id, source, organization_id, action, status, created_at)"
        " VALUES (gen_random_uuid(), 's', 'org-1', 'done.1', 'ok', now())"
    )
    sink.write([entry(2)])
    with psycopg.connect(postgres_url, autocommit=True) as gate, ThreadPoolExecutor(1) as pool:
        # The policy waits at the gate: the page's snapshot is taken then, and it has read nothing yet.
        gate.execute("CREATE ROLE follower LOGIN PASSWORD 'follower'")
        gate.execute("GRANT SELECT ON activity_logs TO follower; GRANT pg_read_all_stats TO follower")
        gate.execute(
            "CREATE OR REPLACE FUNCTION resilient_agents_organization() RETURNS text LANGUAGE plpgsql STABLE"
            " AS 'BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN ''org-1''; END'"
        )
        gate.execute("SELECT pg_advisory_lock(1)")
        parameters = {**sink._parameters, "user": "follower", "password": "follower"}
        log = Log(Readable(PostgresFeed(psycopg, parameters, lag=0.0, patience=PATIENCE)))
        try:
            reading = pool.submit(log.recent, "org-1")
            while not gate.execute(
                "SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            ).fetchall():
                assert not reading.done()
            slow.connect().commit()
            gate.execute("SELECT pg_advisory_unlock(1)")
            page = reading.result()
            seen = numbers(page) + numbers(log.recent("org-1", after=page.next))

            assert [1, 2] == sorted(seen)
        finally:
            gate.execute("SELECT pg_advisory_unlock_all()")
            log._close_feed()
            slow.close()
            gate.execute("DROP OWNED BY follower; DROP ROLE follower")


def test_nothing_is_prepared(sink: PostgresSink) -> None:
    """A pooler that hands connections around finds no prepared statements on them."""
    reader = PostgresFeed(psycopg, sink._parameters, lag=0.0)
    for _ in range(10):
        reader.read(query_for("org-1"))

    assert [] == reader._idle[0].execute("SELECT name FROM pg_prepared_statements").fetchall()
    reader.close()


def test_closed_while_a_page_is_read(sink: PostgresSink, postgres_url: str) -> None:
    """A page that is under way when the feed is closed leaves no connection behind."""
    reader = PostgresFeed(psycopg, sink._parameters, lag=0.0, patience=PATIENCE)
    with psycopg.connect(postgres_url) as other, ThreadPoolExecutor(1) as pool:
        other.execute("LOCK activity_logs")
        reading = pool.submit(reader.read, query_for("org-1"))
        feeds = (
            "SELECT wait_event_type FROM pg_stat_activity WHERE application_name = 'resilient-agents feed'"
        )
        while other.execute(feeds).fetchall() != [("Lock",)]:
            assert not reading.done()
            other.execute("SELECT pg_stat_clear_snapshot()")
        reader.close()
        other.commit()
        reading.result()

    for thread in threading.enumerate():
        if thread.name == "activity-feed":
            thread.join()
    assert [] == reader._idle


def test_a_user_who_is_not_the_owner(sink: PostgresSink) -> None:
    """A restricted user reads the feed too: the organisation is named to the database."""
    sink.write([entry(1), entry(2, "org-2")])
    with psycopg.connect(**sink._parameters) as connection:
        connection.execute("CREATE ROLE dashboard LOGIN PASSWORD 'dashboard'")
        connection.execute("GRANT SELECT ON activity_logs TO dashboard")
    parameters = {**sink._parameters, "user": "dashboard", "password": "dashboard"}
    try:
        log = Log(Readable(PostgresFeed(psycopg, parameters, lag=0.0)))

        assert [1] == numbers(log.recent("org-1"))
        log._close_feed()
    finally:
        with psycopg.connect(**sink._parameters) as connection:
            connection.execute("DROP OWNED BY dashboard; DROP ROLE dashboard")


def test_connections_are_used_again(sink: PostgresSink) -> None:
    """Pages that follow each other share one connection; one that broke is replaced."""
    reader = PostgresFeed(psycopg, sink._parameters, lag=0.0)
    query = query_for("org-1")
    for _ in range(3):
        reader.read(query)
    (connection,) = reader._idle
    with psycopg.connect(**sink._parameters) as other:
        other.execute("SELECT pg_terminate_backend(%s)", [connection.info.backend_pid])
    with pytest.raises(psycopg.OperationalError):
        reader.read(query)

    assert [] == reader.read(query)
    assert connection not in reader._idle
    reader.close()


def test_a_hung_database(sink: PostgresSink, postgres_server: PostgresServer) -> None:
    """A page waits as long as it may, no more threads hang than may, and the feed goes on from memory."""
    reader = PostgresFeed(psycopg, sink._parameters, lag=0.0, patience=PATIENCE)
    query = query_for("org-1")
    assert [] == reader.read(query)
    reader._patience = 0.05
    processes = (postgres_server._process.pid, reader._idle[0].info.backend_pid)
    try:
        for process in processes:
            os.kill(process, signal.SIGSTOP)

        for _ in range(MOST_READERS):
            with pytest.raises(Unreachable, match="in time"):
                reader.read(query)
        with pytest.raises(Unreachable, match="no more pages"):
            reader.read(query)
        log = Log(Readable(reader))
        log.latest.append(entry(1))
        page = log.recent("org-1")
    finally:
        for process in processes:
            os.kill(process, signal.SIGCONT)

    assert ([1], False) == (numbers(page), page.complete)
    for _ in range(MOST_READERS):
        assert reader._readers.acquire(timeout=PATIENCE)
    reader.close()


def test_the_feed_uses_its_index(sink: PostgresSink) -> None:
    """The latest page of many entries is read from the index, without a sort."""
    from resilient_agents.activity._postgres_feed import _statement

    with psycopg.connect(**sink._parameters) as connection:
        connection.execute(
            "INSERT INTO activity_logs (id, source, organization_id, action, status, created_at)"
            " SELECT gen_random_uuid(), 's', 'org-' || n % 10, 'done.1', 'ok', now()"
            " FROM generate_series(1, 20000) n"
        )
        connection.execute("ANALYZE activity_logs")
        statement, values = _statement(query_for("org-1"), time.time_ns() // 1000)
        plan = connection.execute(f"EXPLAIN {statement}".encode(), values).fetchall()

    told = "\n".join(line for (line,) in plan)
    assert "activity_logs_feed" in told
    assert "Sort" not in told
