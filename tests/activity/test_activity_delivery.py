"""How entries get to the sinks, by a clock that stands still: failures, the disk, poison, retention."""

import shutil
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_agents import events
from resilient_agents.activity import _lane
from resilient_agents.activity._delivery import Delivery
from resilient_agents.activity._lane import Done, Lane
from resilient_agents.activity._spill import Spill
from resilient_agents.activity.entry import Activity
from resilient_agents.errors import StorageFailure, Unreachable, ValidationFailed
from resilient_agents.testing import FakeClock


def entry(number: int) -> Activity:
    """Return an entry with a number."""
    return Activity(f"{number:09}", "here", "1", None, "a", "ok", None, None, None, None, None, "{}", 0.0)


class Hand:
    """Hands batches over at once, or keeps them until it is told to."""

    def __init__(self) -> None:
        self.hold = False
        self.held: list[tuple[Callable[[], object], Done]] = []

    def start(self) -> None:
        """Begin."""

    def stop(self) -> None:
        """End."""

    def join(self, timeout: float) -> None:
        """Wait for the end."""

    def hand(self, task: Callable[[], object], done: Done) -> None:
        """Perform *task* now or later."""
        if self.hold:
            self.held.append((task, done))
        else:
            _lane._perform(task, done)

    def release(self) -> None:
        """Perform what was held."""
        self.hold = False
        held, self.held = self.held, []
        for task, done in held:
            _lane._perform(task, done)


class FakeSink:
    """A sink that takes or refuses, and notes what it was given."""

    def __init__(self, name: str = "sink") -> None:
        self.name = name
        self.error: Exception | None = None
        self.poison: set[str] = set()
        self.taken: list[str] = []
        self.asked = 0
        self.old = 0
        self.pruned: list[Any] = []

    def write(self, batch: list[Activity]) -> None:
        """Take a batch."""
        self.asked += 1
        if self.error is not None:
            raise self.error
        if self.poison & {one.id for one in batch}:
            raise ValidationFailed("no such column")
        self.taken += [one.id for one in batch]

    def prune(self, *, max_age: float | None, max_rows: int | None, limit: int) -> int:
        """Delete what is old."""
        self.pruned.append((max_age, max_rows, limit))
        deleted = min(self.old, limit)
        self.old -= deleted
        return deleted


class House:
    """A delivery to some sinks, turned by hand."""

    def __init__(
        self, folder: Path, *sinks: FakeSink, keep: Any = (None, None), batch: int = 10, most: int = 1000
    ) -> None:
        self.sinks = sinks
        self.hands = [Hand() for _ in sinks]
        self.lanes = [Lane(s.name, s, hand, batch) for s, hand in zip(sinks, self.hands, strict=True)]
        self.messages: deque[Callable[[], object]] = deque()
        self.spill = Spill(folder, max_bytes=1 << 20)
        self.delivery = Delivery(
            self.lanes, self.spill, self.messages.append, overdue=5.0, keep=keep, most_in_memory=most
        )
        self.count = 0
        _houses.append(self)

    def offer(self, count: int) -> None:
        """Let the sinks have so many entries."""
        self.delivery.offer([entry(self.count + number) for number in range(count)])
        self.count += count

    def turn(self, times: int = 1) -> None:
        """Do what the worker does in a turn."""
        for _ in range(times):
            while self.messages:
                self.messages.popleft()()
            self.delivery.advance()
        while self.messages:
            self.messages.popleft()()

    @property
    def news(self) -> list[type[events.Event]]:
        """What would be emitted."""
        return [kind for kind, _ in self.delivery.news]

    @property
    def everything(self) -> list[str]:
        """The ids of all entries so far."""
        return [entry(number).id for number in range(self.count)]


_houses: list[House] = []


@pytest.fixture(autouse=True)
def houses_closed() -> Iterator[None]:
    """Let go of all files after each test."""
    yield
    while _houses:
        _houses.pop().delivery.close()


@pytest.fixture
def clock() -> Iterator[FakeClock]:
    """Put a clock in force that no test has to wait for."""
    with FakeClock() as fake:
        yield fake


def test_dead_sink_is_left_alone(clock: FakeClock, tmp_path: Path) -> None:
    """A sink that fails is asked after pauses that double, its entries are on disk, and then it gets them."""
    sink = FakeSink()
    house = House(tmp_path, sink)
    sink.error = Unreachable("no route")
    house.offer(25)
    waits = []
    for _ in range(6):
        asked = sink.asked
        house.turn(3)
        assert asked + 1 == sink.asked
        assert (0, 25) == (len(house.lanes[0].waiting), house.lanes[0].on_disk)
        waits.append(house.delivery.next_due() - clock.monotonic())
        clock.advance(waits[-1])
    assert all(wait <= 0.5 * 2**number for number, wait in enumerate(waits))
    assert all(wait >= 0.25 * 2**number for number, wait in enumerate(waits[:5]))
    assert [events.SinkDown] == house.news
    sink.error = None
    house.turn(4)
    assert house.everything == sink.taken
    assert [events.SinkDown, events.SinkRestored] == house.news
    assert house.delivery.settled
    assert house.lanes[0].up


