"""`PerKey`: one policy for each key, and not too many of them."""

import asyncio
import inspect
import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.policies.breakers import NO_LONGER_THAN, attempt, end, fail

from resilient_agents._flow import Flow
from resilient_agents.errors import CircuitOpen, ConfigurationError, Unreachable, ValidationFailed
from resilient_agents.policies._gate import Gate
from resilient_agents.policies._waiting import Waiting
from resilient_agents.policies.breaker import CircuitBreaker
from resilient_agents.policies.keyed import PerKey
from resilient_agents.testing import FakeClock


@pytest.fixture
def clock() -> Iterator[FakeClock]:
    """Put a clock in force that no test has to wait for."""
    with FakeClock() as fake:
        yield fake


def breaker(key: str) -> CircuitBreaker:
    """Return a breaker that the first failure opens."""
    return CircuitBreaker(minimum_calls=1, failure_rate=0.01, name=str(key))


class Turnstile(Gate):
    """Lets everybody wait a second, and hears how it went."""

    kind = "turnstile"

    def describe(self) -> str:
        """Say what it does."""
        return "a turnstile"

    def __init__(self, key: object) -> None:
        self.heard: list[BaseException | None] = []

    def try_enter(self) -> None:
        """Let nobody in at once."""

    def enter(self, waiting: Waiting) -> Flow[str]:
        """Let everybody in after a second."""
        yield lambda: waiting.sleep(1.0)
        return "permit"

    def leave(self, permit: str, exc: BaseException | None) -> None:
        """Take note."""
        assert "permit" == permit
        self.heard.append(exc)


def test_one_that_is_down_does_not_shut_out_the_others(clock: FakeClock) -> None:
    """Each host has a breaker of its own."""
    per_host = PerKey(breaker, key="{host}")

    @per_host
    def fetch(host: str) -> str:
        if host == "down.test":
            raise ConnectionRefusedError
        return host

    attempt(lambda: fetch("down.test"))
    with pytest.raises(CircuitOpen, match=r"'down\.test'"):
        fetch("down.test")

    assert "up.test" == fetch(host="up.test")
    assert ("open", "closed") == (per_host["down.test"].state, per_host["up.test"].state)
    assert ["down.test", "up.test"] == list(per_host)
    assert "up.test" in per_host


async def test_async(clock: FakeClock) -> None:
    """It is the same for an ``async def``, which stays one."""
    per_host = PerKey(breaker, key="{host}")

    @per_host
    async def fetch(host: str) -> None:
        raise ConnectionRefusedError

    for error in (ConnectionRefusedError, CircuitOpen):
        with pytest.raises(error):
            await fetch("a")

    assert inspect.iscoroutinefunction(fetch)


async def test_policies_that_let_wait(clock: FakeClock) -> None:
    """A policy may let its callers wait, blocking or awaiting, and hears how each call ended."""
    per_key = PerKey(Turnstile, key="{number}")

    @per_key
    def work(number: int) -> int:
        return 6 // number

    @per_key
    async def awork(number: int) -> int:
        return 6 // number

    assert [2, 3] == [work(3), await awork(2)]
    with pytest.raises(ZeroDivisionError):
        work(0)
    with pytest.raises(ZeroDivisionError):
        await awork(0)

    assert [1.0] * 4 == clock.sleeps
    assert [None] == per_key["3"].heard == per_key["2"].heard
    assert [ZeroDivisionError] * 2 == [type(exc) for exc in per_key["0"].heard]


class Client:
    """Something with methods."""

    def __init__(self, host: str) -> None:
        self.host = host


def ask(self: Client, path: str, /, *rest: str, tenant: str = "public", **more: str) -> None:
    """Take arguments of every kind."""


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("{path}", "/leads"),
        ("{self.host}", "crm.test"),
        ("{tenant}", "public"),
        ("{self.host}:{tenant}:{self.host}", "crm.test:public:crm.test"),
        ("{path!r:>10}", "  '/leads'"),
        (lambda self, path, /, *rest, **more: (self.host, len(rest)), ("crm.test", 2)),
    ],
)
def test_keys(key: Any, expected: object) -> None:
    """A key is made of arguments, however they are passed, and of their defaults; or by a function."""
    per_key = PerKey(breaker, key=key)

    per_key(ask)(Client("crm.test"), "/leads", "a", "b", path="not the path")

    assert [expected] == list(per_key)


