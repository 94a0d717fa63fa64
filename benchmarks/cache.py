"""What a cache costs while Redis is well, away or hung, beside its peers and a GET written by hand.

The fastest of interleaved rounds counts, in the clock's time and in CPU time of this process; a sample in
which an origin was called that should not have been is taken again. The Redis is a real one on this machine.

    python benchmarks/cache.py [--rounds 100] [--alone] [--json FILE] [--plot FILE.svg]
"""

import argparse
import asyncio
import gc
import json
import os
import platform
from collections.abc import Callable, Coroutine
from functools import partial
from importlib.metadata import version
from itertools import repeat
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, NamedTuple

from cache_subjects import (
    ASYNC,
    BARE,
    DOWN,
    MEMORY_ASYNC,
    MEMORY_SYNC,
    OURS,
    RAW,
    SYNC,
    TIERS,
    Subject,
    installed,
    quiet,
)
from cache_troubles import CALLERS, Hang, Herd, Origin, hang, herd, herds, tables, verdicts
from interleaved import no_collections
from real_redis import RealRedis, running

HIT, CROWD, MEMORY = "hit in Redis", f"{CALLERS} callers", "hit in memory"
AWAY, CROWD_AWAY = "Redis away", f"Redis away, {CALLERS} callers"
YARDSTICKS = {HIT: RAW, CROWD: RAW, MEMORY: BARE, AWAY: BARE, CROWD_AWAY: BARE}
MOST_TO_RAW = 1.1
MOST_IN_MEMORY = {"async": 2.0, "sync": 1.0}
MOST_OVER_BARE = 0.5
PATIENT = 1.0
SAMPLE_SECONDS = 0.002
"""Less than a busy machine leaves a process alone for: many short samples find its quiet moments."""

SAMPLES_LOST = 20

Timer = Callable[[Any, int], Coroutine[Any, Any, int]]


class Figure(NamedTuple):
    """What a call takes, in microseconds, and how that compares to the yardstick."""

    scenario: str
    mode: str
    subject: str
    microseconds: float
    ratio: float
    cpu_microseconds: float
    cpu_ratio: float


async def blocking(fn: Any, calls: int) -> int:
    """Call so many times."""
    for _ in repeat(None, calls):
        fn(1)
    return calls


async def awaiting(fn: Any, calls: int) -> int:
    """Await so many calls."""
    for _ in repeat(None, calls):
        await fn(1)
    return calls


async def crowd(fn: Any, calls: int) -> int:
    """Let 50 tasks call, each for another thing."""
    each = 1 + calls // CALLERS

    async def caller(number: int) -> None:
        for _ in repeat(None, each):
            await fn(number)

    await asyncio.gather(*(caller(number) for number in range(CALLERS)))
    return each * CALLERS


class Contestant:
    """A subject in one scenario: its function, its origin, and the fastest that it was."""

    def __init__(
        self, subject: Subject, url: str, mode: str, *, loads: bool = False, seconds: float | None = None
    ) -> None:
        self.name = subject.name
        self.mode = mode
        self.origin = Origin(seconds)
        self.fn = subject.make(url, PATIENT, self.origin.functions[mode])
        self.loads = loads or subject.name == BARE
        self.calls = 20
        self.wall = self.cpu = float("inf")

    async def sample(self, timer: Timer) -> None:
        """Take one sample that counts."""
        for _ in range(SAMPLES_LOST):
            before = self.origin.calls
            wall, cpu = perf_counter(), process_time()
            done = await timer(self.fn, self.calls)
            wall, cpu = perf_counter() - wall, process_time() - cpu
            if self.origin.calls - before in ((0, done) if self.loads else (0,)):
                self.wall, self.cpu = min(self.wall, wall / done), min(self.cpu, cpu / done)
                return
        raise RuntimeError(f"{self.name} does not answer from where it should")


async def figures_of(
    scenario: str, mode: str, contestants: list[Contestant], timer: Timer, rounds: int
) -> list[Figure]:
    """Return what a call takes, of every contestant."""
    for it in contestants:
        await timer(it.fn, CALLERS)  # connects, and fills the cache
        for _ in range(5):
            await it.sample(timer)
        it.calls = max(20, int(SAMPLE_SECONDS / it.wall))
        it.wall = it.cpu = float("inf")
    gc.freeze()  # so that the collections between the rounds are quick
    for _ in range(rounds):
        with no_collections():
            for it in contestants:
                await it.sample(timer)
    yardstick = next(it for it in contestants if it.name == YARDSTICKS[scenario])
    return [
        Figure(
            scenario,
            mode,
            it.name,
            round(it.wall * 1e6, 3),
            round(it.wall / yardstick.wall, 3),
            round(it.cpu * 1e6, 3),
            round(it.cpu / yardstick.cpu, 3),
        )
        for it in contestants
    ]


async def measure(server: RealRedis, rounds: int, *, alone: bool) -> list[Figure]:
    """Return what calls take while Redis answers."""
    figures = []
    for scenario, mode, subjects, url, timer in (
        (HIT, "sync", SYNC, server.url, blocking),
        (HIT, "async", [*ASYNC, *TIERS], server.url, awaiting),
        (CROWD, "async", [*ASYNC, *TIERS], server.url, crowd),
        (MEMORY, "sync", MEMORY_SYNC, "", blocking),
        (MEMORY, "async", MEMORY_ASYNC, "", awaiting),
    ):
        contestants = [Contestant(it, url, mode) for it in installed(subjects, locks=False, alone=alone)]
        figures += await figures_of(scenario, mode, contestants, timer, rounds)
    return figures


