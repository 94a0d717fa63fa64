"""What a decision about an exception costs: CPU nanoseconds a call, beside a check by hand and a peer.

python benchmarks/classify.py [--rounds 30] [--json FILE] [--plot FILE.svg]
"""

import argparse
import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import nullcontext, suppress
from importlib.util import find_spec
from itertools import repeat
from pathlib import Path
from time import process_time
from typing import Any

import httpx
import psycopg

from interleaved import Cost, Timer, fastest, table, write_json
from resilient_agents.errors import classify, dependency
from resilient_agents.errors.knowledge import CACHE

KNOWN, BY_HAND, PEER = "classify()", "isinstance by hand", "redress default_classifier"
GOALS = {"a type seen before": 200.0, "with attributes": 1500.0}
"""Nanoseconds that a decision of each kind may take at most."""


def raised(exc: Exception) -> Exception:
    """Return *exc* after it was raised."""
    with suppress(Exception):
        raise exc
    return exc


def sqlite_busy() -> Exception:
    """Return what SQLite raises for a lock that somebody holds."""
    exc = sqlite3.OperationalError("database is locked")
    exc.sqlite_errorname = "SQLITE_BUSY"
    return exc


class CRMError(Exception):
    """Somebody's wrapper."""


def caused() -> Exception:
    """Return a wrapper of which nothing is known, with its cause."""
    exc = CRMError("x")
    exc.__cause__ = httpx.ReadTimeout("x", request=REQUEST)
    return exc


def left_a_block() -> Exception:
    """Return an exception that left the block of a dependency."""
    exc = TimeoutError()
    with suppress(TimeoutError), dependency("crm"):
        raise exc
    return exc


REQUEST = httpx.Request("POST", "https://acme.kommo.com/api/v4/leads")
SEEN, INSIDE, FIRST = "a type seen before", "a type seen before, in a block", "a type never seen"
SCENARIOS: dict[str, Exception] = {
    SEEN: raised(KeyError("x")),
    INSIDE: raised(TimeoutError()),
    "a type seen before, after a block": left_a_block(),
    "with attributes: SQLSTATE": raised(psycopg.errors.DeadlockDetected("x")),
    "with attributes: sqlite_errorname": raised(sqlite_busy()),
    "with attributes: errno": raised(OSError(28, "x")),
    "with attributes: HTTP 500": raised(
        httpx.HTTPStatusError("x", request=REQUEST, response=httpx.Response(500, request=REQUEST))
    ),
    "with attributes: HTTP 500, in a block": raised(
        httpx.HTTPStatusError("x", request=REQUEST, response=httpx.Response(500, request=REQUEST))
    ),
    "with attributes: request": raised(httpx.ReadTimeout("x", request=REQUEST)),
    "with a cause": raised(caused()),
    FIRST: raised(KeyError("x")),
}


def by_hand(exc: BaseException) -> bool:
    """Decide as one would by hand, for one library."""
    return isinstance(exc, (ConnectionError, TimeoutError))


def for_the_first_time(exc: BaseException) -> object:
    """Decide without having seen anything."""
    CACHE.clear()
    return classify(exc)


def subjects(scenario: str) -> dict[str, Callable[[Exception], object]]:
    """Return what is measured."""
    found: dict[str, Callable[[Exception], object]] = {
        BY_HAND: by_hand,
        KNOWN: for_the_first_time if scenario == FIRST else classify,
    }
    if find_spec("redress"):
        from redress import default_classifier

        found[PEER] = default_classifier
    return found


def timer(exc: Exception) -> Timer:
    """Return what measures decisions about *exc*."""

    async def time(decide: Any, calls: int) -> float:
        start = process_time()
        for _ in repeat(None, calls):
            decide(exc)
        return process_time() - start

    return time


async def measure(rounds: int) -> list[Cost]:
    """Return the cost of every subject in every scenario."""
    costs = []
    for scenario, exc in SCENARIOS.items():
        with dependency("crm") if "in a block" in scenario else nullcontext():
            best = await fastest(subjects(scenario), timer(exc), rounds)
        costs += [
            Cost(scenario, "sync", name, round(cost, 1), round(cost / best[BY_HAND], 2))
            for name, cost in best.items()
        ]
    return costs


def verdicts(costs: list[Cost]) -> list[str]:
    """Return what was to be reached, and what was."""
    lines = []
    for kind, goal in GOALS.items():
        ours = [it for it in costs if it.subject == KNOWN and it.scenario.partition(":")[0] == kind]
        slowest = max(it.nanoseconds for it in ours)
        verdict = "met" if slowest <= goal else "missed"
        lines.append(f"goal for {kind}: {goal:.0f} ns at most, {verdict} with {slowest:.0f}")
    return lines


def draw(costs: list[Cost], path: Path) -> None:
    """Draw the scenarios as bars, on a logarithmic scale."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(11, 6), layout="constrained")
    colours: dict[str, Any] = {KNOWN: "tab:blue", PEER: "silver", BY_HAND: "gainsboro"}
    names = [f"{cost.scenario}: {cost.subject}" for cost in costs]
    bars = axes.barh(
        names, [cost.nanoseconds for cost in costs], color=[colours[cost.subject] for cost in costs], log=True
    )
    axes.bar_label(bars, [f"{cost.nanoseconds:,.0f} ns" for cost in costs], padding=3)
    axes.set_title("CPU time of a decision")
    axes.invert_yaxis()
    figure.savefig(path)


def main() -> None:
    """Measure, print, and write what is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=30, help="samples of each subject (default: 30)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures as JSON")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="also draw them, as .svg or .png")
    options = parser.parse_args()

    costs = asyncio.run(measure(options.rounds))
    print(table(costs), "", *verdicts(costs), sep="\n")
    if options.json:
        write_json(options.json, options.rounds, costs, goals=GOALS)
    if options.plot:
        draw(costs, options.plot)


if __name__ == "__main__":
    main()
