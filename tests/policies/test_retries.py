"""What `RetryPolicy` repeats, how often and when: alike for functions, coroutines and blocks."""

import asyncio
import functools
import gc
import inspect
import pickle
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_agents import RetryPolicy, deadline, events, retry, retry_call, retrying, set_active
from resilient_agents.errors import (
    Category,
    DeadlineExceeded,
    OutcomeUnknown,
    QuotaExhausted,
    RateLimited,
    Unreachable,
    ValidationFailed,
)
from resilient_agents.testing import FakeClock

A_ROUNDING_ERROR = 1e-6

Perform = Callable[[RetryPolicy, Callable[[], Any]], Awaitable[Any]]


async def decorated(policy: RetryPolicy, fn: Callable[[], Any]) -> Any:
    """Perform *fn* as a decorated ``def``."""
    return policy(fn)()


async def decorated_async(policy: RetryPolicy, fn: Callable[[], Any]) -> Any:
    """Perform *fn* as a decorated ``async def``."""

    @policy
    async def call() -> Any:
        return fn()

    return await call()


async def block(policy: RetryPolicy, fn: Callable[[], Any]) -> Any:
    """Perform *fn* as a block."""
    for attempt in policy:
        with attempt:
            return fn()
    raise AssertionError("a block either returns or raises")


async def async_block(policy: RetryPolicy, fn: Callable[[], Any]) -> Any:
    """Perform *fn* as a block of an ``async for``."""
    async for attempt in policy:
        with attempt:
            return fn()
    raise AssertionError("a block either returns or raises")


@pytest.fixture(params=[decorated, decorated_async, block, async_block], ids=lambda form: form.__name__)
def perform(request: pytest.FixtureRequest) -> Perform:
    """Return one of the forms in which a policy is used."""
    form: Perform = request.param
    return form


@pytest.fixture
def clock() -> Iterator[FakeClock]:
    """Put a clock in force that no test has to wait for."""
    with FakeClock() as fake:
        yield fake


class Script:
    """A function that raises or returns what it is told to, in that order; the last line is repeated."""

    def __init__(self, *lines: object) -> None:
        self.lines = lines
        self.calls = 0

    def __call__(self) -> object:
        """Act on the next line."""
        self.calls += 1
        line = self.lines[min(self.calls, len(self.lines)) - 1]
        if isinstance(line, BaseException):
            raise line
        return line


class SerializationFailure(Exception):
    """What a database raises when a transaction has to be repeated as a whole."""

    sqlstate = "40001"


def post(**headers: str) -> httpx.ReadTimeout:
    """Return what httpx raises when the answer to a POST does not come."""
    return httpx.ReadTimeout("", request=httpx.Request("POST", "https://example.test/leads", headers=headers))


def patch() -> httpx.HTTPStatusError:
    """Return what httpx raises for a PATCH that is answered with 502."""
    request = httpx.Request("PATCH", "https://example.test/leads/1")
    return httpx.HTTPStatusError("", request=request, response=httpx.Response(502, request=request))


def get() -> httpx.ReadTimeout:
    """Return what httpx raises when the answer to a GET does not come."""
    return httpx.ReadTimeout("", request=httpx.Request("GET", "https://example.test/leads"))


async def test_success_is_not_repeated(perform: Perform, clock: FakeClock) -> None:
    """A call that succeeds is made once."""
    script = Script("lead")

    assert "lead" == await perform(RetryPolicy(), script)
    assert (1, []) == (script.calls, clock.sleeps)


async def test_failure_that_passes(perform: Perform, clock: FakeClock) -> None:
    """Failed attempts are repeated until one succeeds, with growing waits between them."""
    script = Script(Unreachable(), Unreachable(), "lead")

    assert "lead" == await perform(RetryPolicy(jitter="none"), script)
    assert [1.0, 2.0] == clock.sleeps


async def test_last_exception_is_raised_as_it_is(perform: Perform, clock: FakeClock) -> None:
    """When no attempt is left the last exception comes out: that object, with no trace of the others."""
    first, last = Unreachable(), Unreachable()

    with pytest.raises(Unreachable) as raised:
        await perform(RetryPolicy(2), Script(first, last))

    assert last is raised.value
    assert (None, None) == (last.__context__, last.__cause__)