def test_method() -> None:
    """A method can be decorated, and its object is an argument as any other."""
    per_key = PerKey(breaker, key="{self.host}/{tenant}")

    class Api(Client):
        @per_key
        def fetch(self, tenant: str) -> str:
            return tenant

    assert "7" == Api("crm.test").fetch(tenant="7")
    assert ["crm.test/7"] == list(per_key)


@pytest.mark.parametrize("key", ["{hots}", "{rest}", "{more}", "{0}", "{path} {}"])
def test_key_of_no_argument(key: str) -> None:
    """A template that names no argument of the function is refused when the function is decorated."""
    with pytest.raises(ConfigurationError, match=r"which is no argument of .*\.ask"):
        PerKey(breaker, key=key)(ask)


def test_key_that_cannot_be_made() -> None:
    """Where the arguments lack what the template looks up, the call fails; their values are not told."""
    call = PerKey(breaker, key="{path.tenant}")(ask)

    with pytest.raises(ValidationFailed) as failure:
        call(Client("crm.test"), "secret")

    assert "key cannot be made of the arguments as '{path.tenant}'" == str(failure.value)


def test_missing_argument() -> None:
    """A call without the argument that makes the key fails as it would without a policy."""
    with pytest.raises(TypeError, match="missing an argument: 'path'"):
        PerKey(breaker, key="{path}")(ask)(Client("crm.test"))  # type: ignore[call-arg]


@given(
    limit=st.integers(1, 5),
    calls=st.lists(st.tuples(st.integers(0, 7), st.booleans()), max_size=60),
)
def test_registry(limit: int, calls: list[tuple[int, bool]]) -> None:
    """It never holds more than *limit*; the least recently used goes first, and open ones last."""
    per_key: PerKey[CircuitBreaker] = PerKey(breaker, key="{key}", limit=limit)
    model: OrderedDict[str, bool] = OrderedDict()

    @per_key
    def call(key: int, fails: bool) -> None:
        if fails:
            raise Unreachable

    with FakeClock():
        for key, fails in calls:
            attempt(lambda key=key, fails=fails: call(key, fails))  # type: ignore[misc]
            name = str(key)
            if name not in model and len(model) == limit:
                closed = [other for other, is_open in model.items() if not is_open]
                del model[closed[0] if closed else next(iter(model))]
            model[name] = model.get(name, False) or fails
            model.move_to_end(name)
            assert list(model) == list(per_key)
            assert len(model) == len(per_key) <= limit


def test_open_breaker_whose_time_is_over_may_go(clock: FakeClock) -> None:
    """Hosts that are never asked again do not fill the registry forever."""
    per_key = PerKey(breaker, key="{host}", limit=2)
    fail(per_key["gone"])
    per_key["up"]

    per_key["new"]
    assert ["gone", "new"] == list(per_key)
    clock.advance(30 * NO_LONGER_THAN)
    per_key["newer"]

    assert ["new", "newer"] == list(per_key)


def test_calls_under_way_keep_their_policy() -> None:
    """A policy with calls under way stays; when they have ended it may go."""
    per_key = PerKey(breaker, key="{host}", limit=2)

    @per_key
    def fetch(host: str, meanwhile: Callable[[], object]) -> None:
        meanwhile()

    def crowd() -> None:
        for number in range(9):
            fetch(str(number), lambda: None)

    def crowd_and_ask() -> None:
        crowd()
        end(per_key["busy"])

    fetch("busy", crowd_and_ask)
    assert ["8", "busy"] == list(per_key)
    assert 2 == per_key["busy"].stats().calls
    crowd()

    assert "busy" not in per_key


