"""One life of a process that records, and ends in one of many ways.

Usage: ``python life_of_a_log.py FOLDER SINK END COUNT``. The numbers that a sink has taken are lines of the
file ``taken``; one entry in a hundred is critical, and its number is a line of the file ``durable`` once
`record` has returned. A sink that is ``down`` works as soon as there is a file ``up``.
"""

import itertools
import os
import signal
import sys
import threading
import time
from functools import partial
from pathlib import Path

from resilient_agents.activity import Activity, ActivityLog, FunctionSink

SLOW = 0.0002
"""Time in seconds that a slow sink takes for an entry."""


def sink(folder: Path, kind: str) -> FunctionSink:
    """Return a sink that notes what it has taken."""

    def take(batch: list[Activity]) -> None:
        if kind == "down" and not (folder / "up").exists():
            raise ConnectionRefusedError("the sink is down")
        if kind == "slow":
            time.sleep(SLOW * len(batch))
        lines = "".join(f"{entry.id} {entry.action}\n" for entry in batch)
        with (folder / "taken").open("a", encoding="utf-8") as file:
            file.write(lines)

    return FunctionSink(take, name="witness")


def log(folder: Path, kind: str) -> ActivityLog:
    """Return the log of one life."""
    return ActivityLog(sink(folder, kind), spill=folder / "spill")


def record(activity: ActivityLog, folder: Path, first: int, count: int) -> None:
    """Record so many actions, some of them critical, and note which are durable."""
    with (folder / "durable").open("a", encoding="utf-8") as durable:
        for number in range(first, first + count):
            critical = number % 100 == 50
            assert activity.record(f"number.{number}", organization_id="1", critical=critical)
            if critical:
                durable.write(f"{number}\n")
                durable.flush()


def end(how: str) -> None:
    """End the process."""
    if how == "sys.exit":
        sys.exit(3)
    if how == "exception":
        raise RuntimeError("this is how it ends")
    if how == "SIGTERM":
        os.kill(os.getpid(), signal.SIGTERM)
    if how == "SIGKILL":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "os._exit":
        os._exit(4)


def work(activity: ActivityLog, first: int, step: int, *, critical: bool) -> None:
    """Record without end, and tell of each number once it has been taken."""
    for number in itertools.count(first, step):
        if activity.record(f"number.{number}", organization_id="1", critical=critical):
            os.write(1, f"{number}\n".encode())
        time.sleep(0.0005)


def work_until_killed(folder: Path, kind: str, *, first: int, critical: bool) -> None:
    """Record on several threads, the main one too."""
    activity = log(folder, kind)
    for offset in (1, 2):
        thread = partial(work, activity, first + offset, 3, critical=critical)
        threading.Thread(target=thread, daemon=True).start()
    work(activity, first, 3, critical=critical)


def main(folder: Path, kind: str, how: str, count: int) -> None:
    """Record, perhaps in a child too, and end."""
    if how in ("works", "works critically"):
        work_until_killed(folder, kind, first=count, critical=how == "works critically")
    if how == "handled SIGTERM":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
    activity = log(folder, kind)
    record(activity, folder, 0, count)
    if how == "fork":
        child = os.fork()
        record(activity, folder, count * (2 if child else 1), count)
        if child:
            os.waitpid(child, 0)
    if how == "handled SIGTERM":
        os.kill(os.getpid(), signal.SIGTERM)
    end(how)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]))
