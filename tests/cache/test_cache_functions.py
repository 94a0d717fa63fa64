"""Cached functions as their users see them: called as before, and with a few powers more."""

import asyncio
import gc
import inspect
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from tests.cache.conftest import Ask, Origin

from resilient_agents import events, retry
from resilient_agents.cache import MISS, Cache, CacheStats, UnfitKey
from resilient_agents.cache._entry import Entry
from resilient_agents.cache._memory import Memory
from resilient_agents.errors import (
    ConfigurationError,
    ExternalFailure,
    NotFound,
    OutcomeUnknown,
    Unreachable,
    ValidationFailed,
)
from resilient_agents.testing import BrokenStore, FakeClock, FakeStore


class Agents:
    """A repository whose methods are cached."""

    def __init__(self, organization: str) -> None:
        self.organization = organization
        self.calls = 0

    cache = Cache()

    @cache.cached("agent:{self.organization}:{agent_id}", ttl=10)
    def get(self, agent_id: str, *, deep: bool = False) -> str:
        """Return an agent."""
        self.calls += 1
        return f"{self.organization} {agent_id}"

    @cache.cached("agent:{self.organization}:{agent_id}:async", ttl=10)
    async def aget(self, agent_id: str) -> str:
        """Return an agent, too."""
        self.calls += 1
        return f"{self.organization} {agent_id}"

    @staticmethod
    @cache.cached("static:{agent_id}", ttl=10)
    def static(agent_id: str) -> str:
        """Need no object."""
        return agent_id


@pytest.fixture(autouse=True)
def empty() -> Iterator[None]:
    """Empty the cache of the class."""
    yield
    memory = Agents.cache._tiers.memory
    assert memory is not None
    memory.clear()


def test_a_function_looks_as_before() -> None:
    """Its name, words and signature are those of the function, and an async def stays one."""
    cache = Cache()

    def plain(a: int, /, b: str = "x", *, c: float) -> str:
        """Say something."""
        return f"{a}{b}{c}"

    async def awaited(a: int) -> int:
        return a

    one, other = cache.cached("p:{a}:{b}:{c}", ttl=1)(plain), cache.cached("a:{a}", ttl=1)(awaited)
    assert inspect.signature(plain) == inspect.signature(one)
    assert ("plain", "Say something.", plain) == (one.__name__, one.__doc__, inspect.unwrap(one))  # type: ignore[attr-defined]
    assert (False, True) == (inspect.iscoroutinefunction(one), inspect.iscoroutinefunction(other))
    assert inspect.isfunction(one)


def test_positional_named_and_default_arguments_are_one_call(origin: Origin) -> None:
    """However an argument is given, it is the same call; other arguments are another one."""

    @Cache().cached("f:{a}:{b}", ttl=10)
    def get(a: str, b: int = 2) -> Any:
        return origin(a)

    assert ["x 1"] * 4 == [get("x"), get("x", 2), get(a="x", b=2), get(b=2, a="x")]
    assert "x 2" == get("x", 3)
    assert "cache:{f:x:#2}" == get.key_for("x") == get.key_for(b=2, a="x")


def test_without_a_key_it_is_made_of_the_name_and_all_arguments(origin: Origin) -> None:
    """Two functions with the same arguments do not share their values."""
    cache = Cache()

    @cache.cached(ttl=10)
    def one(a: str) -> Any:
        return origin(a)

    @cache.cached(ttl=10)
    def other(a: str) -> Any:
        return origin(a)

    assert ("x 1", "x 2", "x 1") == (one("x"), other("x"), one("x"))


def test_two_functions_of_one_name_need_keys() -> None:
    """Closures of one name would share their entries; the second one is refused."""
    cache = Cache()

    def build() -> Any:
        @cache.cached(ttl=10)
        def get(a: str) -> str:
            return a

        return get

    build()
    with pytest.raises(ConfigurationError, match=r"two functions are called .*build.*get.*give each a key"):
        build()


