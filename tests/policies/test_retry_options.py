"""What else a retry can be told: results, time limits, tenacity's objects, budgets, other layers."""

import asyncio
import resource
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest
import tenacity
from hypothesis import given
from hypothesis import strategies as st

from resilient_agents import RetryPolicy, deadline, events, retry, retrying, timeout
from resilient_agents.errors import DeadlineExceeded, OutcomeUnknown, RateLimited, Unreachable
from resilient_agents.policies import attempt_number, overriding, remaining
from resilient_agents.policies._backoff import next_wait
from resilient_agents.testing import FakeClock

FAST = RetryPolicy(jitter="none")


@pytest.fixture
def clock() -> Iterator[FakeClock]:
    """Put a clock in force that no test has to wait for."""
    with FakeClock() as fake:
        yield fake


class Stock:
    """A budget of so many tokens, which notes what it is asked."""

    name = "crm"

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self.calls = 0

    def count(self) -> object:
        """Note that a call begins."""
        self.calls += 1
        return None

    def take(self) -> bool:
        """Take a token."""
        if not self.tokens:
            return False
        self.tokens -= 1
        return True

    def refund(self) -> None:
        """Give a token back."""
        self.tokens += 1


class Target:
    """A function, blocking or awaiting, that answers what it is told to; the last line is repeated."""

    def __init__(self, *lines: object) -> None:
        self.lines = lines
        self.calls = 0

    def __call__(self) -> object:
        """Act on the next line."""
        self.calls += 1
        line = self.lines[min(self.calls, len(self.lines)) - 1]
        if isinstance(line, type) and issubclass(line, BaseException):
            raise line
        if isinstance(line, BaseException):
            raise line
        return line


Use = Callable[[RetryPolicy, Callable[[], Any]], Any]


def blocking(policy: RetryPolicy, fn: Callable[[], Any]) -> Any:
    """Call *fn* through *policy*."""
    return policy(fn)()


def awaiting(policy: RetryPolicy, fn: Callable[[], Any]) -> Any:
    """Await *fn* through *policy*."""

    @policy
    async def call() -> Any:
        return fn()

    return asyncio.run(call())


@pytest.fixture(params=[blocking, awaiting], ids=lambda form: form.__name__)
def use(request: pytest.FixtureRequest) -> Use:
    """Return one of the forms in which a function is repeated."""
    form: Use = request.param
    return form


class TestResults:
    """`on_result` asks for another result."""

    def test_result_that_is_not_wanted(self, use: Use, clock: FakeClock) -> None:
        """The call is made again until the result is accepted, with waits between."""
        target = Target("queued", "queued", "done")

        assert "done" == use(RetryPolicy(jitter="none", on_result=lambda it: it == "queued"), target)
        assert [1.0, 2.0] == clock.sleeps

    def test_result_that_never_comes(self, use: Use, clock: FakeClock) -> None:
        """When no attempt is left, the last result is returned as it is."""
        target = Target("queued")

        assert "queued" == use(RetryPolicy(on_result=lambda it: it == "queued"), target)
        assert 3 == target.calls

    def test_failures_among_the_results(self, use: Use, clock: FakeClock) -> None:
        """Failures and unwanted results count as attempts of one call."""
        target = Target(Unreachable(), "queued", "done")

        assert "done" == use(RetryPolicy(on_result=lambda it: it == "queued"), target)
        with pytest.raises(Unreachable):
            use(RetryPolicy(on_result=lambda it: it == "queued"), Target("queued", "queued", Unreachable()))

    @pytest.mark.parametrize("policy", [{"idempotent": False}, {"on": Unreachable}], ids=repr)
    def test_who_asks_for_another_result_asks_for_another_call(
        self, policy: dict[str, Any], use: Use, clock: FakeClock
    ) -> None:
        """Neither a filter of failures nor idempotency stands against it."""
        assert 1 == use(RetryPolicy(on_result=lambda it: it == 0, **policy), Target(0, 1))

    def test_predicate_that_raises(self, use: Use, clock: FakeClock) -> None:
        """A broken predicate is the caller's to know of."""
        with pytest.raises(ZeroDivisionError):
            use(RetryPolicy(on_result=lambda it: 1 / it), Target(0))

    def test_giving_up_is_told(self, use: Use, clock: FakeClock) -> None:
        """The event says that no result was accepted."""
        told: list[events.RetryGaveUp] = []
        events.subscribe(events.RetryGaveUp)(told.append)

        use(RetryPolicy(2, on_result=lambda _: True), Target(1))

        assert [(2, "attempts", "external.unwanted_result")] == [
            (it.attempts, it.reason, it.failure.code) for it in told
        ]


