"""What the log keeps of one action, and how it comes to be: snapshot on the caller, the rest on the worker.

The caller pays for one copy in C (`snapshot`). Names, redaction, JSON and the id are made later, from that
copy, on the worker's thread (`Clerk`).
"""

import json
import marshal
import random
import re
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from json.encoder import c_make_encoder, encode_basestring  # type: ignore[attr-defined]
from typing import Any, NamedTuple

from resilient_agents._json import encode, plain
from resilient_agents.redaction import redact, redact_value

TICKS = 4_096_000
"""How many ticks a second has: 1/4096 ms is what a UUIDv7 can hold beside its milliseconds."""

LONGEST_LABEL = 200
"""Greatest length in characters of an action, an id or a status."""

MOST_REMEMBERED = 4096
"""How many labels, keys and words the clerk knows by heart before it forgets them all."""


class Activity(NamedTuple):
    """One action on record.

    Attributes:
        id: A UUIDv7 (RFC 9562, section 5.7), as text: ids are in the order of time, and in one process in the
            order of `ActivityLog.record`.
        source: Who wrote it; *source* and *id* together are unique.
        organization_id: For which organisation; an empty text where nobody said.
        agent_id: Which agent did it, or *None*.
        action: What was done, like ``"deal.updated"``.
        status: How it ended: ``"ok"``, ``"error"``, ``"cancelled"``, or a word of yours.
        duration_ms: How long it took, in milliseconds, or *None*.
        request_id: The request that it answered, or *None*.
        job_id: The job that it was done in, or *None*.
        error_code: The failure's code, like ``"external.timeout"``, or *None*.
        error_category: The failure's category, or *None*.
        metadata: What else there is to say, as a JSON object, without secrets.
        created_at: When it was recorded, in seconds since 1970.
    """

    id: str
    source: str
    organization_id: str
    agent_id: str | None
    action: str
    status: str
    duration_ms: float | None
    request_id: str | None
    job_id: str | None
    error_code: str | None
    error_category: str | None
    metadata: str
    created_at: float


_new = tuple.__new__


def snapshot(fields: tuple[Any, ...]) -> bytes:
    """Return a copy of *fields* that nobody can change any more. It never raises.

    `marshal` copies plain data in C and runs no code of the values; what is no plain data is turned into it
    by the careful way. The copy stays in this process.
    """
    try:
        return marshal.dumps(fields)
    except Exception:
        return marshal.dumps([plain(field) for field in fields])


