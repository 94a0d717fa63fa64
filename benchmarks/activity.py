"""What a caller pays to put an action on record, and how many a second arrive, beside what loggers do.

All subjects write the same entry, as JSON and with the same fields, to a local file, in one process. Their
rounds are interleaved, and of the rounds the one with the lowest median counts: noise only ever adds. A
burst is followed by a drain, so that a queue has room for the next; what a subject dropped is shown beside
its figures.
"""

import argparse
import asyncio
import gc
import json
import logging
import logging.handlers
import os
import platform
import resource
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import Queue
from typing import Any, NamedTuple

from resilient_agents.activity import Activity, ActivityLog
from resilient_agents.errors import Unreachable

BURST = 5000
SUSTAINED = 150_000
BACKLOG = 20_000
"""How far a producer may be ahead of the sink, in entries, when throughput is measured."""

METADATA = {"deal_id": 87312, "pipeline": "sales", "amount": 1200.5, "channel": "telegram", "attempt": 1}
MANY = [{**METADATA, "text": f"moved to stage {number}"} for number in range(1000)]
"""What is recorded, made before it is measured."""


class Subject(NamedTuple):
    """A way to record: the call, a wait until all has been written, the end, and how many were dropped."""

    record: Callable[[dict[str, Any]], object]
    drain: Callable[[], object]
    close: Callable[[], object]
    dropped: Callable[[], int] = lambda: 0


class Row(NamedTuple):
    """What a call cost, in microseconds."""

    subject: str
    p50: float
    p99: float
    p999: float
    worst: float
    dropped: int


def ours(folder: Path) -> Subject:
    """Record with `ActivityLog` into SQLite."""
    activity = ActivityLog(f"sqlite:///{folder / 'activity.db'}", spill=folder / "spill")

    def record(metadata: dict[str, Any]) -> None:
        activity.record("deal.updated", organization_id="org-1", agent_id="42", metadata=metadata)

    return Subject(
        record, lambda: activity.flush(60), activity.close, lambda: sum(activity.stats().dropped.values())
    )


class _JSONFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return json.dumps({"event": record.msg, "created": record.created, **record.__dict__["fields"]})


def queue_handler(folder: Path) -> Subject:
    """Record with the standard library: a queue, a thread, a file."""
    file = logging.FileHandler(folder / "stdlib.jsonl")
    file.setFormatter(_JSONFormatter())
    queue: Queue[Any] = Queue()
    listener = logging.handlers.QueueListener(queue, file)
    listener.start()
    logger = logging.getLogger("stdlib")
    logger.propagate = False
    logger.setLevel(logging.INFO)
    logger.addHandler(logging.handlers.QueueHandler(queue))

    def record(metadata: dict[str, Any]) -> None:
        fields = {"organization_id": "org-1", "agent_id": "42", "metadata": metadata}
        logger.info("deal.updated", extra={"fields": fields})

    return Subject(record, queue.join, listener.stop)


def structlog_json(folder: Path) -> Subject:
    """Record with structlog, on the caller's thread."""
    import structlog

    file = (folder / "structlog.jsonl").open("w")
    logger = structlog.wrap_logger(
        structlog.WriteLogger(file),
        processors=[structlog.processors.TimeStamper(), structlog.processors.JSONRenderer()],
        wrapper_class=structlog.BoundLogger,
    )

    def record(metadata: dict[str, Any]) -> None:
        logger.msg("deal.updated", organization_id="org-1", agent_id="42", metadata=metadata)

    return Subject(record, file.flush, file.close)


def loguru_enqueue(folder: Path) -> Subject:
    """Record with loguru: a pipe, a thread, a file."""
    from loguru import logger

    logger.remove()
    handler = logger.add(folder / "loguru.jsonl", serialize=True, enqueue=True)

    def record(metadata: dict[str, Any]) -> None:
        logger.info("deal.updated", organization_id="org-1", agent_id="42", metadata=metadata)

    return Subject(record, logger.complete, lambda: logger.remove(handler))


def otel_batch(folder: Path) -> Subject:
    """Record with OpenTelemetry: a bounded queue, a thread, an exporter that writes JSON lines."""
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, ConsoleLogRecordExporter

    class Exporter(ConsoleLogRecordExporter):
        written = 0

        def export(self, batch: Any) -> Any:
            self.written += len(batch)
            return super().export(batch)

    file = (folder / "otel.jsonl").open("w")
    exporter = Exporter(out=file)
    provider = LoggerProvider()
    provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
    logger = provider.get_logger("otel")
    calls = 0

    def record(metadata: dict[str, Any]) -> None:
        nonlocal calls
        calls += 1
        logger.emit(body="deal.updated", attributes=metadata)

    return Subject(record, provider.force_flush, provider.shutdown, lambda: calls - exporter.written)


SUBJECTS: dict[str, Callable[[Path], Subject]] = {
    "ActivityLog -> SQLite": ours,
    "stdlib QueueHandler -> JSON file": queue_handler,
    "structlog JSON -> file": structlog_json,
    "loguru enqueue -> JSON file": loguru_enqueue,
    "OpenTelemetry batch -> JSON file": otel_batch,
}


def burst(subject: Subject) -> list[float]:
    """Return how long each call of a burst took, in seconds."""
    clock, record = time.perf_counter, subject.record
    times = []
    for metadata in BURST // len(MANY) * MANY:
        start = clock()
        record(metadata)
        times.append(clock() - start)
    subject.drain()
    return sorted(times)


