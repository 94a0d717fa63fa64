"""What breakers and pipelines cost when nothing is wrong: CPU nanoseconds a call, beside their peers.

Every subject decorates the same function. The subjects take turns, so that a busy moment of the machine hits
them all alike, and of many rounds the fastest counts: noise only ever adds. Time is CPU time of the process.

    python benchmarks/policies.py [--rounds 30] [--json FILE] [--plot FILE.svg]
"""

import argparse
import asyncio
import gc
import json
import os
import platform
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from importlib.util import find_spec
from itertools import repeat
from pathlib import Path
from time import monotonic, perf_counter, process_time
from typing import Any, NamedTuple

from resilient_agents import retry, timeout
from resilient_agents.policies import (
    AdaptiveConcurrency,
    Bulkhead,
    CircuitBreaker,
    Pipeline,
    RateLimiter,
    RetryBudget,
    RetryPolicy,
    fallback,
)

SAMPLE_SECONDS = 0.004
BREAKERS, FUSED, SIX = "breaker, closed", "retry + breaker + budget", "pipeline of six"
YARDSTICKS = {BREAKERS: "hand-written breaker", FUSED: "hand-written loop", SIX: "undecorated"}
OURS = {BREAKERS: "CircuitBreaker()", FUSED: "Pipeline(retry, breaker)", SIX: "Pipeline of six policies"}
GOALS = {BREAKERS: 1.8, FUSED: 3.0}
MOST_OVER_BARE = 3000.0
CALLERS = 50


class Subject(NamedTuple):
    """A way to call a function, for one or both kinds of functions."""

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
        for attempt in range(3):
            try:
                return fn(*args, **kwargs)
            except ConnectionError:
                if attempt == 2:
                    raise
        return None

    return call


def loop_by_hand_async(fn: Any) -> Any:
    """Return *fn* in the retry that one would write by hand."""

    @wraps(fn)
    async def call(*args: Any, **kwargs: Any) -> Any:
        for attempt in range(3):
            try:
                return await fn(*args, **kwargs)
            except ConnectionError:
                if attempt == 2:
                    raise
        return None

    return call


class ByHand:
    """A breaker for consecutive failures, as one would write it by hand."""

    def __init__(self) -> None:
        self.failures = 0
        self.opened: float | None = None

    def check(self) -> None:
        """Refuse while it is open."""
        if self.opened is not None and monotonic() - self.opened < 30:
            raise RuntimeError("open")

    def failed(self) -> None:
        """Count a failure."""
        self.failures += 1
        if self.failures >= 5:
            self.opened = monotonic()

    def blocking(self, fn: Any) -> Any:
        """Return *fn* behind the breaker."""

        @wraps(fn)
        def call(*args: Any, **kwargs: Any) -> Any:
            if self.opened is not None:
                self.check()
            try:
                result = fn(*args, **kwargs)
            except Exception:
                self.failed()
                raise
            self.failures = 0
            self.opened = None
            return result

        return call

    def awaiting(self, fn: Any) -> Any:
        """Return *fn* behind the breaker."""

        @wraps(fn)
        async def call(*args: Any, **kwargs: Any) -> Any:
            if self.opened is not None:
                self.check()
            try:
                result = await fn(*args, **kwargs)
            except Exception:
                self.failed()
                raise
            self.failures = 0
            self.opened = None
            return result

        return call


def with_pybreaker() -> Subject:
    """Return pybreaker; its breakers know no coroutine functions of asyncio."""
    import pybreaker

    return Subject("pybreaker", pybreaker.CircuitBreaker(), None)


def with_circuitbreaker() -> Subject:
    """Return circuitbreaker."""
    import circuitbreaker  # type: ignore[import-untyped]

    decorate = circuitbreaker.CircuitBreaker()
    return Subject("circuitbreaker", decorate, decorate)


def with_interlock() -> Subject:
    """Return the breaker of interlock, which has a count window like ours."""
    import interlock

    decorate: Any = interlock.CircuitBreaker(name="bench")
    return Subject("interlock", decorate, decorate)


