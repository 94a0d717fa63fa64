"""The feed: pages of what happened lately, from a SQLite file, and from memory while that is down."""

import os
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.activity.feeds import Log, entry, numbers

from resilient_agents.activity import ActivityLog, FunctionSink
from resilient_agents.activity.feed import Page
from resilient_agents.activity.sqlite import SQLiteSink
from resilient_agents.errors import ConfigurationError, Unreachable, ValidationFailed
from resilient_agents.testing import FakeClock


@pytest.fixture
def clock() -> Iterator[FakeClock]:
    """Put a clock in force that moves only when told to."""
    with FakeClock() as fake:
        yield fake


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[SQLiteSink]:
    """Return a sink in a file of its own."""
    sink = SQLiteSink(tmp_path / "activity.db")
    yield sink
    sink.close()


@pytest.fixture
def log(sink: SQLiteSink) -> Log:
    """Return a log on that sink."""
    return Log(sink)


def write(sink: SQLiteSink, clock: FakeClock, *entries: Any) -> None:
    """Write each entry in a transaction of its own, a second apart."""
    for activity in entries:
        sink.write([activity])
        clock.advance(1)


class TestPages:
    """Pages go back and forth without gaps."""

    def test_the_latest_first(self, sink: SQLiteSink, log: Log, clock: FakeClock) -> None:
        """Without a cursor it is the latest, the latest of all first, whole as it was written."""
        entries = [entry(n) for n in range(5)]
        write(sink, clock, *entries)

        page = log.recent("org-1", limit=3)

        assert entries[:1:-1] == [*page]
        assert (True, True, 3) == (page.more, page.complete, len(page))

    def test_older_pages(self, sink: SQLiteSink, log: Log, clock: FakeClock) -> None:
        """Each previous leads to what came before, until there is no more."""
        write(sink, clock, *(entry(n) for n in range(5)))

        pages = [log.recent("org-1", limit=2)]
        while pages[-1].previous is not None:
            pages.append(log.recent("org-1", limit=2, before=pages[-1].previous))

        assert [[4, 3], [2, 1], [0]] == [numbers(page) for page in pages]

    def test_what_has_come_since(self, sink: SQLiteSink, log: Log, clock: FakeClock) -> None:
        """Each next leads to what has come since, the earliest of it where it is more than a page."""
        write(sink, clock, entry(0))
        page = log.recent("org-1")
        write(sink, clock, *(entry(n) for n in range(1, 6)))

        seen = []
        for _ in range(4):
            page = log.recent("org-1", after=page.next, limit=2)
            seen.append((numbers(page), page.more))

        assert [([2, 1], True), ([4, 3], True), ([5], False), ([], False)] == seen

    def test_nothing_yet(self, sink: SQLiteSink, log: Log, clock: FakeClock) -> None:
        """A log without a file has an empty feed, whose next shows what is the first to come."""
        page = log.recent("org-1")
        write(sink, clock, entry(7))

        assert ((), None) == (page.entries, page.previous)
        assert [7] == numbers(log.recent("org-1", after=page.next))

    def test_a_file_without_a_table(self, sink: SQLiteSink, log: Log) -> None:
        """A file in which the writer has not made its table yet is an empty feed."""
        sink.path.touch()

        assert () == log.recent("org-1").entries

    def test_what_arrives_late_is_not_passed_over(self, sink: SQLiteSink, log: Log, clock: FakeClock) -> None:
        """An entry that waited on disk for an hour is old, and new to who has asked before it arrived."""
        late = entry(1)
        clock.advance(3600)
        write(sink, clock, entry(2))
        page = log.recent("org-1")
        write(sink, clock, late)

        assert [1] == numbers(log.recent("org-1", after=page.next))

    def test_a_clock_that_is_set_back(self, sink: SQLiteSink, log: Log, clock: FakeClock) -> None:
        """What arrives after the clock was set back is still later than what was there."""
        clock.advance(3600)
        write(sink, clock, entry(1))
        page = log.recent("org-1")
        with FakeClock() as earlier:
            write(sink, earlier, entry(2))

        assert [2] == numbers(log.recent("org-1", after=page.next))

    def test_one_organisation_alone(self, sink: SQLiteSink, log: Log, clock: FakeClock) -> None:
        """What belongs to others is not shown, whatever is asked for."""
        write(sink, clock, entry(1), entry(2, "org-2"), entry(3, ""))

        assert [1] == numbers(log.recent("org-1"))
        assert [2] == numbers(log.recent("org-2"))

    def test_by_agent_and_action(self, sink: SQLiteSink, log: Log, clock: FakeClock) -> None:
        """A feed can be that of an agent, or of some actions."""
        write(sink, clock, entry(1), entry(2, agent_id="a-2"), entry(3), entry(4, agent_id=None))

        assert [2] == numbers(log.recent("org-1", agent_id="a-2"))
        assert [3, 1] == numbers(log.recent("org-1", actions=["done.1", "done.3"]))
        assert [] == numbers(log.recent("org-1", agent_id="a-2", actions=["done.1"]))

    async def test_awaiting(self, sink: SQLiteSink, log: Log, clock: FakeClock) -> None:
        """The awaiting twin returns the same page."""
        write(sink, clock, entry(1), entry(2))

        assert log.recent("org-1", limit=1) == await log.arecent("org-1", limit=1)

    def test_of_a_whole_log(self, tmp_path: Path) -> None:
        """What a log has recorded is in its feed once it has arrived."""
        with ActivityLog(f"sqlite:///{tmp_path}/activity.db", spill=tmp_path / "spill") as activity:
            activity.record(
                "agent.created", organization_id="org-1", agent_id="a-1", metadata={"name": "Ann"}
            )
            activity.flush(10)

            (told,) = activity.recent("org-1")

        assert ("agent.created", "a-1", '{"name":"Ann"}') == (told.action, told.agent_id, told.metadata)


