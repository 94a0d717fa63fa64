"""The way to Redis: one script, one round trip, no patience; and what is known of whether Redis answers."""

from collections.abc import Sequence
from math import inf
from random import random
from threading import Lock
from typing import Any

from resilient_agents import events
from resilient_agents._clock import clock
from resilient_agents._extras import require
from resilient_agents.errors import classify

LONGEST_PAUSE = 30.0
"""Time in seconds that the pauses between two looks at a dead Redis grow to."""

_NOT_COPIED = ("cache", "himport", "maint_", "orig_")
"""What settings of a client begin with that belong to its own pool, or let the server prolong a timeout."""


class Link:
    """One script at one Redis, and whether it answers.

    While Redis is lost, nobody asks it until a pause has passed. The pauses double, and are jittered, so
    that the processes that lost it together do not come back together.

    Args:
        redis: The address, or a client whose settings are taken over.
        script: The text of the script.
        timeout: Time in seconds for each step on the socket.
        first_pause: Time in seconds before the first new look at a Redis that is lost.
        policy: The kind of policy, for events.
        name: The policy's own name, for events.
        feature: Who needs Redis, for messages.

    Attributes:
        up: Whether Redis is believed to answer.
        retry_at: When it is asked again if it does not, on the monotonic clock.

    Raises:
        MissingExtra: The package ``redis`` is not installed.
        TypeError: *redis* is neither an address nor a blocking client of one server.
        ValueError: The address cannot be read.
    """

    def __init__(
        self,
        redis: object,
        script: str,
        *,
        timeout: float,
        first_pause: float,
        policy: str,
        name: str,
        feature: str,
    ) -> None:
        self._module: Any = require("redis", extra="redis", feature=feature)
        self._pool = _pool(self._module, redis, feature)
        self._settings = _impatient(self._module, self._pool.connection_kwargs, timeout)
        self._script = script
        self._first_pause = first_pause
        self._who = {"policy": policy, "name": name}
        self.renew()

    def renew(self) -> None:
        """Begin anew, as in a forked child: no socket and no lock is shared with the parent."""
        self.up = True
        self.retry_at = -inf
        self._losses = 0
        self._lock = Lock()
        pool = self._module.ConnectionPool(
            connection_class=self._pool.connection_class, max_connections=2**31, **self._settings
        )
        self._client = self._module.Redis(connection_pool=pool)
        self._sha = self._client.register_script(self._script).sha

    def call(self, keys: Sequence[str], args: Sequence[object]) -> Any:
        """Run the script, in one round trip if the server knows it already.

        Raises:
            Exception: Whatever the client raises; hand it to `lost`.
        """
        try:
            return self._client.evalsha(self._sha, len(keys), *keys, *args)
        except self._module.exceptions.NoScriptError:
            return self._client.eval(self._script, len(keys), *keys, *args)

    def close(self) -> None:
        """Close the sockets. A later call opens new ones."""
        self._client.connection_pool.disconnect()

    def due(self) -> bool:
        """Tell whether it is time to look whether a lost Redis is back."""
        return not self.up and clock().monotonic() >= self.retry_at

    def lost(self, exc: Exception) -> None:
        """Note that Redis did not answer. Those who find out together count as one."""
        now = clock().monotonic()
        with self._lock:
            news = self.up
            if not news and now < self.retry_at:
                return
            longest = min(LONGEST_PAUSE, self._first_pause * 2**self._losses)
            self._losses = min(self._losses + 1, 32)
            self.retry_at = now + longest * (1 + random()) / 2  # noqa: S311 - a wait is no secret
            self.up = False
        if news:
            events.emit(events.SharedStateLost, failure=classify(exc), **self._who)

    def answered(self) -> None:
        """Note that Redis answered one who looked whether it does."""
        with self._lock:
            news, self.up, self._losses = not self.up, True, 0
        if news:
            events.emit(events.SharedStateRestored, **self._who)


def _pool(module: Any, redis: Any, feature: str) -> Any:
    """Return the pool of connections that *redis* stands for."""
    if isinstance(redis, str):
        return module.ConnectionPool.from_url(redis)
    if isinstance(redis, module.Redis):
        pool = redis.connection_pool
        if type(pool) in (module.ConnectionPool, module.BlockingConnectionPool):
            return pool
    raise TypeError(
        f"{feature} takes the address of a Redis server, as in redis://localhost/0, or a blocking "
        f"redis.Redis client of one server, not {type(redis).__module__}.{type(redis).__qualname__}"
    )


def _impatient(module: Any, settings: dict[str, Any], timeout: float) -> dict[str, Any]:
    """Return *settings* of a connection, with no retries and with our timeout."""
    return {
        **{name: value for name, value in settings.items() if not name.startswith(_NOT_COPIED)},
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "health_check_interval": 0,
        "retry": module.retry.Retry(module.backoff.NoBackoff(), 0),
        "retry_on_error": [],
        "retry_on_timeout": False,
        "protocol": 2,  # the answers are whole numbers, and nobody may prolong the timeout
    }


def whole(name: str, value: object, unit: str) -> int:
    """Return *value*, the parameter *name*, if it is a whole number of 1 or more."""
    if type(value) is not int:
        raise TypeError(f"{name} must be a whole number of {unit}, not {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be 1 or more {unit}, not {value}")
    return value


def duration(name: str, value: float) -> float:
    """Return *value*, the parameter *name*, if it is a time in seconds that is more than 0."""
    if not 0 < value < inf:
        raise ValueError(f"{name} must be a time of more than 0 seconds, not {value!r}")
    return value


def label(name: str, value: object) -> str:
    """Return *value*, the parameter *name*, if it may be a part of the name of a key in Redis."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a text, not {value!r}")
    if not value or "{" in value or "}" in value:
        raise ValueError(f"{name} must be a text without braces that is not empty, not {value!r}")
    return value
