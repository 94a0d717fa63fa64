"""Sinks of lines: a file of JSON lines, and structlog."""

import errno
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from resilient_agents._extras import require
from resilient_agents.activity.entry import Activity
from resilient_agents.errors import StorageFailure, StorageFull


class JSONLinesSink:
    """Appends each entry to a file as one line of JSON.

    The file is made, readable by its owner only, where there is none. It may be moved away at any time, as
    logrotate does: the next batch makes a new one. After a crash a batch may be there twice; *source* and
    *id* tell.

    Args:
        path: The file.
        name: What events and statistics call it. The default is ``jsonl:`` and the path.
    """

    batch_size = 1000

    def __init__(self, path: str | Path, *, name: str | None = None) -> None:
        self.path = Path(path).absolute()
        self.name = f"jsonl:{self.path}" if name is None else name

    def write(self, batch: Sequence[Activity]) -> None:
        """Append a batch; where that fails in the middle, what was written is taken back."""
        data = "".join(map(_line, batch)).encode()
        try:
            fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                self._append(fd, data)
            finally:
                os.close(fd)
        except OSError as exc:
            kind = StorageFull if exc.errno in (errno.ENOSPC, errno.EDQUOT) else StorageFailure
            reason = errno.errorcode.get(exc.errno or 0, "OSError")
            raise kind(f"{self.path.name}: the file cannot be written ({reason}): check its folder") from exc

    def _append(self, fd: int, data: bytes) -> None:
        end = os.lseek(fd, 0, os.SEEK_END)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
        except OSError:
            os.ftruncate(fd, end)
            raise


def _line(entry: Activity) -> str:
    """Return the entry as a line; its metadata, which is JSON already, as it is."""
    fields = entry._asdict()
    metadata = fields.pop("metadata")
    text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
    return f'{text[:-1]},"metadata":{metadata}}}\n'


class StructlogSink:
    """Writes each entry with structlog: the action is the event, and a failure a *warning*.

    Args:
        logger: Name of the logger. The default is ``"activity"``.

    Raises:
        MissingExtra: structlog is not installed.
    """

    def __init__(self, logger: str = "activity") -> None:
        structlog: Any = require("structlog", extra="structlog", feature="the sink structlog:")
        self.name = f"structlog:{logger}"
        self._logger = structlog.get_logger(logger)

    def write(self, batch: Sequence[Activity]) -> None:
        """Write a line for each entry."""
        for entry in batch:
            fields = {key: value for key, value in entry._asdict().items() if value is not None}
            action = fields.pop("action")
            fields["metadata"] = json.loads(entry.metadata)
            tell = self._logger.warning if entry.error_code else self._logger.info
            tell(action, **fields)
