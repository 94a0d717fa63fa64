"""What a retry costs when it is not needed, and when it is: CPU nanoseconds a call, beside its peers.

Every subject decorates the same function. The subjects take turns, so that a busy moment of the machine hits
them all alike, and of many rounds the fastest counts: noise only ever adds. Time is CPU time of the process.
The yardstick is the ``try`` in a loop that one would write by hand. Nobody waits between attempts.

    python benchmarks/retry_success_path.py [--rounds 30] [--json FILE] [--plot FILE.svg]
"""

import argparse
import asyncio
import json
import os
import platform
from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from importlib.util import find_spec
from itertools import cycle, repeat
from pathlib import Path
from time import process_time
from typing import Any, NamedTuple

from resilient_agents import retry

GOAL = 1.6
SAMPLE_SECONDS = 0.004
ATTEMPTS = 3
BARE = "undecorated"
PASSTHROUGH = "passthrough wrapper"
BY_HAND = "hand-written loop"
OURS = "@retry()"
ONCE = (BARE, PASSTHROUGH)
SCENARIOS = {"success": 0, "one failure": 1, "three failures": ATTEMPTS}

Fn = Callable[[int], int]
AsyncFn = Callable[[int], Awaitable[int]]


class Subject(NamedTuple):
    """A way to call a function again, for both kinds of functions."""

    name: str
    blocking: Callable[[Fn], Fn]
    awaiting: Callable[[AsyncFn], AsyncFn]


class Cost(NamedTuple):
    """What a call costs in CPU nanoseconds, and how that compares to the hand-written loop."""

    scenario: str
    mode: str
    subject: str
    nanoseconds: float
    ratio: float


def bare(fn: Any) -> Any:
    """Return *fn*."""
    return fn


def passthrough(fn: Fn) -> Fn:
    """Return *fn* in a wrapper that does nothing."""

    @wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    return call


def passthrough_async(fn: AsyncFn) -> AsyncFn:
    """Return *fn* in a wrapper that does nothing."""

    @wraps(fn)
    async def call(*args: Any, **kwargs: Any) -> Any:
        return await fn(*args, **kwargs)

    return call


def by_hand(fn: Fn) -> Fn:
    """Return *fn* in the loop that one would write by hand."""

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


def by_hand_async(fn: AsyncFn) -> AsyncFn:
    """Return *fn* in the loop that one would write by hand."""

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


def with_tenacity() -> Subject:
    """Return tenacity, told what ours does by itself."""
    import tenacity

    async def no_sleep(seconds: float) -> None:
        pass

    rules: dict[str, Any] = {
        "stop": tenacity.stop_after_attempt(ATTEMPTS),
        "wait": tenacity.wait_none(),
        "retry": tenacity.retry_if_exception_type(ConnectionError),
        "reraise": True,
    }
    return Subject(
        "tenacity",
        tenacity.retry(sleep=lambda seconds: None, **rules),
        tenacity.retry(sleep=no_sleep, **rules),
    )


def with_stamina() -> Subject:
    """Return stamina, told what ours does by itself; without its log lines."""
    import stamina
    from stamina.instrumentation import set_on_retry_hooks

    set_on_retry_hooks([])
    decorate: Any = stamina.retry(
        on=ConnectionError, attempts=ATTEMPTS, wait_initial=0, wait_max=0, wait_jitter=0, timeout=None
    )
    return Subject("stamina", decorate, decorate)


def subjects() -> list[Subject]:
    """Return what is compared, as far as it is installed."""
    ours = retry(ATTEMPTS, wait_initial=0)
    timeless = retry(ATTEMPTS, wait_initial=0, deadline=None)
    peers = {"tenacity": with_tenacity, "stamina": with_stamina}
    return [
        Subject(BARE, bare, bare),
        Subject(PASSTHROUGH, passthrough, passthrough_async),
        Subject(BY_HAND, by_hand, by_hand_async),
        Subject(OURS, ours, ours),
        Subject("@retry(deadline=None)", timeless, timeless),
        *(peer() for name, peer in peers.items() if find_spec(name)),
    ]


def failing(times: int) -> Fn:
    """Return a function that fails so many times before each success; from ATTEMPTS on, always."""
    if times == 0:
        return lambda number: number
    fails = repeat(True) if times >= ATTEMPTS else cycle([*repeat(True, times), False])

    def call(number: int) -> int:
        if next(fails):
            raise ConnectionRefusedError
        return number

    return call


def failing_async(times: int) -> AsyncFn:
    """Return a coroutine function that fails so many times before each success; from ATTEMPTS on, always."""
    fail = failing(times)

    async def succeed(number: int) -> int:
        return number

    async def call(number: int) -> int:
        return fail(number)

    return call if times else succeed