class Clerk:
    """Turns snapshots into activities.

    Args:
        source: Who writes.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._random = random.Random().getrandbits  # noqa: S311 - ids are unique, not secret
        self._labels = _Labels()
        self._open_keys: dict[str, None] = {}

    def activity(self, tick: int, bound: Mapping[str, str], copy: bytes) -> Activity:
        """Return what is kept of one action.

        Args:
            tick: When it was recorded, in `TICKS`.
            bound: What `correlation.current` said then.
            copy: The snapshot: action, organisation, agent, status, duration, code, category, metadata.
        """
        fields = marshal.loads(copy)  # noqa: S302 - it was made in this process
        try:
            return self._filled_in(tick, bound, fields)
        except TypeError:  # a name that is a list, and its like
            return self._filled_in(tick, bound, [*map(_as_text, fields[:4]), *fields[4:]])

    def _filled_in(self, tick: int, bound: Mapping[str, str], fields: Sequence[Any]) -> Activity:
        action, organization, agent, status, duration, code, category, metadata = fields
        labels = self._labels
        request = job = None
        if bound:
            organization = bound.get("organization_id") if organization is None else organization
            agent = bound.get("agent_id") if agent is None else agent
            request, job = labels[bound.get("request_id")], labels[bound.get("job_id")]
        return _new(
            Activity,
            (
                uuid7(tick, self._random(62)),
                self._source,
                labels[organization] or "",
                labels[agent],
                labels[action] or "",
                labels[status] or "",
                duration if type(duration) is float else _number(duration),
                request,
                job,
                code,
                category,
                self._as_json(metadata) if metadata else "{}",
                tick / TICKS,
            ),
        )

    def _as_json(self, metadata: Any) -> str:
        if type(metadata) is dict and self._harmless(metadata, MOST_LEVELS):
            try:
                return _fast(metadata)
            except ValueError:  # NaN
                return encode(metadata)
        told = redact_value(metadata)
        text = encode(told if isinstance(told, dict) else {"value": told})
        return _NUL.sub(r"\1\\ufffd", text) if "\\u0000" in text else text

    def _harmless(self, metadata: dict[Any, Any], levels: int) -> bool:
        """Tell whether redaction would change nothing, where that is quickly seen."""
        known = self._open_keys
        for key, value in metadata.items():
            if key not in known and not self._is_open(key):
                return False
            kind = type(value)
            if kind is str:
                if not (value.isalpha() or is_harmless(value)):
                    return False
            elif kind is dict:
                if not levels or not self._harmless(value, levels - 1):
                    return False
            elif kind not in _INNOCENT:
                return False
        return True

    def _is_open(self, key: Any) -> bool:
        """Tell whether anything may stand under *key*."""
        if type(key) is not str or any(redact_value({key: value}) != {key: value} for value in ("x", 1)):
            return False
        _remember(self._open_keys, key, None)
        return True


_INNOCENT = frozenset((int, float, bool, type(None)))


def _quick_encoder() -> Callable[[Any], str]:
    """Return what makes JSON of plain data; `JSONEncoder.encode` would make its encoder anew each time."""
    try:
        quick = c_make_encoder(None, None, encode_basestring, None, ":", ",", False, False, False)
    except TypeError:  # there is none in C, or another one
        return json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
    return lambda value: "".join(quick(value, 0))


_fast = _quick_encoder()

_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")
"""A character that PostgreSQL does not take, as JSON writes it."""

MOST_LEVELS = 4
"""How deep the quick look goes."""


class _Labels(dict[Any, Any]):
    """Short texts that any database takes, by what they are made of; *None* stays *None*."""

    def __missing__(self, value: Any) -> Any:
        if value is None:
            self[None] = None
            return None
        label: str = _as_text(value)
        if len(label) > LONGEST_LABEL or not label.isprintable():
            label = _shortened(label)
        if "://" in label:
            label = redact(label, limit=LONGEST_LABEL)
        if type(value) is str:
            _remember(self, value, label)
        return label


def _shortened(text: str) -> str:
    """Return a printable text of at most `LONGEST_LABEL`; two texts, as two organisations, stay two."""
    digest = blake2b(text.encode(errors="backslashreplace"), digest_size=8).hexdigest()
    visible = (letter if letter.isprintable() else "�" for letter in text[: LONGEST_LABEL - 17])
    return f"{''.join(visible)}~{digest}"


def _as_text(value: Any) -> Any:
    return value if value is None or isinstance(value, str) else str(plain(value))


# What every secret that `redact` finds has in it. It is quicker to look for than each of them; a pattern that
# begins with one set of characters is quickest.
_TELLING = re.compile(r"[@:=\[_\-\x00\ud800-\udfff]")
_SUSPICIOUS = re.compile(r"[@:=\[\x00\ud800-\udfff]|[-_][\w-]{8}|-----")
_NUMBER = re.compile(r"\d[\d\s().-]{8}")

LONGEST_GLANCE = 2000


def is_harmless(text: str) -> bool:
    """Tell whether `redact` would return *text* as it is, where that is quickly seen; else say no."""
    if len(text) > LONGEST_GLANCE or _NUMBER.search(text):
        return False
    if _TELLING.search(text) and _SUSPICIOUS.search(text):
        return False
    lower = text.casefold()
    return not ("bearer" in lower or "basic" in lower or "row contains" in lower or "eyj" in lower)


def _remember(memory: dict[str, Any], key: str, value: Any) -> None:
    if len(memory) >= MOST_REMEMBERED:
        memory.clear()
    memory[key] = value


def _number(value: Any) -> float | None:
    return float(value) if type(value) in (int, float) else None


def uuid7(tick: int, tail: int) -> str:
    """Return the UUIDv7 of a moment: its milliseconds, 12 bits of the rest, and 62 random bits.

    RFC 9562, section 5.7 and section 6.2, method 3. Ids of later ticks are greater.

    Args:
        tick: The moment in `TICKS` since 1970.
        tail: The random bits.
    """
    return "%08x-%04x-7%03x-%04x-%012x" % (  # noqa: UP031 - it is made for each entry, and this is quicker
        tick >> 28,
        tick >> 12 & 0xFFFF,
        tick & 0xFFF,
        tail >> 48 | 0x8000,
        tail & 0xFFFFFFFFFFFF,
    )
