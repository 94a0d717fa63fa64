"""The worker: what one pass does, and how the running worker starts, waits, wakes and stops."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from resilient_agents import DeadLetterQueue, Replayer, deadline
from resilient_agents._flow import run
from resilient_agents.deadletter import Pass, State
from resilient_agents.deadletter.replayer import SHORTEST_WAIT
from resilient_agents.errors import (
    ConfigurationError,
    Origin,
    StorageFailure,
    StorageReadOnly,
    Unreachable,
    ValidationFailed,
)
from resilient_agents.policies import remaining
from resilient_agents.testing import FakeClock

PATIENCE = 60.0
"""Time in seconds after which a test gives up on a thread."""

NEVER = 3600.0
"""A poll interval that no test lives to see."""


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """Return the folder that stands for a disk."""
    path = tmp_path / "disk"
    path.mkdir()
    return path


@contextmanager
def unplugged(disk: Path) -> Iterator[None]:
    """Take *disk* away for as long as the block lasts."""
    away = disk.rename(disk.with_name("away"))
    try:
        yield
    finally:
        away.rename(disk)


@contextmanager
def running(replayer: Replayer) -> Iterator[threading.Thread]:
    """Run *replayer* in a thread until the block ends."""
    thread = threading.Thread(target=replayer.run)
    thread.start()
    try:
        yield thread
    finally:
        replayer.stop()
        thread.join(PATIENCE)
        assert not thread.is_alive()


@contextmanager
def running_task(replayer: Replayer) -> Iterator["asyncio.Task[None]"]:
    """Run *replayer* in the event loop; the caller waits for its end."""
    task = asyncio.get_running_loop().create_task(replayer.arun())
    try:
        yield task
    finally:
        replayer.stop()


def lease_of(queue: DeadLetterQueue) -> float:
    """Return until when the entry ``k`` is leased."""
    entry = queue.get("t", "k")
    assert entry is not None
    assert entry.lease_until is not None
    return entry.lease_until


def let_it_idle(queue: DeadLetterQueue) -> None:
    """Stand in the writer's line until a worker that found nothing to do has gone to sleep."""
    for _ in range(20):
        queue.stats()


