"""How the benchmarks measure: CPU time, interleaved rounds, the fastest of many.

The subjects take turns, so that a busy moment of the machine hits them all alike, and of many rounds the
fastest counts: noise only ever adds. Time is CPU time of the process.
"""

import gc
import json
import os
import platform
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import wraps
from itertools import repeat
from pathlib import Path
from time import process_time
from typing import Any, NamedTuple

SAMPLE_SECONDS = 0.004
ATTEMPTS = 3

Timer = Callable[[Any, int], Coroutine[Any, Any, float]]


class Subject(NamedTuple):
    """A way to decorate a function, of one kind or of both."""

    name: str
    blocking: Callable[[Any], Any] | None
    awaiting: Callable[[Any], Any] | None


class Cost(NamedTuple):
    """What a call costs in CPU nanoseconds, and how that compares to the yardstick."""

    scenario: str
    mode: str
    subject: str
    nanoseconds: float
    ratio: float


def bare(fn: Any) -> Any:
    """Return *fn*."""
    return fn


def loop_by_hand(fn: Any) -> Any:
    """Return *fn* in the retry that one would write by hand."""

    @wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        for attempt in range(ATTEMPTS):
            try:
                return fn(*args, **kwargs)
            except ConnectionError:
                if attempt == ATTEMPTS - 1:
                    raise
        return None

    return call


def loop_by_hand_async(fn: Any) -> Any:
    """Return *fn* in the retry that one would write by hand."""

    @wraps(fn)
    async def call(*args: Any, **kwargs: Any) -> Any:
        for attempt in range(ATTEMPTS):
            try:
                return await fn(*args, **kwargs)
            except ConnectionError:
                if attempt == ATTEMPTS - 1:
                    raise
        return None

    return call


async def time_blocking(fn: Any, calls: int) -> float:
    """Return the CPU seconds of so many calls."""
    start = process_time()
    for _ in repeat(None, calls):
        try:  # noqa: SIM105 - suppress() would cost more than what is measured
            fn(1)
        except ConnectionError:
            pass
    return process_time() - start


async def time_awaiting(fn: Any, calls: int) -> float:
    """Return the CPU seconds of so many awaited calls."""
    start = process_time()
    for _ in repeat(None, calls):
        try:  # noqa: SIM105 - suppress() would cost more than what is measured
            await fn(1)
        except ConnectionError:
            pass
    return process_time() - start


@contextmanager
def no_collections() -> Iterator[None]:
    """Keep the garbage of one subject out of the figures of the next."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def fastest(fns: dict[str, Any], timer: Timer, rounds: int) -> dict[str, float]:
    """Return the CPU nanoseconds of a call of each function, the fastest of all rounds."""
    calls = {name: max(20, int(20 * SAMPLE_SECONDS / await timer(fn, 20))) for name, fn in fns.items()}
    best = dict.fromkeys(fns, float("inf"))
    for _ in range(rounds):
        for name, fn in fns.items():
            with no_collections():
                seconds = await timer(fn, calls[name])
            best[name] = min(best[name], seconds / calls[name] * 1e9)
    return best


async def costs_of(
    scenario: str, subjects: list[Subject], fn: Any, afn: Any, *, yardstick: str, rounds: int
) -> list[Cost]:
    """Return the cost of every subject, put on a function and on a coroutine function."""
    modes: dict[str, tuple[dict[str, Any], Timer]] = {
        "sync": ({it.name: it.blocking(fn) for it in subjects if it.blocking}, time_blocking),
        "async": ({it.name: it.awaiting(afn) for it in subjects if it.awaiting}, time_awaiting),
    }
    costs = []
    for mode, (fns, timer) in modes.items():
        best = await fastest(fns, timer, rounds)
        costs += [
            Cost(scenario, mode, name, round(cost, 1), round(cost / best[yardstick], 2))
            for name, cost in best.items()
        ]
    return costs


def table(costs: list[Cost]) -> str:
    """Return *costs* as a Markdown table."""
    lines = ["| scenario | mode | subject | CPU ns a call | x yardstick |", "|---|---|---|--:|--:|"]
    lines += [
        f"| {cost.scenario} | {cost.mode} | {cost.subject} | {cost.nanoseconds:,.0f} | {cost.ratio:.2f} |"
        for cost in costs
    ]
    return "\n".join(lines)


def plot(costs: list[Cost], scenario: str, title: str, ours: str, path: Path) -> None:
    """Draw one scenario as bars, on a logarithmic scale; those whose names begin with *ours* stand out."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(11, 3.6), layout="constrained")
    for axes, mode in zip(panels, ("sync", "async"), strict=True):
        shown = [cost for cost in costs if (cost.scenario, cost.mode) == (scenario, mode)]
        colours = ["tab:blue" if cost.subject.startswith(ours) else "silver" for cost in shown]
        names, nanoseconds = [cost.subject for cost in shown], [cost.nanoseconds for cost in shown]
        bars = axes.barh(names, nanoseconds, color=colours, log=True)
        labels = [f"{cost.nanoseconds:,.0f} ns · {cost.ratio:.1f} x" for cost in shown]
        axes.bar_label(bars, labels, padding=3)
        axes.set_xlim(right=60 * max(nanoseconds))
        axes.set_title(f"{mode}: {title}")
        axes.invert_yaxis()
    figure.savefig(path)


def write_json(path: Path, rounds: int, costs: list[Cost], **figures: Any) -> None:
    """Write the figures, and what they were measured on."""
    where = {"python": platform.python_version(), "machine": platform.platform(), "cpus": os.cpu_count()}
    told = {"rounds": rounds, **figures, "costs": [cost._asdict() for cost in costs]}
    path.write_text(json.dumps(where | told, indent=2) + "\n", encoding="utf-8")