@pytest.mark.parametrize("awaited", [False, True])
def test_methods_are_bound_with_their_powers(awaited: bool) -> None:
    """A method of an object is called, looked into, invalidated and refreshed without naming the object."""
    one, other = Agents("1"), Agents("2")

    def settle(answer: Any) -> Any:
        async def settled() -> Any:
            return await answer

        return asyncio.run(settled()) if awaited else answer

    get, get_other = (agents.aget if awaited else agents.get for agents in (one, other))
    assert ["1 42", "1 42", "2 42"] == [settle(get("42")), settle(get("42")), settle(get_other("42"))]
    assert (1, 1) == (one.calls, other.calls)
    assert "1 42" == settle(get.peek("42"))
    assert settle(get.invalidate("42"))
    assert MISS is settle(get.peek("42"))
    assert "2 42" == settle(get_other.peek("42"))
    assert "1 42" == settle(get.refresh("42"))
    assert ":1:42" in get.key_for("42")
    assert awaited == inspect.iscoroutinefunction(get)


def test_a_bound_method_looks_as_before() -> None:
    """Its signature has no self, on the class it has one, and there is nothing else to be found on it."""
    assert "(agent_id: str, *, deep: bool = False) -> str" == str(inspect.signature(Agents("1").get))
    assert "(self, agent_id: str, *, deep: bool = False) -> str" == str(inspect.signature(Agents.get))
    assert inspect.isfunction(Agents.get)
    assert ("get", "Agents.get") == (Agents("1").get.__name__, Agents("1").get.__qualname__)
    assert MISS is Agents.get.peek(Agents("1"), "42")
    with pytest.raises(AttributeError):
        Agents("1").get.nothing  # noqa: B018


def test_static_methods_are_functions() -> None:
    """A cached function below @staticmethod works as one."""
    assert "42" == Agents.static("42") == Agents.static.peek("42")
    assert Agents.static.invalidate("42")


class Team:
    """A class whose class methods are cached."""

    cache = Cache()

    @cache.cached("team:{cls.__name__}:{name}", ttl=10)
    @classmethod
    def get(cls, name: str = "x") -> str:
        """Return a team."""
        return f"{cls.__name__} {name}"

    @cache.cached("team:{cls.__name__}:{name}:async", ttl=10)
    @classmethod
    async def aget(cls, name: str = "x") -> str:
        """Return a team, too."""
        return f"{cls.__name__} {name}"

    @classmethod
    @cache.cached("below:{name}", ttl=10)
    def below(cls, name: str = "x") -> str:
        """Return a team, under a decorator that does not bind what is below it since Python 3.13."""
        return name


class Subteam(Team):
    """A subclass."""


@pytest.mark.parametrize("team", [Team, Subteam])
def test_class_methods_are_bound_with_their_powers(team: Any) -> None:
    """Below the cache, a class method and its powers belong to the class that they are looked up on."""
    name = team.__name__
    assert [f"{name} x"] * 3 == [team.get(), team().get("x"), team.get.peek()]
    assert f"cache:{{team:{name}:x}}" == team.get.key_for()
    assert team.get.invalidate()
    assert MISS is team().get.peek("x")
    assert f"{name} y" == team.get.refresh("y")
    assert "(name: str = 'x') -> str" == str(inspect.signature(team.get))
    assert inspect.iscoroutinefunction(team.aget)
    assert f"{name} x" == asyncio.run(team.aget())
    assert asyncio.run(team.aget.invalidate())


def test_powers_without_their_class_are_no_powers_over_something_else() -> None:
    """Above the cache, @classmethod binds only calls on new Pythons: no argument is taken for the class."""
    team: Any = Team
    assert "y" == team.below("y")
    if sys.version_info >= (3, 13):
        with pytest.raises(TypeError, match=r"invalidate.*put @cache.cached above @classmethod"):
            team.below.invalidate("y")
        with pytest.raises(TypeError, match="above @classmethod"):
            team.below.peek()
        assert "y" == team.below.peek(team, "y") == team.below.peek(cls=team, name="y")
    else:
        assert "y" == team.below.peek("y")


