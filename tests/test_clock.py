"""The clock is replaced for a block, and the real one really waits."""

import pytest

from resilient_agents._clock import Clock, SystemClock, clock, use_clock


class Stopped(SystemClock):
    """A clock that stands still."""

    def time(self) -> float:
        """Return always the same moment."""
        return 1_000.0


def test_the_system_clock_is_in_force_by_default() -> None:
    """Without being told otherwise, the machine's clock counts."""
    assert isinstance(clock(), SystemClock)


def test_a_replacement_is_in_force_until_the_block_ends() -> None:
    """The clock before comes back, however deep the blocks are nested."""
    before = clock()
    outer, inner = Stopped(), Stopped()
    with use_clock(outer):
        with use_clock(inner):
            assert inner is clock()
        assert outer is clock()
        assert 1_000.0 == clock().time()
    assert before is clock()


def test_the_clock_before_comes_back_after_a_failure() -> None:
    """A block that raises does not leave its clock behind."""
    before = clock()
    with pytest.raises(KeyError), use_clock(Stopped()):
        raise KeyError
    assert before is clock()


def test_the_system_clock_blocks() -> None:
    """Waiting takes time by the same clock."""
    machine: Clock = SystemClock()
    start = machine.monotonic()
    machine.sleep(0.002)
    assert machine.monotonic() - start >= 0.002
    assert machine.time() > 1_600_000_000


async def test_the_system_clock_suspends() -> None:
    """Waiting in a task takes time too."""
    machine: Clock = SystemClock()
    start = machine.monotonic()
    await machine.asleep(0.002)
    assert machine.monotonic() - start >= 0.001
