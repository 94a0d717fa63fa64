"""How a log line is written: no broken disk, stream or pipe raises into who logs."""

import io
import os
import re
import weakref
from collections.abc import Callable
from pathlib import Path
from threading import RLock
from typing import TextIO

from resilient_agents.redaction import redact


class Writer:
    """Writes whole lines to a stream or a file, and never raises.

    What cannot be written is counted. As soon as a line can be written again, one more line tells how many
    were lost and why.

    Args:
        target: A text stream or the path of a file, which is opened for appending.
        told_of_loss: Makes that line of the number and the reason.
    """

    def __init__(self, target: TextIO | Path, told_of_loss: Callable[[int, str], str]) -> None:
        self._file: io.FileIO | None = None
        if isinstance(target, Path):
            self._file = io.FileIO(os.open(target, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab")
        self._stream = None if isinstance(target, Path) else target
        self._told_of_loss = told_of_loss
        self._untold, self._why = 0, ""
        self._torn = False
        self.lost = 0
        self._renew_lock()
        os.register_at_fork(after_in_child=_renewing(self))

    def _renew_lock(self) -> None:
        """Give a forked child its own lock: nobody in it releases one that was held."""
        self._lock = RLock()  # a signal handler may log while this thread does

    def write(self, line: str) -> None:
        """Write *line*, or count it."""
        with self._lock:
            if not self._put(line):
                self.lost += 1
                self._untold += 1
            elif self._untold:
                untold, self._untold = self._untold, 0
                if not self._put(self._told_of_loss(untold, self._why)):
                    self._untold += untold

    def _put(self, line: str) -> bool:
        try:
            if self._file is not None:
                self._append(self._file, line)
            else:
                self._print(line)
        except Exception as exc:
            self._why = (
                redact((exc.strerror or "") if isinstance(exc, OSError) else str(exc)) or type(exc).__name__
            )
            return False
        return True

    def _append(self, file: io.FileIO, line: str) -> None:
        """Append a line by one call of the system: lines of several processes do not mix."""
        data = f"{line}\n".encode("utf-8", "backslashreplace")
        if self._torn:
            data = b"\n" + data
        written = file.write(data) or 0
        if written < len(data):  # the disk became full in the middle
            self._torn = written > 0 or self._torn
            raise OSError(None, "the line was written in part")
        self._torn = False

    def _print(self, line: str) -> None:
        stream = self._stream
        if stream is None:
            raise ValueError("there is no stream")
        try:
            stream.write(f"{line}\n")
        except UnicodeError:
            stream.write(f"{_ascii(line)}\n")
        stream.flush()

    def close(self) -> None:
        """Close the file; a stream is its owner's."""
        if self._file is not None:
            self._file.close()


def _ascii(line: str) -> str:
    """Return a line of JSON in ASCII, for a stream whose encoding has no more."""
    return re.sub(r"[^\x00-\x7f]", lambda found: _escaped(found[0]), line)


def _escaped(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at] << 8 | units[at + 1]:04x}" for at in range(0, len(units), 2))


def _renewing(writer: Writer) -> Callable[[], None]:
    known = weakref.ref(writer)

    def renew() -> None:
        if (found := known()) is not None:
            found._renew_lock()

    return renew