def test_objects_that_are_called_are_cached() -> None:
    """What is called like a function needs no name but its key."""

    class Double:
        def __call__(self, number: int) -> int:
            return 2 * number

    for double in (Double(), partial(pow, exp=1, mod=None), partial(lambda by, number: by * number, 2)):
        cached: Any = Cache().cached("k:{base}" if "pow" in repr(double) else "k:{number}", ttl=10)(double)
        assert cached(3) == double(3) == cached.peek(3)


async def test_other_decorators_go_above_and_below() -> None:
    """A retry below the cache repeats loads, one above it calls; both see an async def."""
    cache, calls = Cache(), []

    @retry()
    @cache.cached("k", ttl=10)
    @retry(attempts=2, wait_initial=0.0)
    async def get() -> int:
        calls.append(1)
        if len(calls) == 1:
            raise Unreachable
        return len(calls)

    assert [2, 2] == [await get(), await get()]


def test_an_argument_that_can_be_no_key_is_said() -> None:
    """The message names the function and the argument, and never the value."""

    @Cache().cached("k:{what}", ttl=10)
    def get(what: Any) -> Any:
        return what

    with pytest.raises(UnfitKey, match=r"'what' of .*get"):
        get(object())


@pytest.mark.parametrize(
    ("template", "words"), [("k:{nobody}", "nobody"), ("k:{", "template"), ("", "empty|template")]
)
def test_a_wrong_key_is_refused_at_decoration(template: str, words: str) -> None:
    """A template that names what is not there is said before anything is called."""
    with pytest.raises(ConfigurationError):

        @Cache().cached(template, ttl=10)
        def get(a: str) -> str:
            return a


def test_what_is_no_function_is_refused() -> None:
    """Classes, generators and values are refused with words."""
    decorate: Any = Cache().cached("k", ttl=10)

    def generator() -> Iterator[int]:
        yield 1

    async def awaiting_generator() -> AsyncIterator[int]:
        yield 1

    of_class: Any = classmethod
    for wrong in (Agents, generator, awaiting_generator, of_class(generator), staticmethod(len), 42):
        with pytest.raises(TypeError):
            decorate(wrong)


def test_a_tenant_must_be_in_every_key() -> None:
    """With a tenant, a function whose key does not hold it is refused, and so is an entity."""
    cache = Cache(tenant="org_id")

    @cache.cached("a:{org_id}:{a}", ttl=10)
    def get(org_id: str, a: str) -> str:
        return org_id + a

    assert "1a" == get("1", "a")
    with pytest.raises(ConfigurationError, match="org_id"):

        @cache.cached("a:{a}", ttl=10)
        def other(a: str) -> str:
            return a

    with pytest.raises(ConfigurationError, match="org_id"):
        cache.entity("agent", model=str, ttl=1)


@pytest.mark.parametrize("store", [None, FakeStore], ids=["memory", "store"])
def test_keys_and_tags_are_invalidated_by_name(store: Any, ask: Ask) -> None:
    """Whoever knows a key or a tag can invalidate it, short or whole; what is not there does not matter."""
    cache = Cache(store and store())
    get = ask(cache, ttl=10, tags=["all", "about:{key}"])
    ways: list[Any] = [
        lambda: cache.invalidate("f:k"),
        lambda: cache.invalidate(get.fn.key_for("k")),
        lambda: cache.invalidate_tag("all"),
        lambda: cache.invalidate_tag("about:k"),
        lambda: asyncio.run(cache.ainvalidate("f:k")),
        lambda: asyncio.run(cache.ainvalidate_tag("all")),
        lambda: cache.invalidate_tag("all"),
        lambda: get.settle(get.fn.invalidate("k")),
    ]
    for number, invalidate in enumerate(ways, start=1):
        assert [f"k {number}"] * 2 == [get(), get()]
        assert invalidate()
    assert cache.invalidate("nobody")
    assert cache.invalidate_tag("nobody")
    assert 10 == cache.stats().invalidations


