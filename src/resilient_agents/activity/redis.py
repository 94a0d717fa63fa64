"""A sink in a Redis Stream, for consumers elsewhere."""

import os
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from resilient_agents._extras import require
from resilient_agents.activity.entry import Activity
from resilient_agents.policies._parameters import whole

_SCRIPT = """
local now = tonumber(redis.call('TIME')[1])
local width = tonumber(ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - tonumber(ARGV[2]))
for first = 4, #ARGV, width do
  if redis.call('ZADD', KEYS[2], now, ARGV[first]) == 1 then
    redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', unpack(ARGV, first + 1, first + width - 1))
  end
end
redis.call('EXPIRE', KEYS[2], 2 * tonumber(ARGV[2]))
return #ARGV
"""

SEEN_FOR = 3600
"""Time in seconds for which Redis remembers what it has taken, to take nothing twice."""


class RedisSink:
    """Adds entries to a Redis Stream (``XADD``), each once.

    What has been taken is remembered for an hour, in a sorted set beside the stream: a batch of which we
    never heard whether it arrived may be sent again.

    Args:
        url: The address, as in ``redis://localhost/0``.
        stream: Key of the stream. The default is ``"activity"``.
        max_length: About how many entries the stream keeps (``MAXLEN ~``). The default is 100000.
        timeout: Time in seconds for each step on the socket. The default is 2.
        name: What events and statistics call it. The default is made of the address, without its password.

    Raises:
        MissingExtra: The package ``redis`` is not installed.
        ValueError: The address cannot be read, or a parameter is out of range.
    """

    def __init__(
        self,
        url: str,
        *,
        stream: str = "activity",
        max_length: int = 100_000,
        timeout: float = 2.0,
        name: str | None = None,
    ) -> None:
        self._module: Any = require("redis", extra="redis", feature="an activity log in Redis")
        self._url, self._timeout = url, timeout
        self._stream = stream
        self._seen = f"{{{stream}}}:seen"  # in the same slot of a cluster
        self._max_length = whole("max_length", max_length, "entries")
        self.name = f"{_place(url)}/{stream}" if name is None else name
        self._connect()

    def write(self, batch: Sequence[Activity]) -> None:
        """Add a batch in one round trip, all or nothing."""
        arguments: list[object] = [self._max_length, SEEN_FOR, 0]
        for entry in batch:
            fields = [(key, "" if value is None else value) for key, value in entry._asdict().items()]
            arguments.append(f"{entry.source}/{entry.id}")
            arguments += [part for field in fields for part in field]
        arguments[2] = (len(arguments) - 3) // len(batch)
        self._script(keys=[self._stream, self._seen], args=arguments)

    def close(self) -> None:
        """Close the connection. A later batch opens it again."""
        self._client.close()

    def after_fork_in_child(self) -> None:
        """Leave the parent its connection."""
        self._inherited, self._pid = self._client, os.getpid()
        self._connect()

    def _connect(self) -> None:
        redis = self._module
        self._client = redis.Redis.from_url(
            self._url,
            socket_timeout=self._timeout,
            socket_connect_timeout=self._timeout,
            retry=redis.retry.Retry(redis.backoff.NoBackoff(), 0),
        )
        self._script = self._client.register_script(_SCRIPT)


def _place(url: str) -> str:
    """Return an address without what is secret in it."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{host}{port}{parts.path}"
