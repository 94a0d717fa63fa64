"""What type checkers see of the policies. Nothing here is run: ``mypy`` and ``basedpyright`` read it."""

from typing import assert_type

from resilient_agents import (
    AdaptiveConcurrency,
    Bulkhead,
    Chaos,
    CircuitBreaker,
    DeadLetterQueue,
    Delivered,
    PerKey,
    Pipeline,
    Queued,
    RateLimiter,
    RetryBudget,
    RetryPolicy,
    deadline,
    degrade,
    fallback,
    hedge,
    retry,
    retry_call,
    retrying,
    set_active,
    timeout,
)
from resilient_agents.errors import Category, Failure, classify, dependency, explain
from resilient_agents.policies import BreakerStats, Report, check, remaining, report


@retry()
def count(city: str, *, limit: int = 10) -> int:
    """Take arguments of all kinds."""
    return len(city) + limit


@retry(attempts=5, on=[OSError, Category.EXTERNAL, "timeout", lambda exc: bool(exc.args)])
async def fetch(number: int) -> str:
    """Be awaited."""
    return str(number)


@dependency("crm")
def count_theirs(city: str, *, limit: int = 10) -> int:
    """Belong to somebody else."""
    return len(city) + limit


@dependency("crm")
async def fetch_theirs(number: int) -> str:
    """Be awaited, and belong to somebody else."""
    return str(number)


@timeout(5)
async def fetch_in_time(number: int) -> str:
    """Be awaited, for a while."""
    return str(number)


@RateLimiter(7)
@timeout(5)
@RetryPolicy(3, idempotent=True, deadline=None, jitter="none")
def stacked(number: int) -> str:
    """Be decorated by everything."""
    return str(number)


@fallback("nobody")
@hedge(0.5, budget=RetryBudget())
@PerKey(lambda number: CircuitBreaker(name=str(number)), key="{number}")
@Bulkhead(20)
@AdaptiveConcurrency()
@Chaos()
async def guarded(number: int) -> str:
    """Be awaited behind everything."""
    return str(number)


crm = Pipeline("crm", timeout(30), RetryPolicy(3), CircuitBreaker(), RateLimiter(7), Bulkhead(20))


@degrade(default="nobody")
@crm
def composed(number: int, *, deep: bool = False) -> str:
    """Be called behind a pipeline."""
    return f"{number}{deep}"


@crm
async def acomposed(number: int) -> str:
    """Be awaited behind a pipeline."""
    return str(number)


class Contacts:
    """Have methods."""

    @retry()
    def count(self, city: str) -> int:
        """Count."""
        return len(city)

    @retry()
    async def fetch(self, number: int) -> str:
        """Fetch."""
        return str(number)


def failures() -> None:
    """A decision and its explanation; a block gives nothing."""
    with dependency("crm") as nothing:
        assert_type(nothing, None)
    found = classify(KeyError())
    assert_type(found, Failure)
    assert_type(found.dependency, str)
    assert_type(explain(found), str)
    assert_type(explain(KeyError()), str)


async def signatures_are_kept() -> None:
    """Decorated functions take and return what they did before."""
    assert_type(count("Riga", limit=5), int)
    assert_type(await fetch(1), str)
    assert_type(count_theirs("Riga", limit=5), int)
    assert_type(await fetch_theirs(1), str)
    assert_type(await fetch_in_time(1), str)
    assert_type(stacked(1), str)
    assert_type(await guarded(1), str)
    assert_type(composed(1, deep=True), str)
    assert_type(await acomposed(1), str)
    assert_type(Contacts().count("Riga"), int)
    assert_type(await Contacts().fetch(1), str)


async def wrong_calls_are_found() -> None:
    """Wrong arguments of decorated functions are errors, as they were before."""
    count(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    count("Riga", 5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    composed("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await guarded("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await crm.call(fetch, "1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await fetch("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Contacts().count(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    RetryPolicy().call(count, 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def calls() -> None:
    """What is called returns what the function does."""
    assert_type(retry_call(count, "Riga", policy=RetryPolicy(2)), int)
    assert_type(await retry_call(fetch, 1), str)
    assert_type(RetryPolicy().call(count, "Riga", limit=5), int)
    assert_type(await RetryPolicy().call(fetch, 1), str)
    assert_type(crm.call(count, "Riga"), int)
    assert_type(await crm.call(fetch, 1), str)


async def blocks() -> None:
    """A block gives attempts that know their number."""
    for attempt in retrying(attempts=3):
        with attempt:
            assert_type(attempt.number, int)
    async for attempt in retrying(attempts=3):
        with attempt:
            assert_type(attempt.number, int)
    with set_active(False), deadline(5):
        check()
        assert_type(remaining(), float | None)


def limiter() -> None:
    """A limiter tells how long to wait, or whether there is no need to."""
    assert_type(RateLimiter(7).reserve(), float)
    assert_type(RateLimiter(7).try_acquire(), bool)


async def gates() -> None:
    """Gates are blocks too, and tell what they know."""
    with CircuitBreaker() as breaker, Bulkhead(20) as bulkhead:
        assert_type(breaker.stats(), BreakerStats)
        assert_type(bulkhead.running, int)
    async with RateLimiter(7) as limiter:
        assert_type(limiter, RateLimiter)
    assert_type(PerKey(lambda host: CircuitBreaker(), key="{host}")["crm.test"], CircuitBreaker)
    with report() as told:
        assert_type(told, Report)


def policies() -> None:
    """The names under which a policy is known are one class."""
    assert_type(retry(), RetryPolicy)
    assert_type(retrying(attempts=2), RetryPolicy)
    retry(3, 1.0)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    retry(jitter="some")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    retry(on=503)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def protected_functions(queue: DeadLetterQueue) -> None:
    """A protected function keeps its arguments and returns a receipt of its value."""

    @queue.protect("a", key="{number}")
    def send(number: int) -> str:
        return str(number)

    @queue.protect("b", key="{number}")
    async def asend(number: int) -> str:
        return str(number)

    assert_type(send(1), Delivered[str] | Queued)
    assert_type(await asend(number=1), Delivered[str] | Queued)