def test_numbers_are_invalidated_by_template(origin: Origin) -> None:
    """The number 42 is not the text: a template spells both as they were cached."""
    cache = Cache()

    @cache.cached("agent:{agent_id}", ttl=10, tags=["org:{org}"])
    def get(agent_id: int | str, org: int) -> Any:
        return origin(str(agent_id))

    get(42, 1)
    get("42", 1)
    cache.invalidate("agent:{agent_id}", agent_id=42)
    assert [MISS, "42 2"] == [get.peek(42, 1), get.peek("42", 1)]
    cache.invalidate_tag("org:{org}", org="1")
    assert "42 2" == get.peek("42", 1)
    asyncio.run(cache.ainvalidate_tag("org:{org}", org=1))
    assert MISS is get.peek("42", 1)
    for arguments in ({"agent": 1}, {"agent_id": 1, "more": 2}):
        with pytest.raises(ConfigurationError):
            cache.invalidate("agent:{agent_id}", **arguments)
    with pytest.raises(UnfitKey):
        cache.invalidate("agent:{agent_id}", agent_id=object())


@pytest.mark.parametrize("store", [None, FakeStore], ids=["memory", "store"])
@pytest.mark.parametrize("awaited", [False, True])
def test_a_change_invalidates(store: Any, awaited: bool, origin: Origin) -> None:
    """What a function has changed, or may have changed, is loaded anew; what it has not, is not."""
    cache = Cache(store and store())

    @cache.cached("agent:{agent_id}", ttl=100, tags=["org:{org}"])
    def get(agent_id: str, org: str) -> str:
        return str(origin(agent_id))

    def change(agent_id: str, org: str, outcome: Exception | None) -> str:
        """Change an agent."""
        if outcome is not None:
            raise outcome
        return "changed"

    async def achange(agent_id: str, org: str, outcome: Exception | None) -> str:
        """Change an agent."""
        return change(agent_id, org, outcome)

    decorated: list[Any] = [
        cache.invalidates("agent:{agent_id}")(achange if awaited else change),
        cache.invalidates(tags=["org:{org}"])(achange if awaited else change),
    ]

    def call(function: Any, outcome: Exception | None) -> Any:
        answer = function("1", "o", outcome)
        return asyncio.run(answer) if awaited else answer

    for function in decorated:
        assert inspect.signature(change).parameters == inspect.signature(function).parameters
        number = int(get("1", "o").removeprefix("1 "))
        assert "changed" == call(function, None)
        assert f"1 {number + 1}" == get("1", "o")
        for outcome, changed in ((OutcomeUnknown(), 1), (Unreachable(), 0), (ValidationFailed(), 0)):
            number = len(origin.calls)
            with pytest.raises(type(outcome)):
                call(function, outcome)
            assert f"1 {number + changed}" == get("1", "o")


def test_what_invalidates_nothing_is_refused() -> None:
    """The decorator needs keys or tags, and they must fit the function."""
    cache: Any = Cache()
    for keys, options in (((), {}), ((len,), {}), ((), {"tags": "t"})):
        with pytest.raises(TypeError):
            cache.invalidates(*keys, **options)

    def change(agent_id: str) -> None: ...

    with pytest.raises(ConfigurationError, match="nobody"):
        cache.invalidates("agent:{nobody}")(change)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"prefix": ""}, ValueError),
        ({"prefix": "a{b"}, ConfigurationError),
        ({"prefix": 1}, TypeError),
        ({"budget": 0}, ValueError),
        ({"budget": None}, TypeError),
        ({"lease": -1}, ValueError),
        ({"throttle": None}, TypeError),
        ({"jitter": 1}, ValueError),
        ({"jitter": "much"}, TypeError),
        ({"tenant": 1}, TypeError),
        ({"local_ttl": 0}, ValueError),
        ({"local_ttl": 1}, ValueError),
        ({"local_entries": 0}, ValueError),
        ({"origin_limit": 0}, ValueError),
        ({"origin_limit": 1.5}, TypeError),
    ],
)
def test_wrong_settings_are_refused(options: dict[str, Any], error: type[Exception]) -> None:
    """A cache that cannot work is not made."""
    with pytest.raises(error):
        Cache(**options)