class TestOnePass:
    """`run_once` delivers what is due now, and returns."""

    def test_everything_due(self, queue: DeadLetterQueue, clock: FakeClock) -> None:
        """All topics are drained, and the sum says what became of it."""

        def work(payload: dict[str, Any]) -> None:
            if payload["n"] == 1:
                raise Unreachable
            if payload["n"] == 2:
                raise ValidationFailed(origin=Origin.DEPENDENCY)

        for topic in ("t", "u"):
            queue.handler(topic)(work)
            for n in range(5):
                queue.enqueue(topic, {"n": n})

        done = Replayer(queue).run_once()

        assert Pass(delivered=6, deferred=2, parked=2) == done
        assert 10 == done.handled
        assert Pass() == Replayer(queue).run_once()

    async def test_awaiting(self, queue: DeadLetterQueue) -> None:
        """In an event loop, functions of both kinds do their work."""
        taken: list[str] = []

        async def awaited(payload: dict[str, str]) -> None:
            await asyncio.sleep(0)
            taken.append(payload["v"])

        queue.handler("t")(awaited)
        queue.handler("u")(lambda payload: taken.append(payload["v"]))
        await queue.aenqueue("t", {"v": "async"})
        await queue.aenqueue("u", {"v": "blocking"})

        assert Pass(delivered=2) == await Replayer(queue).arun_once()
        assert {"async", "blocking"} == set(taken)

    async def test_coroutine_function_that_searches(self, queue: DeadLetterQueue, clock: FakeClock) -> None:
        """A coroutine function is looked after by its own kind, after an unknown outcome too."""

        async def work(_: object) -> None:
            raise TimeoutError

        async def search(payload: dict[str, str]) -> str:
            return payload["v"]

        queue.handler("t", reconcile=search)(work)
        await queue.aenqueue("t", {"v": "found"}, key="k")
        await Replayer(queue).arun_once()
        clock.advance(60)
        await Replayer(queue).arun_once()

        assert "found" == getattr(await queue.aenqueue("t", {"v": "found"}, key="k"), "reference", None)

    def test_topics_take_turns(self, queue: DeadLetterQueue) -> None:
        """A long line at one topic does not starve the others."""
        taken: list[str] = []
        for topic in ("a", "b", "c"):
            queue.handler(topic)(lambda payload: taken.append(payload["v"]))
            for _ in range(3):
                queue.enqueue(topic, {"v": topic})

        Replayer(queue).run_once()

        assert [{"a", "b", "c"}] * 3 == [set(taken[n : n + 3]) for n in (0, 3, 6)]

    def test_unhandled_topic_waits(self, queue: DeadLetterQueue) -> None:
        """Work of a topic that has no handler here is left for a process that has one."""
        entry = queue.enqueue("t", {})

        assert Pass() == Replayer(queue).run_once()
        assert entry == queue.get("t", entry.key)

    def test_oldest_due_first(self, queue: DeadLetterQueue, clock: FakeClock) -> None:
        """What has been due the longest goes first."""
        taken: list[int] = []
        queue.handler("t")(lambda payload: taken.append(payload["n"]))
        for n, delay in enumerate((3, 1, 2)):
            queue.enqueue("t", {"n": n}, delay=delay)
        clock.advance(5)
        Replayer(queue).run_once()

        assert [1, 2, 0] == taken

    def test_stopped(self, queue: DeadLetterQueue) -> None:
        """Asked to stop, it finishes the call under way and leaves the rest."""
        replayer = Replayer(queue)
        queue.handler("t")(lambda _: replayer.stop())
        queue.enqueue("t", {})
        queue.enqueue("t", {})

        assert Pass(delivered=1) == replayer.run_once()
        assert 1 == queue.stats().states[State.PENDING]

    @pytest.mark.parametrize(
        "options", [{"concurrency": 0}, *({"poll": poll} for poll in (0, -1, float("inf"), float("nan")))]
    )
    def test_bad_number(self, queue: DeadLetterQueue, options: dict[str, Any]) -> None:
        """A number that makes no sense is refused."""
        with pytest.raises(
            ConfigurationError, match="concurrency must be 1 or more, and poll positive and finite"
        ):
            Replayer(queue, **options)

    @pytest.mark.parametrize("method", ["run", "run_once"])
    def test_coroutine_function_without_a_loop(self, queue: DeadLetterQueue, method: str) -> None:
        """A coroutine function cannot be called from blocking code; the message says what can."""

        @queue.handler("t")
        async def work(_: object) -> None: ...

        with pytest.raises(ConfigurationError, match=r"use `await Replayer\(queue\)\.arun\(\)`"):
            getattr(Replayer(queue), method)()

    def test_failing_file(self, queue: DeadLetterQueue, tmp_path: Path) -> None:
        """One pass over a file that cannot be used says so to its caller."""
        queue.handler("t")(print)
        queue.close()
        (tmp_path / "queue.db").unlink()
        (tmp_path / "queue.db").mkdir()

        with pytest.raises(StorageFailure, match=r"queue\.db"):
            Replayer(queue).run_once()


class TestNextLook:
    """How long an idle worker waits, at the most, until it looks again."""

    def wait(self, queue: DeadLetterQueue, poll: float = NEVER) -> float:
        """Let a worker do what is due, and return how long it then means to wait."""
        replayer = Replayer(queue, poll=poll)
        replayer.run_once()
        return run(replayer._advance(queue.blocking, awaiting=False))

    def test_nothing_there(self, queue: DeadLetterQueue) -> None:
        """With nothing to wait for, it looks after *poll* seconds."""
        queue.handler("t")(print)

        assert NEVER == self.wait(queue)

    def test_next_due(self, queue: DeadLetterQueue, clock: FakeClock) -> None:
        """It wakes when the next entry is due, or sooner to look."""
        queue.handler("t")(print)
        queue.enqueue("t", {}, delay=50)
        queue.enqueue("t", {}, delay=40)

        assert 40 == self.wait(queue)
        assert 5 == self.wait(queue, poll=5)

    def test_lease_of_another(self, queue: DeadLetterQueue, clock: FakeClock) -> None:
        """It wakes when a lease of another worker runs out."""
        waits: list[float] = []
        queue.handler("t")(lambda _: waits.append(self.wait(queue)))
        queue.enqueue("t", {})
        Replayer(queue).run_once()

        assert [queue.lease] == waits

    def test_paused_topic_delays_no_other(self, queue: DeadLetterQueue, clock: FakeClock) -> None:
        """While one target is down for an hour, the next entry of another is still taken in time."""

        @queue.handler("down")
        def work(_: object) -> None:
            raise Unreachable(retry_after=1000)

        queue.handler("t")(print)
        queue.enqueue("down", {})
        queue.enqueue("t", {}, delay=2)

        assert 2 == self.wait(queue)
        clock.advance(2)
        assert pytest.approx(998) == self.wait(queue)

    def test_behind_others_in_an_order(self, queue: DeadLetterQueue, clock: FakeClock) -> None:
        """An entry that is due, but behind one that is not, is no reason to look all the time."""
        queue.handler("t")(print)
        queue.enqueue("t", {}, ordering_key="o", delay=30)
        queue.enqueue("t", {}, ordering_key="o")

        assert 30 == self.wait(queue)

    def test_shortest(self, queue: DeadLetterQueue, clock: FakeClock) -> None:
        """However soon something is due, there is a moment to breathe."""
        queue.handler("t")(print)
        queue.enqueue("t", {}, delay=SHORTEST_WAIT / 10)

        assert SHORTEST_WAIT == self.wait(queue)


