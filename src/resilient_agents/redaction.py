"""Take secrets out of text and out of data before they are stored, logged or shown."""

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from resilient_agents._json import LIMIT, Plain, plain

MASK = "***"

_INNOCENT = (
    *("cache", "dedupe", "foreign", "idempotency", "message", "object"),
    *("partition", "primary", "public", "registry", "routing", "sort"),
)
"""What may stand before ``key`` without making it one that opens something."""

_TELLING = (
    r"passw(?:or)?d|passphrase|pwd|secret|token|api[_-]?key|private[_-]?key|credential|cookie"
    rf"|[^\W_][_-]key(?![\w-]){''.join(f'(?<!{word}.key)' for word in _INNOCENT)}"
    rf"|(?-i:[a-z]Key)(?![\w-]){''.join(f'(?<!{word}key)' for word in _INNOCENT)}"
)

# The text is other people's, so no pattern may backtrack: runs are possessive (``++``) and start at an edge.
_PATTERNS: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    (re.compile(r"(?i)(\[(?:SQL|parameters|cached since)[: ])(?s:.*)"), rf"\1 {MASK}]"),
    (re.compile(r"(?im)^([ \t]*+(?:DETAIL|CONTEXT|LINE \d++|QUERY)[ \t]*+:)[^\r\n]*+"), rf"\1 {MASK}"),
    (re.compile(r"(?i)(\bkey \([^()\r\n]*+\)=|\bfailing row contains )[^\r\n]*+"), rf"\1{MASK}"),
    (re.compile(r"-----BEGIN [A-Z ]++-----.*?(-----END [A-Z ]++-----|\Z)", re.DOTALL), MASK),
    (re.compile(r"(?i)(?<![\w-])([\w-]*?authorization\\*[\"']?\s*+[=:]\s*+)[^\r\n]++"), rf"\1{MASK}"),
    (re.compile(r"(?<![\w-])eyJ[\w-]{8,}+\.[\w-]++(\.[\w-]*+)?"), MASK),
    (re.compile(r"(?i)\b(bearer|basic)\s++[\w.~+/=-]{6,}+"), rf"\1 {MASK}"),
    (re.compile(r"(?<![\w-])(sk|pk|rk|xox[abprs]|gh[pousr]|github_pat|glpat)[-_][\w-]{8,}+"), MASK),
    (re.compile(r"(?<!\d)\d{6,12}+:AA[\w-]{20,}+"), MASK),
    (re.compile(r"(?<=://)[^/\s\"'<>]*(?=@)"), MASK),
    (
        re.compile(
            rf"""(?ix) (?<![\w-]) ((?=[\w-]*?(?:{_TELLING})) [\w-]++ \\*+ ["']? \s*+ [=:] \s*+ \\*+)
            ("[^"]*+(?:"|\Z) | '[^']*+(?:'|\Z) | (?:(?:bearer|basic)\s++)?+ [^\s,;&)}}\]]++)"""
        ),
        rf"\1{MASK}",
    ),
    (re.compile(r"(?<![\w.+-])[\w.+-]++@[\w-]++\.[\w.-]++"), MASK),
    (
        re.compile(
            r"(?<![\w.-])(\d{4}-\d\d-\d\d(?:[T ]\d\d[\d:.]*+)?)(?![\w.-])"  # a date is nobody's number,
            r"|(?<![^\W_])((?i:[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}))(?![^\W_])"  # and so is a UUID
            r"|(?<![\w.])(?!\d{1,3}(?:\.\d{1,3}){3}(?![\w.-]))\+?\d[\d\s().-]{7,}\d(?![\w])"
        ),
        lambda found: found[1] or found[2] or MASK,
    ),
)

# What a pattern finds holds one of these in lower case; the first are letters whose case is special.
_HINT = re.compile(
    r"[@\u017f\u0131\u0307]|passw|passphrase|pwd|secret|token|credential|cookie|key\\*[\"']?\s*[=:]"
    r"|authorization|(?:bearer|basic)\s|eyj|(?:sk|pk|rk|xox[abprs]|gh[pousr]|github_pat|glpat)[-_]|:aa|-----begin"
    r"|\[(?:sql|parameters|cached since)|(?:detail|context|query|line \d+)[ \t]*:|key \(|failing row"
    r"|\d[\d\s().-]{7}"
)
_CLEAN_LENGTH, _CLEAN_TEXTS = 80, 5000
_clean: set[str] = set()
"""Short texts that were looked at and hold no secret: most texts of log lines are seen again and again."""


