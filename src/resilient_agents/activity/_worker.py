"""The worker: one thread that takes what was recorded, prepares it, and sees to it that it arrives."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from math import inf
from queue import Empty

from resilient_agents import events
from resilient_agents._clock import clock
from resilient_agents.activity._delivery import Delivery
from resilient_agents.activity._drops import Drops
from resilient_agents.activity._intake import OVERHEAD, Intake, Taken, Urgent
from resilient_agents.activity.entry import Activity, Clerk
from resilient_agents.errors import InternalFailure

_log = logging.getLogger("resilient_agents.activity")

MOST_AT_ONCE = 256
"""How many entries are prepared in one turn; that takes about a millisecond, in which callers may wait."""

BREATH = 0.00005
"""Time in seconds between two turns when there is much to do, for other threads to take theirs."""

INTERVAL = 0.05
"""Time in seconds for which entries are gathered."""

END_WAIT = 2.0
"""Time in seconds that a thread is waited for that has nothing more to do."""

REST_WAIT = 1.0
"""Time in seconds that a fork waits for what is under way."""


class Flush:
    """Somebody waits until everything has arrived."""

    __slots__ = ("arrived", "deadline", "latch", "patient", "ready")

    def __init__(self, deadline: float, *, patient: bool) -> None:
        self.deadline = deadline
        self.patient = patient
        self.arrived = False
        self.ready = False
        self.latch = threading.Lock()
        self.latch.acquire()


class Worker:
    """Everything that happens behind `ActivityLog.record`.

    It is one actor: only its thread touches the lanes and the disk, so there are no locks. `step` does all
    that is due, and never waits.

    Args:
        intake: What callers have recorded.
        delivery: The way to the sinks.
        clerk: Who makes activities of snapshots.
        latest: The last activities of this process, for the live feed.
        on_start: Called when the thread is started.
    """

    def __init__(
        self,
        intake: Intake,
        delivery: Delivery,
        clerk: Clerk,
        latest: deque[Activity],
        on_start: Callable[[], object],
    ) -> None:
        self._on_start = on_start
        self._intake = intake
        self.delivery = delivery
        self._clerk = clerk
        self._latest = latest
        self._flushes: list[Flush] = []
        self.drops = Drops(intake, delivery, clerk)
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopped = self._resting = self._stumbled = False
        self.at_work = threading.Lock()
        intake.start = self.start

    def start(self) -> None:
        """Start the thread where there is none. Never raises."""
        if self._thread is not None or self._stopped or not self._starting.acquire(blocking=False):
            return
        try:
            if not self.running:
                for lane in self.delivery.lanes:
                    lane.courier.start()
                thread = threading.Thread(target=self._work, name="activity-log", daemon=True)
                thread.start()
                self._thread = thread
                self._on_start()
        except RuntimeError:  # the interpreter ends: close() does the rest
            pass
        finally:
            self._starting.release()

    @property
    def running(self) -> bool:
        """Whether there is a thread."""
        return self._thread is not None

    def flush(self, timeout: float, *, patient: bool = True) -> bool:
        """Wait until everything has arrived; what has not by then is on disk.

        Args:
            timeout: Time in seconds.
            patient: Whether to wait for a sink that is down. The default is *True*.

        Returns:
            Whether everything has arrived; never where a sink itself asks.
        """
        if threading.get_ident() in self._intake.staff:
            return False
        flush = Flush(time.monotonic() + timeout, patient=patient)
        self._intake.wake(lambda: self._flushes.append(flush))
        if self._thread is None:
            self._work_until(flush)
        else:
            flush.latch.acquire(timeout=timeout + END_WAIT)
        return flush.arrived

    def stop(self) -> None:
        """End the thread, and close the sinks."""
        thread = self._thread

        def stop() -> None:
            self._stopped = True

        self._intake.inbox.put(stop)
        if thread is None:
            self._work()
        elif thread is not threading.current_thread():
            thread.join(END_WAIT)
        for lane in self.delivery.lanes:
            lane.courier.join(END_WAIT if lane.flight is None else 0.0)

    def rest(self) -> None:
        """Let go of files for the length of a fork, if that is possible soon."""
        self._resting = self.at_work.acquire(timeout=REST_WAIT)
        if self._resting:
            self.delivery.disconnect()
        for lane in self.delivery.lanes:
            getattr(lane.sink, "before_fork", _nothing)()

    def go_on(self) -> None:
        """Go on after a fork."""
        for lane in self.delivery.lanes:
            getattr(lane.sink, "after_fork_in_parent", _nothing)()
        if self._resting:
            self.at_work.release()

    def step(self) -> float:
        """Do all that is due, and return the seconds until there is more."""
        with self.at_work:
            self._take_urgent()
            taken = self._take() if self._wants_more() else []
            self.delivery.advance()
            if self._flushes:
                self._answer_flushes()
            now = clock().monotonic()
            self._report(now)
            self._tell()
            if self._flushes or len(taken) == MOST_AT_ONCE:
                return BREATH if len(taken) == MOST_AT_ONCE else 0.005
            pause = max(0.0, self.delivery.next_due() - now)
            if self.drops.unreported():
                pause = min(pause, max(0.0, self.drops.report_at - now))
            return min(pause, INTERVAL) if taken else pause

    def _work(self) -> None:
        staff = self._intake.staff
        staff.add(threading.get_ident())
        try:
            while not self._stopped:
                try:
                    self._turn()
                except Exception:
                    self._stumble()
            self._end()
        finally:
            staff.discard(threading.get_ident())

    def _stumble(self) -> None:
        """Say once that there is a defect, and go on: everybody depends on this thread."""
        if not self._stumbled:
            self._stumbled = True
            _log.exception("the activity log's worker stumbled over a defect, and goes on; said once")
        time.sleep(INTERVAL)

    def _work_until(self, flush: Flush) -> None:
        """Do the worker's work on the thread of a caller who waits, where there is no thread."""
        while not flush.ready:
            self._turn()

    def _turn(self) -> None:
        intake = self._intake
        pause = self.step()
        if pause > INTERVAL:
            intake.asleep = True
            if intake.urgent or (intake.waiting() and self._wants_more()):
                pause = 0.0
        try:
            message = intake.inbox.get(timeout=pause) if pause else intake.inbox.get_nowait()
        except Empty:
            return
        finally:
            intake.asleep = False
        with self.at_work, suppress(Empty):
            while True:
                message()
                message = intake.inbox.get_nowait()

    def _end(self) -> None:
        with self.at_work:
            self._take_urgent()
            while self._take():
                pass
            self.drops.report_at = 0.0
            self._report(clock().monotonic())
            self.delivery.secure()
            self.delivery.close()
            self._tell()

    def _take_urgent(self) -> None:
        """Write to disk what callers wait for: as many as there are share one commit."""
        urgent = self._intake.urgent
        group: list[Urgent] = []
        entries: list[Activity] = []
        while urgent:
            request = urgent.popleft()
            try:
                entries.append(self._clerk.activity(*request.taken))
            except Exception:
                request.error = InternalFailure("the entry could not be prepared")
                request.latch.release()
            else:
                group.append(request)
        if not group:
            return
        error = None
        try:
            self.delivery.keep(entries)
        except Exception as exc:
            error = exc
        else:
            self._latest.extend(entries)
        for request in group:
            request.error = error
            request.latch.release()

    def _wants_more(self) -> bool:
        """Tell whether to take what was recorded; where no sink could do with more, it may wait in memory."""
        return self.delivery.hungry or self._intake.crowded()

    def _take(self) -> list[Activity]:
        """Prepare what was recorded, and offer it to the sinks."""
        intake = self._intake
        entries: list[Activity] = []
        activity = self._clerk.activity
        size = 0
        for queue in (intake.queue, intake.low):
            for taken in _first(queue, MOST_AT_ONCE - len(entries)):
                size += len(taken[2]) + OVERHEAD
                try:
                    entries.append(activity(*taken))
                except Exception:
                    self.delivery.dropped["encode"] += 1
        intake.bytes_out += size
        if entries:
            self._latest.extend(entries)
            self.delivery.offer(entries)
        return entries

    def _answer_flushes(self) -> None:
        now = time.monotonic()
        empty = not self._intake.waiting()
        arrived = empty and self.delivery.settled
        open_still = []
        for flush in self._flushes:
            late = now >= flush.deadline
            hopeless = empty and self.delivery.hopeless(flush.deadline if flush.patient else -inf)
            if not (arrived or late or hopeless):
                open_still.append(flush)
                continue
            if not arrived:
                while self._take():
                    pass
                self.delivery.secure()
            flush.arrived, flush.ready = arrived, True
            flush.latch.release()
            self._intake.inbox.put(_nothing)  # whoever waits may be the one who does the work
        self._flushes = open_still

    def _report(self, now: float) -> None:
        """Say in one entry and one event what was dropped since the last report."""
        entry = self.drops.report(now)
        if entry is not None:
            self._latest.append(entry)
            self.delivery.offer([entry])

    def _tell(self) -> None:
        """Emit the news, last of all: a subscriber may wait for a lock that whoever waits for us holds."""
        news, self.delivery.news = self.delivery.news, []
        for kind, attributes in news:
            events.emit(kind, **attributes)


def _first(queue: deque[Taken], count: int) -> Iterator[Taken]:
    """Take so many out of *queue*, or all; callers may take from it too."""
    with suppress(IndexError):
        for _ in range(count):
            yield queue.popleft()


def _nothing() -> None:
    """Do nothing, for a sink to which a fork is nothing."""
