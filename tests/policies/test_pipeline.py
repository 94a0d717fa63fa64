"""Several policies as one: order, names, explanation, other policies while in use, who made a call wait."""

import asyncio
import inspect
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from resilient_agents import events
from resilient_agents.errors import CircuitOpen, ConfigurationError, RateLimited, Unreachable
from resilient_agents.policies import (
    AdaptiveConcurrency,
    Bulkhead,
    Chaos,
    CircuitBreaker,
    PerKey,
    Pipeline,
    PolicyOrderWarning,
    RateLimiter,
    RetryBudget,
    RetryPolicy,
    fallback,
    hedge,
    remaining,
    report,
    timeout,
)
from resilient_agents.testing import FakeClock

FAST = RetryPolicy(jitter="none")


@pytest.fixture
def clock() -> Iterator[FakeClock]:
    """Put a clock in force that no test has to wait for."""
    with FakeClock() as fake:
        yield fake


def everything() -> Pipeline:
    """Return a pipeline of all kinds, in the order that the documentation gives."""
    return Pipeline(
        "crm",
        fallback("nothing"),
        timeout(30),
        RetryPolicy(3, jitter="none", budget=RetryBudget()),
        CircuitBreaker(),
        RateLimiter(100),
        Bulkhead(20),
        AdaptiveConcurrency(),
        timeout(5),
        Chaos(),
    )


class Target:
    """A function that fails so many times before it answers."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.calls = 0

    def __call__(self) -> str:
        """Fail or answer."""
        self.calls += 1
        if self.calls <= self.failures:
            raise Unreachable
        return "deal"


async def test_all_kinds_at_once(clock: FakeClock) -> None:
    """A call passes all policies, blocking and awaiting."""
    pipeline, target = everything(), Target(2)

    @pipeline
    def fetch(number: int, *, deep: bool) -> tuple[str, int, bool, float | None]:
        return target(), number, deep, remaining()

    @pipeline
    async def afetch() -> str:
        return target()

    assert ("deal", 7, True, 5.0) == fetch(7, deep=True)
    assert 3 == target.calls
    assert "deal" == await afetch()
    assert [1.0, 2.0] == clock.sleeps


def test_order_is_kept(clock: FakeClock) -> None:
    """The first policy is outermost: a breaker inside a retry counts each attempt."""
    target = Target(99)

    with pytest.raises(CircuitOpen):
        Pipeline("crm", RetryPolicy(5), CircuitBreaker(minimum_calls=3)).call(target)
    assert 3 == target.calls


async def test_call(clock: FakeClock) -> None:
    """A function that cannot be decorated is called through the pipeline, with its arguments."""

    async def add(first: int, *, second: int) -> int:
        return first + second

    assert 7 == Pipeline("crm", FAST).call(max, 3, 7)
    assert 7 == await Pipeline("crm", FAST, hedge(1)).call(add, 3, second=4)


def test_decorated_function_looks_the_same() -> None:
    """What asks a function about itself gets its own answers."""

    @everything()
    async def fetch(number: int) -> str:
        """Fetch."""
        return str(number)

    assert ("fetch", "Fetch.") == (fetch.__name__, fetch.__doc__)
    assert ["number"] == list(inspect.signature(fetch).parameters)
    assert inspect.iscoroutinefunction(fetch)


def test_gates_take_the_name_of_the_pipeline() -> None:
    """A gate without a name is called like the pipeline; one with a name keeps it."""
    breaker, limiter = CircuitBreaker(), RateLimiter(7, name="own")

    pipeline = Pipeline("crm", breaker, limiter)

    assert ("crm", "own") == (breaker.name, limiter.name)
    assert (breaker, limiter) == pipeline.policies


@pytest.mark.parametrize(
    ("policies", "message"),
    [
        ((FAST, FAST), "two retries multiply"),
        ((hedge(1), FAST), "each hedge would retry by itself"),
        ((RateLimiter(7), FAST), "repetitions would not be counted by the limiter"),
        ((RateLimiter(7), hedge(1)), "hedges would not be counted by the limiter"),
        ((AdaptiveConcurrency(), FAST), "the limit would measure the retry's waits"),
        ((FAST, fallback(1)), "hides every failure from the retry"),
        ((CircuitBreaker(), fallback(1)), "hides every failure from the breaker"),
        ((fallback(1), fallback(2)), "leaves nothing to the outer one"),
        ((Chaos(), CircuitBreaker()), "its faults would not pass through the breaker: put chaos last"),
        ((CircuitBreaker(), FAST, CircuitBreaker()), "two breakers in one pipeline"),
        ((), "has no policies"),
        ((len,), "made of policies such as timeout"),
        ((FAST, RetryPolicy), "and this is RetryPolicy"),
        ((FAST, 30), "and this is int"),
    ],
    ids=lambda it: it if isinstance(it, str) else "",
)
def test_what_cannot_work(policies: tuple[Any, ...], message: str) -> None:
    """An order that cannot work is refused, and the message says why and what to do."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PolicyOrderWarning)
        with pytest.raises(ConfigurationError, match=message):
            Pipeline("crm", *policies)