async def test_earlier_attempts_are_notes(perform: Perform, clock: FakeClock) -> None:
    """The last exception tells of each earlier attempt in one line."""
    last = Unreachable()

    with pytest.raises(Unreachable):
        await perform(RetryPolicy(jitter="none"), Script(OutcomeUnknown(), Unreachable(), last))

    assert [
        "attempt 1 of 3: external.outcome_unknown, waited 1.0 s",
        "attempt 2 of 3: external.unreachable, waited 2.0 s",
    ] == last.__notes__


async def test_exception_that_takes_no_notes(perform: Perform, clock: FakeClock) -> None:
    """An exception whose attributes are frozen is raised without notes."""

    class Frozen(Exception):
        def __setattr__(self, name: str, value: object) -> None:
            raise AttributeError(name)

    last = Frozen()

    with pytest.raises(Frozen) as raised:
        await perform(RetryPolicy(2, on=Frozen), Script(Frozen(), last))

    assert last is raised.value


async def test_no_wait_no_sleep(perform: Perform, clock: FakeClock) -> None:
    """A wait of zero seconds is not slept."""
    script = Script(Unreachable(), "lead")

    assert "lead" == await perform(RetryPolicy(wait_initial=0), script)
    assert (2, []) == (script.calls, clock.sleeps)


@pytest.mark.parametrize(
    ("failure", "calls"),
    [
        (Unreachable(), 3),
        (OutcomeUnknown(), 3),
        (RateLimited(), 3),
        (ValidationFailed(), 1),
        (QuotaExhausted(), 1),
        (SerializationFailure(), 1),
        (ZeroDivisionError(), 1),
        (post(), 1),
        (post(**{"Idempotency-Key": "form-8731"}), 3),
        (patch(), 1),
        (get(), 3),
    ],
    ids=repr,
)
async def test_advice_decides(failure: Exception, calls: int, perform: Perform, clock: FakeClock) -> None:
    """What may pass is repeated, unless it may have been executed and was no idempotent request."""
    script = Script(failure)

    with pytest.raises(type(failure)):
        await perform(RetryPolicy(), script)

    assert calls == script.calls


@pytest.mark.parametrize(
    ("idempotent", "failure", "calls"),
    [
        (True, post(), 3),
        (True, patch(), 3),
        (True, ValidationFailed(), 1),
        (False, get(), 1),
        (False, OutcomeUnknown(), 1),
        (False, Unreachable(), 3),
        (False, RateLimited(), 3),
    ],
    ids=repr,
)
async def test_idempotent_says_it_outright(
    idempotent: bool, failure: Exception, calls: int, perform: Perform, clock: FakeClock
) -> None:
    """*idempotent* overrides what the request looks like, for failures whose outcome is unknown."""
    script = Script(failure)

    with pytest.raises(type(failure)):
        await perform(RetryPolicy(idempotent=idempotent), script)

    assert calls == script.calls


@pytest.mark.parametrize(
    ("on", "calls"),
    [
        (ValueError, 3),
        (OSError, 1),
        ((OSError, LookupError), 1),
        ([OSError, ValueError], 3),
        (Category.INTERNAL, 3),
        (Category.EXTERNAL, 1),
        ("try later", 3),
        (r"^ValueError: .*later", 3),
        ("timeout", 1),
        (lambda exc: "later" in str(exc), 3),
        (lambda exc: False, 1),
        ([KeyError, Category.EXTERNAL, "timeout", lambda exc: True], 3),
    ],
    ids=repr,
)
async def test_filter_replaces_the_advice(on: Any, calls: int, perform: Perform, clock: FakeClock) -> None:
    """*on* names what is repeated, by type, category, text or predicate, or several of them."""
    script = Script(ValueError("try later"))

    with pytest.raises(ValueError, match="try later"):
        await perform(RetryPolicy(on=on), script)

    assert calls == script.calls


async def test_filter_does_not_allow_duplicates(perform: Perform, clock: FakeClock) -> None:
    """A filter that names a timeout does not repeat a POST which may have been executed."""
    script = Script(post())

    with pytest.raises(httpx.ReadTimeout):
        await perform(RetryPolicy(on=httpx.TimeoutException), script)

    assert 1 == script.calls


