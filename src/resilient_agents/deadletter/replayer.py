"""`Replayer`: the worker that delivers what waits in a dead-letter queue."""

import logging
import signal
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from contextvars import Context
from dataclasses import dataclass
from functools import partial
from math import inf
from types import FrameType
from typing import TYPE_CHECKING

from resilient_agents import events
from resilient_agents._clock import clock
from resilient_agents._flow import Flow, arun, run
from resilient_agents.deadletter import queries, sqlite
from resilient_agents.deadletter.delivery import Perform
from resilient_agents.deadletter.entry import Delivered, Entry, State
from resilient_agents.deadletter.leases import Leases
from resilient_agents.deadletter.queue import DeadLetterQueue
from resilient_agents.errors import ConfigurationError, StorageFailure, classify

if TYPE_CHECKING:
    import asyncio

_log = logging.getLogger("resilient_agents.deadletter")

SHORTEST_WAIT = 0.02
"""Time in seconds to wait at least, where what is due cannot be taken yet."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pass:
    """What one pass over the queue did.

    Attributes:
        delivered: How many entries were confirmed.
        deferred: How many will be tried again.
        parked: How many wait for a person.
    """

    delivered: int = 0
    deferred: int = 0
    parked: int = 0

    def __add__(self, other: "Pass") -> "Pass":
        return Pass(
            delivered=self.delivered + other.delivered,
            deferred=self.deferred + other.deferred,
            parked=self.parked + other.parked,
        )

    @property
    def handled(self) -> int:
        """How many entries were handled in all."""
        return self.delivered + self.deferred + self.parked


class Replayer:
    """Delivers what waits: with backoff, a lease on each entry, and a graceful stop.

    Any number of replayers, in any number of processes, may work on one queue.

    Args:
        queue: The queue; its topics must have handlers.
        concurrency: How many calls are made at a time. The default is 4.
        poll: Time in seconds between two looks at the queue for work that other processes put in. Work of
            this process is seen at once. The default is 1.

    Raises:
        ConfigurationError: A number makes no sense.
    """

    def __init__(self, queue: DeadLetterQueue, *, concurrency: int = 4, poll: float = 1.0) -> None:
        if concurrency < 1 or not 0 < poll < inf:
            raise ConfigurationError("concurrency must be 1 or more, and poll positive and finite")
        self._queue = queue
        self._concurrency = concurrency
        self._poll = poll
        self._leases = Leases(queue.lease)
        self._stopping = False
        self._wakers: list[Callable[[], object]] = []
        self._turn = 0
        self._complaint = ""
        self._failures = 0

    def stop(self) -> None:
        """Finish the calls under way and return from `run` or `arun`; a stopped replayer stays stopped.

        Safe in threads and signal handlers.
        """
        if self._stopping:  # as when a signal comes while its forerunner is handled
            return
        self._stopping = True
        for wake in tuple(self._wakers):
            wake()

    def run_once(self) -> Pass:
        """Deliver everything that is due now, one call at a time, then return.

        Returns:
            What became of it.

        Raises:
            ConfigurationError: A topic is handled by a coroutine function; use `arun_once`.
            StorageFailure: The queue's file refuses to work.
        """
        self._refuse_coroutines()
        return run(self._drain(self._queue.blocking, awaiting=False))

    async def arun_once(self) -> Pass:
        """Do what `run_once` does, without blocking the event loop. Takes functions of both kinds."""
        return await arun(self._drain(self._queue.awaiting, awaiting=True))

    def run(self) -> None:
        """Deliver what is due, until `stop` is called or, in the main thread, SIGTERM or SIGINT comes.

        The calls under way are finished first. A refusal of the file is logged and tried again.

        Raises:
            ConfigurationError: A topic is handled by a coroutine function; use `arun`.
        """
        self._refuse_coroutines()
        run(self._warn(self._queue.blocking))
        bells = [threading.Lock() for _ in range(self._concurrency)]
        with self._woken_by(partial(_wake_threads, bells)), self._stopped_by_signals():
            threads = [
                threading.Thread(target=self._work, args=(bell,), name=f"replayer-{number}")
                for number, bell in enumerate(bells)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                while thread.is_alive():
                    thread.join(self._queue.lease / 3)
                    self._beat()

    async def arun(self) -> None:
        """Do what `run` does, in an event loop; signals are left to the application.

        Cancel it to stop at once: what was in a call is looked for by the next worker.
        """
        import asyncio

        bells = [asyncio.Event() for _ in range(self._concurrency)]
        loop = asyncio.get_running_loop()
        await arun(self._warn(self._queue.awaiting))
        with self._woken_by(partial(_wake_tasks, loop, bells)):
            async with asyncio.TaskGroup() as group:
                # A deadline that is in force here is not one for the work.
                workers = [group.create_task(self._awork(bell), context=Context()) for bell in bells]
                heart = group.create_task(self._abeat(), context=Context())
                await asyncio.wait(workers)
                heart.cancel()

    def _work(self, bell: threading.Lock) -> None:
        bell.acquire()
        while not self._stopping:
            try:
                wait = run(self._advance(self._queue.blocking, awaiting=False))
            except Exception as exc:
                wait = self._complain(exc)
            except BaseException as exc:  # sys.exit() in a handler; a signal is the main thread's
                wait = self._outlive(exc)
            if wait:
                bell.acquire(timeout=wait)

    async def _awork(self, bell: "asyncio.Event") -> None:
        import asyncio

        worker = asyncio.current_task()
        while not self._stopping:
            try:
                wait = await arun(self._advance(self._queue.awaiting, awaiting=True))
            except Exception as exc:
                wait = self._complain(exc)
            except asyncio.CancelledError as exc:
                if worker is None or worker.cancelling():
                    raise
                wait = self._outlive(exc)  # something that the handler awaited was cancelled, not we
            if wait:
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await bell.wait()
                bell.clear()

    def _advance(self, perform: Perform, *, awaiting: bool) -> Flow[float]:
        """Make one call if something is due; return the time in seconds to wait before the next."""
        failures = self._failures
        done = yield from self._step(perform, awaiting=awaiting)
        if failures == self._failures:  # else another worker met one that may have come after our success
            self._complaint = ""
        if done.handled:
            return 0.0
        ready = [topic for topic in self._queue.targets if self._queue.pauses.wait(topic) == 0.0]
        moment = (yield partial(perform, queries.next_due(ready))) if ready else None
        waits = [self._queue.pauses.wait(topic) for topic in self._queue.targets if topic not in ready]
        if moment is not None:
            waits.append(moment - clock().time())
        return max(SHORTEST_WAIT, min(self._poll, *waits)) if waits else self._poll

    def _drain(self, perform: Perform, *, awaiting: bool) -> Flow[Pass]:
        total = Pass()
        while not self._stopping:
            done = yield from self._step(perform, awaiting=awaiting)
            if not done.handled:
                break
            total += done
        return total

    def _step(self, perform: Perform, *, awaiting: bool) -> Flow[Pass]:
        """Take back expired leases, then make one call for the next topic that has something due."""
        yield from self._expire(perform)
        topics = list(self._queue.targets)
        self._turn += 1
        for shift in range(len(topics)):
            topic = topics[(self._turn + shift) % len(topics)]
            entries = yield from self._claim(perform, topic)
            if entries:
                return (yield from self._deliver(perform, topic, entries, awaiting=awaiting))
        return Pass()

    def _expire(self, perform: Perform) -> Flow[None]:
        limits = self._queue.limits
        operation = sqlite.expire(
            now=clock().time(), max_crashes=limits.max_crashes, delay=limits.wait_initial
        )
        for entry in (yield partial(perform, operation)):
            if entry.state is State.PARKED:
                names = {"topic": entry.topic, "entry_id": entry.id, "key": entry.key}
                events.emit(events.EntryParked, **names, reason=entry.code)

    def _claim(self, perform: Perform, topic: str) -> Flow[list[Entry]]:
        pauses, target = self._queue.pauses, self._queue.targets[topic]
        if not pauses.admits(topic):
            return []
        limit = 1 if pauses.probing(topic) else target.traits.batch
        operation = sqlite.claim(topic=topic, limit=limit, now=clock().time(), lease=self._queue.lease)
        claimed: list[Entry] = yield partial(perform, operation)
        return claimed

    def _deliver(
        self, perform: Perform, topic: str, entries: Sequence[Entry], *, awaiting: bool
    ) -> Flow[Pass]:
        threaded = awaiting and not self._queue.targets[topic].traits.awaiting
        attempt = self._queue.attempt(
            topic, holds=self._leases.holds, keep=self._leases.keep, threaded=threaded
        )
        with self._leases.kept(entries):
            receipts = yield from attempt.make(perform, entries)
        states = [State.DELIVERED if isinstance(it, Delivered) else it.state for it in receipts]
        delivered, parked = states.count(State.DELIVERED), states.count(State.PARKED)
        return Pass(delivered=delivered, parked=parked, deferred=len(states) - delivered - parked)

    def _beat(self) -> None:
        try:
            run(self._leases.renew(self._queue.blocking))
        except Exception as exc:
            self._complain(exc)

    async def _abeat(self) -> None:
        import asyncio

        while True:
            await asyncio.sleep(self._queue.lease / 3)
            try:
                await arun(self._leases.renew(self._queue.awaiting))
            except Exception as exc:
                self._complain(exc)

    def _complain(self, exc: Exception) -> float:
        """Log what keeps the worker from working, once for as long as it lasts; return the time to wait."""
        failure = classify(exc)
        self._failures += 1
        if failure.detail != self._complaint:
            self._complaint = failure.detail
            _log.error("the replayer cannot work, and tries again: %s", failure.detail, exc_info=exc)
        return self._poll

    def _outlive(self, exc: BaseException) -> float:
        """Log what would have ended a worker; return the time to wait."""
        text = "a handler raised %s, which ends no worker: its entry is taken back when the lease runs out"
        _log.error(text, type(exc).__name__, exc_info=exc)
        return self._poll

    def _warn(self, perform: Perform) -> Flow[None]:
        """Say what nobody will take: a handler that is missing here may be missing everywhere."""
        try:
            waiting: dict[str, int] = yield partial(perform, queries.topics())
        except StorageFailure as exc:
            self._complain(exc)
            return
        for topic in waiting.keys() - self._queue.targets.keys():
            _log.warning("topic %s has %d entries and no handler in this process", topic, waiting[topic])

    def _refuse_coroutines(self) -> None:
        for topic, target in self._queue.targets.items():
            if target.traits.awaiting:
                raise ConfigurationError(
                    f"topic {topic!r} is handled by a coroutine function: use `await Replayer(queue).arun()`"
                )

    @contextmanager
    def _woken_by(self, wake: Callable[[], object]) -> Generator[None]:
        """Call *wake* when new work is put in, and when asked to stop."""
        forget = self._queue.listen(wake)
        self._wakers.append(wake)
        try:
            yield
        finally:
            self._wakers.remove(wake)
            forget()

    @contextmanager
    def _stopped_by_signals(self) -> Generator[None]:
        """Stop on SIGTERM and SIGINT, and call the application's own handlers too."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

        def stop(number: int, frame: FrameType | None) -> None:
            self.stop()
            earlier = before[signal.Signals(number)]
            if callable(earlier) and earlier is not signal.default_int_handler:
                earlier(number, frame)

        try:
            for number in before:
                signal.signal(number, stop)
            yield
        finally:
            for number, earlier in before.items():
                if earlier is not None:  # one that was installed by other means than Python stays replaced
                    signal.signal(number, earlier)


def _wake_threads(bells: Sequence[threading.Lock]) -> None:
    # Locks, because a signal handler may release one in the middle of another wake-up; an Event would block.
    for bell in bells:
        with suppress(RuntimeError):  # it is released already
            bell.release()


def _wake_tasks(loop: "asyncio.AbstractEventLoop", bells: "Sequence[asyncio.Event]") -> None:
    with suppress(RuntimeError):  # the loop is closed: nobody waits any more
        for bell in bells:
            loop.call_soon_threadsafe(bell.set)
