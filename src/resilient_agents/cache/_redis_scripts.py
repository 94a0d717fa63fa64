"""The scripts that Redis runs, each in one step that nothing comes between.

They ask for errors (``pcall``) and return them as they are, for Redis before 7 wraps those that are raised. A
key may hold anything at all, also what no cache has put there.
"""

import hashlib
from dataclasses import dataclass

from resilient_agents.cache._redis_wire import pack


@dataclass(frozen=True, slots=True)
class Script:
    """A script, known to Redis by the hash of its text."""

    text: str
    sha: str

    def __init__(self, text: str) -> None:
        object.__setattr__(self, "text", text)
        object.__setattr__(self, "sha", hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())

    def call(self, keys: tuple[bytes, ...], *args: str | bytes | int) -> "Call":
        """Return a call of it."""
        return Call(self, (len(keys), *keys, *args))


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a script, in the short form and in the long one for a Redis that does not know it."""

    script: Script
    args: tuple[str | bytes | int, ...]

    def short(self) -> bytes:
        """Return the command that names the script."""
        return pack("EVALSHA", self.script.sha, *self.args)

    def long(self) -> bytes:
        """Return the command that brings the script."""
        return pack("EVAL", self.script.text, *self.args)


CLAIM = Script("""
local lease, token, ms, take_over = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
if take_over ~= '1' then
  local set = redis.pcall('SET', lease, token, 'NX', 'PX', ms)
  if set then return set.err and set or 1 end
  if redis.pcall('GET', lease) ~= token and redis.call('PTTL', lease) >= 0 then return 0 end
end
local set = redis.pcall('SET', lease, token, 'PX', ms)
return set.err and set or 1
""")
"""Take the lease. It is taken from its own holder, whose answer was lost, and where it would never end."""

FILL = Script("""
local entry, lease, token = KEYS[1], KEYS[2], ARGV[1]
if redis.pcall('GET', lease) ~= token then return 0 end
local set = redis.pcall('SET', entry, ARGV[2], 'PX', ARGV[3])
redis.pcall('DEL', lease)
return set.err and set or 1
""")
"""Store a value and end the lease, if it is still held."""

RELEASE = Script("""
if redis.pcall('GET', KEYS[1]) == ARGV[1] then return redis.pcall('DEL', KEYS[1]) end
return 0
""")
"""End the lease, if it is still held."""

PUT = Script("""
local entry, lease = KEYS[1], KEYS[2]
local set = redis.pcall('SET', entry, ARGV[1], 'PX', ARGV[2])
if set.err then
  local removed = redis.pcall('DEL', entry, lease)
  return type(removed) == 'table' and removed or 0
end
redis.pcall('DEL', lease)
return 1
""")
"""Write a value and void the lease. Where there is no room for it, the old value goes all the same: 0."""

VOID = Script("""
return redis.pcall('DEL', KEYS[1], KEYS[2])
""")
"""Remove an entry and void the lease."""

MARK = Script("""
local removed = redis.pcall('DEL', KEYS[1])
if type(removed) == 'table' then return removed end
local now = redis.call('TIME')
local set = redis.pcall('SET', KEYS[1], ARGV[1] .. now[1] .. now[2], 'PX', ARGV[2])
return set.err and set or 1
""")
"""Write a mark, each time another one: a mark that came back after another had taken its place would bring
to life what was written with it. Who has removed something may still write when Redis is out of memory."""

SEE = Script("""
local mark = redis.pcall('GET', KEYS[1])
if type(mark) == 'string' then return mark end
local removed = redis.pcall('DEL', KEYS[1])
if type(removed) == 'table' then return removed end
local now = redis.call('TIME')
mark = ARGV[1] .. now[1] .. now[2]
local set = redis.pcall('SET', KEYS[1], mark, 'PX', ARGV[2])
return set.err and set or mark
""")
"""Read a mark before a load, or make one. What is loaded then always remembers a mark: one that Redis loses,
as when it evicts, brings nothing back to life."""
