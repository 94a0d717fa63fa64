"""How an entry is kept in the store: in front of the envelope, what it is and the marks it was made under.

One byte says what it is, one how many marks follow; each mark is its length in one byte and its bytes.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from resilient_agents._clock import clock
from resilient_agents.cache._entry import Entry, Missing, monotonic

if TYPE_CHECKING:
    from resilient_agents.cache._plan import Plan

_VALUE, _MISSING = b"v", b"n"


class Refused(Exception):
    """What the store has for a key is no entry that counts; *reason* as in `CacheMiss`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def seal(plan: "Plan", key: str, entry: Entry) -> bytes:
    """Return *entry* as bytes.

    Raises:
        UnfitValue: The value cannot be written such that it comes back as what it is.
    """
    ahead = clock().time() - monotonic()
    times = {
        "created": entry.born + ahead,
        "soft_expiry": entry.soft + ahead,
        "hard_expiry": entry.soft + plan.freshness.grace(entry.value) + ahead,
        "cost": entry.cost,
    }
    if isinstance(entry.value, Missing):
        kind, body = _MISSING, _missing().encode(tuple(entry.value), key, **times)
    else:
        kind, body = _VALUE, plan.codec.encode(entry.value, key, **times)
    return b"".join((kind, _spell(entry.marks), body))


def _spell(marks: Sequence[bytes]) -> bytes:
    return bytes((len(marks),)) + b"".join(bytes((len(mark),)) + mark for mark in marks)


def unseal(plan: "Plan", key: str, tags: Sequence[str], data: bytes, marks: Sequence[bytes | None]) -> Entry:
    """Return the entry that was sealed.

    Args:
        plan: The function's settings.
        key: The key under which it was found.
        tags: The marks of its tags, by name.
        data: The bytes.
        marks: The versions of the tags now.

    Raises:
        Refused: It does not count: it cannot be read, its time is over, or a tag was invalidated since.
    """
    from resilient_agents.cache.codec import Unreadable, peek_header

    seen = b"\0" if not marks else _spell([mark or b"" for mark in marks])
    start = 1 + len(seen)
    try:
        if not data.startswith(seen, 1):
            ours = data[:1] in (_VALUE, _MISSING) and data[1:2] == seen[:1]
            raise Refused("invalidated" if ours else "unreadable")
        if data[:1] not in (_VALUE, _MISSING):
            raise Refused("unreadable")
        body = data[start:]
        header = peek_header(body)
        now, wall = monotonic(), clock().time()
        if wall >= header.hard_expiry:
            raise Refused("expired")
        codec = _missing() if data[0] == _MISSING[0] else plan.codec
        value: Any = codec.decode(body, key)
    except Unreadable as exc:
        raise Refused("unreadable") from exc
    if codec is not plan.codec:
        value = Missing(*value)
    life = header.soft_expiry - header.created
    return Entry(
        value,
        born=now - max(0.0, wall - header.created),
        # A machine whose clock is ahead of ours does not make its entries live longer here.
        soft=now + min(header.soft_expiry - wall, life),
        cost=header.cost,
        tags=tags,
        marks=tuple(mark or b"" for mark in marks),
    )


def _missing() -> Any:
    from resilient_agents.cache.codec import Codec

    global _codec
    if _codec is None:
        _codec = Codec(tuple[str, str])
    return _codec


_codec: Any = None