@given(
    arrivals=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 3)), max_size=30),
    limit=st.integers(1, 4),
)
def test_who_follows_sees_everything_once(
    tmp_path_factory: pytest.TempPathFactory, arrivals: list[tuple[int, int]], limit: int
) -> None:
    """Whatever arrives between two looks, a follower sees each entry once, in the order of arrival."""
    with FakeClock() as clock:
        sink = SQLiteSink(tmp_path_factory.mktemp("feed") / "activity.db")
        log = Log(sink)
        cursor = log.recent("org-0", limit=limit).next
        seen: list[int] = []
        expected: list[int] = []

        def look() -> Page:
            page = log.recent("org-0", after=cursor, limit=limit)
            seen.extend(reversed(numbers(page)))
            return page

        for number, (organization, age) in enumerate(arrivals):
            write(sink, clock, entry(number, f"org-{organization}", at=clock.time() - 3600 * age))
            if organization == 0:
                expected.append(number)
            if age % 2:
                cursor = look().next
        while (page := look()).more:
            cursor = page.next
        sink.close()

        assert expected == list(dict.fromkeys(seen))
        assert len(set(seen)) == len(seen)


class TestRefusals:
    """What cannot be asked for is refused in words, before anything is asked."""

    @pytest.mark.parametrize(
        ("question", "named"),
        [
            ({"organization_id": ""}, "organization_id"),
            ({"organization_id": None}, "organization_id"),
            ({"after": "nonsense!"}, "after"),
            ({"after": ""}, "after"),
            ({"before": "AAAA"}, "before"),
            ({"after": "OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5LmE"}, "after"),
            ({"after": "NS5hYmM"}, "after"),
            ({"before": "NS5hYmM"}, "before"),
            ({"actions": ["done"] * 101}, "actions"),
            ({"agent_id": "\ud800"}, "agent_id"),
            ({"limit": 0}, "limit"),
            ({"limit": 201}, "limit"),
            ({"limit": True}, "limit"),
            ({"agent_id": "\0"}, "agent_id"),
            ({"actions": [""]}, "actions"),
        ],
    )
    def test_wrong_questions(self, log: Log, question: dict[str, Any], named: str) -> None:
        """The message says which argument is wrong."""
        with pytest.raises(ValidationFailed, match=named) as caught:
            log.recent(**{"organization_id": "org-1", **question})

        assert [named] == caught.value.errors[0]["loc"]

    @given(cursor=st.text(max_size=80))
    def test_any_text_as_a_cursor(self, cursor: str) -> None:
        """No text makes a cursor raise anything else."""
        log = Log(SQLiteSink("nowhere.db"))
        try:
            page = log.recent("org-1", after=cursor)
        except ValidationFailed:
            return
        assert () == page.entries

    def test_a_log_that_cannot_be_read(self) -> None:
        """A log without a sink that can be read says which it needs."""
        with pytest.raises(ConfigurationError, match="SQLite or PostgreSQL"):
            Log(FunctionSink(print)).recent("org-1")


class Broken:
    """A sink whose reader is down, or hands on what it is given."""

    def __init__(self, sink: SQLiteSink) -> None:
        self.down = False
        self.asked = 0
        self._reader = sink.reader()

    def reader(self) -> "Broken":
        """Return itself."""
        return self

    def read(self, query: Any) -> Any:
        """Read, or be down."""
        self.asked += 1
        if self.down:
            raise Unreachable
        return self._reader.read(query)