def breakers() -> list[Subject]:
    """Return what is compared, as far as it is installed."""
    peers = {
        "pybreaker": with_pybreaker,
        "circuitbreaker": with_circuitbreaker,
        "interlock": with_interlock,
    }
    ours, timed = CircuitBreaker(), CircuitBreaker(window_seconds=60)
    return [
        Subject(YARDSTICKS[BREAKERS], ByHand().blocking, ByHand().awaiting),
        Subject(OURS[BREAKERS], ours, ours),
        Subject("CircuitBreaker(window_seconds=60)", timed, timed),
        *(peer() for name, peer in peers.items() if find_spec(name)),
    ]


def fused() -> list[Subject]:
    """Return a retry, a breaker and a budget in one, beside the bare loop."""
    budgeted = RetryPolicy(3, budget=RetryBudget())
    ours = Pipeline("bench", budgeted, CircuitBreaker())
    return [
        Subject(YARDSTICKS[FUSED], loop_by_hand, loop_by_hand_async),
        Subject("@retry()", retry(), retry()),
        Subject("@retry(budget=…)", budgeted, budgeted),
        Subject(OURS[FUSED], ours, ours),
    ]


def six(*more: Any) -> Pipeline:
    """Return a pipeline of six policies, and *more*, that let everything through."""
    return Pipeline(
        "bench",
        fallback(0),
        timeout(30),
        RetryPolicy(3, budget=RetryBudget()),
        CircuitBreaker(),
        RateLimiter(1_000_000, per=0.001),
        Bulkhead(1000),
        *more,
    )


def pipelines() -> list[Subject]:
    """Return a pipeline of six, and one that is longer still, beside the function itself."""
    ours, longer = six(), six(AdaptiveConcurrency(initial=1000, maximum=1000))
    return [
        Subject(YARDSTICKS[SIX], bare, bare),
        Subject(OURS[SIX], ours, ours),
        Subject("and an adaptive limit", longer, longer),
    ]


SCENARIOS: dict[str, Callable[[], list[Subject]]] = {BREAKERS: breakers, FUSED: fused, SIX: pipelines}


def function(number: int) -> int:
    """Return at once."""
    return number


async def coroutine_function(number: int) -> int:
    """Return at once."""
    return number


async def time_blocking(fn: Any, calls: int) -> float:
    """Return the CPU seconds of so many calls."""
    start = process_time()
    for _ in repeat(None, calls):
        fn(1)
    return process_time() - start


async def time_awaiting(fn: Any, calls: int) -> float:
    """Return the CPU seconds of so many awaited calls."""
    start = process_time()
    for _ in repeat(None, calls):
        await fn(1)
    return process_time() - start