class TestTenacity:
    """The stop, wait and retry objects of tenacity work here as they do there."""

    def test_stop(self, use: Use, clock: FakeClock) -> None:
        """A stop object takes the place of *attempts*."""
        target = Target(Unreachable())

        with pytest.raises(Unreachable):
            use(RetryPolicy(stop=tenacity.stop_after_attempt(5)), target)
        assert 5 == target.calls

    def test_stop_before_delay(self, use: Use, clock: FakeClock) -> None:
        """A stop object sees the time that has passed and the wait that is to come."""
        target = Target(Unreachable())
        policy = RetryPolicy(
            stop=tenacity.stop_before_delay(10), wait=tenacity.wait_fixed(4), jitter="none", deadline=None
        )

        with pytest.raises(Unreachable):
            use(policy, target)
        assert [4.0, 4.0] == clock.sleeps

    def test_stop_counts_the_first_attempt(self, use: Use, clock: FakeClock) -> None:
        """The time of the first attempt counts, with a deadline of the policy's own or without."""
        calls: list[float] = []

        def slow() -> None:
            calls.append(clock.monotonic())
            clock.advance(9)
            raise Unreachable

        with pytest.raises(Unreachable):
            use(RetryPolicy(stop=tenacity.stop_after_delay(10), wait_initial=0, deadline=None), slow)
        assert 2 == len(calls)

    def test_unless(self, use: Use, clock: FakeClock) -> None:
        """A condition that means success too is asked about success."""
        on = tenacity.retry_unless_exception_type(KeyError)

        with pytest.raises(KeyError):
            use(RetryPolicy(5, on=on), Target(1, 1, KeyError()))

    def test_wait(self, use: Use, clock: FakeClock) -> None:
        """A wait object takes the place of the backoff."""
        wait = tenacity.wait_exponential(multiplier=3) + tenacity.wait_fixed(1)

        assert 1 == use(RetryPolicy(wait=wait), Target(Unreachable(), Unreachable(), 1))
        assert [4.0, 7.0] == clock.sleeps

    def test_hint_stays_the_floor(self, use: Use, clock: FakeClock) -> None:
        """No wait object comes back before the server said."""
        policy = RetryPolicy(wait=tenacity.wait_fixed(1), jitter="none")

        assert 1 == use(policy, Target(RateLimited(retry_after=7.0), 1))
        assert [7.0] == clock.sleeps

    @pytest.mark.parametrize(
        ("on", "calls"),
        [
            (tenacity.retry_if_exception_type(OSError), 3),
            (tenacity.retry_if_exception_type(KeyError), 1),
            (tenacity.retry_if_exception(lambda exc: "busy" in str(exc)), 3),
            (tenacity.retry_if_exception_message(match="busy"), 3),
            (tenacity.retry_if_exception_cause_type(KeyError), 1),
            (tenacity.retry_if_exception_type(KeyError) | tenacity.retry_if_exception_type(OSError), 3),
            (tenacity.retry_if_exception_type(OSError) & tenacity.retry_if_exception_type(KeyError), 1),
            ([KeyError, tenacity.retry_if_exception_type(OSError)], 3),
        ],
        ids=lambda it: str(it) if isinstance(it, int) else "",
    )
    def test_retry(self, on: Any, calls: int, use: Use, clock: FakeClock) -> None:
        """A condition decides which failures are repeated, alone or beside others."""
        target = Target(OSError("busy"))

        with pytest.raises(OSError, match="busy"):
            use(RetryPolicy(on=on), target)
        assert calls == target.calls

    @pytest.mark.parametrize(
        "on",
        [
            tenacity.retry_if_result(lambda it: it is None),
            tenacity.retry_if_not_result(lambda it: it is not None),
            tenacity.retry_any(
                tenacity.retry_if_exception_type(KeyError), tenacity.retry_if_result(lambda it: it is None)
            ),
        ],
        ids=["result", "not_result", "any"],
    )
    def test_retry_on_result(self, on: Any, use: Use, clock: FakeClock) -> None:
        """A condition on results repeats the call too."""
        assert 1 == use(RetryPolicy(on=on), Target(None, None, 1))

    def test_state(self, clock: FakeClock) -> None:
        """A function of the user's own is given the state that tenacity documents."""
        seen: list[Any] = []

        def wait(state: Any) -> float:
            seen.append(
                (state.attempt_number, state.args, state.kwargs, state.fn.__name__, state.seconds_since_start)
            )
            with pytest.raises(Unreachable):
                state.outcome.result()
            return 2.0

        @retry(wait=wait, jitter="none")
        def fetch(number: int, *, deep: bool) -> None:
            raise Unreachable

        with pytest.raises(Unreachable):
            fetch(7, deep=True)
        assert [
            (1, (7,), {"deep": True}, "fetch", 0.0),
            (2, (7,), {"deep": True}, "fetch", 2.0),
        ] == seen

    def test_block(self, clock: FakeClock) -> None:
        """In a block there is no function to tell of."""
        seen: list[Any] = []

        def stop(state: Any) -> bool:
            seen.append((state.fn, state.args, state.kwargs, state.idle_for))
            return len(seen) == 2

        with suppress(Unreachable):
            for attempt in retrying(stop=stop, jitter="none"):
                with attempt:
                    raise Unreachable
        assert [(None, (), {}, 0.0), (None, (), {}, 1.0)] == seen