class TestOutage:
    """While the sink is down the feed is what the process remembers."""

    def test_from_memory(self, sink: SQLiteSink, clock: FakeClock) -> None:
        """It holds what was wanted, the latest first, and says that it is not complete."""
        broken = Broken(sink)
        broken.down = True
        log = Log(broken)
        log.latest.extend([entry(1), entry(2, "org-2"), entry(3), entry(4, agent_id="a-2")])

        page = log.recent("org-1", agent_id="a-1")

        assert ([3, 1], False, None) == (numbers(page), page.complete, page.previous)

    def test_a_dead_sink_is_asked_once(self, sink: SQLiteSink, clock: FakeClock) -> None:
        """Until it is due to be tried again, nobody waits for it."""
        broken = Broken(sink)
        broken.down = True
        log = Log(broken)

        for _ in range(10):
            log.recent("org-1")
        assert 1 == broken.asked

        broken.down = False
        clock.advance(6)
        assert log.recent("org-1").complete

    def test_nothing_is_passed_over(self, sink: SQLiteSink, clock: FakeClock) -> None:
        """Who follows through an outage has seen everything afterwards; what came twice has the same id."""
        broken = Broken(sink)
        log = Log(broken)
        write(sink, clock, entry(1))
        first = log.recent("org-1")
        broken.down = True
        waiting = [entry(2), entry(3)]
        log.latest.extend(waiting)
        during = log.recent("org-1", after=first.next)
        clock.advance(100)
        write(sink, clock, *waiting, entry(4))
        broken.down = False

        after = log.recent("org-1", after=during.next)

        assert ([1], [3, 2], [4, 3, 2]) == (numbers(first), numbers(during), numbers(after))
        assert {*during} < {*after}

    def test_who_comes_during_an_outage(self, sink: SQLiteSink, clock: FakeClock) -> None:
        """Who begins to follow during an outage misses nothing that comes later."""
        broken = Broken(sink)
        log = Log(broken)
        broken.down = True
        log.latest.append(entry(1))
        during = log.recent("org-1")
        write(sink, clock, entry(2))
        broken.down = False
        clock.advance(6)

        assert [2] == numbers(log.recent("org-1", after=during.next))

    def test_our_own_faults_are_not_hidden(self, sink: SQLiteSink) -> None:
        """A defect is raised, not answered from memory."""

        class Defect:
            def reader(self) -> "Defect":
                return self

            def read(self, query: Any) -> Any:
                raise TypeError

        with pytest.raises(TypeError):
            Log(Defect()).recent("org-1")


def test_a_forked_child_reads_for_itself(sink: SQLiteSink, log: Log, clock: FakeClock) -> None:
    """A child opens the file anew, and neither disturbs the other."""
    write(sink, clock, entry(1))
    assert [1] == numbers(log.recent("org-1"))

    child = os.fork()
    if child == 0:
        os._exit(0 if numbers(log.recent("org-1")) == [1] else 1)

    assert 0 == os.waitpid(child, 0)[1]
    assert [1] == numbers(log.recent("org-1"))


def test_a_child_loses_nothing(sink: SQLiteSink, log: Log, clock: FakeClock) -> None:
    """A child forked while a page had been read has locks of its own, and its parent deletes nothing."""
    write(sink, clock, entry(1))
    log.recent("org-1")
    sink.close()
    ready, go_on = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        heir = SQLiteSink(sink.path)
        heir.write([entry(2)])
        os.write(ready[1], b"!")
        os.read(go_on[0], 1)
        heir.write([entry(3)])
        os._exit(0)
    os.read(ready[0], 1)
    write(sink, clock, entry(4))
    log._close_feed()
    sink.close()
    os.write(go_on[1], b"!")
    os.waitpid(child, 0)
    for end in (*ready, *go_on):
        os.close(end)

    assert {1, 2, 3, 4} == {*numbers(log.recent("org-1"))}
    log._close_feed()


def test_threads_that_begin_together(sink: SQLiteSink, clock: FakeClock) -> None:
    """Threads that are the first to ask, at the same time, read with one reader."""
    write(sink, clock, entry(1))
    together = threading.Barrier(4)
    readers = set()

    class Shared:
        def reader(self) -> Any:
            together.wait()
            reader = sink.reader()

            class Noted:
                def read(self, query: Any) -> Any:
                    readers.add(self)
                    return reader.read(query)

            return Noted()

    log = Log(Shared())
    with ThreadPoolExecutor(4) as pool:
        pages = list(pool.map(log.recent, ["org-1"] * 4))

    assert ([[1]] * 4, 1) == ([numbers(page) for page in pages], len(readers))


def test_reading_finds_its_index(sink: SQLiteSink, clock: FakeClock) -> None:
    """No page sorts or walks through the table."""
    write(sink, clock, entry(1))
    from resilient_agents.activity._sqlite_feed import _select
    from resilient_agents.activity.feed import query_for

    page = Log(sink).recent("org-1")
    with sqlite3.connect(sink.path) as connection:
        for after, before in ((None, None), (page.next, None), (None, page.next)):
            statement, values = _select(query_for("org-1", after=after, before=before))
            plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}", values).fetchall()

            assert ["activity_logs_feed" in step[-1] for step in plan] == [True]
    connection.close()
