"""How long the other side asks us to wait.

Sources: RFC 9110 sections 5.6.7 (dates) and 10.2.3 (``Retry-After``); the IETF draft on RateLimit header
fields; the documentation of Azure and OpenAI (``retry-after-ms``) and Telegram (``parameters.retry_after``).
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

LONGEST = 366 * 86_400.0
"""The longest wait in seconds that is taken for one: a year. Beyond it, a number is something else."""

_LARGEST_BODY = 65_536
_SECONDS = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)", re.ASCII)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_TIME = r"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
_DATES = tuple(
    re.compile(form, re.ASCII)
    for form in (
        rf"[A-Z][a-z]{{2}}, (?P<day>\d\d) (?P<month>[A-Z][a-z]{{2}}) (?P<year>\d{{4}}) {_TIME} (?:GMT|UTC)",
        rf"[A-Z][a-z]{{5,8}}, (?P<day>\d\d)-(?P<month>[A-Z][a-z]{{2}})-(?P<year>\d\d) {_TIME} (?:GMT|UTC)",
        rf"[A-Z][a-z]{{2}} (?P<month>[A-Z][a-z]{{2}}) (?P<day>[ \d]\d) {_TIME} (?P<year>\d{{4}})",
    )
)


def retry_after(headers: object, body: object = None, *, now: float) -> float | None:
    """Return how long the other side asks us to wait, or *None* where it does not say.

    The first of these that makes sense decides:

    1. ``Retry-After-Ms``: milliseconds.
    2. ``Retry-After``: seconds, also fractional, or a date in any of the three forms of RFC 9110.
    3. ``retry_after`` in a JSON body, or in its ``error`` or ``parameters``: seconds, as number or text.
    4. ``RateLimit-Reset``, then ``X-RateLimit-Reset``, unless the ``Remaining`` header beside it says that
       something is left: below 10⁹ seconds from now, below 10¹¹ seconds since the epoch, else
       milliseconds since the epoch.

    A moment that has passed means 0.0. What is negative, not finite, longer than a year or not understood
    is ignored; a long wait is never shortened. Nothing here raises.

    Args:
        headers: The response's headers, a mapping in any case of letters, or the message that
            `urllib.request` has in its place. Anything else counts as none.
        body: The response's body: parsed JSON, or JSON as text or bytes.
        now: Wall-clock time in seconds since the epoch.

    Returns:
        A time in seconds, from 0.0 to a year, or *None*.
    """
    found = _wanted(headers)
    if not found:
        return _from_body(body)
    sources: tuple[Callable[[], float | None], ...] = (
        lambda: wait_in_seconds(found.get("retry-after-ms"), 0.001),
        lambda: _seconds_or_date(found.get("retry-after"), now),
        lambda: _from_body(body),
        lambda: _reset(found.get("ratelimit-reset"), found.get("ratelimit-remaining"), now),
        lambda: _reset(found.get("x-ratelimit-reset"), found.get("x-ratelimit-remaining"), now),
    )
    for source in sources:
        wait = source()
        if wait is not None:
            return wait
    return None


_WANTED = frozenset(
    (
        "ratelimit-remaining",
        "ratelimit-reset",
        "retry-after",
        "retry-after-ms",
        "x-ratelimit-remaining",
        "x-ratelimit-reset",
    )
)


def _wanted(headers: Any) -> dict[str, str]:
    """Return the headers that may hold a hint, by their lower-case names."""
    found: dict[str, str] = {}
    try:
        if not isinstance(headers, Mapping) and not hasattr(headers, "items"):
            return found
        for name in headers:
            lowered = _text(name).lower()
            if lowered in _WANTED:
                found[lowered] = _text(headers[name]).strip()
    except Exception:  # a mapping of somebody else's may fail in any way
        return found
    return found


def _text(value: object) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _number(value: object) -> float | None:
    """Return *value* as a number, if it is one or spells one, else *None*."""
    if isinstance(value, str):
        if len(value) > 32 or not _SECONDS.fullmatch(value.strip()):
            return None
    elif not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def _plausible(seconds: float) -> float | None:
    """Return *seconds* where it can be a wait; NaN fails the comparison too."""
    return seconds + 0.0 if 0.0 <= seconds <= LONGEST else None


def wait_in_seconds(value: object, unit: float = 1.0) -> float | None:
    """Return *value* as a wait, if it is one or spells one, from 0.0 to a year; else *None*.

    Args:
        value: Anything.
        unit: What it counts, in seconds. The default is 1.0.
    """
    number = _number(value)
    return None if number is None else _plausible(number * unit)


def _seconds_or_date(value: str | None, now: float) -> float | None:
    if value is None:
        return None
    wait = wait_in_seconds(value)
    if wait is not None:
        return wait
    moment = _moment(value, now)
    return None if moment is None else _plausible(max(0.0, moment - now))


def _moment(text: str, now: float) -> float | None:
    """Return an HTTP date as seconds since the epoch."""
    for form in _DATES:
        match = form.fullmatch(text)
        if match is not None:
            break
    else:
        return None
    day, hour, minute, second, year = (
        int(match[part]) for part in ("day", "hour", "minute", "second", "year")
    )
    try:
        if len(match["year"]) == 2:
            year = _full_year(year, datetime.fromtimestamp(now, UTC).year)
        month = _MONTHS.index(match["month"]) + 1
        return datetime(year, month, day, hour, minute, min(second, 59), tzinfo=UTC).timestamp()
    except (ValueError, OverflowError, OSError):
        return None


def _full_year(year: int, this_year: int) -> int:
    """Complete a two-digit year: more than 50 years ahead means the century before (RFC 9110, 5.6.7)."""
    full = this_year - this_year % 100 + year
    return full - 100 if full > this_year + 50 else full


def _reset(value: str | None, remaining: str | None, now: float) -> float | None:
    number = _number(value)
    left = _number(remaining)
    if number is None or not math.isfinite(number) or (left is not None and left > 0):
        return None
    if number < 1e9:
        return _plausible(number)
    moment = number if number < 1e11 else number / 1000
    return _plausible(max(0.0, moment - now))


def _from_body(body: object) -> float | None:
    tree = parsed(body)
    if not isinstance(tree, Mapping):
        return None
    for holder in (tree, tree.get("error"), tree.get("parameters")):
        wait = wait_in_seconds(holder.get("retry_after")) if isinstance(holder, Mapping) else None
        if wait is not None:
            return wait
    return None


def parsed(body: Any) -> object:
    """Return *body*, decoded if it is JSON text of a moderate size; *None* if it is other text."""
    if not isinstance(body, str | bytes | bytearray):
        return body
    if len(body) > _LARGEST_BODY:
        return None
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