def redact(text: str, *, limit: int = 500) -> str:
    """Return *text* without secrets, e-mail addresses and phone numbers, cut to *limit*.

    Tokens of common forms (Bearer, JWT, ``sk-…``, Telegram, PEM), credentials in URLs, ``Authorization``
    headers, values behind words like ``password=`` and what databases tell of a statement's values (the
    ``DETAIL`` of PostgreSQL, the ``[SQL: …]`` and ``[parameters: …]`` of SQLAlchemy) are masked. It is a net,
    not a proof: do not put secrets into messages.

    Args:
        text: Any text, as of an exception.
        limit: Greatest length of the result, in characters. The default is 500.
    """
    if text in _clean and len(text) <= limit:
        return text
    window = text[: 4 * limit]
    if len(window) < len(text):  # what is cut in two may no longer look like a secret: drop the half
        window = window[: -len(re.split(r"\s", window)[-1]) or None] or MASK
    if _HINT.search(window.lower()):
        for pattern, replacement in _PATTERNS:
            window = pattern.sub(replacement, window)
    elif len(text) <= _CLEAN_LENGTH:
        if len(_clean) >= _CLEAN_TEXTS:
            _clean.clear()
        _clean.add(text)
    return window if len(window) <= limit else window[: limit - 1] + "…"


def redact_value(value: Any, *, limit: int = LIMIT) -> Plain:
    """Return a copy of *value* without secrets, as data that JSON has, whatever it is.

    What stands under a key such as ``password``, ``Authorization``, ``x-api-key`` or ``crmAccessToken`` is
    masked, at any depth, in dictionaries, headers, dataclasses, models and lists of pairs; every text goes
    through `redact`. It never raises; what it makes of objects, cycles and the like is said in the page on
    logging.

    Args:
        value: Anything: a payload, a mapping of headers, an exception. It is not changed.
        limit: How many characters all texts in it have together; the rest is left out. The default is 65536.
    """
    return plain(value, limit=limit, text=_redact_all, hide=_hidden)


def redact_mapping(mapping: Mapping[Any, Any], *, limit: int = LIMIT) -> dict[str, Plain]:
    """Return a copy of *mapping* without secrets, as `redact_value` does.

    Args:
        mapping: Any mapping.
        limit: How many characters all texts in it have together. The default is 65536.
    """
    copy = redact_value(mapping, limit=limit)
    return copy if isinstance(copy, dict) else {"value": copy}


def redact_field(key: str, value: Any) -> Any:
    """Return what may be shown of the *value* under *key*, as `redact_value` does; plain values cost little.

    Args:
        key: The name of a field.
        value: Anything.
    """
    hidden = _hidden(key, value)
    if hidden is not None:
        return hidden
    kind = type(value)
    if kind is str and value in _clean:
        return value
    return value if kind is int or kind is float or kind is bool or value is None else redact_value(value)


def _redact_all(text: str, room: int) -> str:
    """Redact a text that is a value by itself: of digits alone it is an id, not a phone number."""
    return redact(text, limit=room) if len(text) > 20 or not text.isdigit() else text


def _hidden(key: str, value: Any) -> str | None:
    """Return the mask if the value under *key* is a secret."""
    if value is None or value is True or value is False:
        return None
    kind = _kind_of(key)
    if kind == _SECRET or (kind == _TOKEN and not isinstance(value, int | float | Mapping)):
        return MASK
    return None


_SECRET, _TOKEN, _OPEN = "secret", "token", "open"
_EDGE = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+")
_TELLING_KEY = re.compile(
    r"passw|passphrase|credential|authorization|cookie|(api|private|access|encryption|signing)_?key"
    r"|(^|_)(pwd|secrets?|jwt|otp|cvv|cvc|signature|sessionid|bearer)(_|$)|^(auth|dsn|session)$"
    r"|(^|_)(e_?mails?|phones?|telephone|mobile)$"
)


@lru_cache(4096)
def _kind_of(key: str) -> str:
    """Tell whether what stands under *key* is a secret, a token (unless a number: a count), or neither."""
    words = [word.lower() for word in _EDGE.split(key) if word]
    if _TELLING_KEY.search("_".join(words)):
        return _SECRET
    if words and words[-1] == "key" and len(words) > 1 and words[-2] not in _INNOCENT:
        return _SECRET
    return _TOKEN if "token" in words or "tokens" in words else _OPEN
