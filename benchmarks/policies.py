"""What breakers and pipelines cost when nothing is wrong: CPU nanoseconds a call, beside their peers.

Every subject decorates the same function.

    python benchmarks/policies.py [--rounds 30] [--json FILE] [--plot FILE.svg]
"""

import argparse
import asyncio
import resource
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from importlib.util import find_spec
from pathlib import Path
from time import monotonic, perf_counter
from typing import Any

from interleaved import (
    Cost,
    Subject,
    bare,
    costs_of,
    loop_by_hand,
    loop_by_hand_async,
    plot,
    table,
    write_json,
)
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

BREAKERS, FUSED, SIX = "breaker, closed", "retry + breaker + budget", "pipeline of six"
YARDSTICKS = {BREAKERS: "hand-written breaker", FUSED: "hand-written loop", SIX: "undecorated"}
OURS = {BREAKERS: "CircuitBreaker()", FUSED: "Pipeline(retry, breaker)", SIX: "Pipeline of six policies"}
GOALS = {BREAKERS: 1.8, FUSED: 3.0}
MOST_OVER_BARE = 3000.0
CALLERS = 50


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


async def measure(rounds: int) -> list[Cost]:
    """Return the cost of every subject in every scenario, blocking and awaiting."""
    costs = []
    for scenario, subjects in SCENARIOS.items():
        costs += await costs_of(
            scenario,
            subjects(),
            function,
            coroutine_function,
            yardstick=YARDSTICKS[scenario],
            rounds=rounds,
        )
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


def main() -> None:
    """Measure, print, and write what is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=30, help="samples of each subject (default: 30)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures as JSON")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="also draw them, as .svg or .png")
    options = parser.parse_args()

    costs = asyncio.run(measure(options.rounds))
    calls = 4_000 * options.rounds
    latency, grown = asyncio.run(crowd(1000 * options.rounds)), growth(calls)
    print(table(costs), "", *verdicts(costs), sep="\n")
    print(f"{SIX} under {CALLERS} callers: p50 {latency['p50']} µs, p99 {latency['p99']} µs a call")
    print(f"{calls:,} calls that failed three times each: {grown} KiB more memory")
    if options.json:
        write_json(
            options.json,
            options.rounds,
            costs,
            goals=GOALS,
            crowd_microseconds=latency,
            growth_kib=grown,
        )
    if options.plot:
        plot(costs, BREAKERS, "CPU time, breaker closed", "CircuitBreaker(", options.plot)


if __name__ == "__main__":
    main()