async def test_hint_is_obeyed_beyond_wait_max(perform: Perform, clock: FakeClock) -> None:
    """A server that asks for a longer wait than ours gets it, in full."""
    await perform(RetryPolicy(wait_max=2, jitter="none"), Script(RateLimited(retry_after=40), "lead"))

    assert [40.0] == clock.sleeps


async def test_hint_past_the_deadline(perform: Perform, clock: FakeClock) -> None:
    """A wait that cannot be waited for ends the call at once, rather than bringing it back early."""
    with pytest.raises(RateLimited):
        await perform(RetryPolicy(), Script(RateLimited(retry_after=60)))

    assert [] == clock.sleeps


async def test_hint_that_never_ends(perform: Perform, clock: FakeClock) -> None:
    """A hint that can be none is none: the backoff says how long to wait."""
    with pytest.raises(RateLimited):
        await perform(RetryPolicy(jitter="none"), Script(RateLimited(retry_after=float("inf"))))

    assert [1.0, 2.0] == clock.sleeps


async def test_time_of_the_attempts_counts(perform: Perform, clock: FakeClock) -> None:
    """The deadline is for attempts and waits together."""
    starts = []

    def slow() -> None:
        starts.append(clock.time())
        clock.advance(25)
        raise Unreachable

    with pytest.raises(Unreachable):
        await perform(RetryPolicy(attempts=10, jitter="none"), slow)

    assert [0, 26, 53] == [start - starts[0] for start in starts]


async def test_no_deadline(perform: Perform, clock: FakeClock) -> None:
    """Without a deadline the attempts alone count."""
    script = Script(RateLimited(retry_after=3600))

    with pytest.raises(RateLimited):
        await perform(RetryPolicy(deadline=None), script)

    assert 3 == script.calls


async def test_ambient_deadline(perform: Perform, clock: FakeClock) -> None:
    """A wait that would pass the deadline in force is not begun."""
    script = Script(Unreachable())

    with pytest.raises(Unreachable), deadline(2.5):
        await perform(RetryPolicy(attempts=9, jitter="none", deadline=None), script)

    assert [1.0] == clock.sleeps


async def test_inactive(perform: Perform, clock: FakeClock) -> None:
    """While retries are switched off, each call is made once."""
    script = Script(Unreachable())

    with pytest.raises(Unreachable), set_active(False):
        await perform(RetryPolicy(), script)

    assert 1 == script.calls


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), SystemExit(), asyncio.CancelledError()], ids=repr)
async def test_stops_pass_through(stop: BaseException, clock: FakeClock) -> None:
    """Ctrl-C, exit and cancellation are not failures."""
    script = Script(stop)

    with pytest.raises(type(stop)):
        RetryPolicy(on=lambda exc: True)(script)()
    with pytest.raises(type(stop)):
        await block(RetryPolicy(on=lambda exc: True), script)

    assert 2 == script.calls


async def test_events_tell_the_course(perform: Perform, clock: FakeClock) -> None:
    """Each wait is told, and at last why there is no other attempt."""
    heard: list[events.Event] = []
    events.subscribe(events.Event)(heard.append)

    with pytest.raises(Unreachable):
        await perform(RetryPolicy(2, jitter="none"), Script(OutcomeUnknown(), Unreachable()))

    scheduled, gave_up = heard
    assert isinstance(scheduled, events.RetryScheduled)
    assert (1, 1.0, "external.outcome_unknown") == (scheduled.attempt, scheduled.wait, scheduled.failure.code)
    assert isinstance(gave_up, events.RetryGaveUp)
    assert (2, "attempts", "external.unreachable") == (gave_up.attempts, gave_up.reason, gave_up.failure.code)
    assert scheduled.target == gave_up.target


@pytest.mark.parametrize(
    ("policy", "failure", "reason"),
    [
        (RetryPolicy(1), Unreachable(), "attempts"),
        (RetryPolicy(), ValidationFailed(), "advice"),
        (RetryPolicy(), SerializationFailure(), "advice"),
        (RetryPolicy(), post(), "idempotency"),
        (RetryPolicy(idempotent=False), get(), "idempotency"),
        (RetryPolicy(on=ValueError), Unreachable(), "filter"),
        (RetryPolicy(), RateLimited(retry_after=3600), "deadline"),
    ],
    ids=repr,
)
async def test_reasons_to_give_up(
    policy: RetryPolicy, failure: Exception, reason: str, perform: Perform, clock: FakeClock
) -> None:
    """The event names the reason."""
    heard: list[str] = []
    events.subscribe(events.RetryGaveUp)(lambda event: heard.append(event.reason))

    with pytest.raises(type(failure)):
        await perform(policy, Script(failure))

    assert [reason] == heard