class TestLayers:
    """Nested retries do not multiply."""

    @pytest.mark.parametrize(("nested", "calls"), [(False, 3), (True, 27)])
    def test_three_layers(self, nested: bool, calls: int, use: Use, clock: FakeClock) -> None:
        """Three layers of three attempts make three calls, unless asked for more."""
        target = Target(Unreachable)
        policy = RetryPolicy(nested=nested, deadline=None)

        with pytest.raises(Unreachable):
            use(policy, policy(policy(target)))
        assert calls == target.calls

    async def test_three_layers_of_tasks(self, clock: FakeClock) -> None:
        """It holds across tasks too."""
        target = Target(Unreachable)

        @retry()
        async def inner() -> object:
            return target()

        @retry()
        async def middle() -> object:
            return await asyncio.create_task(inner())

        @retry()
        async def outer() -> object:
            return (await asyncio.gather(middle()))[0]

        with pytest.raises(Unreachable):
            await outer()
        assert 3 == target.calls

    def test_wrapped_failure(self, use: Use, clock: FakeClock) -> None:
        """It holds where a layer in between raises its own exception from the failure."""
        target = Target(Unreachable)

        def wrapping() -> object:
            try:
                return FAST(target)()
            except Unreachable as exc:
                raise OutcomeUnknown from exc

        with pytest.raises(OutcomeUnknown):
            use(FAST, wrapping)
        assert 3 == target.calls

    async def test_group(self, clock: FakeClock) -> None:
        """It holds where the failures of several tasks come as a group."""
        target = Target(Unreachable)

        @retry()
        async def inner() -> object:
            return target()

        @retry()
        async def outer() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(inner())

        with pytest.raises(ExceptionGroup):
            await outer()
        assert 3 == target.calls

    def test_frozen_exception(self, use: Use, clock: FakeClock) -> None:
        """It holds for exceptions that take no attributes."""

        @dataclass(frozen=True)
        class Frozen(Exception):
            number: int = 1

        target = Target(Frozen)
        policy = RetryPolicy(on=Frozen)

        with pytest.raises(Frozen):
            use(policy, policy(target))
        assert 3 == target.calls

    def test_blocks(self, clock: FakeClock) -> None:
        """Blocks are layers like functions."""
        target = Target(Unreachable)

        with suppress(Unreachable):
            for outer in retrying():
                with outer:
                    for inner in retrying():
                        with inner:
                            target()
        assert 3 == target.calls

    def test_what_was_not_tried_often_is_tried(self, use: Use, clock: FakeClock) -> None:
        """A failure that an inner layer does not repeat is the outer layer's to judge."""
        target = Target(ValueError)

        with pytest.raises(ValueError):
            use(RetryPolicy(on=ValueError), FAST(target))
        assert 3 == target.calls

    def test_reason(self, use: Use, clock: FakeClock) -> None:
        """The outer layer says why it does nothing."""
        told: list[str] = []
        events.subscribe(events.RetryGaveUp)(lambda event: told.append(event.reason))

        with suppress(Unreachable):
            use(FAST, RetryPolicy(1)(Target(Unreachable)))
        assert ["attempts", "nested"] == told

    def test_exception_that_is_raised_again_and_again(self, use: Use, clock: FakeClock) -> None:
        """A constant that was given up once is repeated in the next call as in the first."""
        target = Target(Unreachable())

        for number in (1, 2, 3):
            with pytest.raises(Unreachable):
                use(FAST, target)
            assert 3 * number == target.calls