class TestRunning:
    """`run`, in a thread of its own."""

    def test_delivers_and_stops(self, queue: DeadLetterQueue) -> None:
        """It delivers what was there before and what comes later, and returns when asked to."""
        done = threading.Semaphore(0)
        queue.handler("t")(lambda _: done.release())
        queue.enqueue("t", {})
        with running(Replayer(queue)):
            queue.enqueue("t", {})
            assert all(done.acquire(timeout=PATIENCE) for _ in range(2))

    def test_woken_at_once(self, queue: DeadLetterQueue) -> None:
        """New work of this process does not wait for the next look at the file."""
        done = threading.Semaphore(0)
        queue.handler("t")(lambda _: done.release())
        with running(Replayer(queue, poll=NEVER, concurrency=1)):
            for _ in range(3):
                queue.enqueue("t", {})
                assert done.acquire(timeout=PATIENCE)
                let_it_idle(queue)

    def test_finds_the_work_of_others(self, queue: DeadLetterQueue, url: str) -> None:
        """Work that another process put in is found by looking."""
        done = threading.Event()
        queue.handler("t")(lambda _: done.set())
        with running(Replayer(queue, poll=0.01)), DeadLetterQueue(url) as elsewhere:
            let_it_idle(queue)
            elsewhere.enqueue("t", {})
            assert done.wait(PATIENCE)

    def test_concurrency(self, queue: DeadLetterQueue) -> None:
        """As many calls as allowed are made at a time."""
        together = threading.Barrier(3)
        queue.handler("t")(lambda _: together.wait(PATIENCE))
        for _ in range(6):
            queue.enqueue("t", {})
        with running(Replayer(queue, concurrency=3)):
            while queue.stats().states[State.DELIVERED] < 6:
                assert not together.broken

    def test_finishes_the_call_under_way(self, queue: DeadLetterQueue) -> None:
        """Stopped in the middle of a call, it records that call before it returns."""
        begun, go_on = threading.Event(), threading.Event()

        @queue.handler("t")
        def work(_: object) -> None:
            begun.set()
            assert go_on.wait(PATIENCE)

        queue.enqueue("t", {}, key="k")
        replayer = Replayer(queue)
        with running(replayer) as thread:
            assert begun.wait(PATIENCE)
            replayer.stop()
            assert thread.is_alive()
            go_on.set()
            thread.join(PATIENCE)
            assert 1 == queue.stats().states[State.DELIVERED]

    def test_long_call_keeps_its_lease(self, url: str, clock: FakeClock) -> None:
        """A call that takes longer than the lease is not taken for dead, though another worker watches."""
        begun, go_on = threading.Event(), threading.Event()

        def work(_: object) -> None:
            begun.set()
            assert go_on.wait(PATIENCE)

        with DeadLetterQueue(url, lease=0.15) as queue:
            queue.handler("t")(work)
            queue.enqueue("t", {}, key="k")
            with running(Replayer(queue, concurrency=1)):
                assert begun.wait(PATIENCE)
                end = time.monotonic() + PATIENCE
                for _ in range(3):
                    before = lease_of(queue)
                    clock.advance(0.1)
                    while lease_of(queue) == before:
                        assert time.monotonic() < end
                    assert Pass() == Replayer(queue).run_once()
                go_on.set()
                while not queue.stats().states[State.DELIVERED]:
                    assert time.monotonic() < end
            line = queue.get("t", "k")

        assert line is not None
        assert 0 == line.crashes

    @pytest.mark.parametrize("end", [SystemExit("no configuration"), asyncio.CancelledError()], ids=repr)
    def test_handler_that_ends_threads(
        self, queue: DeadLetterQueue, caplog: pytest.LogCaptureFixture, end: BaseException
    ) -> None:
        """A handler that would end its thread ends no worker: it is said, and the next entry is delivered."""
        done = threading.Event()

        @queue.handler("t")
        def work(payload: dict[str, bool]) -> None:
            if payload["bad"]:
                raise end
            done.set()

        queue.enqueue("t", {"bad": True}, key="bad")
        queue.enqueue("t", {"bad": False})
        with running(Replayer(queue, concurrency=1, poll=0.01)) as thread:
            assert done.wait(PATIENCE)
            assert thread.is_alive()

        told = f"a handler raised {type(end).__name__}, which ends no worker"
        assert [True] == [told in line.getMessage() for line in caplog.records]
        bad = queue.get("t", "bad")
        assert bad is not None
        assert State.LEASED is bad.state

    def test_stop_wakes_every_worker(self, queue: DeadLetterQueue) -> None:
        """None of the workers that have gone to sleep, or are about to, sleeps through the end."""
        queue.handler("t")(print)
        for _ in range(20):
            with running(Replayer(queue, poll=NEVER, concurrency=8)):
                queue.stats()
        assert 0 == queue.stats().states.get(State.LEASED, 0)

    def test_deadline_of_the_starter(self, queue: DeadLetterQueue) -> None:
        """A deadline in force where the worker is started is none for its work."""
        left: list[float | None] = []
        replayer = Replayer(queue)

        @queue.handler("t")
        def work(_: object) -> None:
            left.append(remaining())
            replayer.stop()

        queue.enqueue("t", {})
        with deadline(PATIENCE):
            replayer.run()

        assert [None] == left

    def test_failing_file_is_said_once(self, disk: Path, caplog: pytest.LogCaptureFixture) -> None:
        """While the file cannot be used there is one line in the log; afterwards the work goes on."""
        done = threading.Event()
        with DeadLetterQueue(f"sqlite:///{disk}/queue.db") as queue:
            queue.handler("t")(lambda _: done.set())
            with running(Replayer(queue, poll=0.001)):
                with unplugged(disk):
                    until = time.monotonic() + PATIENCE
                    while not complaints(caplog):
                        assert time.monotonic() < until
                    for _ in range(10):
                        with pytest.raises(StorageReadOnly):
                            queue.stats()
                queue.enqueue("t", {}, key="k")
                assert done.wait(PATIENCE)

        assert 1 == len(complaints(caplog))
        assert "queue.db: the file cannot be opened" in complaints(caplog)[0]

    def test_failing_file_is_not_said_again_by_the_slow(
        self, queue: DeadLetterQueue, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A call that was begun before the file failed, and ends well, does not hide that it was said."""
        replayer = Replayer(queue)
        queue.handler("t")(lambda _: replayer._complain(StorageReadOnly("the disk is away")))
        for _ in range(2):
            queue.enqueue("t", {})
            run(replayer._advance(queue.blocking, awaiting=False))
            assert 1 == len(complaints(caplog))

    def test_lease_that_cannot_be_renewed(
        self, disk: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A renewal that fails is said, and the call goes on."""
        done = threading.Event()

        def work(_: object) -> None:
            with unplugged(disk):
                end = time.monotonic() + PATIENCE
                while not complaints(caplog):
                    assert time.monotonic() < end
            done.set()

        with DeadLetterQueue(f"sqlite:///{disk}/queue.db", lease=0.2) as queue:
            queue.handler("t", idempotent=True)(work)
            queue.enqueue("t", {}, key="k")
            with running(Replayer(queue, concurrency=1)):
                assert done.wait(2 * PATIENCE)

        assert "queue.db: the file cannot be opened" in complaints(caplog)[0]


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what the replayer has logged."""
    return [line.getMessage() for line in caplog.records if "replayer" in line.getMessage()]


async def until(condition: Callable[[], object]) -> None:
    """Let the loop run until *condition* holds."""
    while not condition():  # noqa: ASYNC110  (other threads make it true)
        await asyncio.sleep(0)


class TestRunningInALoop:
    """`arun`, as a task."""

    async def test_delivers_wakes_and_stops(self, queue: DeadLetterQueue) -> None:
        """It delivers, wakes for new work without looking, and returns when asked to."""
        done = asyncio.Semaphore(0)

        @queue.handler("t")
        async def work(_: object) -> None:
            done.release()

        await queue.aenqueue("t", {})
        with running_task(Replayer(queue, poll=NEVER)) as task:
            async with asyncio.timeout(PATIENCE):
                for _ in range(3):
                    await done.acquire()
                    for _ in range(20):
                        await queue.awaiting(lambda _: None)
                    await queue.aenqueue("t", {})
        async with asyncio.timeout(PATIENCE):
            await task

    async def test_blocking_function(self, queue: DeadLetterQueue) -> None:
        """A blocking function runs in a thread, and the loop goes on meanwhile."""
        begun, go_on = threading.Event(), threading.Event()

        @queue.handler("t")
        def work(_: object) -> None:
            begun.set()
            assert go_on.wait(PATIENCE)

        await queue.aenqueue("t", {}, key="k")
        with running_task(Replayer(queue)) as task:
            async with asyncio.timeout(PATIENCE):
                await until(begun.is_set)
                go_on.set()
                await until(lambda: queue.stats().states[State.DELIVERED])
        await task

    async def test_long_call_keeps_its_lease(self, url: str, clock: FakeClock) -> None:
        """A long call is renewed in a loop too."""
        with DeadLetterQueue(url, lease=0.15) as queue:
            begun, go_on = asyncio.Event(), asyncio.Event()

            @queue.handler("t")
            async def work(_: object) -> None:
                begun.set()
                await go_on.wait()

            await queue.aenqueue("t", {}, key="k")
            with running_task(Replayer(queue, concurrency=1)) as task:
                async with asyncio.timeout(PATIENCE):
                    await begun.wait()
                    for _ in range(3):
                        before = lease_of(queue)
                        clock.advance(0.1)
                        while lease_of(queue) == before:  # noqa: ASYNC110  (another task renews it)
                            await asyncio.sleep(0)
                        assert Pass() == await Replayer(queue).arun_once()
                    go_on.set()
                    await until(lambda: queue.stats().states[State.DELIVERED])
            await task

    async def test_lease_that_cannot_be_renewed(
        self, disk: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A renewal that fails is said, and the call goes on, in a loop too."""
        with DeadLetterQueue(f"sqlite:///{disk}/queue.db", lease=0.2) as queue:

            @queue.handler("t", idempotent=True)
            async def work(_: object) -> None:
                with unplugged(disk):
                    await until(lambda: complaints(caplog))

            await queue.aenqueue("t", {}, key="k")
            with running_task(Replayer(queue, concurrency=1)) as task:
                async with asyncio.timeout(PATIENCE):
                    await until(lambda: complaints(caplog))
            await task

        assert "queue.db: the file cannot be opened" in complaints(caplog)[0]

    async def test_cancelled(self, queue: DeadLetterQueue, clock: FakeClock) -> None:
        """Cancelled in a call, it records nothing: the next worker looks what became of it."""
        begun = asyncio.Event()

        @queue.handler("t")
        async def work(_: object) -> None:
            begun.set()
            await asyncio.Event().wait()

        await queue.aenqueue("t", {}, key="k")
        task = asyncio.create_task(Replayer(queue).arun())
        async with asyncio.timeout(PATIENCE):
            await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        entry = queue.get("t", "k")
        assert entry is not None
        assert State.LEASED is entry.state
        clock.advance(61)
        assert 1 == (await Replayer(queue).arun_once()).parked

    async def test_leaked_cancellation(
        self, queue: DeadLetterQueue, caplog: pytest.LogCaptureFixture
    ) -> None:
        """What a handler awaits may be cancelled by others; that is said, and ends no worker."""
        done = asyncio.Event()

        @queue.handler("t")
        async def work(payload: dict[str, bool]) -> None:
            if payload["bad"]:
                inner = asyncio.create_task(asyncio.Event().wait())
                asyncio.get_running_loop().call_soon(inner.cancel)
                await inner
            done.set()

        await queue.aenqueue("t", {"bad": True})
        await queue.aenqueue("t", {"bad": False})
        with running_task(Replayer(queue, concurrency=1, poll=0.01)) as task:
            async with asyncio.timeout(PATIENCE):
                await done.wait()
            assert not task.done()
        await task

        told = "a handler raised CancelledError, which ends no worker"
        assert [True] == [told in line.getMessage() for line in caplog.records]

    async def test_deadline_of_the_starter(self, queue: DeadLetterQueue) -> None:
        """A deadline in force where the task is started is none for its work."""
        left: list[float | None] = []
        replayer = Replayer(queue)

        @queue.handler("t")
        async def work(_: object) -> None:
            left.append(remaining())
            replayer.stop()

        await queue.aenqueue("t", {})
        with deadline(PATIENCE):
            await replayer.arun()

        assert [None] == left

    async def test_failing_file_is_said_once(self, disk: Path, caplog: pytest.LogCaptureFixture) -> None:
        """In a loop too, a file that cannot be used is one line in the log, and no end."""
        done = asyncio.Event()
        with DeadLetterQueue(f"sqlite:///{disk}/queue.db") as queue:

            @queue.handler("t")
            async def work(_: object) -> None:
                done.set()

            with running_task(Replayer(queue, poll=0.001)) as task:
                async with asyncio.timeout(PATIENCE):
                    with unplugged(disk):
                        await until(lambda: complaints(caplog))
                        for _ in range(10):
                            with pytest.raises(StorageReadOnly):
                                await queue.awaiting(lambda _: None)
                    queue.enqueue("t", {}, key="k")
                    await done.wait()
            await task

        assert 1 == len(complaints(caplog))


SERVICE = """
import os, signal, sys
from resilient_agents import DeadLetterQueue, Replayer

def say(*words):  # a line in one piece: a signal handler and a thread may speak at the same moment
    os.write(1, (" ".join(words) + "\\n").encode())

signal.signal(signal.SIGTERM, lambda *_: say("our own handler"))
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job starts with it ignored
queue = DeadLetterQueue(sys.argv[1])

@queue.handler("t")
def work(payload):
    say("begun")
    say("told", sys.stdin.readline().strip())

queue.enqueue("t", {}, key="first")
queue.enqueue("t", {}, key="second", delay=3600)
Replayer(queue, concurrency=2).run()
say("returned", queue.get("t", "first").state, queue.get("t", "second").state)
say(signal.getsignal(signal.SIGTERM).__name__, signal.getsignal(signal.SIGINT).__name__)
queue.close()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda it: it.name)
def test_signal(url: str, number: signal.Signals) -> None:
    """A signal ends the worker after the call under way; the application's own handler hears it too."""
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", SERVICE, url], text=True, **pipes) as service:
        try:
            assert service.stdout
            assert "begun\n" == service.stdout.readline()
            os.kill(service.pid, number)
            output, _ = service.communicate("to go on\n", timeout=PATIENCE)
        finally:
            service.kill()

    heard = ["our own handler"] if number == signal.SIGTERM else []
    assert 0 == service.returncode
    lines = output.splitlines()
    assert heard == [line for line in lines if line == "our own handler"]
    assert ["told to go on", "returned delivered pending", "<lambda> default_int_handler"] == [
        line for line in lines if line not in heard
    ]


INTERRUPTED = """
import faulthandler, os, signal, sys
from resilient_agents import DeadLetterQueue, Replayer

faulthandler.dump_traceback_later(60, exit=True)
queue = DeadLetterQueue(sys.argv[1])
signals = 0

def interrupt(frame, event, arg):
    global signals
    stopping = frame.f_code.co_name in {"stop", "_wake_threads", "notify_all"}
    if event == "call" and stopping and signals < 20 and signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        signals += 1
        os.kill(os.getpid(), signal.SIGTERM)

@queue.handler("t")
def work(payload):
    os.kill(os.getpid(), signal.SIGINT)

queue.enqueue("t", {})
sys.setprofile(interrupt)
Replayer(queue, poll=3600).run()
sys.setprofile(None)
print("returned", flush=True)
queue.close()
"""


def test_signal_in_a_signal(url: str) -> None:
    """Signals that come while others are handled are harmless."""
    service = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, url], capture_output=True, text=True, timeout=2 * PATIENCE
    )

    assert ("returned\n", "") == (service.stdout, service.stderr)


async def test_work_that_nobody_takes(queue: DeadLetterQueue, caplog: pytest.LogCaptureFixture) -> None:
    """A replayer says at its start which topics have no handler here."""
    queue.enqueue("orphan", {})
    queue.handler("known")(lambda _: None)
    replayer = Replayer(queue)
    replayer.stop()
    replayer.run()
    await replayer.arun()

    told = "topic orphan has 1 entries and no handler in this process"
    assert [told, told] == [record.getMessage() for record in caplog.records]