def test_the_stats_and_the_events_of_a_day(
    ask: Ask, origin: Origin, clock: FakeClock, heard: list[Any]
) -> None:
    """Each call is counted once and told once, by key, never with the value."""
    cache = Cache(BrokenStore(), local_ttl=1.0, jitter=0.0, prefix="svc")
    get = ask(cache, ttl=10, stale=10)
    get()
    get()
    clock.advance(2)
    get()
    clock.advance(10)
    get()
    get.rest()
    name = {"cache": "svc", "key": "svc:{f:k}"}
    assert [
        events.CacheMiss(**name, reason="absent"),
        events.CacheHit(**name, tier="memory"),
        events.CacheHit(**name, tier="store"),
        events.CacheStale(**name, reason="refreshing", age=12.0),
    ] == [type(event)(**_fields(event)) for event in heard]
    assert (
        CacheStats(memory_hits=1, store_hits=1, misses=1, stale=1, loads=2, refreshes=1, entries=1)
        == cache.stats()
    )
    assert 0.75 == cache.stats().hit_rate
    assert 0.0 == CacheStats().hit_rate


def _fields(event: Any) -> dict[str, Any]:
    named = {field: getattr(event, field) for field in event.__dataclass_fields__}
    return {**named, **({"age": round(named["age"], 3)} if "age" in named else {})}


def test_repr_and_close() -> None:
    """A cache says what it is made of, and closes its store."""
    assert "Cache(prefix='cache', memory)" == repr(Cache())
    assert "Cache(prefix='a', memory and store)" == repr(Cache(FakeStore(), prefix="a", local_ttl=1))
    assert "MISS" == repr(MISS)
    assert not MISS
    for cache in (Cache(), Cache(FakeStore())):
        cache.close()
        asyncio.run(cache.aclose())


@pytest.mark.parametrize("store", [None, FakeStore], ids=["memory", "store"])
async def test_calls_leave_no_cycles(store: Any, clock: FakeClock) -> None:
    """Neither hits, nor misses, nor failures leave work for the garbage collector."""
    cache = Cache(store and store(), jitter=0.0)
    failing = False

    def origin(key: str) -> str:
        if failing:
            raise NotFound if key == "other" else ExternalFailure
        return key

    async def aorigin(key: str) -> str:
        await asyncio.sleep(0)
        return origin(key)

    blocking = cache.cached("b:{key}", ttl=10, stale_if_error=10)(origin)
    awaiting = cache.cached("a:{key}", ttl=10, stale_if_error=10)(aorigin)
    for _ in range(2):  # the first round fills what is kept for good
        gc.collect()
        gc.disable()
        try:
            for seconds, fails, key in (
                (0, False, "k"),
                (0, False, "k"),
                (11, True, "k"),
                (20, True, "k"),
                (0, True, "other"),
            ):
                failing = fails
                clock.advance(seconds)
                with suppress(ExternalFailure, NotFound):
                    blocking(key)
                with suppress(ExternalFailure, NotFound):
                    await awaiting(key)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            found = gc.collect()
        finally:
            gc.enable()
    assert 0 == found


def test_memory_makes_room_for_what_is_used() -> None:
    """The oldest entry that was not used goes first; one that was used gets another round."""
    memory = Memory(3)
    for name in "abc":
        memory.put(name, Entry(name, born=0, soft=1, tags=("t",)))
    memory.entries["a"].visited = True
    memory.put("d", Entry("d", born=0, soft=1))
    assert ["c", "d", "a"] == list(memory.entries)
    memory.put("e", Entry("e", born=0, soft=1))
    assert ["d", "a", "e"] == list(memory.entries)
    memory.invalidate(["t"])
    assert ["d", "e"] == list(memory.entries)
    assert {} == memory._tagged


class Model:
    """What an entity holds."""


