"""JSON of whatever it is given: no value makes `encode` raise, and none makes its text endless.

Log lines, activity entries and reports of errors hold other people's values. `encode` first lets the fast
encoder of the standard library try; what that refuses (an object, a set, NaN, a cycle, a lone surrogate, a
depth of 3000) goes through `plain`, which turns it into data that any JSON parser reads.
"""

import dataclasses
import enum
import json
import math
from collections.abc import Callable, Iterable, Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from pathlib import PurePath
from typing import Any, TypeAlias
from uuid import UUID

LIMIT = 64 * 1024
"""How many characters a text has at most unless told otherwise, and about how many bytes."""

CUT = "…"
"""Stands for what was left out."""

MOST_LEVELS = 24
MOST_ITEMS = 1000
MOST_CHARACTERS = 16 * 1024
MOST_OF_A_KEY = 200
_MOST_DIGITS = 4000  # int() and str() of CPython refuse to convert more than 4300

Plain: TypeAlias = bool | int | float | str | list["Plain"] | dict[str, "Plain"] | None

_name_of = type.__dict__["__qualname__"].__get__  # a metaclass may have its own idea of a name
_fast = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def encode(value: Any, *, limit: int = LIMIT) -> str:
    """Return *value* as JSON, in one line, whatever it is.

    Args:
        value: Anything.
        limit: Greatest length of the text in characters. What is longer loses its tail, value by value, and
            stays valid. The default is 65536.

    Returns:
        A text that is valid JSON by RFC 8259 and can be encoded in UTF-8. What `plain` makes of a value that
        JSON does not have is said there.
    """
    try:
        text = _fast(value)
        if len(text) <= limit:
            text.encode()
            return text
    except Exception:  # noqa: S110 - the careful way is for all that the fast one refuses
        pass
    budget = limit
    while budget > 8:
        text = _fast(plain(value, limit=budget))
        if len(text) <= limit:
            return text
        budget //= 2  # quotes and escapes count too
    return f'"{CUT}"'


def plain(
    value: Any,
    *,
    limit: int = LIMIT,
    text: Callable[[str, int], str] | None = None,
    hide: Callable[[str, Any], str | None] | None = None,
) -> Plain:
    """Return *value* as data that JSON has: what is in it is kept, as far as that is possible.

    A date, a time, a UUID, a Decimal, a path become their usual text, bytes their text in UTF-8, an enum its
    value, a set, a tuple and a frozenset a list, a dataclass and a pydantic model a dictionary, an exception
    ``Name: message``, any other object its ``repr``. NaN and the infinities become a text. A key that is no
    text becomes one. A cycle, a level below the 24th, items past the 1000th and the end of a text past 16384
    characters become ``"…"``.

    Args:
        value: Anything. It is not changed, and nothing of it is kept.
        limit: How many characters all texts in it have together. The default is 65536.
        text: Called with each text and the room for it in characters, to shorten it in its own way. The
            default is to cut it.
        hide: Asked for each key, as text, and its value; if it returns a text, that replaces the value. The
            default is that nothing is hidden.
    """
    return _Walk(limit, text, hide).value(value, ())


