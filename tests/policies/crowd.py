"""What the tests of policies with a line in front of them share: patience, and threads at once."""

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

THREADS = 16

PATIENCE = 30.0
"""Time in seconds after which a test gives up on a thread."""


@contextmanager
def hasty_threads() -> Iterator[None]:
    """Have threads take turns as often as the interpreter can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def at_once(work: Callable[[int], None], threads: int = THREADS) -> None:
    """Do *work* in many threads, all of which begin at the same moment, and raise what one of them raises."""
    gate = threading.Barrier(threads)

    def begin(number: int) -> None:
        gate.wait()
        work(number)

    with hasty_threads(), ThreadPoolExecutor(threads) as pool:
        list(pool.map(begin, range(threads)))


async def until(condition: Callable[[], bool]) -> None:
    """Let other tasks and threads run until something is so."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it never came about"
        await asyncio.sleep(0)


async def settled() -> None:
    """Let the tasks of this loop run until none of them can go on."""
    for _ in range(12):
        await asyncio.sleep(0)


class Inside:
    """Counts who is inside at the same time, and how many there were at most."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.now = 0
        self.most = 0

    def __enter__(self) -> None:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.now -= 1