async def measure_away(server: RealRedis, rounds: int) -> list[Figure]:
    """Return what calls take once Redis is known to be away: it hangs, all of the time.

    The origin of a crowd gives way once, so that calls are under way together.
    """
    figures = []
    for scenario, mode, timer, seconds in (
        (AWAY, "sync", blocking, None),
        (AWAY, "async", awaiting, None),
        (CROWD_AWAY, "async", crowd, 0.0),
    ):
        contestants = [Contestant(it, server.url, mode, loads=True, seconds=seconds) for it in DOWN]
        for it in contestants:
            await timer(it.fn, 1)
        with server.hung():
            figures += await figures_of(scenario, mode, contestants, timer, rounds)
    return figures


def table(figures: list[Figure]) -> str:
    """Return *figures* as a Markdown table."""
    lines = [
        "| scenario | mode | subject | µs a call | x yardstick | CPU µs | x yardstick |",
        "|---|---|---|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {it.scenario} | {it.mode} | {it.subject} | {it.microseconds:,.2f} | {it.ratio:.2f} "
        f"| {it.cpu_microseconds:,.2f} | {it.cpu_ratio:.2f} |"
        for it in figures
    ]
    return "\n".join(lines)


def goals(figures: list[Figure]) -> list[str]:
    """Return what was to be reached, and what was."""
    lines = []
    found = {(it.scenario, it.mode, it.subject): it for it in figures}

    def say(what: str, goal: str, reached: float, most: float) -> None:
        verdict = "met" if reached <= most else "missed"
        lines.append(f"goal for {what}: {goal}, {verdict} with {reached:.2f}")

    for scenario, mode in ((HIT, "async"), (HIT, "sync"), (CROWD, "async")):
        it = found[scenario, mode, OURS]
        say(f"{scenario}, {mode}", f"{MOST_TO_RAW} x {RAW}", max(it.ratio, it.cpu_ratio), MOST_TO_RAW)
    for mode, most in MOST_IN_MEMORY.items():
        say(f"{MEMORY}, {mode}", f"{most:.0f} µs", found[MEMORY, mode, OURS].microseconds, most)
    for mode in ("async", "sync"):
        ours, bare = (found[AWAY, mode, name].microseconds for name in (OURS, BARE))
        say(f"{AWAY}, {mode}", f"{MOST_OVER_BARE} µs over the bare call", ours - bare, MOST_OVER_BARE)
    return lines


def plot(figures: list[Figure], hangs: list[Hang], path: Path) -> None:
    """Draw what a hit takes and what a hang costs, as bars."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    shown = [it for it in figures if (it.scenario, it.mode) == (HIT, "async")]
    hung = [it for it in hangs if it.mode == "async"]
    panels: list[tuple[str, list[str], list[float], list[str]]] = [
        (
            "a hit in Redis, µs",
            [it.subject for it in shown],
            [it.microseconds for it in shown],
            [f"{it.microseconds:,.0f} µs · {it.ratio:.2f} x" for it in shown],
        ),
        (
            "a call while Redis hangs, ms: the first 50, and the next 50",
            [f"{it.subject}, {when}" for it in hung for when in ("first", "next")],
            [ms for it in hung for ms in (it.at_once[0], it.after[0])],
            [
                ("< 0.01 ms" if ms < 0.01 else f"{ms:,.0f} ms")
                for it in hung
                for ms in (it.at_once[0], it.after[0])
            ],
        ),
    ]
    figure, axes = plt.subplots(1, 2, figsize=(13, 4.6), layout="constrained")
    for panel, (title, names, values, labels) in zip(axes, panels, strict=True):
        colours = ["tab:blue" if name.startswith(OURS) else "silver" for name in names]
        bars = panel.barh(names, values, color=colours)
        panel.bar_label(bars, labels, padding=3)
        panel.set_xlim(right=1.5 * max(values))
        panel.set_title(f"async: {title}", fontsize=10)
        panel.invert_yaxis()
    figure.savefig(path)


def main() -> None:
    """Measure, print, and write what is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=100, help="samples of each subject (default: 100)")
    parser.add_argument("--alone", action="store_true", help="leave out what others have written")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures as JSON")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="also draw them, as .svg or .png")
    options = parser.parse_args()

    quiet()
    hangs: list[Hang] = []
    together: list[Herd] = []
    with running() as server:
        figures = asyncio.run(measure(server, options.rounds, alone=options.alone))
        figures += asyncio.run(measure_away(server, options.rounds))
        for mode, subjects in (("sync", SYNC), ("async", ASYNC)):
            there = installed(subjects, alone=options.alone)
            caches = [it for it in there if it.name != RAW]
            hangs += map(partial(hang, server, mode, min(3, options.rounds)), there)
            together += map(partial(herd, server, mode), caches)
            together += map(partial(herds, server, mode), caches)
    print(table(figures), "", tables(hangs, together), "", sep="\n")
    print(*goals(figures), *verdicts(hangs, together, OURS), sep="\n")
    if options.json:
        where = {"python": platform.python_version(), "machine": platform.platform(), "cpus": os.cpu_count()}
        told = {
            "rounds": options.rounds,
            "redis": version("redis"),
            "figures": [it._asdict() for it in figures],
        }
        told |= {"hangs": [it._asdict() for it in hangs], "herds": [it._asdict() for it in together]}
        options.json.write_text(json.dumps(where | told, indent=2) + "\n", encoding="utf-8")
    if options.plot:
        plot(figures, hangs, options.plot)


if __name__ == "__main__":
    main()
