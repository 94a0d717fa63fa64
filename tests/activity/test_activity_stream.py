"""The feed as Server-Sent Events: what happens, each entry once, and a sign of life in between."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.activity.feeds import Log, entry

from resilient_agents.activity import Stream, page_as_json
from resilient_agents.activity.sqlite import SQLiteSink
from resilient_agents.errors import ValidationFailed
from resilient_agents.testing import FakeClock


@pytest.fixture
def clock() -> Iterator[FakeClock]:
    """Put a clock in force that moves only when told to."""
    with FakeClock() as fake:
        yield fake


@pytest.fixture
def sink(tmp_path: Path, clock: FakeClock) -> Iterator[SQLiteSink]:
    """Return a sink in a file of its own."""
    sink = SQLiteSink(tmp_path / "activity.db")
    yield sink
    sink.close()


def told(text: str) -> list[tuple[str, str | None]]:
    """Return the actions that a piece of a stream tells of, and the ids of their events."""
    found = []
    for event in text.removesuffix("\n\n").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in event.splitlines())
        found.append((json.loads(fields["data"])["action"], fields.get("id")))
    return found


def test_from_now_on(sink: SQLiteSink, clock: FakeClock) -> None:
    """A stream opens with the pause before a new connection, and tells what comes from then on."""
    sink.write([entry(1)])
    clock.advance(1)
    stream = iter(Stream(Log(sink), "org-1", interval=2.0))
    opening = next(stream)
    clock.sleep = lambda seconds: sink.write([entry(2), entry(3, "org-2")])  # type: ignore[method-assign]

    (event,) = told(next(stream))

    assert "retry: 6000\n\n" == opening
    assert "done.2" == event[0]


async def test_awaiting(sink: SQLiteSink, clock: FakeClock) -> None:
    """The awaiting twin tells the same."""
    log = Log(sink)
    cursor = log.recent("org-1").next
    sink.write([entry(1)])
    stream = aiter(Stream(log, "org-1", after=cursor))

    assert "retry" in await anext(stream)
    assert "done.1" == told(await anext(stream))[0][0]


def test_where_it_left_off(sink: SQLiteSink, clock: FakeClock) -> None:
    """Only the last event of a piece has an id, so who loses the rest of it gets it again."""
    log = Log(sink)
    cursor = log.recent("org-1").next
    sink.write([entry(1), entry(2)])
    clock.advance(1)
    stream = iter(Stream(log, "org-1", after=cursor))
    next(stream)

    first, last = told(next(stream))
    sink.write([entry(3)])
    resumed = iter(Stream(log, "org-1", after=last[1]))
    next(resumed)

    assert (("done.1", None), "done.2") == (first, last[0])
    assert ["done.3"] == [action for action, _ in told(next(resumed))]


def test_a_sign_of_life(sink: SQLiteSink, clock: FakeClock) -> None:
    """A stream in which nothing happens says every fifteen seconds that it is there."""
    stream = iter(Stream(Log(sink), "org-1"))
    next(stream)
    begun = clock.monotonic()

    assert [": still here\n\n"] * 2 == [next(stream), next(stream)]
    assert 30.0 == clock.monotonic() - begun


def test_what_comes_twice_is_told_once(sink: SQLiteSink, clock: FakeClock) -> None:
    """After an outage, entries that were told from memory come again, and are not told again."""

    class Down:
        down = True

        def reader(self) -> "Down":
            return self

        def read(self, query: Any) -> Any:
            if self.down:
                raise ConnectionRefusedError
            return sink.reader().read(query)

    log = Log(down := Down())
    log.latest.append(entry(1))
    cursor = page_as_json(log.recent("org-1"))["next"]
    stream = iter(Stream(log, "org-1", after=cursor))
    next(stream)
    during = told(next(stream))
    sink.write([log.latest[0], entry(2)])
    clock.advance(10)
    down.down = False

    assert ["done.1"] == [action for action, _ in during]
    assert ["done.2"] == [action for action, _ in told(next(stream))]


async def test_the_end_of_a_log(sink: SQLiteSink, clock: FakeClock) -> None:
    """Who listens to a log that is closed hears the end, in both kinds."""
    log = Log(sink)
    blocking, awaiting = iter(Stream(log, "org-1")), aiter(Stream(log, "org-1"))
    next(blocking)
    await anext(awaiting)
    log._close_feed()

    assert [] == [*blocking]
    assert [] == [piece async for piece in awaiting]


def test_a_lifetime(sink: SQLiteSink, clock: FakeClock) -> None:
    """A stream ends after a while, so that who may not see it any more is asked again who he is."""
    begun = clock.monotonic()

    assert [": still here\n\n"] * 3 == [*Stream(Log(sink), "org-1", lifetime=50.0)][1:]
    assert 50.0 == clock.monotonic() - begun


@pytest.mark.parametrize("time", ["interval", "lifetime"])
@pytest.mark.parametrize(("value", "kind"), [(0, ValueError), (-1.0, ValueError), (None, TypeError)])
def test_times_that_do_not_pass(sink: SQLiteSink, time: str, value: Any, kind: type[Exception]) -> None:
    """A stream that would look without a pause is refused."""
    with pytest.raises(kind, match=time):
        Stream(Log(sink), "org-1", **{time: value})


def test_a_wrong_cursor_is_refused_at_once(sink: SQLiteSink) -> None:
    """A stream that cannot begin says so before anything is sent."""
    with pytest.raises(ValidationFailed, match="after"):
        Stream(Log(sink), "org-1", after="nonsense!")
