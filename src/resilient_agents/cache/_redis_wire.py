"""What is said to Redis and what it answers, in bytes: the protocol RESP2.

The answers are read by ``hiredis`` where it is installed, else by a reader of our own.
"""

import re
from importlib import import_module
from typing import Any, Protocol

_CODE = re.compile(r"-?([A-Z][A-Z0-9]+)\b")
_CODE_INSIDE = re.compile(r": -([A-Z][A-Z0-9]+) ")
"""Before Redis 7 the error of a command inside a script is wrapped into one of the script."""

_ELSEWHERE = re.compile(r"(?:MOVED|ASK) (\d+) (.*):(\d+)")

_DEEPEST = 8


class Refusal(Exception):
    """Redis answered with an error.

    Attributes:
        code: The first word of it, as ``"OOM"``. The rest may hold a name or a value, and is told to nobody.
        moved_to: In a cluster, which server is asked instead, and for which slot: host, port, slot.
    """

    moved_to: tuple[str, int, int] | None = None

    def __init__(self, text: str) -> None:
        wrapped = "user_script" in text and _CODE_INSIDE.search(text)
        found = wrapped or _CODE.match(text)
        self.code = found[1] if found else "ERR"
        if moved := _ELSEWHERE.fullmatch(text):
            self.moved_to = moved[2], int(moved[3]), int(moved[1])
        super().__init__(self.code)


class Closed(ConnectionResetError):
    """The connection was closed from the other side."""


class Garbage(ConnectionError):
    """What came is not an answer of a Redis, or an answer to nothing that was asked."""


class Reader(Protocol):
    """Takes bytes in and gives answers out."""

    def feed(self, data: bytes) -> object:
        """Take what was received."""
        ...

    def gets(self) -> Any:
        """Return the next answer; *False*, which no answer is, where it is not complete yet."""
        ...

    def has_data(self) -> bool:
        """Tell whether something is left that belongs to no answer yet given."""
        ...


def reader() -> Reader:
    """Return the quickest reader there is."""
    try:
        hiredis: Any = import_module("hiredis")
    except ImportError:
        return PlainReader()
    quick: Reader = hiredis.Reader(protocolError=Garbage, replyError=Refusal)
    return quick


def pack(*parts: str | bytes | int) -> bytes:
    """Return the bytes of one command."""
    packed = [b"*%d\r\n" % len(parts)]
    for part in parts:
        data = part if isinstance(part, bytes) else encoded(str(part))
        packed.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(packed)


def encoded(text: str) -> bytes:
    """Return the bytes of a name: half a surrogate pair is one too."""
    return text.encode("utf-8", "surrogatepass")


class PlainReader:
    """A reader in Python alone."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> None:
        """Take what was received."""
        self._data += data

    def has_data(self) -> bool:
        """Tell whether something is left that belongs to no answer yet given."""
        return bool(self._data)

    def gets(self) -> Any:
        """Return the next answer, or *False* where it is not complete yet."""
        try:
            answer, end = self._answer(0, 0)
        except IndexError:
            return False
        del self._data[:end]
        return answer

    def _answer(self, start: int, depth: int) -> tuple[Any, int]:
        """Return the answer at *start*, and where it ends; *IndexError*: not all of it is there."""
        end = self._data.find(b"\r\n", start)
        if end < 0:
            if len(self._data) > start and self._data[start] not in b"+-:$*":
                raise Garbage("no answer of Redis begins like this")
            raise IndexError
        kind, text = self._data[start : start + 1], bytes(self._data[start + 1 : end])
        if kind == b"+":
            return text, end + 2
        if kind == b"-":
            return Refusal(text.decode("utf-8", "replace")), end + 2
        try:
            number = int(text)
        except ValueError:
            raise Garbage("no answer of Redis holds such a number") from None
        if kind == b":":
            return number, end + 2
        if kind == b"$":
            return self._bulk(end + 2, number)
        if kind != b"*" or depth == _DEEPEST:
            raise Garbage("no answer of Redis begins like this")
        return self._several(end + 2, number, depth + 1)

    def _bulk(self, start: int, length: int) -> tuple[bytes | None, int]:
        if length == -1:
            return None, start
        end = start + length
        if length < 0 or not b"\r\n".startswith(bytes(self._data[end : end + 2])):
            raise Garbage("an answer of Redis does not end where it says")
        if len(self._data) < end + 2:
            raise IndexError
        return bytes(self._data[start:end]), end + 2

    def _several(self, start: int, count: int, depth: int) -> tuple[list[Any] | None, int]:
        if count < 0:
            return None, start
        answers = []
        for _ in range(count):
            answer, start = self._answer(start, depth)
            answers.append(answer)
        return answers, start