class TestTimeLimit:
    """`timeout` is for one attempt, `deadline` for all."""

    def test_function(self, clock: FakeClock) -> None:
        """Each attempt of a plain function has a deadline of its own."""
        seen = []

        @retry(timeout=5.0, jitter="none")
        def fetch() -> None:
            seen.append(remaining())
            clock.advance(3)
            raise Unreachable

        with pytest.raises(Unreachable):
            fetch()
        assert [5.0, 5.0, 5.0] == seen

    def test_block(self, clock: FakeClock) -> None:
        """Each attempt of a block has one too."""
        seen = []

        with suppress(Unreachable):
            for attempt in retrying(timeout=5.0):
                with attempt:
                    seen.append(remaining())
                    raise Unreachable
        assert [5.0, 5.0, 5.0] == seen
        assert remaining() is None

    async def test_coroutine_function(self) -> None:
        """An attempt that hangs is cancelled, and the next one is made."""
        hung: list[bool] = []

        @retry(timeout=0.01, wait_initial=0)
        async def fetch() -> str:
            if not hung:
                hung.append(True)
                await asyncio.Event().wait()
            return "deal"

        assert "deal" == await fetch()

    async def test_whose_time_was_up(self) -> None:
        """A call that used all its time was slow; one that was given less may not be."""

        @timeout(0.01)
        async def hang() -> None:
            await asyncio.Event().wait()

        with pytest.raises(DeadlineExceeded) as slow:
            await hang()
        with deadline(0.005), pytest.raises(DeadlineExceeded) as late:
            await hang()
        assert ("external.timeout", "external.deadline") == (slow.value.code, late.value.code)


class TestNumber:
    """A function can ask which attempt it is."""

    def test_number(self, use: Use, clock: FakeClock) -> None:
        """Attempts are numbered from 1; outside of one the number is 1."""
        seen = []

        def fetch() -> None:
            seen.append(attempt_number())
            raise Unreachable

        with pytest.raises(Unreachable):
            use(FAST, fetch)
        assert [1, 2, 3, 1] == [*seen, attempt_number()]

    async def test_block(self, clock: FakeClock) -> None:
        """In a block the number is known without the attempt at hand."""
        seen = []

        with suppress(Unreachable):
            async for attempt in retrying():
                with attempt:
                    seen.append(attempt_number())
                    raise Unreachable
        assert [1, 2, 3, 1] == [*seen, attempt_number()]


class TestOverriding:
    """`overriding` changes policies for a while."""

    def test_attempts(self, use: Use, clock: FakeClock) -> None:
        """Inside the block every policy follows it, afterwards none; an inner block adds to the outer."""
        target = Target(Unreachable)

        with overriding(attempts=5, jitter="none"), overriding(wait_initial=3.0), pytest.raises(Unreachable):
            use(RetryPolicy(), target)
        with pytest.raises(Unreachable):
            use(RetryPolicy(1), target)
        assert (6, [3.0, 6.0, 12.0, 24.0]) == (target.calls, clock.sleeps)

    def test_deadline_where_nobody_looked_at_the_clock(self, use: Use, clock: FakeClock) -> None:
        """A policy without a deadline obeys one that is put upon it."""
        target = Target(Unreachable)

        with overriding(deadline=2.0), pytest.raises(Unreachable):
            use(RetryPolicy(9, deadline=None, jitter="none"), target)
        assert [1.0] == clock.sleeps

    def test_other_threads(self, clock: FakeClock) -> None:
        """Other threads are not concerned."""
        target = Target(Unreachable)

        def work() -> None:
            with suppress(Unreachable):
                FAST(target)()

        with overriding(attempts=1):
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
        assert 3 == target.calls

    @pytest.mark.parametrize(
        ("changes", "error"),
        [({"attempts": 0}, ValueError), ({"tries": 1}, TypeError), ({"timeout": 1.0}, TypeError)],
    )
    def test_wrong_changes(self, changes: dict[str, Any], error: type[Exception]) -> None:
        """What no policy could be is refused at the block."""
        with pytest.raises(error):
            overriding(**changes)