async def test_inactive_is_a_reason(perform: Perform, clock: FakeClock) -> None:
    """That retries are switched off is told as well."""
    heard: list[str] = []
    events.subscribe(events.RetryGaveUp)(lambda event: heard.append(event.reason))

    with pytest.raises(Unreachable), set_active(False):
        await perform(RetryPolicy(), Script(Unreachable()))

    assert ["inactive"] == heard


def targets_of(call: Callable[[], object]) -> list[str]:
    """Return the targets that the events of a failing *call* name."""
    heard: list[str] = []
    events.subscribe(events.RetryGaveUp)(lambda event: heard.append(event.target))
    with pytest.raises(ValidationFailed):
        call()
    return heard


def refused() -> None:
    """Fail in a way that is not retried."""
    raise ValidationFailed


def refused_block() -> None:
    """Fail in a block, in a way that is not retried."""
    for attempt in retrying():
        with attempt:
            raise ValidationFailed


@pytest.mark.parametrize(
    ("call", "target"),
    [
        (retry()(refused), f"{__name__}.refused"),
        (refused_block, f"{__name__}.refused_block"),
        (retry()(Script(ValidationFailed())), f"{__name__}.Script"),
        (retry()(functools.partial(refused)), "functools.partial"),
    ],
)
def test_target_is_the_function(call: Callable[[], object], target: str) -> None:
    """Events name the function, the function around the block, or the class of an object that is called."""
    assert [target] == targets_of(call)


@pytest.mark.parametrize("form", [decorated, decorated_async, block, async_block], ids=lambda f: f.__name__)
@given(
    took=st.lists(st.floats(0, 40), min_size=1, max_size=9),
    hint=st.none() | st.floats(0, 40),
    seconds=st.floats(0.1, 100),
    jitter=st.sampled_from(["full", "equal", "none"]),
)
def test_no_attempt_begins_past_the_deadline(
    form: Perform, took: list[float], hint: float | None, seconds: float, jitter: Any
) -> None:
    """However long attempts and hints are, the last attempt begins within the deadline."""
    starts: list[float] = []
    policy = RetryPolicy(len(took), deadline=seconds, jitter=jitter)

    with FakeClock() as clock:

        def attempt() -> None:
            starts.append(clock.monotonic())
            clock.advance(took[len(starts) - 1])
            raise RateLimited(retry_after=hint)

        with pytest.raises(RateLimited):
            asyncio.run(run_form(form, policy, attempt))

    assert starts[-1] - starts[0] <= seconds + A_ROUNDING_ERROR
    assert all(wait >= (hint or 0) for wait in clock.sleeps)


async def run_form(form: Perform, policy: RetryPolicy, fn: Callable[[], Any]) -> None:
    """Perform *fn*; `asyncio.run` takes nothing less than a coroutine."""
    await form(policy, fn)


async def test_cancelled_attempt_is_not_repeated() -> None:
    """A task that is cancelled in an attempt ends, even if everything is retried."""
    calls = 0

    @retry(on=lambda exc: True)
    async def hang() -> None:
        nonlocal calls
        calls += 1
        await asyncio.Event().wait()

    task = asyncio.create_task(hang())
    await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert 1 == calls


async def test_cancelled_wait_makes_no_attempt() -> None:
    """A task that is cancelled between two attempts ends at once."""
    script = Script(Unreachable())
    waits = asyncio.Event()
    events.subscribe(events.RetryScheduled)(lambda event: waits.set())
    task = asyncio.create_task(run_form(decorated_async, RetryPolicy(jitter="none"), script))

    await waits.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert 1 == script.calls


