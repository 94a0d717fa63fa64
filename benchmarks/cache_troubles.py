"""What caches do in trouble: a Redis that hangs, and many callers who miss at once."""

import asyncio
import multiprocessing
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from itertools import count
from operator import itemgetter
from typing import Any, NamedTuple

from cache_subjects import AGENT, Subject, quiet
from real_redis import RealRedis

CALLERS = 50
HERD = 200
PROCESSES = 4
BUDGET = 0.05
IN_A_ROW = 6
LOAD_SECONDS = 0.2
A_MOMENT = 0.002
"""What a call may take while Redis hangs: far less than a timeout, more than a noisy machine adds."""

LATEST_START = 60.0
"""For how many seconds the processes of a herd wait for each other."""

Answers = list[tuple[float, bool]]
"""Of each call, how many seconds it took, and whether it brought the value."""


class Hang(NamedTuple):
    """What calls take, in milliseconds, while Redis hangs.

    Attributes:
        in_a_row: Calls one after the other, from the moment it hangs.
        at_once: The median and the 99th percentile of 50 callers at that moment.
        after: The same of 50 callers after them.
        answered: What part of all these calls brought the value.
    """

    mode: str
    subject: str
    in_a_row: list[float]
    at_once: tuple[float, float]
    after: tuple[float, float]
    answered: float


class Herd(NamedTuple):
    """How often the origin was called by callers who missed together, and how many of them got an error."""

    mode: str
    subject: str
    processes: int
    callers: int
    loads: int
    errors: int


class Origin:
    """What is cached, and how often it was asked. It takes so many seconds, or returns at once."""

    def __init__(self, seconds: float | None = None) -> None:
        self._numbers = count(1)
        self.calls = 0

        def load(agent_id: int) -> dict[str, Any]:
            """Return an agent."""
            self.calls = next(self._numbers)
            if seconds is not None:
                time.sleep(seconds)
            return AGENT

        async def load_async(agent_id: int) -> dict[str, Any]:
            """Return an agent."""
            self.calls = next(self._numbers)
            if seconds is not None:
                await asyncio.sleep(seconds)
            return AGENT

        self.functions = {"sync": load, "async": load_async}


def _answers(mode: str, fn: Any, numbers: Iterable[int], callers: int) -> Answers:
    """Call *fn* with *numbers*, so many at a time."""
    if mode == "sync":
        return _by_threads(fn, list(numbers), callers)
    return _LOOP.run_until_complete(_by_tasks(fn, list(numbers), callers))


def _by_threads(fn: Any, numbers: list[int], callers: int) -> Answers:
    together = threading.Barrier(callers)

    def one(number: int) -> tuple[float, bool]:
        together.wait()
        start = time.perf_counter()
        try:
            right = fn(number) == AGENT
        except Exception:
            right = False
        return time.perf_counter() - start, right

    with ThreadPoolExecutor(callers) as pool:
        return list(pool.map(one, numbers))


async def _by_tasks(fn: Any, numbers: list[int], callers: int) -> Answers:
    async def one(number: int) -> tuple[float, bool]:
        start = time.perf_counter()
        try:
            right = await fn(number) == AGENT
        except Exception:
            right = False
        return time.perf_counter() - start, right

    if callers == 1:
        return [await one(number) for number in numbers]
    return await asyncio.gather(*(one(number) for number in numbers))


_LOOP = asyncio.new_event_loop()


def hang(server: RealRedis, mode: str, times: int, subject: Subject) -> Hang:
    """Return what calls take while Redis hangs, the quickest of so many times."""
    found = [_hang(server, mode, subject) for _ in range(times)]
    return Hang(
        mode,
        subject.name,
        [min(column) for column in zip(*(it.in_a_row for it in found), strict=True)],
        min((it.at_once for it in found), key=itemgetter(1)),
        min((it.after for it in found), key=itemgetter(1)),
        min(it.answered for it in found),
    )


def _hang(server: RealRedis, mode: str, subject: Subject) -> Hang:

    def warm() -> Any:
        fn = subject.make(server.url, BUDGET, Origin().functions[mode])
        for _ in range(2):
            _answers(mode, fn, range(CALLERS), CALLERS)
        return fn

    fn = warm()
    with server.hung():
        row = _answers(mode, fn, range(IN_A_ROW), 1)
    fn = warm()
    with server.hung():
        at_once = _answers(mode, fn, range(CALLERS), CALLERS)
        after = _answers(mode, fn, range(CALLERS), CALLERS)
    told = [*row, *at_once, *after]
    return Hang(
        mode,
        subject.name,
        [_milliseconds(seconds) for seconds, _ in row],
        _percentiles(at_once),
        _percentiles(after),
        round(sum(right for _, right in told) / len(told), 3),
    )


