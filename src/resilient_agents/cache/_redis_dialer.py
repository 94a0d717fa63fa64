"""How a connection to Redis is made: by redis-py, in a thread of its own, so that nobody waits for it."""

from collections.abc import Callable
from copy import copy
from threading import Thread
from typing import Any

from resilient_agents._extras import require

CONNECT_PATIENCE = 1.0
"""Time in seconds for each step of making a connection. No caller waits for it longer than his budget."""

_NOT_COPIED = (
    "cache",
    "driver_",
    "event_",
    "himport",
    "lib_",
    "maint",
    "orig_",
    "oss_",
    "parser_",
    "command_",
)
"""What settings of a client begin with that belong to its own pool, or to the client itself."""

_FEATURE = "RedisStore"


class Dialer:
    """Makes connections with the settings of an address or of a client, which itself stays as it is.

    Args:
        redis: The address, or a client of one server, of a Sentinel or of a cluster.

    Attributes:
        address: Host and port.
        where: The server, in words without secrets.
        is_cluster: Whether it is one of a cluster.

    Raises:
        MissingExtra: The package ``redis`` is not installed.
        TypeError: *redis* is neither an address nor a client that can be used.
        ValueError: The address cannot be read.
    """

    def __init__(self, redis: object) -> None:
        self._module: Any = require("redis", extra="redis", feature=_FEATURE)
        self.is_cluster = isinstance(redis, self._module.cluster.RedisCluster)
        pool = self._pool(redis)
        self._owner = redis  # a Sentinel's pool is held weakly by its connections
        self._kind = self._blocking_kind(pool.connection_class)
        self._settings = self._settings_from(dict(pool.connection_kwargs))
        self.address = self._settings.get("host") or "localhost", int(self._settings.get("port") or 6379)
        name = getattr(pool, "service_name", None) or self._settings.get("path")
        self.where = str(name or "{}:{}".format(*self.address))

    def to(self, host: str, port: int) -> "Dialer":
        """Return one that makes connections with the same settings to another server of a cluster."""
        other = copy(self)
        other.address, other.where = (host, port), f"{host}:{port}"
        other._settings = {**self._settings, "host": host, "port": port}
        return other

    def dial(self) -> Any:
        """Return a new connection that is logged in. Blocks.

        Raises:
            Exception: Whatever the client raises.
        """
        connection = self._kind(**self._settings)
        connection.connect()
        return connection

    def dial_later(self, then: Callable[[Any], object]) -> None:
        """Make a connection in a thread, and call *then* there, with it or with the exception.

        Raises:
            RuntimeError: There are no more threads, or the process ends.
        """
        Thread(target=self._dial_for, args=(then,), name="resilient-agents-dialer", daemon=True).start()

    def _dial_for(self, then: Callable[[Any], object]) -> None:
        try:
            made = self.dial()
        except Exception as exc:
            made = exc
        then(made)

    def _pool(self, redis: Any) -> Any:
        if isinstance(redis, str):
            return self._module.ConnectionPool.from_url(redis)
        if isinstance(redis, (self._module.Redis, self._module.asyncio.Redis)):
            return redis.connection_pool
        if self.is_cluster:
            return redis.get_redis_connection(redis.get_primaries()[0]).connection_pool
        kind = f"{type(redis).__module__}.{type(redis).__qualname__}"
        raise TypeError(
            f"{_FEATURE} takes the address of a Redis server, as in redis://localhost/0, or a client "
            f"redis.Redis, redis.asyncio.Redis or redis.RedisCluster, not {kind}"
        )

    def _blocking_kind(self, kind: type) -> Any:
        """Return the blocking twin of an awaiting kind of connection."""
        if kind.__module__.startswith("redis.asyncio"):
            for module in ("redis.connection", "redis.sentinel"):
                twin = getattr(require(module, extra="redis", feature=_FEATURE), kind.__name__, None)
                if twin is not None and "Sentinel" not in kind.__name__:
                    return twin
        elif hasattr(kind, "_connect"):
            return kind
        raise TypeError(
            f"{_FEATURE} cannot make connections like {kind.__module__}.{kind.__qualname__}: "
            f"give it the address, or a blocking client"
        )

    def _settings_from(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Return *settings* of a connection, with no retries, our timeouts and a short greeting."""
        greeting = {"lib_name": None, "lib_version": None}
        if hasattr(self._module, "DriverInfo"):
            greeting = {"driver_info": None}
        if self.is_cluster:
            settings.pop("redis_connect_func", None)
        return {
            **{name: value for name, value in settings.items() if not name.startswith(_NOT_COPIED)},
            **greeting,
            "socket_timeout": CONNECT_PATIENCE,
            "socket_connect_timeout": CONNECT_PATIENCE,
            "health_check_interval": 0,
            "retry": self._module.retry.Retry(self._module.backoff.NoBackoff(), 0),
            "retry_on_error": [],
            "retry_on_timeout": False,
            "protocol": 2,
        }