@pytest.mark.parametrize("failures", [1, 2])
def test_failures_leave_no_garbage(failures: int, perform: Perform, clock: FakeClock) -> None:
    """Failed calls leave no reference cycles: what they held is free as soon as they return."""

    def call() -> None:
        left = failures

        def fail() -> None:
            nonlocal left
            left -= 1
            if left >= 0:
                raise Unreachable

        steps = perform(RetryPolicy(2, wait_initial=0), fail).__await__()
        with suppress(StopIteration, Unreachable):
            next(steps)

    call()
    gc.collect()
    gc.disable()
    try:
        call()
        assert 0 == gc.collect()
    finally:
        gc.enable()


class Contacts:
    """A class with methods of all kinds."""

    @retry()
    def count(self, *, city: str = "Riga") -> tuple[object, str]:
        """Count the contacts of a city."""
        return self, city

    @classmethod
    @retry()
    def kind(cls) -> object:
        """Return the class."""
        return cls

    @staticmethod
    @retry()
    async def fetch(number: int) -> int:
        """Return the number."""
        return number


async def test_methods() -> None:
    """Methods of all kinds can be decorated."""
    contacts = Contacts()

    assert (contacts, "Oslo") == contacts.count(city="Oslo")
    assert Contacts is contacts.kind()
    assert 7 == await contacts.fetch(7)


def test_decorated_function_looks_the_same() -> None:
    """Name, documentation and signature are those of the function."""
    count = Contacts.count

    assert ("Contacts.count", "Count the contacts of a city.") == (count.__qualname__, count.__doc__)
    assert "(self, *, city: str = 'Riga') -> tuple[object, str]" == str(inspect.signature(count))
    assert (False, True) == tuple(map(inspect.iscoroutinefunction, (count, Contacts.fetch)))


async def test_objects_that_are_called(clock: FakeClock) -> None:
    """An object with an async ``__call__`` and a partial of an ``async def`` are awaited."""

    class Fetch:
        calls = 0

        async def __call__(self, number: int) -> int:
            self.calls += 1
            if self.calls == 1:
                raise Unreachable
            return number

    assert 7 == await retry()(Fetch())(7)
    assert 7 == await retry()(functools.partial(Fetch().__call__, 7))()


async def test_retry_call(clock: FakeClock) -> None:
    """A function is called with its arguments, blocking or awaiting as it is."""
    failures = [Unreachable(), Unreachable()]

    def fetch(number: int, *, city: str) -> tuple[int, str]:
        if failures:
            raise failures.pop()
        return number, city

    async def afetch(number: int, *, city: str) -> tuple[int, str]:
        return fetch(number, city=city)

    assert (7, "Oslo") == retry_call(fetch, 7, city="Oslo")
    failures = [Unreachable()]
    assert (7, "Oslo") == await retry_call(afetch, 7, policy=RetryPolicy(2), city="Oslo")
    failures = [Unreachable()]
    assert (7, "Oslo") == RetryPolicy(2).call(fetch, 7, city="Oslo")
    failures = [Unreachable()]
    with pytest.raises(Unreachable):
        retry_call(fetch, 7, policy=RetryPolicy(1), city="Oslo")


async def test_attempts_are_counted(clock: FakeClock) -> None:
    """The attempts of a block are counted from 1, and the block ends with the first success."""
    numbers = []

    for attempt in iter(retrying(attempts=5)):
        with attempt:
            numbers.append(attempt.number)
            if attempt.number < 3:
                raise Unreachable
    async for attempt in aiter(retrying(attempts=5)):
        with attempt:
            numbers.append(attempt.number)
            if attempt.number < 2:
                raise Unreachable

    assert [1, 2, 3, 1, 2] == numbers


def test_block_goes_on_where_it_was_left(clock: FakeClock) -> None:
    """The attempts of a block can be taken from an iterator, as from any."""
    attempts = iter(retrying(attempts=5))
    with next(attempts):
        raise Unreachable

    assert [2] == [attempt.number for attempt in attempts]


async def test_async_block_goes_on_where_it_was_left(clock: FakeClock) -> None:
    """The attempts of an async block can be taken from an iterator, as from any."""
    attempts = aiter(retrying(attempts=5))
    with await anext(attempts):
        raise Unreachable

    assert [2] == [attempt.number async for attempt in attempts]


