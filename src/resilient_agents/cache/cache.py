"""`Cache`: values that were loaded once, in memory, in Redis or both."""

from collections.abc import Callable, Sequence
from math import inf
from random import random
from typing import TYPE_CHECKING, Any, TypeVar, cast

from resilient_agents._flow import arun, run
from resilient_agents.cache._entry import Freshness
from resilient_agents.cache._functions import Function, cached
from resilient_agents.cache._memory import Memory
from resilient_agents.cache._names import Names
from resilient_agents.cache._plan import Plan
from resilient_agents.cache._powers import ClassMethod, with_powers
from resilient_agents.cache._settings import Settings, freshness
from resilient_agents.cache._tiers import Tiers
from resilient_agents.cache._ways import AWAITING_WAY, BLOCKING_WAY
from resilient_agents.cache.cached import Caching
from resilient_agents.cache.entity import Entity
from resilient_agents.cache.invalidation import Invalidates
from resilient_agents.cache.keys import literal_key
from resilient_agents.cache.stats import CacheStats
from resilient_agents.errors import ConfigurationError
from resilient_agents.policies._deadline import bounded
from resilient_agents.policies._functions import must_be_awaited, name_of, refuse_class
from resilient_agents.policies._parameters import patience, whole

if TYPE_CHECKING:
    from resilient_agents.cache.codec import Cipher

M = TypeVar("M")