@pytest.mark.parametrize(
    ("policies", "message"),
    [
        ((CircuitBreaker(), FAST), "the breaker sees one call where the retry makes several"),
        ((CircuitBreaker(), hedge(1)), "the breaker sees one call where the hedge makes several"),
        ((Bulkhead(7), FAST), "a place is held while the retry waits"),
        ((Bulkhead(7), RateLimiter(7)), "a place is held while the limiter waits"),
        ((RateLimiter(7), CircuitBreaker()), "use up starts"),
        ((timeout(5), timeout(30)), "the inner timeout of 30 s can never be reached"),
    ],
    ids=lambda it: it if isinstance(it, str) else "",
)
def test_what_is_doubtful(policies: tuple[Any, ...], message: str) -> None:
    """An order that seldom does what is wanted is warned of, where it was written."""
    with pytest.warns(PolicyOrderWarning, match=message) as warned:
        Pipeline("crm", *policies)
    assert __file__ == warned[0].filename


@pytest.mark.parametrize("name", ["", FAST, None], ids=repr)
def test_name_is_needed(name: Any) -> None:
    """A pipeline without a name is refused."""
    with pytest.raises(ConfigurationError, match="begins with its name"):
        Pipeline(name, FAST)


def test_explanation() -> None:
    """`explain` says in words what happens, one line a policy."""
    pipeline = Pipeline(
        "crm",
        fallback("nothing"),
        timeout(30),
        RetryPolicy(3, timeout=5, budget=RetryBudget()),
        hedge(0.5),
        PerKey(lambda host: CircuitBreaker(name=host), key="{host}"),
        RateLimiter(7, burst=2),
        Bulkhead(20, queue=5, queue_timeout=1),
        AdaptiveConcurrency(),
        Chaos(error_rate=0.1),
    )

    retry = (
        "3. up to 3 attempts, waits of 1 s and doubling to 30 s, full jitter, no less than a server asks "
        "for, 5 s for each, 60 s for all of them, within a budget"
    )
    assert [
        "A call through 'crm' passes, in this order:",
        "1. after failures that are not our own, a default instead",
        "2. a time limit of 30 s for everything below",
        retry,
        "4. up to 1 more of the same call beside one that takes longer than 0.5 s",
        "5. one policy for each {host}, 1000 at most",
        "6. at most 7 starts in any 1 s, 2 at the same moment; a call waits for its start",
        "7. at most 20 calls at a time; 5 more wait, each 1 s at most",
        "8. as many calls at a time as the target takes: 10 now, never fewer than 1 or more than 200",
        "9. faults on purpose: 10% of the calls fail, 0% are 1 to 1 s late",
        "10. the function itself",
    ] == pipeline.explain().splitlines()
    assert repr(pipeline).startswith("Pipeline('crm', Fallback(str), Timeout(seconds=30)")


def test_explanation_of_a_breaker() -> None:
    """A breaker says what it looks at, and whether it acts."""
    assert (
        "a circuit breaker that refuses calls for 30 s when 50% of the last 100 calls failed, and then "
        "probes with 1"
    ) == CircuitBreaker().describe()
    assert (
        "a circuit breaker that says that it would refuse calls for 30 s when 50% of the calls of the last "
        "10 s failed, or 80% took 2 s or more, and then probes with 1"
    ) == CircuitBreaker(mode="observe", window_seconds=10, slow_call=2, slow_rate=0.8).describe()


