"""Take secrets out of text before it is stored, logged or shown."""

import re

MASK = "***"

_TELLING = r"passw(?:or)?d|passphrase|pwd|secret|token|api[_-]?key|private[_-]?key|credential|cookie"

# The text is other people's, so no pattern may backtrack: runs are possessive (``++``) and start at an edge.
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
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
    (re.compile(r"(?<![\w.])(?!\d{1,3}(?:\.\d{1,3}){3}(?![\w.-]))\+?\d[\d\s().-]{7,}\d(?![\w])"), MASK),
)


def redact(text: str, *, limit: int = 500) -> str:
    """Return *text* without secrets, e-mail addresses and phone numbers, cut to *limit*.

    Tokens of common forms (Bearer, JWT, ``sk-…``, Telegram, PEM), credentials in URLs, ``Authorization``
    headers and values behind words like ``password=`` are masked. It is a net, not a proof: do not put
    secrets into messages.

    Args:
        text: Any text, as of an exception.
        limit: Greatest length of the result, in characters. The default is 500.
    """
    window = text[: 4 * limit]
    if len(window) < len(text):  # what is cut in two may no longer look like a secret: drop the half
        window = window[: -len(re.split(r"\s", window)[-1]) or None] or MASK
    for pattern, replacement in _PATTERNS:
        window = pattern.sub(replacement, window)
    return window if len(window) <= limit else window[: limit - 1] + "…"