class Cache:
    """Values that were loaded once, in the memory of this process, in Redis, or in both.

    Without a *store* everything is in memory. With one, processes share what they load; *local_ttl* keeps a
    copy in memory in front of it, so that most hits need no network::

        cache = Cache("redis://localhost/0", prefix="svc", local_ttl=2.0)

        @cache.cached("agent:{agent_id}", ttl=600, stale=3600)
        async def get_agent(agent_id: str) -> Agent: ...

    A store that is slow, hung, full, damaged or gone never fails a call and costs it *budget* at most: the
    call is answered from memory, or by the function itself. Values that come from memory are not copied;
    treat them as unchangeable.

    Args:
        store: The address of a Redis server, as in ``redis://localhost/0``, a client of redis-py whose
            settings are taken over, or a `Store`. The default is *None*: memory alone.
        prefix: What all keys begin with. Caches with the same prefix share their entries. The default is
            ``"cache"``.
        local_ttl: Time in seconds for which a copy in memory answers without a look at the store; no
            invalidation is missed for longer. The default is *None*: with a store, no copies are kept.
        local_entries: How many entries memory holds at most. The default is 10000.
        budget: Time in seconds that the store may take of one call, all its operations together. The
            default is 0.05.
        tenant: Name of an argument that every key must hold, such as ``"org_id"``. The default is none.
        jitter: What part of a time to live is random, from 0 to 1, so that entries that were loaded together
            do not end together. They only ever end earlier. The default is 0.1.
        lease: Time in seconds for which one process has the right to load a key, and for which others wait
            for it before they load by themselves. Once it is known how long loads take, others wait for twice
            that, at least for 0.5. The default is 3.0.
        throttle: Time in seconds for which a key's origin is left alone after a failure, where an old value
            can stand in. The default is 1.0.
        origin_limit: How many loads of one function run at a time while the store is away; further ones wait
            in a line. The default is 100.
        cipher: What encrypts the values in the store. The default is none.
        compress_over: Size in bytes above which a value in the store is compressed. The default is none.
        chance: Returns a random number from 0 to below 1; for tests. The default is `random.random`.

    Raises:
        ConfigurationError: The prefix holds braces.
        MissingExtra: The package ``redis`` is not installed.
        TypeError: A parameter is of a wrong type.
        ValueError: A parameter is out of range, or the address cannot be read.
    """

    def __init__(
        self,
        store: Any = None,
        *,
        prefix: str = "cache",
        local_ttl: float | None = None,
        local_entries: int = 10_000,
        budget: float = 0.05,
        tenant: str | None = None,
        jitter: float = 0.1,
        lease: float = 3.0,
        throttle: float = 1.0,
        origin_limit: int = 100,
        cipher: "Cipher | None" = None,
        compress_over: int | None = None,
        chance: Callable[[], float] = random,
    ) -> None:
        self._settings = Settings(
            prefix=prefix,
            budget=budget,
            tenant=tenant,
            jitter=jitter,
            lease=lease,
            throttle=throttle,
            origin_limit=whole("origin_limit", origin_limit, "loads"),
            cipher=cipher,
            compress_over=compress_over,
            chance=chance,
        )
        self._names = Names(prefix, tenant)
        limit = whole("local_entries", local_entries, "entries")
        local = patience("local_ttl", local_ttl)
        if local is not None and store is None:
            raise ValueError(
                "local_ttl is for copies in front of a store: give its address, or leave local_ttl out"
            )
        shared = self._settings.store(store)
        self._tiers = Tiers(
            prefix,
            memory=Memory(limit) if shared is None or local is not None else None,
            store=shared,
            budget=budget,
            local_ttl=inf if local is None else local,
            lease=lease,
        )

    def __repr__(self) -> str:
        tiers = self._tiers
        names = ["memory"] * (tiers.memory is not None) + ["store"] * (tiers.store is not None)
        return f"Cache(prefix={tiers.name!r}, {' and '.join(names)})"

    def cached(
        self,
        key: str | None = None,
        *,
        ttl: float,
        stale: float = 0.0,
        stale_if_error: float | None = None,
        early: float = 0.0,
        negative_ttl: float | None = None,
        tags: Sequence[str] = (),
        model: Any = None,
        condition: Callable[[Any], object] | None = None,
        soft_timeout: float | None = None,
        timeout: float | None = None,
    ) -> Caching:
        """Return a decorator that caches what a function returns; a ``def``, an ``async def`` or a method.

        Of calls with the same key only one loads at a time, the others wait for it. A call whose value is not
        there gets what the function returns or raises; what *None* means is up to you, it is cached too.

        Args:
            key: The key, with arguments in braces, as in ``"agent:{agent_id}"``. The default is made of the
                function's qualified name and all arguments; methods need a key.
            ttl: Time in seconds for which a value is fresh.
            stale: Time in seconds after that in which a call is answered with the old value at once, while a
                new one is loaded in the background. The default is 0.0.
            stale_if_error: Time in seconds after *ttl* in which the old value stands in when the function
                fails for a reason that passes: an outage, a limit, a time that is up. It never hides that
                something does not exist, is not allowed or is wrong. The default is *stale*.
            early: How eagerly a value is loaded anew in the background before its time is over; the beta of
                XFetch. 1.0 is right for most, 0.0 is never. The default is 0.0.
            negative_ttl: Time in seconds for which it is remembered that something does not exist: that the
                function returned *None*, or failed so that `classify` says ``not_found``. Such a failure is
                then always a `NotFound`, in place of the function's own exception. The default is *None*:
                failures are not remembered, and *None* is a value like any other.
            tags: What the value is about, as in ``["org:{org_id}"]``, for `invalidate_tag`.
            model: The type of the values in the store. The default is what the function's annotation says.
            condition: Called with a value that was loaded; where it says no, it is not kept.
            soft_timeout: Time in seconds after which a call is answered with an old value, if there is one
                that may stand in; the load goes on. The default is *None*: calls wait.
            timeout: Time in seconds for a load, as `timeout` keeps it. The default is no limit.

        Raises:
            ConfigurationError: The key or a tag is wrong, or the tenant is missing from it.
            TypeError: A parameter is of a wrong type, or it is put on what is no function.
            ValueError: A parameter is out of range.
        """
        if callable(key):
            raise TypeError("write @cache.cached(ttl=seconds): how long a value is fresh has no default")
        ages = freshness(
            self._settings,
            ttl=ttl,
            stale=stale,
            stale_if_error=stale_if_error,
            early=early,
            negative_ttl=negative_ttl,
        )
        patience("soft_timeout", soft_timeout)
        patience("timeout", timeout)
        if isinstance(tags, str):
            raise TypeError(f"tags is a list of texts, as in [{tags!r}]")

        def decorate(fn: Any) -> Any:
            if isinstance(fn, classmethod):
                made = decorate(fn.__func__)
                return ClassMethod(getattr(made, "func", made))
            refuse_class(fn, "cached")
            awaited = must_be_awaited(fn, "cached")
            plan = self._plan(name_of(fn), ages, condition, soft_timeout)
            if self._tiers.store is not None:
                plan.codec = self._settings.codec_of(fn, model)
            key_of, tags_of = self._names.of_calls(fn, key, tags)
            function = Function(
                self._tiers,
                plan,
                fn if timeout is None else bounded(fn, timeout, awaited=awaited),
                key_of=key_of,
                tags_of=tags_of,
                awaited=awaited,
            )
            return with_powers(function, fn, cached(function))

        return cast("Caching", decorate)

    def _plan(
        self,
        name: str,
        ages: Freshness,
        condition: Callable[[Any], object] | None = None,
        soft_timeout: float | None = None,
    ) -> Plan:
        return Plan(
            name,
            ages,
            condition=condition,
            soft_timeout=soft_timeout,
            origin_limit=self._settings.origin_limit,
        )

    def invalidates(self, *keys: str, tags: Sequence[str] = ()) -> Invalidates:
        """Return a decorator that invalidates keys and tags once a function has changed what they stand for.

        It does so when the function has returned, and when it failed so that nobody knows whether it was
        executed; not when it failed for sure::

            @cache.invalidates("agent:{agent_id}")
            async def update_agent(agent_id: str, patch: Patch) -> Agent: ...

        Args:
            *keys: Keys, with arguments of the function in braces.
            tags: Tags, with arguments of the function in braces. The default is none.

        Raises:
            TypeError: Neither is given.
        """
        if (not keys and not tags) or callable(next(iter(keys), None)):
            raise TypeError('write @cache.invalidates("agent:{agent_id}"): it takes keys, or tags=[...]')
        if isinstance(tags, str):
            raise TypeError(f"tags is a list of texts, as in [{tags!r}]")
        return Invalidates(self._tiers, self._names, keys, tags)

    def entity(self, name: str, *, model: type[M], ttl: float) -> Entity[M]:
        """Return the entries of one kind of thing, by id, for repositories that read and write by hand.

        Args:
            name: What the keys begin with: the thing with the id ``"42"`` has the key ``agent:42``.
            model: The type of the values.
            ttl: Time in seconds for which a value is kept.

        Raises:
            ConfigurationError: The name cannot be part of a key, or every key must hold a tenant.
            ValueError: *ttl* is out of range.
        """
        if self._settings.tenant is not None:
            raise ConfigurationError(
                f"every key of this cache is made of {self._settings.tenant!r}, and an entity's is not: make "
                "it of a cache without a tenant, or cache a function"
            )
        literal_key(name, prefix=self._tiers.name)
        plan = self._plan(name, freshness(self._settings, ttl=ttl))
        if self._tiers.store is not None:
            plan.codec = self._settings.codec(model)
        return Entity(self._tiers, plan, name)

    def invalidate(self, key: str, /, **arguments: object) -> bool:
        """Invalidate one key, in every process.

        Args:
            key: The key without the prefix, as in ``"agent:42"``, or whole, as ``key_for`` returns it; or a
                template, as in ``invalidate("agent:{agent_id}", agent_id=42)``. Only the template knows that
                the number 42 is another key than the text ``"42"``.
            **arguments: What the template names.

        Returns:
            Whether the store knows; else it is told as soon as it answers again.

        Raises:
            ConfigurationError: The key is wrong, or an argument is missing or not named.
            UnfitKey: An argument cannot be part of a key.
        """
        return run(self._tiers.invalidate((self._names.key(key, arguments),), (), BLOCKING_WAY))

    async def ainvalidate(self, key: str, /, **arguments: object) -> bool:
        """Invalidate one key; the awaiting twin of `invalidate`."""
        return await arun(self._tiers.invalidate((self._names.key(key, arguments),), (), AWAITING_WAY))

    def invalidate_tag(self, tag: str, /, **arguments: object) -> bool:
        """Invalidate all entries that have a tag, in every process.

        Args:
            tag: The tag, as in ``"org:1"``; or a template, as for `invalidate`.
            **arguments: What the template names.

        Returns:
            Whether the store knows; else it is told as soon as it answers again.

        Raises:
            ConfigurationError: The tag is wrong, or an argument is missing or not named.
            UnfitKey: An argument cannot be part of a tag.
        """
        return run(self._tiers.invalidate((), (self._names.tag(tag, arguments),), BLOCKING_WAY))

    async def ainvalidate_tag(self, tag: str, /, **arguments: object) -> bool:
        """Invalidate all entries that have a tag; the awaiting twin of `invalidate_tag`."""
        return await arun(self._tiers.invalidate((), (self._names.tag(tag, arguments),), AWAITING_WAY))

    def stats(self) -> CacheStats:
        """Return what happened in this process since the cache was made."""
        memory = self._tiers.memory
        return self._tiers.counters.stats(0 if memory is None else len(memory.entries))

    def close(self) -> None:
        """Let go of connections and threads."""
        if self._tiers.store is not None:
            self._tiers.store.close()

    async def aclose(self) -> None:
        """Let go of connections and threads, those of the running event loop included."""
        if self._tiers.store is not None:
            await self._tiers.store.aclose()