async def test_cancelled_call_is_under_way_no_more(clock: FakeClock) -> None:
    """A cancelled call leaves neither a permit nor a place behind."""
    per_key = PerKey(breaker, key="{host}", limit=1)

    @per_key
    async def hang(host: str) -> None:
        await asyncio.Event().wait()

    task = asyncio.create_task(hang("a"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert 0 == per_key["a"].stats().calls
    assert 0 == per_key._places["a"].under_way


def test_threads_get_the_same_policy() -> None:
    """Whoever comes first, there is one policy for a key, and every call passes it."""
    per_key = PerKey(CircuitBreakerOf, key="{key}", limit=5)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    @per_key
    def call(key: int) -> int:
        return key

    try:
        with ThreadPoolExecutor(16) as pool:
            results = list(pool.map(call, [number % 5 for number in range(2000)]))
    finally:
        sys.setswitchinterval(before)

    assert [number % 5 for number in range(2000)] == results
    assert [400] * 5 == [per_key[str(key)].stats().calls for key in range(5)]
    assert [0] * 5 == [place.under_way for place in per_key._places.values()]


def test_threads_that_come_first_together() -> None:
    """Two threads that both make the first policy of a key get the same one."""
    both_there = threading.Barrier(2)

    def factory(key: str) -> CircuitBreaker:
        both_there.wait()
        return breaker(key)

    per_key = PerKey(factory, key="{key}")

    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(per_key.__getitem__, ["a", "a"])

    assert one is other is per_key["a"]


def CircuitBreakerOf(key: str) -> CircuitBreaker:  # noqa: N802 - it makes one
    """Return a breaker with room for all calls of a test."""
    return CircuitBreaker(window=1000, name=key)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"factory": CircuitBreaker()}, TypeError, "factory must be a function .* lambda key"),
        ({"factory": None}, TypeError, "factory must be a function"),
        ({"key": 5}, TypeError, "key must be a template of the arguments"),
        ({"key": "host"}, ValueError, "key 'host' names no argument"),
        ({"key": "{"}, ValueError, "key '{' is no template"),
        ({"limit": 0}, ValueError, "limit must be 1 or more"),
        ({"limit": 1.5}, TypeError, "limit must be a whole number"),
        ({"name": None}, TypeError, "name must be a text"),
    ],
)
def test_wrong_arguments(arguments: Any, error: type[Exception], message: str) -> None:
    """A wrong argument is refused, and the message says what is right."""
    with pytest.raises(error, match=message):
        PerKey(**{"factory": breaker, "key": "{host}", **arguments})


def test_factory_that_makes_no_policy() -> None:
    """A factory must return something that admits calls."""
    per_key: Any = PerKey(lambda key: SimpleNamespace(), key="{host}", name="hosts")

    with pytest.raises(TypeError, match=r"name='hosts'\) must return a policy that admits calls"):
        per_key["a"]


def test_what_cannot_be_decorated() -> None:
    """A class and a generator function are refused."""
    per_key: Any = PerKey(breaker, key="{host}")

    with pytest.raises(TypeError, match="not on the class"):
        per_key(Client)
    with pytest.raises(TypeError, match="generator function"):
        per_key(lambda host: (yield))


FORK = """
import os, signal
from resilient_agents.policies.breaker import CircuitBreaker
from resilient_agents.policies.keyed import PerKey

per_key = PerKey(lambda key: CircuitBreaker(), key="{host}")

@per_key
def call(host):
    per_key._lock.acquire()
    child = os.fork()
    if not child:
        signal.alarm(10)
        per_key["b"]
    else:
        per_key._lock.release()
    return child

child = call("a")
if not child:
    os._exit(per_key._places["a"].under_way)
print(os.waitpid(child, 0)[1])
"""


def test_fork() -> None:
    """A forked child waits for no lock, and keeps no places for calls of threads that it does not have."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK]
    parent = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=30)

    assert "0\n" == parent.stdout
