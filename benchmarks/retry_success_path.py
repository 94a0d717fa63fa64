"""What a retry costs when it is not needed, and when it is: CPU nanoseconds a call, beside its peers.

Every subject decorates the same function. The yardstick is the ``try`` in a loop that one would write by
hand. Nobody waits between attempts.

    python benchmarks/retry_success_path.py [--rounds 30] [--json FILE] [--plot FILE.svg]
"""

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from functools import wraps
from importlib.util import find_spec
from itertools import cycle, repeat
from pathlib import Path
from typing import Any

from interleaved import (
    ATTEMPTS,
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
from resilient_agents import retry

GOALS = {"success": 1.6, "one failure": 6.0}
BARE = "undecorated"
PASSTHROUGH = "passthrough wrapper"
BY_HAND = "hand-written loop"
OURS = "@retry()"
ONCE = (BARE, PASSTHROUGH)
SCENARIOS = {"success": 0, "one failure": 1, "three failures": ATTEMPTS}

Fn = Callable[[int], int]
AsyncFn = Callable[[int], Awaitable[int]]


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
        Subject(BY_HAND, loop_by_hand, loop_by_hand_async),
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


async def measure(rounds: int) -> list[Cost]:
    """Return the cost of every subject in every scenario, blocking and awaiting."""
    costs = []
    for scenario, failures in SCENARIOS.items():
        present = [subject for subject in subjects() if not (failures and subject.name in ONCE)]
        fn, afn = failing(failures), failing_async(failures)
        costs += await costs_of(scenario, present, fn, afn, yardstick=BY_HAND, rounds=rounds)
    return costs


def verdicts(costs: list[Cost]) -> list[str]:
    """Return what was to be reached, and what was."""
    lines = []
    for scenario, goal in GOALS.items():
        reached = max(cost.ratio for cost in costs if (cost.scenario, cost.subject) == (scenario, OURS))
        verdict = "met" if reached <= goal else "missed"
        lines.append(f"goal for `{OURS}`, {scenario}: {goal} x by hand, {verdict} with {reached:.2f}")
    return lines


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
        plot(costs, "success", "CPU time of a success", OURS[:6], options.plot)


if __name__ == "__main__":
    main()
