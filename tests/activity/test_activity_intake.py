"""The caller's side: bounded by count and bytes, the least important dropped first, never a wait."""

import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_agents.activity._intake import OVERHEAD, Intake
from resilient_agents.errors import StorageBusy, StorageFailure
from resilient_agents.testing import FakeClock


def intake(**bounds: int) -> Intake:
    """Return an intake without a worker."""
    return Intake(**{"max_entries": 10, "max_bytes": 1 << 20, "max_entry_bytes": 1000, **bounds})


def ticks(full: Intake) -> list[int]:
    """Return the moments of what waits, in the order of ids."""
    return sorted(taken[0] for taken in (*full.queue, *full.low))


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 100)), max_size=60))
def test_bounds_hold_and_the_low_go_first(puts: list[tuple[bool, int]]) -> None:
    """The queue keeps to its bounds, drops are counted, and no normal entry goes before a low one."""
    line = intake(max_bytes=2000)
    accepted = 0
    with FakeClock():
        for low, size in puts:
            had_low = len(line.low)
            taken = line.put(b"x" * size, low=low)
            accepted += taken
            held = sum(len(entry[2]) + OVERHEAD for entry in (*line.queue, *line.low))
            assert len(line.queue) + len(line.low) <= 10
            assert held <= 2000 + OVERHEAD + 100
            assert held == line._bytes_in - line.bytes_out
            if not taken and not low:
                assert not line.low
            if taken and low:
                assert had_low + 1 == len(line.low)
    assert len(puts) == line.waiting() + line.dropped["queue_full"]
    assert len(set(ticks(line))) == line.waiting()


def test_ids_rise_though_the_clock_stands_still_or_goes_back() -> None:
    """Moments are strictly in the order of the entries, whatever the clock does."""
    line = intake(max_entries=1000)
    with FakeClock() as clock:
        clock.advance(5)
        for _ in range(10):
            line.put(b"x")
    with FakeClock():  # five seconds earlier
        for _ in range(10):
            line.put(b"x")
    moments = [taken[0] for taken in line.queue]
    assert sorted(set(moments)) == moments


def test_too_big() -> None:
    """An entry that is too big is dropped, and counted as such."""
    line = intake()
    assert not line.put(b"x" * 1001)
    with pytest.raises(StorageFailure, match="max_entry_bytes=1000"):
        line.put_durably(b"x" * 1001, patience=1)
    assert {"too_big": 2} == line.dropped


def test_closed() -> None:
    """After the end nothing is taken, and that is counted."""
    line = intake()
    line.close()
    assert not line.put(b"x")
    with pytest.raises(StorageFailure, match="closed"):
        line.put_durably(b"x", patience=1)
    assert {"shutdown": 2} == line.dropped


def test_own_threads_are_ignored() -> None:
    """What the log's own threads record is ignored, or it would never end."""
    line = intake()
    line.staff.add(threading.get_ident())
    assert not line.put(b"x")
    with pytest.raises(StorageFailure, match="its own sinks"):
        line.put_durably(b"x", patience=1)
    assert 0 == line.waiting()


def test_durable_entry_waits_no_longer_than_its_patience() -> None:
    """Where no worker writes, a critical entry says so in time."""
    with pytest.raises(StorageBusy, match="may be stored or not"):
        intake().put_durably(b"x", patience=0.001)


def test_worker_is_woken_once() -> None:
    """A worker that sleeps is woken by the first entry, and not by those after it."""
    line = intake()
    started: list[Any] = []
    line.start = lambda: started.append(None)
    for _ in range(5):
        line.put(b"x")
    assert 1 == line.inbox.qsize() == len(started)


def test_crowded() -> None:
    """The intake tells when there is not much room left, in entries or in bytes."""
    line = intake()
    for _ in range(6):
        assert not line.crowded()
        line.put(b"x")
    assert line.crowded()
    line = intake(max_bytes=2000)
    line.put(b"x" * 700)
    assert line.crowded()