async def time_blocking(fn: Fn, calls: int) -> float:
    """Return the CPU seconds of so many calls."""
    start = process_time()
    for _ in repeat(None, calls):
        try:  # noqa: SIM105 - suppress() would cost more than what is measured
            fn(1)
        except ConnectionError:
            pass
    return process_time() - start


async def time_awaiting(fn: AsyncFn, calls: int) -> float:
    """Return the CPU seconds of so many awaited calls."""
    start = process_time()
    for _ in repeat(None, calls):
        try:  # noqa: SIM105 - suppress() would cost more than what is measured
            await fn(1)
        except ConnectionError:
            pass
    return process_time() - start


async def fastest(
    fns: dict[str, Any], timer: Callable[[Any, int], Coroutine[Any, Any, float]], rounds: int
) -> dict[str, float]:
    """Return the CPU nanoseconds of a call of each function, the fastest of all rounds."""
    calls = {name: max(20, int(20 * SAMPLE_SECONDS / await timer(fn, 20))) for name, fn in fns.items()}
    best = dict.fromkeys(fns, float("inf"))
    for _ in range(rounds):
        for name, fn in fns.items():
            seconds = await timer(fn, calls[name])
            best[name] = min(best[name], seconds / calls[name] * 1e9)
    return best


async def measure(rounds: int) -> list[Cost]:
    """Return the cost of every subject in every scenario, blocking and awaiting."""
    costs = []
    for scenario, failures in SCENARIOS.items():
        present = [subject for subject in subjects() if not (failures and subject.name in ONCE)]
        modes: dict[str, tuple[dict[str, Any], Any]] = {
            "sync": ({one.name: one.blocking(failing(failures)) for one in present}, time_blocking),
            "async": ({one.name: one.awaiting(failing_async(failures)) for one in present}, time_awaiting),
        }
        for mode, (fns, timer) in modes.items():
            best = await fastest(fns, timer, rounds)
            costs += [
                Cost(scenario, mode, name, round(cost, 1), round(cost / best[BY_HAND], 2))
                for name, cost in best.items()
            ]
    return costs


def table(costs: list[Cost]) -> str:
    """Return *costs* as a Markdown table, with the goal below."""
    lines = ["| scenario | mode | subject | CPU ns a call | x by hand |", "|---|---|---|--:|--:|"]
    lines += [
        f"| {cost.scenario} | {cost.mode} | {cost.subject} | {cost.nanoseconds:,.0f} | {cost.ratio:.2f} |"
        for cost in costs
    ]
    reached = max(cost.ratio for cost in costs if (cost.scenario, cost.subject) == ("success", OURS))
    verdict = "met" if reached <= GOAL else "missed"
    return "\n".join(
        [*lines, f"\ngoal for `{OURS}`, success: {GOAL} x by hand, {verdict} with {reached:.2f}"]
    )


def plot(costs: list[Cost], path: Path) -> None:
    """Draw the cost of a success as bars, on a logarithmic scale."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(11, 3.6), sharey=True, layout="constrained")
    for axes, mode in zip(panels, ("sync", "async"), strict=True):
        shown = [cost for cost in costs if (cost.scenario, cost.mode) == ("success", mode)]
        colours = ["tab:blue" if cost.subject.startswith(OURS[:6]) else "silver" for cost in shown]
        bars = axes.barh(
            [cost.subject for cost in shown], [cost.nanoseconds for cost in shown], color=colours, log=True
        )
        axes.bar_label(
            bars, [f"{cost.nanoseconds:,.0f} ns · {cost.ratio:.1f} x" for cost in shown], padding=3
        )
        axes.set_xlim(right=60 * max(cost.nanoseconds for cost in shown))
        axes.set_title(f"{mode}: CPU time of a call that succeeds")
    panels[0].invert_yaxis()
    figure.savefig(path)


def main() -> None:
    """Measure, print, and write what is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=30, help="samples of each subject (default: 30)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures as JSON")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="also draw them, as .svg or .png")
    options = parser.parse_args()

    costs = asyncio.run(measure(options.rounds))
    print(table(costs))
    if options.json:
        where = {"python": platform.python_version(), "machine": platform.platform(), "cpus": os.cpu_count()}
        figures = {"rounds": options.rounds, "goal": GOAL, "costs": [cost._asdict() for cost in costs]}
        options.json.write_text(json.dumps(where | figures, indent=2) + "\n", encoding="utf-8")
    if options.plot:
        plot(costs, options.plot)


if __name__ == "__main__":
    main()
