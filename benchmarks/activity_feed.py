"""How long a page of the activity feed takes in a table of a million rows.

The million entries are of a hundred organisations, one of which has half of them. Beside the keyset that the
feed uses stands what it replaces: the same page by OFFSET. Wall-clock time, median of many.
"""

import argparse
import json
import sqlite3
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from resilient_agents.activity.entry import TICKS, Activity, uuid7
from resilient_agents.activity.feed import Feed
from resilient_agents.activity.sqlite import SQLiteSink

BATCH = 4000
ORGANIZATIONS = 100
DEEP = 100_000


class Log(Feed):
    """The reading half of a log."""

    def __init__(self, sink: SQLiteSink) -> None:
        latest: deque[Activity] = deque()
        self._memory = SimpleNamespace(sinks={"sqlite": sink}, latest=latest)


def fill(sink: SQLiteSink, rows: int) -> None:
    """Write entries."""
    for start in range(0, rows, BATCH):
        sink.write([entry(number) for number in range(start, min(start + BATCH, rows))])


def entry(number: int) -> Activity:
    """Return an entry."""
    moment = 1_760_000_000 + number / 10
    organization = 0 if number % 2 else number // 2 % ORGANIZATIONS
    return Activity(
        id=uuid7(int(moment * TICKS), number),
        source="bench",
        organization_id=f"org-{organization}",
        agent_id=f"agent-{number % 7}",
        action="message.answered",
        status="ok",
        duration_ms=12.5,
        request_id=f"{number:032x}",
        job_id=None,
        error_code=None,
        error_category=None,
        metadata='{"channel":"whatsapp","words":117,"model":"small"}',
        created_at=moment,
    )


def median(ask: Callable[[], object], rounds: int) -> float:
    """Return how long a question takes, in microseconds."""
    took = []
    for _ in range(rounds):
        started = time.perf_counter()
        ask()
        took.append(time.perf_counter() - started)
    return statistics.median(took) * 1e6


def questions(log: Log, path: Path) -> dict[str, Callable[[], object]]:
    """Return what is asked, by name."""
    first = log.recent("org-0")
    by_offset = sqlite3.connect(path)
    deep: Any = by_offset.execute(
        "SELECT recorded_at, id FROM activity_logs WHERE organization_id = 'org-0'"
        " ORDER BY recorded_at DESC, id DESC LIMIT 1 OFFSET ?",
        [DEEP],
    ).fetchone()
    from resilient_agents.activity.feed import Position, _cursor

    cursor = _cursor(Position(*deep)) if deep else first.previous

    def offset() -> object:
        return by_offset.execute(
            "SELECT * FROM activity_logs WHERE organization_id = 'org-0'"
            " ORDER BY recorded_at DESC, id DESC LIMIT 50 OFFSET ?",
            [DEEP],
        ).fetchall()

    return {
        "latest 50": lambda: log.recent("org-0"),
        "what has come since: nothing": lambda: log.recent("org-0", after=first.next),
        "50 of a small organisation": lambda: log.recent("org-7"),
        f"50 older than {DEEP:,} entries": lambda: log.recent("org-0", before=cursor),
        f"the same by OFFSET {DEEP:,}": offset,
    }


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smaller table, for a look")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    rows = 20_000 if options.quick else 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        sink = SQLiteSink(Path(folder) / "activity.db")
        fill(sink, rows)
        log = Log(sink)
        figures = {
            name: median(ask, 20 if "OFFSET" in name else 300)
            for name, ask in questions(log, sink.path).items()
        }
        sink.close()
    if options.json:
        print(json.dumps({"rows": rows, "microseconds": figures}))
        return
    print(f"{rows:,} rows")
    for name, microseconds in figures.items():
        print(f"  {name:34} {microseconds:10.0f} µs")


if __name__ == "__main__":
    main()
