"""What type checkers see of the cache. Nothing here is run: ``mypy`` and ``basedpyright`` read it."""

from typing import Any, assert_type

from resilient_agents.cache import AsyncCached, Cache, Cached, CacheStats, Entity, Miss

cache = Cache("redis://localhost/0", prefix="svc", local_ttl=2.0)


@cache.cached("agent:{agent_id}", ttl=600, stale=3600, tags=["org:{org_id}"], negative_ttl=30)
async def get_agent(org_id: str, agent_id: int = 1) -> dict[str, int] | None:
    """Be awaited."""
    return {org_id: agent_id}


@cache.cached(ttl=60, model=list, condition=bool)
def list_agents(org_id: str, *, limit: int = 10) -> list[str]:
    """Block."""
    return [org_id] * limit


class Agents:
    """Have methods."""

    @cache.cached("agents:{agent_id}", ttl=60)
    def get(self, agent_id: str) -> str:
        """Block."""
        return agent_id

    @cache.cached("agents:{agent_id}:async", ttl=60)
    async def aget(self, agent_id: str) -> str:
        """Be awaited."""
        return agent_id


@cache.invalidates("agent:{agent_id}", tags=["org:{org_id}"])
async def rename_agent(org_id: str, agent_id: int, name: str) -> bool:
    """Change something."""
    return bool(org_id and agent_id and name)


def blocking(cached: Cached[[str], str]) -> str:
    """Take a cached function."""
    return cached("a") if cached.invalidate("a") else cached.refresh("a")


async def use() -> None:
    """Use all of it."""
    assert_type(await get_agent("1", agent_id=2), dict[str, int] | None)
    assert_type(await get_agent.refresh("1"), dict[str, int] | None)
    assert_type(await get_agent.peek("1"), dict[str, int] | Miss | None)
    assert_type(await get_agent.invalidate("1", 2), bool)
    assert_type(get_agent.key_for("1", 2), str)
    assert_type(list_agents("1", limit=3), list[str])
    assert_type(list_agents.peek("1"), list[str] | Miss)
    assert_type(Agents().get("1"), str)
    assert_type(Agents().get.peek("1"), str | Miss)
    assert_type(await Agents().aget("1"), str)
    assert_type(await Agents().aget.invalidate("1"), bool)
    assert_type(await rename_agent("1", 2, name="x"), bool)
    assert_type(cache.entity("agent", model=Agents, ttl=60), Entity[Agents])
    assert_type(cache.entity("agent", model=Agents, ttl=60).get("1"), Agents | None)
    assert_type(await cache.entity("agent", model=Agents, ttl=60).aget_many(["1"]), dict[Any, Agents])
    assert_type(cache.invalidate("agent:{agent_id}", agent_id=1), bool)
    assert_type(await cache.ainvalidate_tag("org:1"), bool)
    assert_type(cache.stats(), CacheStats)
    await get_agent(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    list_agents("1", 3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


_awaiting: AsyncCached[[str, int], dict[str, int] | None] = get_agent