def callers(folder: Path, rounds: int) -> list[Row]:
    """Measure what a call costs, subject by subject, round by round."""
    subjects = {name: make(folder) for name, make in SUBJECTS.items()}
    best: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, subject in subjects.items():
            gc.collect()
            times = burst(subject)
            if name not in best or times[BURST // 2] < best[name][BURST // 2]:
                best[name] = times
    rows = []
    for name, times in best.items():
        p50, p99, p999 = (times[int(BURST * part)] * 1e6 for part in (0.5, 0.99, 0.999))
        rows.append(Row(name, p50, p99, p999, times[-1] * 1e6, subjects[name].dropped()))
        subjects[name].close()
    return rows


def sustained(folder: Path) -> float:
    """Return how many entries a second arrive in SQLite while they are recorded as fast as they arrive."""
    with ActivityLog(f"sqlite:///{folder / 'sustained.db'}", spill=folder / "spill") as activity:
        start = time.perf_counter()
        for number in range(SUSTAINED):
            activity.record(
                "deal.updated", organization_id="org-1", agent_id="42", metadata=MANY[number % 1000]
            )
            if number % 1000 == 0:
                while activity.stats().queued > BACKLOG:
                    time.sleep(0.001)
        assert activity.flush(120)
        assert not activity.stats().dropped
        return SUSTAINED / (time.perf_counter() - start)


def bare_sqlite(folder: Path) -> float:
    """Return how many rows a second one thread inserts that are made already: what is possible at most."""
    from resilient_agents.activity.sqlite import SQLiteSink

    taken: list[Activity] = []
    with ActivityLog(taken.extend, spill=folder / "spill") as activity:
        for number in range(4000):
            activity.record(
                "deal.updated", organization_id="org-1", metadata={**METADATA, "text": str(number)}
            )
    sink = SQLiteSink(folder / "bare.db")
    rounds = SUSTAINED // len(taken)
    batches = [[row._replace(id=f"{number:03}{row.id[3:]}") for row in taken] for number in range(rounds)]
    start = time.perf_counter()
    for batch in batches:
        sink.write(batch)
    seconds = time.perf_counter() - start
    sink.close()
    return rounds * len(taken) / seconds


async def loop_lag(folder: Path) -> float:
    """Return the longest time in milliseconds that an event loop was late, with a sink that takes 5 ms."""

    def slow(batch: list[Activity]) -> None:
        time.sleep(0.005)

    with ActivityLog(slow, spill=folder / "spill") as activity:
        worst, over = 0.0, asyncio.Event()

        async def watch() -> None:
            nonlocal worst
            while not over.is_set():
                start = time.perf_counter()
                await asyncio.sleep(0)
                worst = max(worst, time.perf_counter() - start)

        async def work(number: int) -> None:
            for _ in range(20):
                activity.record("deal.updated", organization_id="1", metadata=METADATA)
                await asyncio.sleep(0)

        watcher = asyncio.create_task(watch())
        await asyncio.gather(*map(work, range(100)))
        over.set()
        await watcher
    return worst * 1000


def resident() -> int:
    """Return how much memory the process has now, in bytes."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()


def memory_under_a_dead_sink(folder: Path) -> tuple[float, int]:
    """Return by how many MiB the process grew at most while a sink was dead, and what waits on disk."""

    def dead(batch: list[Activity]) -> None:
        raise Unreachable("down")

    with ActivityLog(dead, spill=folder / "dead", exit_timeout=0.0) as activity:
        gc.collect()
        before, most = resident(), 0
        for number in range(200_000):
            activity.record("deal.updated", organization_id="1", metadata=MANY[number % 1000])
            if number % 1000 == 0:
                most = max(most, resident())
                while activity.stats().queued > BACKLOG:
                    time.sleep(0.001)
        activity.flush(0)
        (sink,) = activity.stats().sinks.values()
        return (most - before) / (1 << 20), sink.on_disk


def measure(rounds: int) -> tuple[list[Row], dict[str, float]]:
    """Measure all of it."""
    with tempfile.TemporaryDirectory(dir=".") as place:
        folder = Path(place)
        rows = callers(folder, rounds)
        found: dict[str, list[float]] = {"sustained": [], "bare": [], "lag": []}
        for number in range(max(1, rounds // 2)):
            own = folder / str(number)
            own.mkdir()
            found["sustained"].append(sustained(own))
            found["bare"].append(bare_sqlite(own))
            found["lag"].append(asyncio.run(loop_lag(own)))
        grown, on_disk = memory_under_a_dead_sink(folder)
    figures = {
        "events a second into SQLite, recorded and stored at the same time": max(found["sustained"]),
        "rows a second into SQLite, made before": max(found["bare"]),
        "loop lag in ms, sink of 5 ms": min(found["lag"]),
        "MiB more under a dead sink": grown,
        "entries on disk meanwhile": on_disk,
    }
    return rows, figures


def main() -> None:
    """Measure, print a table, and write what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows, figures = measure(options.rounds)
    print(f"| {'subject':32} | p50 us | p99 us | p999 us | worst us | dropped |")
    print("|---|--:|--:|--:|--:|--:|")
    for row in rows:
        print(
            f"| {row.subject:32} | {row.p50:.2f} | {row.p99:.2f} | {row.p999:.0f} | {row.worst:.0f} "
            f"| {row.dropped} |"
        )
    for name, figure in figures.items():
        print(f"{name}: {figure:,.1f}")
    print(f"load {os.getloadavg()[0]:.1f}, {threading.active_count()} threads left")
    if options.json:
        where = {"python": platform.python_version(), "machine": platform.platform(), "cpus": os.cpu_count()}
        told = {**where, "callers": [row._asdict() for row in rows], **figures}
        options.json.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