def test_block_that_is_left(clock: FakeClock) -> None:
    """Leaving a block in the middle, or not entering the attempt, ends it without another attempt."""
    entered = 0
    for _ in retrying(attempts=5):
        entered += 1
    for attempt in retrying(attempts=5):
        with attempt:
            entered += 1
            break

    assert 2 == entered


def test_block_does_not_hold_back_ctrl_c(clock: FakeClock) -> None:
    """Ctrl-C leaves a block at once."""
    attempt = next(iter(retrying(on=lambda exc: True)))

    with pytest.raises(KeyboardInterrupt), attempt:
        raise KeyboardInterrupt


async def test_calls_do_not_share_attempts(clock: FakeClock) -> None:
    """Concurrent calls of one function each have their own attempts and waits."""
    policy = RetryPolicy(3, jitter="none")
    scripts = [Script(Unreachable(), Unreachable(), number) for number in range(10)]

    results = await asyncio.gather(*(decorated_async(policy, script) for script in scripts))

    assert list(range(10)) == results
    assert [1.0] * 10 + [2.0] * 10 == sorted(clock.sleeps)


def test_set_active_stays() -> None:
    """Without a block the switch stays as it was set; blocks restore the state before them."""
    script = Script(Unreachable())
    with set_active(False):
        with set_active(True), FakeClock(), pytest.raises(Unreachable):
            retry_call(script)
        assert 3 == script.calls
        with pytest.raises(Unreachable):
            retry_call(script)
    assert 4 == script.calls


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"attempts": 0}, ValueError, "attempts must be 1 or more"),
        ({"attempts": True}, TypeError, "attempts must be a whole number"),
        ({"attempts": "3"}, TypeError, "attempts must be a whole number"),
        ({"attempts": refused}, TypeError, r"write @retry\(\) with parentheses"),
        ({"wait_initial": -1}, ValueError, "wait_initial must be a time in seconds"),
        ({"wait_max": float("nan")}, ValueError, "wait_max must be a time in seconds"),
        ({"wait_max": float("inf")}, ValueError, "wait_max must be a time in seconds"),
        ({"jitter": "some"}, ValueError, "jitter must be 'full', 'equal', 'decorrelated' or 'none'"),
        ({"deadline": 0}, ValueError, "deadline must be more than 0 seconds, or None"),
        ({"idempotent": "yes"}, TypeError, "idempotent must be True, False or None"),
        ({"on": "("}, ValueError, "is no regular expression"),
        ({"on": KeyboardInterrupt}, TypeError, "cannot hold KeyboardInterrupt"),
        ({"on": [ValueError, asyncio.CancelledError]}, TypeError, "cannot hold CancelledError"),
        ({"on": int}, TypeError, "cannot hold int"),
        ({"on": 503}, TypeError, "not a value of type int"),
        ({"on": [ValueError, None]}, TypeError, "not a value of type NoneType"),
    ],
    ids=repr,
)
def test_wrong_arguments(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    """A wrong argument is refused where the policy is written, and the message says what is right."""
    with pytest.raises(error, match=message):
        RetryPolicy(**arguments)


def generate() -> Iterator[int]:
    """Yield a number."""
    yield 1


async def agenerate() -> Any:
    """Yield a number."""
    yield 1


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        (generate, "generate, a generator function"),
        (agenerate, "agenerate, a generator function"),
        (staticmethod(refused), "put @retry below @staticmethod"),
        (classmethod(repr), "put @retry below @classmethod"),
        (42, "a value of type int"),
    ],
    ids=repr,
)
def test_what_cannot_be_decorated(thing: Any, message: str) -> None:
    """What a retry would silently not work on is refused."""
    with pytest.raises(TypeError, match=message):
        retry()(thing)


def test_policy_is_a_value() -> None:
    """Policies with equal parameters are equal, and travel between processes."""
    policy = RetryPolicy(5, deadline=20, on=(OSError, "timeout"))

    assert policy == pickle.loads(pickle.dumps(policy))  # noqa: S301
    assert 1 == len({policy, RetryPolicy(5, deadline=20, on=(OSError, "timeout"))})


def test_deadline_exceeded_by_an_attempt_is_repeated(clock: FakeClock) -> None:
    """An attempt that ran into its own, shorter deadline may be repeated."""
    script = Script(DeadlineExceeded(), "lead")

    assert "lead" == retry_call(script)
