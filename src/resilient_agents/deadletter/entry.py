"""What a dead-letter queue holds, and what its users get back: plain frozen values."""

import hashlib
import json
import os
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Generic, TypeAlias, TypeVar

from resilient_agents._clock import clock
from resilient_agents.errors import PayloadTooLarge, ValidationFailed

R = TypeVar("R")

KEY_LIMIT = 200

NESTING_LIMIT = 100
"""How deep a payload may be nested, so that it can be decoded wherever it could be encoded."""

# Sorted, so that equal payloads are equal bytes, and have equal digests.
_JSON = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True)


# Each read of the system's randomness hands the interpreter lock to another thread; this does not.
_random = random.Random()  # noqa: S311
os.register_at_fork(after_in_child=_random.seed)


class State(StrEnum):
    """Where an entry is in its life."""

    PENDING = "pending"
    """Accepted, never tried."""
    LEASED = "leased"
    """A worker is at it, until its lease expires."""
    SCHEDULED = "scheduled"
    """A failure that may pass; tried again when due."""
    UNCERTAIN = "uncertain"
    """It may have arrived: it is looked for before anything is sent again."""
    PARKED = "parked"
    """A person must look. Never expires by itself."""
    DELIVERED = "delivered"
    """Confirmed by the target; only its line in the ledger is kept."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One piece of work that must arrive. Its ``repr`` does not show the payload.

    Attributes:
        id: Number in its queue.
        topic: What kind of work it is; decides who handles it.
        key: Idempotency key, unique within the topic.
        ordering_key: Entries of one topic with the same ordering key are delivered in the order of
            acceptance, one at a time. *None* means no order.
        payload: The work itself. Empty once delivered.
        state: Where it is in its life.
        due: When it is to be tried next, in seconds since the epoch.
        attempts: How many tries to deliver it, or to find it, ended, well or not.
        errors: How many of them are held against the entry; an outage of the target is not.
        crashes: How many times a worker died, or lost its lease, while at it.
        token: The fencing token of the newest lease.
        lease_until: When that lease expires, in seconds since the epoch, or *None*.
        sent_at: When it may last have been sent without an answer, in seconds since the epoch; *None*
            when it provably has not arrived.
        code: The code of the last failure, like ``"external.timeout"``, or *None*.
        last_error: What went wrong last, redacted, or *None*.
        reference: What the target calls it (the CRM's id), once delivered.
        created: When it was accepted, in seconds since the epoch.
        updated: When it last changed, leases aside, in seconds since the epoch.
    """

    id: int
    topic: str
    key: str
    ordering_key: str | None
    payload: Mapping[str, Any] = field(repr=False)
    state: State
    due: float
    attempts: int = 0
    errors: int = 0
    crashes: int = 0
    token: int = 0
    lease_until: float | None = None
    sent_at: float | None = None
    code: str | None = None
    last_error: str | None = None
    reference: str | None = None
    created: float
    updated: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivered(Generic[R]):
    """The work arrived.

    Attributes:
        entry_id: The entry's number in its queue.
        reference: What the target calls it (the CRM's id), or *None*.
        value: What the function returned, or *None* when it had arrived before this call.
    """

    entry_id: int
    reference: str | None
    value: R | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Queued:
    """The work is safe on disk: it will be delivered later, or waits for a person when *state* is parked.

    Attributes:
        entry_id: The entry's number in its queue.
        due: When it is to be tried next, in seconds since the epoch.
        state: Where it is in its life.
        code: Why it was not delivered at once, as a failure's code, or *None* when it was not tried.
    """

    entry_id: int
    due: float
    state: State
    code: str | None = None


Receipt: TypeAlias = Delivered[R] | Queued


@dataclass(frozen=True, kw_only=True, slots=True)
class Stats:
    """What a queue holds right now.

    Attributes:
        states: How many entries are in each state; delivered ones are counted in the ledger.
        oldest: When the oldest entry that is neither delivered nor parked was accepted, in seconds since
            the epoch, or *None* when there is none.
    """

    states: Mapping[State, int]
    oldest: float | None

    @property
    def waiting(self) -> int:
        """How many entries are still to be delivered, parked ones not counted."""
        done = (State.DELIVERED, State.PARKED)
        return sum(count for state, count in self.states.items() if state not in done)


def check_label(value: object, *, field: str) -> str:
    """Return *value* if it can name a topic or a key.

    Raises:
        ValidationFailed: It is not a text of 1 to 200 characters, or holds a control character.
    """
    if not isinstance(value, str) or not 0 < len(value) <= KEY_LIMIT or not value.isprintable():
        problem = f"must be a printable text of 1 to {KEY_LIMIT} characters"
        raise ValidationFailed(
            f"{field} {problem}", errors=[{"loc": [field], "msg": problem, "type": "label"}]
        )
    return value


def new_key() -> str:
    """Return a random key that sorts by time, so that an index of many stays compact (RFC 9562, UUIDv7)."""
    return f"{int(clock().time() * 1000):012x}{_random.getrandbits(80):020x}"


def encode(payload: Mapping[str, Any], *, limit: int) -> bytes:
    """Return *payload* as JSON.

    Args:
        payload: A mapping of JSON values.
        limit: Greatest size of the result, in bytes.

    Raises:
        ValidationFailed: It holds something that JSON cannot hold.
        PayloadTooLarge: The result is over *limit*.
    """
    try:
        if not isinstance(payload, Mapping):
            raise TypeError(f"{type(payload).__name__} is not a mapping")
        data = _JSON.encode(dict(payload)).encode()
    except UnicodeEncodeError:
        raise _unfit("holds text that is not valid Unicode") from None
    except RecursionError:
        raise _unfit("is nested too deeply") from None
    except ValueError as exc:
        raise _unfit(_reason(str(exc))) from None
    except TypeError as exc:
        raise _unfit(f"cannot be stored as JSON: {exc}") from None
    if len(data) > limit:
        raise PayloadTooLarge(
            f"payload has {len(data)} bytes, and the limit is {limit}: keep large parts elsewhere",
            errors=[{"loc": ["payload"], "msg": f"larger than {limit} bytes", "type": "too_large"}],
        )
    if data.count(b"{") + data.count(b"[") > NESTING_LIMIT and _depth(payload) > NESTING_LIMIT:
        raise _unfit("is nested too deeply")
    return data


def digest(data: bytes) -> bytes:
    """Return what tells two payloads under one key apart, once the payload itself is gone."""
    return hashlib.blake2b(data, digest_size=16).digest()


def _depth(payload: Mapping[str, Any]) -> int:
    """Return how deep *payload* is nested; 1 when it holds no other collection."""
    depth, level = 0, [list(payload.values())]
    while level:
        depth += 1
        inner = [value for outer in level for value in outer if isinstance(value, dict | list | tuple)]
        level = [list(value.values()) if isinstance(value, dict) else list(value) for value in inner]
    return depth


def _reason(refusal: str) -> str:
    """Return what the JSON encoder's *refusal* means."""
    if "Circular" in refusal:
        return "refers to itself"
    return "holds NaN or infinity" if "float" in refusal else "holds a number with too many digits"


def _unfit(problem: str) -> ValidationFailed:
    return ValidationFailed(
        f"payload {problem}", errors=[{"loc": ["payload"], "msg": problem, "type": "json"}]
    )