def _percentiles(answers: Answers) -> tuple[float, float]:
    taken = sorted(seconds for seconds, _ in answers)
    return _milliseconds(taken[len(taken) // 2]), _milliseconds(taken[len(taken) * 99 // 100])


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1e3, 4)


def herd(server: RealRedis, mode: str, subject: Subject) -> Herd:
    """Let 200 callers of one process miss the same key together."""
    server.client.flushall()
    origin = Origin(LOAD_SECONDS)
    fn = subject.make(server.url, 1.0, origin.functions[mode])
    answers = _answers(mode, fn, [1] * HERD, HERD)
    return Herd(mode, subject.name, 1, HERD, origin.calls, sum(not right for _, right in answers))


def herds(server: RealRedis, mode: str, subject: Subject) -> Herd:
    """Let 50 callers in each of four processes miss the same key together."""
    server.client.flushall()
    context = multiprocessing.get_context("spawn")
    together = context.Barrier(PROCESSES)
    with ProcessPoolExecutor(PROCESSES, context, _hold_back, (together,)) as pool:
        told = [pool.submit(_one_of_the_herds, server.url, mode, subject) for _ in range(PROCESSES)]
        loads, errors = (sum(column) for column in zip(*(one.result() for one in told), strict=True))
    return Herd(mode, subject.name, PROCESSES, CALLERS * PROCESSES, loads, errors)


_together: Any = None


def _hold_back(together: Any) -> None:
    """Learn what the processes meet at."""
    global _together
    _together = together


def _one_of_the_herds(url: str, mode: str, subject: Subject) -> tuple[int, int]:
    """Return how often this process called the origin, and how many of its callers got an error."""
    quiet()
    origin = Origin(LOAD_SECONDS)
    fn = subject.make(url, 1.0, origin.functions[mode])
    _answers(mode, fn, [2], 1)
    before = origin.calls
    _together.wait(LATEST_START)
    answers = _answers(mode, fn, [1] * CALLERS, CALLERS)
    return origin.calls - before, sum(not right for _, right in answers)


def tables(hangs: list[Hang], all_herds: list[Herd]) -> str:
    """Return both as Markdown tables."""
    lines = [
        "| Redis hangs | mode | calls in a row, ms | 50 at once, p50 / p99 | next 50, p50 / p99 | answered |",
        "|---|---|---|--:|--:|--:|",
    ]
    for it in hangs:
        row = " ".join(f"{ms:.3g}" for ms in it.in_a_row)
        pairs = [f"{middle:.3g} / {high:.3g}" for middle, high in (it.at_once, it.after)]
        lines.append(f"| {it.subject} | {it.mode} | {row} | {pairs[0]} | {pairs[1]} | {it.answered:.0%} |")
    lines += ["", "| together missed | mode | callers | calls of the origin | errors |"]
    lines += ["|---|---|--:|--:|--:|"]
    for one in all_herds:
        callers = f"{one.processes} x {one.callers // one.processes}"
        lines.append(f"| {one.subject} | {one.mode} | {callers} | {one.loads} | {one.errors} |")
    return "\n".join(lines)


def verdicts(hangs: list[Hang], all_herds: list[Herd], ours: str) -> list[str]:
    """Return what was to be reached, and what was."""
    lines = []
    for it in (it for it in hangs if it.subject == ours):
        rest = max(*it.in_a_row[1:], *it.after)
        worst = max(it.in_a_row[0], it.at_once[1])
        met = rest < A_MOMENT * 1e3 and worst < 1.5 * BUDGET * 1e3 and it.answered == 1
        lines.append(
            f"goal for a hung Redis, {it.mode}: one budget of {BUDGET * 1e3:.0f} ms, {_verdict(met)} with "
            f"{worst:.1f} ms at first, then {rest:.3f} ms at most"
        )
    for one in (one for one in all_herds if one.subject == ours):
        met = one.loads == 1 and not one.errors
        lines.append(
            f"goal for {one.processes} x {one.callers // one.processes} misses, {one.mode}: one call of the "
            f"origin, no errors, {_verdict(met)} with {one.loads} and {one.errors}"
        )
    return lines


def _verdict(met: bool) -> str:
    return "met" if met else "missed"