def test_an_entity_reads_and_writes_by_hand(clock: FakeClock) -> None:
    """Repositories set, get and delete things by their ids, in every process."""
    here, there = FakeStore.twins(2)
    agents, elsewhere = (
        Cache(store, local_ttl=1.0, jitter=0.0).entity("agent", model=dict, ttl=10) for store in (here, there)
    )
    assert agents.get("1") is None
    assert agents.set("1", {"name": "Ann"})
    assert {"name": "Ann"} == agents.get("1") == elsewhere.get("1")
    assert elsewhere.set("1", {"name": "Bob"})
    assert {"name": "Bob"} == agents.get("1")
    agents.set(2, {"name": "Eve"})
    assert {"1": {"name": "Bob"}, 2: {"name": "Eve"}} == elsewhere.get_many(["1", 2, "3"])
    assert {"1": {"name": "Bob"}, 2: {"name": "Eve"}} == elsewhere.get_many(["1", 2, "3"])
    assert agents.delete("1")
    assert elsewhere.get("1") is None
    clock.advance(11)
    assert {} == agents.get_many([2])
    assert ("cache:{agent:1}", "cache:{agent:#1}") == (agents.key_for("1"), agents.key_for(1))
    assert "Entity('agent')" == repr(agents)


async def test_the_awaiting_half_of_an_entity() -> None:
    """Each method has its twin."""
    for cache in (Cache(), Cache(FakeStore())):
        agents = cache.entity("agent", model=int, ttl=10)
        assert await agents.aset("1", 7)
        assert 7 == await agents.aget("1")
        assert {"1": 7} == await agents.aget_many(["1", "2"])
        assert await agents.adelete("1")
        assert await agents.aget("1") is None


def test_an_entity_and_a_function_may_share_keys(ask: Ask) -> None:
    """What is written by hand is what the function finds."""
    cache = Cache(FakeStore())
    get = ask(cache, ttl=10, model=str)
    cache.entity("f", model=str, ttl=10).set("k", "by hand")
    assert "by hand" == get()
    cache.entity("f", model=str, ttl=10).delete("k")
    assert "k 1" == get()


def test_an_entity_survives_its_store() -> None:
    """While the store is away nothing is found, nothing raised, and what could not be written is removed."""
    here, there = FakeStore.twins(2)
    store = BrokenStore(here)
    agents, elsewhere = (Cache(each).entity("agent", model=int, ttl=10) for each in (store, there))
    agents.set("1", 1)
    store.breaks("down")
    assert agents.get("1") is None
    assert {} == agents.get_many(["1"])
    assert not agents.set("1", 2)
    assert not agents.delete("2")
    assert 1 == elsewhere.get("1")
    store.mend()
    assert elsewhere.get("1") is None


@pytest.mark.parametrize("store", [None, FakeStore], ids=["memory", "store"])
def test_what_does_not_exist_is_no_thing(store: Any, ask: Ask, origin: Origin) -> None:
    """An entity does not find what a function remembers as not existing."""
    cache = Cache(store and store())
    get = ask(cache, ttl=10, negative_ttl=10, model=str)
    origin.answer = NotFound()
    with pytest.raises(NotFound):
        get()
    things = cache.entity("f", model=str, ttl=10)
    assert things.get("k") is None
    assert {} == things.get_many(["k"])


def test_functions_of_one_key_have_the_same_tags() -> None:
    """What one function keeps must not be missed by the tags of another."""
    cache = Cache()
    cache.cached("k", ttl=1, tags=["a"])(lambda: 1)
    cache.cached("k", ttl=1, tags=["a"])(lambda: 2)
    with pytest.raises(ConfigurationError, match="different tags"):
        cache.cached("k", ttl=1)(lambda: 3)


def test_a_thing_that_cannot_be_stored_is_refused() -> None:
    """Who writes by hand is told that a value would not come back as what it is; nothing is changed."""
    from resilient_agents.cache.codec import UnfitValue

    agents: Any = Cache(FakeStore()).entity("agent", model=int, ttl=10)
    agents.set("1", 1)
    with pytest.raises(UnfitValue):
        agents.set("1", Model())
    assert 1 == agents.get("1")