@contextmanager
def no_collections() -> Iterator[None]:
    """Keep the garbage collector of one subject out of the figures of the next."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def fastest(fns: dict[str, Any], timer: Any, rounds: int) -> dict[str, float]:
    """Return the CPU nanoseconds of a call of each function, the fastest of all rounds."""
    calls = {name: max(20, int(20 * SAMPLE_SECONDS / await timer(fn, 20))) for name, fn in fns.items()}
    best = dict.fromkeys(fns, float("inf"))
    for _ in range(rounds):
        for name, fn in fns.items():
            with no_collections():
                seconds = await timer(fn, calls[name])
            best[name] = min(best[name], seconds / calls[name] * 1e9)
    return best


async def measure(rounds: int) -> list[Cost]:
    """Return the cost of every subject in every scenario, blocking and awaiting."""
    costs = []
    for scenario, subjects in SCENARIOS.items():
        present = subjects()
        modes: dict[str, tuple[dict[str, Any], Any]] = {
            "sync": ({it.name: it.blocking(function) for it in present if it.blocking}, time_blocking),
            "async": (
                {it.name: it.awaiting(coroutine_function) for it in present if it.awaiting},
                time_awaiting,
            ),
        }
        for mode, (fns, timer) in modes.items():
            best = await fastest(fns, timer, rounds)
            yardstick = best[YARDSTICKS[scenario]]
            costs += [
                Cost(scenario, mode, name, round(cost, 1), round(cost / yardstick, 2))
                for name, cost in best.items()
            ]
    return costs


async def crowd(calls: int) -> dict[str, float]:
    """Return the microseconds a call takes, in the clock's time, while 50 tasks call a pipeline of six."""
    fn = six()(coroutine_function)
    taken: list[float] = []

    async def caller() -> None:
        for _ in range(calls // CALLERS):
            start = perf_counter()
            await fn(1)
            taken.append(perf_counter() - start)
            await asyncio.sleep(0)

    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    taken.sort()
    return {
        "p50": round(taken[len(taken) // 2] * 1e6, 2),
        "p99": round(taken[len(taken) * 99 // 100] * 1e6, 2),
    }


def growth(calls: int) -> int:
    """Return the KiB by which the process grows over so many calls that fail three times each."""

    @RetryPolicy(3, wait_initial=0, budget=None)
    def fail() -> None:
        raise ConnectionRefusedError

    def make(number: int) -> None:
        for _ in range(number):
            with suppress(ConnectionRefusedError):
                fail()

    make(2_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    make(calls)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before


def of(costs: list[Cost], scenario: str, mode: str, subject: str) -> Cost:
    """Return one cost."""
    return next(it for it in costs if (it.scenario, it.mode, it.subject) == (scenario, mode, subject))


def verdicts(costs: list[Cost]) -> list[str]:
    """Return what was to be reached, and what was."""
    lines = []
    for scenario, goal in GOALS.items():
        reached = max(of(costs, scenario, mode, OURS[scenario]).ratio for mode in ("sync", "async"))
        verdict = "met" if reached <= goal else "missed"
        lines.append(f"goal for {scenario}: {goal} x {YARDSTICKS[scenario]}, {verdict} with {reached:.2f}")
    over = (
        of(costs, SIX, "async", OURS[SIX]).nanoseconds - of(costs, SIX, "async", YARDSTICKS[SIX]).nanoseconds
    )
    verdict = "met" if over <= MOST_OVER_BARE else "missed"
    lines.append(f"goal for {SIX}, async: 3.00 µs over the bare call, {verdict} with {over / 1000:.2f} µs")
    return lines


def table(costs: list[Cost]) -> str:
    """Return *costs* as a Markdown table."""
    lines = ["| scenario | mode | subject | CPU ns a call | x yardstick |", "|---|---|---|--:|--:|"]
    lines += [
        f"| {cost.scenario} | {cost.mode} | {cost.subject} | {cost.nanoseconds:,.0f} | {cost.ratio:.2f} |"
        for cost in costs
    ]
    return "\n".join(lines)


def plot(costs: list[Cost], path: Path) -> None:
    """Draw the breakers as bars, on a logarithmic scale."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(11, 3.2), layout="constrained")
    for axes, mode in zip(panels, ("sync", "async"), strict=True):
        shown = [cost for cost in costs if (cost.scenario, cost.mode) == (BREAKERS, mode)]
        colours = ["tab:blue" if cost.subject.startswith("CircuitBreaker") else "silver" for cost in shown]
        bars = axes.barh(
            [cost.subject for cost in shown], [cost.nanoseconds for cost in shown], color=colours, log=True
        )
        axes.bar_label(
            bars, [f"{cost.nanoseconds:,.0f} ns · {cost.ratio:.1f} x" for cost in shown], padding=3
        )
        axes.set_xlim(right=20 * max(cost.nanoseconds for cost in shown))
        axes.set_title(f"{mode}: CPU time of a call through a closed breaker")
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
    latency, grown = asyncio.run(crowd(1000 * options.rounds)), growth(100_000)
    print(table(costs))
    print()
    print("\n".join(verdicts(costs)))
    print(f"{SIX} under {CALLERS} callers: p50 {latency['p50']} µs, p99 {latency['p99']} µs a call")
    print(f"100,000 calls that failed three times each: {grown} KiB more memory")
    if options.json:
        where = {"python": platform.python_version(), "machine": platform.platform(), "cpus": os.cpu_count()}
        figures = {
            "rounds": options.rounds,
            "goals": GOALS,
            "costs": [cost._asdict() for cost in costs],
            "crowd": latency,
            "growth_kib": grown,
        }
        options.json.write_text(json.dumps(where | figures, indent=2) + "\n", encoding="utf-8")
    if options.plot:
        plot(costs, options.plot)


if __name__ == "__main__":
    main()
