"""How many leads a second are durable (``synchronous=FULL``), and what sharing commits brings.

Every row stores the same payload in the same table with the same durability. "One commit an item" is measured
twice: as a bare loop over sqlite3, and through this library's queue with sharing switched off and the same
32 callers. Rounds are interleaved; the figures are medians of the steady state, in which the write-ahead log
has grown to its size and is written over.
"""

import argparse
import asyncio
import json
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from resilient_agents import DeadLetterQueue
from resilient_agents.deadletter._schema import prepare
from resilient_agents.deadletter.entry import encode, new_key

CALLERS = 32
WARM_UP = 0.6
LEAD = {
    "name": "Анна-Мария Константинопольская 🙂",
    "phone": "+7 916 000-00-00",
    "email": "anna.maria@example.com",
    "tags": ["landing", "october"],
    "custom_fields": {
        "UTM_SOURCE": "search",
        "UTM_CAMPAIGN": "autumn-" * 20,
        "COMMENT": "call after six " * 20,
    },
}

Rate = Callable[[Path, float], float]


def steady(submit_until: Callable[[float], int], seconds: float) -> float:
    """Return items a second, after a warm-up."""
    submit_until(time.perf_counter() + WARM_UP)
    started = time.perf_counter()
    done = submit_until(started + seconds)
    return done / (time.perf_counter() - started)


def bare_loop(folder: Path, seconds: float) -> float:
    """Insert and commit item by item, with nothing around it."""
    connection = sqlite3.connect(folder / "bare.db", isolation_level=None)
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    prepare(connection)
    insert = (
        "INSERT INTO entries (topic, key, payload, state, due, created, updated)"
        " VALUES ('lead', ?, ?, 'pending', ?, ?, ?)"
    )

    def submit_until(end: float) -> int:
        done = 0
        while time.perf_counter() < end:
            data, now = encode(LEAD, limit=1 << 20), time.time()
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(insert, (new_key(), data, now, now, now))
            connection.execute("COMMIT")
            done += 1
        return done

    rate = steady(submit_until, seconds)
    connection.close()
    return rate


def threads(queue: DeadLetterQueue, callers: int, end: float) -> int:
    """Submit from *callers* threads until *end*; return how many items were accepted."""

    def submit(_: int) -> int:
        done = 0
        while time.perf_counter() < end:
            queue.enqueue("lead", LEAD)
            done += 1
        return done

    with ThreadPoolExecutor(callers) as pool:
        return sum(pool.map(submit, range(callers)))


def tasks(queue: DeadLetterQueue, callers: int, end: float) -> int:
    """Submit from *callers* tasks of one event loop until *end*; return how many items were accepted."""

    async def submit() -> int:
        done = 0
        while time.perf_counter() < end:
            await queue.aenqueue("lead", LEAD)
            done += 1
        return done

    async def all_of_them() -> int:
        return sum(await asyncio.gather(*(submit() for _ in range(callers))))

    return asyncio.run(all_of_them())


def through_queue(
    submit: Callable[[DeadLetterQueue, int, float], int], callers: int, *, shared: bool = True
) -> Rate:
    """Return a measurement through the queue, with or without shared commits."""

    def measure(folder: Path, seconds: float) -> float:
        with DeadLetterQueue(f"sqlite:///{folder / 'queue.db'}") as queue:
            if not shared:
                queue._writer.largest_group = 1
            return steady(lambda end: submit(queue, callers, end), seconds)

    return measure


ROWS: dict[str, Rate] = {
    "one commit an item, bare sqlite3 loop": bare_loop,
    f"one commit an item, {CALLERS} threads": through_queue(threads, CALLERS, shared=False),
    f"one commit an item, {CALLERS} tasks": through_queue(tasks, CALLERS, shared=False),
    "queue, 1 caller": through_queue(threads, 1),
    f"queue, {CALLERS} threads": through_queue(threads, CALLERS),
    f"queue, {CALLERS} tasks": through_queue(tasks, CALLERS),
    "queue, 256 tasks": through_queue(tasks, 256),
}


def measure(rounds: int, seconds: float) -> dict[str, float]:
    """Return items a second by row: the median of interleaved rounds, each in a file of its own."""
    found: dict[str, list[float]] = {name: [] for name in ROWS}
    for _ in range(rounds):
        for name, rate in ROWS.items():
            with tempfile.TemporaryDirectory(dir=".") as folder:
                found[name].append(rate(Path(folder), seconds))
    return {name: statistics.median(rates) for name, rates in found.items()}


def plot(rates: dict[str, float], path: Path) -> None:
    """Draw the rates as bars, each with its ratio to the bare loop."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    names = list(rates)[::-1]
    bare = rates[next(iter(rates))]
    figure, axes = pyplot.subplots(figsize=(9, 3.8), layout="constrained")
    colors = ["#2a9d8f" if name.startswith("queue") else "#b8bcc2" for name in names]
    bars = axes.barh(names, [rates[name] for name in names], color=colors, height=0.68)
    labels = [f"{rates[name]:,.0f}   {rates[name] / bare:.1f} ×" for name in names]
    axes.bar_label(bars, labels, padding=5, fontsize=10)
    axes.set_title(
        "Durable submits a second (synchronous=FULL), and times the bare loop", loc="left", fontsize=11
    )
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.tick_params(left=False, bottom=False, labelbottom=False)
    axes.margins(x=0.2)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Measure, print a table, and write what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="how long each row runs in a round")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    rates = measure(options.rounds, options.seconds)
    baselines = list(ROWS)[:3]
    print(f"{'':40} {'items/s':>9} {'x bare':>7} {'x threads':>10} {'x tasks':>8}")
    for name, rate in rates.items():
        ratios = [rate / rates[baseline] for baseline in baselines]
        print(f"{name:40} {rate:9,.0f} {ratios[0]:7.1f} {ratios[1]:10.1f} {ratios[2]:8.1f}")
    if options.json:
        options.json.write_text(json.dumps(rates, indent=2))
    if options.plot:
        plot(rates, options.plot)


if __name__ == "__main__":
    main()