class TestReconfiguration:
    """`reconfigure` puts other policies in force while the pipeline is used."""

    async def test_decorated_functions_follow(self, clock: FakeClock) -> None:
        """Functions that were decorated before go through the new policies, of both kinds."""
        pipeline, target, atarget = Pipeline("crm", RetryPolicy(1)), Target(1), Target(1)

        @pipeline
        def fetch() -> str:
            return target()

        @pipeline
        async def afetch() -> str:
            return atarget()

        pipeline.reconfigure(FAST)

        assert ["deal", "deal"] == [fetch(), await afetch()]
        assert (FAST,) == pipeline.policies

    def test_what_is_known_is_kept(self, clock: FakeClock) -> None:
        """A breaker that is handed in again stays open."""
        breaker = CircuitBreaker()
        pipeline, target = Pipeline("crm", breaker), Target(0)
        fetch = pipeline(target.__call__)
        breaker.force_open()

        pipeline.reconfigure(timeout(30), breaker)

        with pytest.raises(CircuitOpen):
            fetch()

    @pytest.mark.parametrize("policies", [(), (FAST, FAST), (hedge(1),)], ids=["none", "order", "function"])
    def test_invalid(self, policies: tuple[Any, ...], clock: FakeClock) -> None:
        """What makes no pipeline, or does not fit a function, is refused, and the old policies stay."""
        told: list[events.PipelineReconfigured] = []
        events.subscribe(events.PipelineReconfigured)(told.append)
        pipeline, target = Pipeline("crm", FAST), Target(2)
        fetch = pipeline(target.__call__)

        with pytest.raises((ConfigurationError, TypeError)):
            pipeline.reconfigure(*policies)

        assert "deal" == fetch()
        assert (FAST,) == pipeline.policies
        assert [("crm", False)] == [(it.name, it.accepted) for it in told]
        assert told[0].reason

    def test_while_others_decorate(self) -> None:
        """Functions that are decorated at that moment follow too."""
        pipeline, functions = Pipeline("crm", RetryPolicy(1)), []
        before = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            with ThreadPoolExecutor(8) as pool:
                decorated = [pool.submit(pipeline, Target(1).__call__) for _ in range(400)]
                for attempts in (2, 3, 4, 5):
                    pipeline.reconfigure(RetryPolicy(attempts, wait_initial=0))
                functions = [future.result() for future in decorated]
        finally:
            sys.setswitchinterval(before)

        assert {"deal"} == {function() for function in functions}

    def test_it_is_told(self) -> None:
        """Who listens hears of it."""
        told: list[events.Event] = []
        events.subscribe(events.PipelineReconfigured)(told.append)

        Pipeline("crm", FAST).reconfigure(timeout(1))

        assert [events.PipelineReconfigured(name="crm", accepted=True, reason="")] == told


class TestReport:
    """`report` says who made a call wait."""

    def test_waits(self, clock: FakeClock) -> None:
        """Each wait is told with its policy, its length and who dictated it."""
        answers: list[Any] = [RateLimited(retry_after=7.0), Unreachable(), "deal"]

        @Pipeline("crm", FAST, RateLimiter(1, per=30.0))
        def fetch() -> Any:
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

        with report() as told:
            fetch()

        name = "test_pipeline.TestReport.test_waits.<locals>.fetch"
        assert [
            ("retry", name, 7.0, "server"),
            ("limiter", "crm", 23.0, "rate"),
            ("retry", name, 2.0, "backoff"),
            ("limiter", "crm", 28.0, "rate"),
        ] == [(it.policy, it.name, it.seconds, it.dictated_by) for it in told.waits]
        assert 60.0 == told.seconds == sum(clock.sleeps)
        assert "23 s, limiter crm, set by the rate" == told.explain().splitlines()[1]

    def test_no_waits(self) -> None:
        """A call that did not wait has nothing to tell; outside of a block nothing is collected."""
        fetch = Pipeline("crm", FAST)(Target(0).__call__)

        with report() as told:
            fetch()
        fetch()

        assert ([], "no waits") == (told.waits, told.explain())

    async def test_tasks(self, clock: FakeClock) -> None:
        """Tasks that a block starts are part of it; a report inside takes its own."""
        fetch: Callable[[], Any] = Pipeline("crm", FAST)(Target(1).__call__)

        async def task() -> None:
            fetch()

        with report() as outer:
            await asyncio.gather(task())
            with report() as inner:
                Pipeline("crm", FAST)(Target(1).__call__)()

        assert [1, 1] == [len(outer.waits), len(inner.waits)]


@pytest.mark.parametrize("thing", [int, everything], ids=["class", "generator"])
def test_what_cannot_be_decorated(thing: Any) -> None:
    """A class is refused, and so is a generator function."""

    def pages() -> Iterator[int]:
        yield 1

    with pytest.raises(TypeError, match=r"not on the class|a generator function"):
        everything()(int if thing is int else pages)


def test_functions_that_are_gone_are_forgotten() -> None:
    """A pipeline does not keep the functions alive that it was put on."""
    pipeline = Pipeline("crm", FAST)
    fetch = pipeline(Target(0).__call__)
    assert 1 == len(pipeline._slots)
    del fetch

    assert 0 == len(pipeline._slots)