class TestBudget:
    """Retries are taken from a budget, where there is one."""

    def test_spent(self, use: Use, clock: FakeClock) -> None:
        """Without a token no other attempt is made, and that is told apart from spent attempts."""
        told: list[events.Event] = []
        events.subscribe(events.RetryBudgetExhausted, events.RetryGaveUp)(told.append)
        target, stock = Target(Unreachable), Stock(1)

        with pytest.raises(Unreachable):
            use(RetryPolicy(9, budget=stock), target)

        assert (2, 0, 1) == (target.calls, stock.tokens, stock.calls)
        assert ["crm"] == [it.name for it in told if isinstance(it, events.RetryBudgetExhausted)]
        assert ["budget"] == [it.reason for it in told if isinstance(it, events.RetryGaveUp)]

    def test_refund(self, use: Use, clock: FakeClock) -> None:
        """A repetition that succeeds gives its token back; a first attempt has none to give."""
        stock = Stock(5)

        use(RetryPolicy(9, budget=stock), Target(Unreachable(), Unreachable(), 1))
        use(RetryPolicy(9, budget=stock), Target(1))

        assert (4, 2) == (stock.tokens, stock.calls)

    def test_block(self, clock: FakeClock) -> None:
        """Blocks take from the budget and give back alike."""
        stock, target = Stock(5), Target(Unreachable(), Unreachable(), 1)

        for attempt in retrying(budget=stock):
            with attempt:
                target()

        assert (4, 1) == (stock.tokens, stock.calls)


async def later(exc: object) -> bool:
    """Take longer than a predicate may."""
    return False


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"timeout": 0}, ValueError, "timeout must be more than 0 seconds"),
        ({"timeout": float("nan")}, ValueError, "timeout must be more than 0 seconds"),
        ({"timeout": 61.0}, ValueError, "is longer than deadline=60.0 for all of them"),
        ({"on_result": True}, TypeError, "on_result must be a plain function"),
        ({"stop": 3}, TypeError, "stop must be a plain function"),
        ({"wait": 1.0}, TypeError, "wait must be a plain function"),
        ({"budget": 3}, TypeError, "budget must be a RetryBudget"),
        ({"on": later}, TypeError, "a predicate is a plain function"),
        ({"on_result": later}, TypeError, "on_result must be a plain function"),
    ],
    ids=repr,
)
def test_wrong_arguments(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    """A wrong argument is refused where the policy is written."""
    with pytest.raises(error, match=message):
        RetryPolicy(**arguments)


def test_class() -> None:
    """A policy on a class is refused; calling a class through one is fine."""

    class Client:
        """Somebody's client."""

    with pytest.raises(TypeError, match="not on the class"):
        retry()(Client)
    with pytest.raises(TypeError, match="not on the class"):
        timeout(1)(Client)
    assert isinstance(RetryPolicy().call(Client), Client)


@given(
    initial=st.floats(0.001, 100), longest=st.floats(0.001, 100), previous=st.floats(0, 100), hint=st.none()
)
def test_decorrelated_jitter(initial: float, longest: float, previous: float, hint: None) -> None:
    """A wait lies between the first one and three times the last one, and never above the maximum."""
    policy = RetryPolicy(wait_initial=initial, wait_max=longest, jitter="decorrelated")

    wait, dictated_by = next_wait(policy, 2, hint, previous=previous)

    assert min(initial, longest) <= wait <= min(longest, 3 * max(previous, initial)) * (1 + 1e-9)
    assert "backoff" == dictated_by


@pytest.mark.parametrize(("retry_after", "dictated_by"), [(None, "backoff"), (7.0, "server")])
def test_who_dictated_the_wait(retry_after: float | None, dictated_by: str, clock: FakeClock) -> None:
    """The event says whether the backoff or the server set the wait."""
    told: list[str] = []
    events.subscribe(events.RetryScheduled)(lambda event: told.append(event.dictated_by))

    FAST(Target(RateLimited(retry_after=retry_after), 1))()

    assert [dictated_by] == told


def test_memory(clock: FakeClock) -> None:
    """A hundred thousand failing calls leave less than a megabyte behind."""
    policy = RetryPolicy(wait_initial=0)

    def fail() -> None:
        raise ConnectionRefusedError

    call = policy(fail)

    def make(calls: int) -> None:
        for _ in range(calls):
            with suppress(ConnectionRefusedError):
                call()

    make(2_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    make(100_000)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before

    assert grown < 1024, f"{grown} KiB"