def test_one_dead_sink_does_not_starve_another(clock: FakeClock, tmp_path: Path) -> None:
    """Each sink has its own breaker and its own place on disk."""
    dead, well = FakeSink("dead"), FakeSink("well")
    house = House(tmp_path, dead, well)
    dead.error = Unreachable()
    house.offer(30)
    house.turn(4)
    assert house.everything == well.taken
    assert [30, 0] == [lane.on_disk for lane in house.lanes]
    dead.error = None
    clock.advance(1)
    house.turn(4)
    assert house.everything == dead.taken == well.taken


def test_hanging_sink_counts_as_down(clock: FakeClock, tmp_path: Path) -> None:
    """A sink that does not answer in time is down; what waits goes to disk, and arrives when it answers."""
    sink = FakeSink()
    house = House(tmp_path, sink)
    house.hands[0].hold = True
    house.offer(15)
    house.turn()
    house.offer(10)
    assert 5.0 == house.delivery.next_due() - clock.monotonic()
    clock.advance(5)
    house.turn()
    assert [events.SinkDown] == house.news
    assert (0, 15) == (len(house.lanes[0].waiting), house.lanes[0].on_disk)
    clock.advance(3600)
    house.turn(3)
    assert 0 == sink.asked
    house.hands[0].release()
    house.turn(4)
    assert sorted(house.everything) == sorted(sink.taken)
    assert [events.SinkDown, events.SinkRestored] == house.news


def test_what_is_on_its_way_is_secured(clock: FakeClock, tmp_path: Path) -> None:
    """At the end everything is on disk, what a sink has been given too; if it arrives yet, it comes once."""
    sink = FakeSink()
    house = House(tmp_path, sink)
    house.hands[0].hold = True
    house.offer(15)
    house.turn()
    house.delivery.secure()
    assert 15 == house.lanes[0].on_disk
    house.delivery.secure()
    house.hands[0].release()
    house.turn(3)
    assert sorted(house.everything) == sorted(sink.taken)
    assert 0 == house.lanes[0].on_disk


@given(poison=st.sets(st.integers(0, 29), max_size=6), down_first=st.booleans())
def test_poison_is_found_and_dropped(
    tmp_path_factory: pytest.TempPathFactory, poison: set[int], down_first: bool
) -> None:
    """An entry that the sink will not have is dropped alone, from memory and from disk; the rest arrives."""
    sink = FakeSink()
    sink.poison = {entry(number).id for number in poison}
    with FakeClock() as clock:
        house = House(tmp_path_factory.mktemp("spill"), sink)
        if down_first:
            sink.error = Unreachable()
        house.offer(30)
        house.turn(2)
        sink.error = None
        clock.advance(1)
        house.turn(200)
    assert set(house.everything) - sink.poison == set(sink.taken)
    assert 30 - len(poison) == len(sink.taken)
    assert len(poison) == house.delivery.dropped["rejected"]
    assert house.delivery.settled
    assert house.lanes[0].up
    house.delivery.close()


def test_disk_full(clock: FakeClock, tmp_path: Path) -> None:
    """Where there is no room on disk for what a dead sink does not take, it is dropped and counted."""
    sink = FakeSink()
    house = House(tmp_path, sink)
    house.spill._max_bytes = 3000
    sink.error = Unreachable()
    for _ in range(5):
        house.offer(5)
        house.turn()
    assert 10 == house.lanes[0].on_disk
    assert 15 == house.delivery.dropped["sink_down"]


def test_disk_broken(clock: FakeClock, tmp_path: Path) -> None:
    """Where the disk fails too, entries wait in memory up to a bound, and the news is told once."""
    blocked = tmp_path / "file"
    blocked.write_text("", encoding="utf-8")
    sink = FakeSink()
    house = House(blocked, sink, most=20)
    sink.error = Unreachable()
    for _ in range(5):
        house.offer(10)
        house.turn()
    assert [events.SinkDown, events.SpillFailed] == house.news
    assert 20 == len(house.lanes[0].waiting)
    assert 30 == house.delivery.dropped["sink_down"]
    with pytest.raises(StorageFailure, match="check the folder"):
        house.delivery.keep([entry(0)])
    house.delivery.secure()
    assert 20 == house.delivery.dropped["shutdown"]