class _Walk:
    """One walk through a value; it knows what may still be said."""

    __slots__ = ("_hide", "_left", "_text")

    def __init__(
        self,
        limit: int,
        text: Callable[[str, int], str] | None,
        hide: Callable[[str, Any], str | None] | None,
    ) -> None:
        self._left = limit
        self._text = text or _cut
        self._hide = hide

    def value(self, value: Any, above: tuple[int, ...]) -> Plain:
        """Return *value* as plain data; *above* are the identities of what it is in."""
        self._left -= 2
        try:
            if value is None or value is True or value is False:
                return value
            if isinstance(value, str):
                return self.words(str.__str__(value))
            if isinstance(value, enum.Enum):
                return self.value(value.value, above)
            if isinstance(value, int):
                return self.whole(int(value))
            if isinstance(value, float):
                return float(value) if math.isfinite(value) else str(float(value))
            if id(value) in above or len(above) >= MOST_LEVELS or self._left <= 0:
                return CUT
            return self.inside(value, (*above, id(value)))
        except Exception:
            return f"<{_name_of(type(value))} that cannot be shown>"

    def inside(self, value: Any, above: tuple[int, ...]) -> Plain:
        """Return what has parts of its own, or is told by a text."""
        if isinstance(value, Mapping):
            return self.pairs(tuple(value.items()), above)
        if isinstance(value, list | tuple | set | frozenset):
            return self.items(tuple(value), above)
        if isinstance(value, bytes | bytearray | memoryview):
            return self.words(bytes(value[: 4 * max(0, self._left)]).decode("utf-8", "backslashreplace"))
        if isinstance(value, date | time):
            return value.isoformat()
        if isinstance(value, Decimal | UUID | PurePath | timedelta):
            return self.words(str(value))
        if isinstance(value, BaseException):
            return self.words(f"{_name_of(type(value))}: {value}")
        if not isinstance(value, type):
            names = fields_of(value)
            if names is not None:
                return self.pairs(((name, getattr(value, name)) for name in names), above)
        return self.words(repr(value))

    def pairs(self, pairs: Iterable[tuple[Any, Any]], above: tuple[int, ...]) -> dict[str, Plain]:
        """Return a dictionary, without what there is no room for."""
        said: dict[str, Plain] = {}
        for number, (key, value) in enumerate(pairs):
            if number >= MOST_ITEMS or self._left <= 0:
                said[CUT] = CUT
                break
            name = self.name(key)
            self._left -= len(name) + 4
            hidden = None if self._hide is None else self._hide(name, value)
            said[name] = self.value(value, above) if hidden is None else hidden
        return said

    def items(self, values: tuple[Any, ...], above: tuple[int, ...]) -> list[Plain]:
        """Return a list, without what there is no room for; of a pair the first may be a key."""
        if self._hide is not None and len(values) == 2 and isinstance(values[0], str | bytes):
            hidden = self._hide(self.name(values[0]), values[1])
            if hidden is not None:
                return [self.value(values[0], above), hidden]
        said: list[Plain] = []
        for number, value in enumerate(values):
            if number >= MOST_ITEMS or self._left <= 0:
                said.append(CUT)
                break
            said.append(self.value(value, above))
        return said

    def name(self, key: Any) -> str:
        """Return a key as text: JSON's own word for a constant or a number, else what `value` says of it."""
        if type(key) is str and len(key) <= MOST_OF_A_KEY and key.isidentifier() and key.isascii():
            return key if self._text is _cut else self._text(key, MOST_OF_A_KEY)
        if key is None or isinstance(key, bool):
            return {None: "null", True: "true", False: "false"}[key]
        said = _Walk(MOST_OF_A_KEY, self._text, None).value(key, ())
        return said if isinstance(said, str) else _fast(said)

    def whole(self, value: int) -> Plain:
        """Return an integer; one of thousands of digits is told by its size."""
        digits = value.bit_length() * 0.30103
        self._left -= int(digits)
        return value if digits < _MOST_DIGITS else f"<int of {value.bit_length()} bits>"

    def words(self, text: str) -> str:
        """Return a text that fits and that UTF-8 has."""
        room = min(self._left, MOST_CHARACTERS)
        if room <= 0:
            return CUT
        if not text.isascii():
            text = text[: 4 * room].encode("utf-8", "backslashreplace").decode()
        text = self._text(text, room)
        self._left -= len(text)
        return text


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else text[: room - 1] + CUT


def fields_of(value: Any) -> Iterable[str] | None:
    """Return the names of the fields of a dataclass or a pydantic model; *None* for everything else."""
    if dataclasses.is_dataclass(value):
        return [field.name for field in dataclasses.fields(value)]
    if isinstance(getattr(type(value), "model_fields", None), dict):
        return [*type(value).model_fields]
    return None
