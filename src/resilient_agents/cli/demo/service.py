"""An intake service in a process of its own, which can be killed and started again."""

import json
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, cast

from resilient_agents.errors import ConfigurationError

_PATIENCE = 10.0
"""Time in seconds that a stopping process gets before it is killed."""


class Service:
    """Runs a module as a service on loopback, which dies with this process.

    The module reads its settings from the first line of standard input and tells its URL in the first line of
    standard output.

    Args:
        module: Dotted name of the module.
        settings: Its settings, as JSON values. The port is added.
        log: The file that its standard error is appended to.

    Attributes:
        url: Where it listens; it stays the same after a restart.
    """

    def __init__(self, module: str, settings: Mapping[str, Any], *, log: Path) -> None:
        self.url = "http://127.0.0.1:0"
        self._module = module
        self._settings = settings
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.stop()
        else:
            self.kill()

    def start(self) -> None:
        """Start the process, and wait until it serves.

        Raises:
            ConfigurationError: It did not start.
        """
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - a module of ours
                [sys.executable, "-m", self._module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the demo, which then ends its children
            )
        orders, results = cast("IO[bytes]", self._process.stdin), cast("IO[bytes]", self._process.stdout)
        port = int(self.url.rpartition(":")[2])
        with suppress(BrokenPipeError):  # it has died; there will be no line from it either
            orders.write(json.dumps({**self._settings, "port": port}).encode() + b"\n")
            orders.flush()
        line = results.readline()
        if not line:
            self.kill()
            last_words = self._log.read_text(errors="replace").strip().splitlines()[-1:]
            raise ConfigurationError(f"the intake service did not start: {''.join(last_words)}")
        self.url = json.loads(line)["url"]

    def kill(self) -> None:
        """Kill the process with SIGKILL. Harmless if it is not running."""
        if self._process is not None:
            self._process.kill()
            self._bury(self._process)

    def stop(self) -> None:
        """End the process politely, and by force if it does not listen. Harmless if it is not running."""
        if self._process is not None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_PATIENCE)
            self.kill()

    def _bury(self, process: "subprocess.Popen[bytes]") -> None:
        process.wait()
        for stream in (process.stdin, process.stdout):
            with suppress(BrokenPipeError):  # an order that nobody took is still in the pipe
                cast("IO[bytes]", stream).close()
        self._process = None