class FlakySpill(Spill):
    """A disk that can be told to fail."""

    broken = False

    def read(self, lane: str, count: int) -> Any:
        """Read, or fail."""
        if self.broken:
            raise StorageFailure("broken")
        return super().read(lane, count)

    def remove(self, place: Any, entries: Any) -> None:
        """Forget, or fail."""
        if self.broken:
            raise StorageFailure("broken")
        super().remove(place, entries)


def test_disk_that_cannot_be_read_is_left_alone(clock: FakeClock, tmp_path: Path) -> None:
    """While the disk fails it is asked once a second, and what has arrived is not sent again."""
    sink = FakeSink()
    house = House(tmp_path, sink)
    house.delivery._spill = spill = FlakySpill(tmp_path, max_bytes=1 << 20)
    house.delivery.keep([entry(number) for number in range(15)])
    spill.broken = True
    house.turn(5)
    assert (0, 1.0) == (sink.asked, house.delivery.next_due() - clock.monotonic())
    clock.advance(1)
    spill.broken = False
    house.delivery.advance()
    spill.broken = True
    for _ in range(5):
        house.turn(5)
        clock.advance(1)
    assert (10, 15) == (len(sink.taken), house.lanes[0].on_disk)
    spill.broken = False
    house.turn(5)
    assert [entry(number).id for number in range(15)] == sink.taken
    assert [events.SpillFailed] == house.news
    spill.close(empty=True)


def test_deleted_disk(clock: FakeClock, tmp_path: Path) -> None:
    """When somebody deletes the folder, entries are written to a new file, and the old ones are given up."""
    sink = FakeSink()
    house = House(tmp_path / "spill", sink)
    sink.error = Unreachable()
    house.offer(5)
    house.turn(2)
    shutil.rmtree(tmp_path / "spill")
    house.delivery.keep([entry(7)])
    assert 1 == len(list((tmp_path / "spill").glob("*.db")))
    sink.error = None
    clock.advance(1)
    house.turn(5)
    assert [entry(7).id] == sink.taken
    assert house.delivery.settled


def test_critical_entries_come_from_disk(clock: FakeClock, tmp_path: Path) -> None:
    """What was written to disk first is delivered from there, in turns with what is in memory."""
    sink = FakeSink()
    house = House(tmp_path, sink, batch=1)
    house.offer(2)
    house.delivery.keep([entry(10), entry(11)])
    house.turn(4)
    assert [0, 10, 1, 11] == [int(one) for one in sink.taken]


def test_next_process_takes_over(clock: FakeClock, tmp_path: Path) -> None:
    """What a dead process left is delivered by the next one, once, and its file is gone."""
    sink = FakeSink()
    house = House(tmp_path, sink)
    house.offer(5)
    house.delivery.secure()
    heirs = [House(tmp_path, sink), House(tmp_path, FakeSink("stranger"))]
    for heir in heirs:
        heir.turn(3)
    assert [] == sink.taken  # its owner lives
    house.delivery.close()
    for heir in reversed(heirs):
        clock.advance(30)
        heir.turn(4)
    assert house.everything == sink.taken
    for heir in heirs:
        heir.delivery.close()
    assert [] == list(tmp_path.iterdir())


def test_retention(clock: FakeClock, tmp_path: Path) -> None:
    """Old entries are deleted in bounded batches, once a minute, and at once again while there are many."""
    sink = FakeSink()
    sink.old = 12_000
    house = House(tmp_path, sink, keep=(60.0, 100))
    house.turn(10)
    assert 0 == sink.old
    assert 3 == len(sink.pruned)
    assert (60.0, 100, 5000) == sink.pruned[0]
    assert 30.0 == house.delivery.next_due() - clock.monotonic()
    clock.advance(61)
    house.turn(3)
    assert 4 == len(sink.pruned)


def test_nothing_to_hope_for(clock: FakeClock, tmp_path: Path) -> None:
    """Nobody waits at the end for a sink that is down."""
    sink = FakeSink()
    house = House(tmp_path, sink)
    assert house.delivery.hopeless(0)
    house.offer(1)
    assert not house.delivery.hopeless(clock.monotonic())
    sink.error = Unreachable()
    house.turn()
    assert house.delivery.hopeless(clock.monotonic())
    assert not house.delivery.hopeless(clock.monotonic() + 1)


def test_sinks_that_could_do_with_more(clock: FakeClock, tmp_path: Path) -> None:
    """A sink that is behind gets no more than a bound in memory; what is over goes to disk."""
    sink = FakeSink()
    house = House(tmp_path, sink, most=20)
    house.hands[0].hold = True
    house.offer(15)
    house.turn()
    assert house.delivery.hungry
    house.offer(30)
    assert not house.delivery.hungry
    house.turn()
    assert (20, 15) == (len(house.lanes[0].waiting), house.lanes[0].on_disk)
