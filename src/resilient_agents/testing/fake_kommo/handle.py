"""`FakeKommo`: a fake account in a process of its own, seen from the test."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import IO, Any, Self, cast

from resilient_agents.errors import ConfigurationError, ValidationFailed
from resilient_agents.testing.fake_kommo.faults import Fault
from resilient_agents.testing.fake_kommo.gate import Switches

_PATIENCE = 5.0
"""Time in seconds that a stopping process gets before it is killed."""


class FakeKommo:
    """A Kommo (amoCRM) account on loopback, in a process of its own, which dies with yours::

        with FakeKommo(rate=50, faults=[Fault(kind="504", calls=(1,), commit=True)]) as kommo:
            sync_leads(base_url=kommo.url, token=kommo.token)
            assert len(kommo.leads()) == 1

    The methods speak over a pipe, not over the port: they know no rate, no token and no faults. A handle
    may be used from many threads, but only in the process that started it.

    Args:
        rate: Requests admitted in any second, or *None* for no limit. The default is the vendor's, 7.
        token: The Bearer token that is accepted. The default is ``"test-token"``.
        faults: The fault script. The default is none.
        port: Where to listen on 127.0.0.1. The default is any free port, the same one after a restart.
        seed: What the probabilities of faults are drawn from. The default is 0.
        data: A file in which the records outlive `kill`. The default keeps them in the process.
        **switches: Other switches at first, as `switch` takes them.

    Raises:
        ValidationFailed: A switch is unknown or its value is wrong; the message names it.
    """

    def __init__(
        self,
        *,
        rate: int | None = 7,
        token: str = "test-token",  # noqa: S107 - the fake's, and public
        faults: Iterable[Fault] = (),
        port: int = 0,
        seed: int = 0,
        data: str | Path | None = None,
        **switches: Any,
    ) -> None:
        self._switches = Switches.from_json({"rate": rate, "token": token, **switches})
        self._faults = tuple(faults)
        self._port = port
        self._seed = seed
        self._data = None if data is None else str(Path(data).absolute())
        self._process: subprocess.Popen[bytes] | None = None
        self._complaints: IO[bytes] | None = None
        self._url: str | None = None
        self._paused = False
        self._lock = Lock()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The address of the fake, as ``http://127.0.0.1:40123``; it stays when the fake is killed."""
        if self._url is None:
            raise RuntimeError("FakeKommo has no address yet: call start() or enter its `with` block first")
        return self._url

    @property
    def token(self) -> str:
        """The Bearer token that is accepted at first."""
        return self._switches.token

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._running().pid

    def start(self) -> None:
        """Start the process, or start it again after `stop` or `kill`: same port, same settings.

        Raises:
            ConfigurationError: It did not start; the message holds what the process said.
            RuntimeError: It is running.
        """
        if self._process is not None:
            raise RuntimeError("FakeKommo is running already: stop() it before you start() it again")
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", "resilient_agents.testing.fake_kommo"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            start_new_session=True,  # Ctrl-C is for the test, which then stops the fake
        )
        settings = {
            "switches": self._switches.to_json(),
            "faults": [fault.to_json() for fault in self._faults],
            "port": self._port,
            "seed": self._seed,
            "data": self._data,
        }
        told = self._exchange(self._process, settings)
        if told is None:
            self._process.kill()
            complaint = self._bury(self._process).strip() or "the process ended without a word"
            raise ConfigurationError(f"FakeKommo did not start: {complaint}")
        self._url = str(told["url"])
        self._port = int(self._url.rpartition(":")[2])

    @staticmethod
    def _exchange(process: "subprocess.Popen[bytes]", message: dict[str, Any]) -> dict[str, Any] | None:
        """Send a line and return the line that comes back; *None* if the process has died."""
        orders, results = cast("IO[bytes]", process.stdin), cast("IO[bytes]", process.stdout)
        try:
            orders.write(json.dumps(message).encode() + b"\n")
            orders.flush()
        except BrokenPipeError:
            return None
        line = results.readline()
        return json.loads(line) if line else None

    def _running(self) -> "subprocess.Popen[bytes]":
        if self._process is None:
            raise RuntimeError("FakeKommo is not running: call start() or enter its `with` block first")
        return self._process

    def _control(self, method: str, path: str, value: Any = None) -> Any:
        with self._lock:
            process = self._running()
            if self._paused:
                raise RuntimeError("FakeKommo is paused and cannot answer: call resume() first")
            told = self._exchange(process, {"method": method, "path": path, "value": value})
        if told is None:
            raise RuntimeError("FakeKommo has died: call stop(), then start()")
        if "error" in told:
            raise ValidationFailed(told["error"])
        return told["result"]

    def leads(self) -> list[dict[str, Any]]:
        """Return every stored lead, oldest first, whoever was told of it.

        Each has ``id``, ``name``, ``price``, ``created_at``, ``stored_at`` (seconds since the epoch, with
        fractions), ``custom_fields`` (values by field code, or name), ``tags``, ``contact`` (``id``,
        ``name``, ``phones``, ``emails``) and ``company``.
        """
        return list(self._control("GET", "/_fake/leads")["leads"])

    def requests(self) -> list[dict[str, Any]]:
        """Return the latest 100,000 API requests, oldest first.

        Each has ``at`` (seconds since the epoch), ``method``, ``path``, ``status`` (*None* where no answer
        was sent, or none yet) and ``fault`` (the kind of what happened to it, or *None*).
        """
        return list(self._control("GET", "/_fake/requests")["requests"])

    def statuses(self) -> dict[str, int]:
        """Return how many API requests were answered with each status; ``"none"`` counts the unanswered."""
        return dict(self._control("GET", "/_fake/statuses"))

    def script(self, faults: Iterable[Fault]) -> None:
        """Replace the fault script; calls are counted from 1 again."""
        self._control("POST", "/_fake/script", [fault.to_json() for fault in faults])

    def switch(self, **changes: Any) -> dict[str, Any]:
        """Turn switches while the fake runs.

        Args:
            **changes: Switches by name, as the attributes of `gate.Switches`: ``rate``, ``token``,
                ``paid``, ``scope``, ``blocked``, ``duplicate_control``, ``lookup_lag`` and others.

        Returns:
            Every switch as it stands now.

        Raises:
            ValidationFailed: A switch is unknown or its value is wrong; nothing was turned.
        """
        return dict(self._control("POST", "/_fake/switches", changes))

    def reset(self) -> None:
        """Go back to the beginning: no records, no log, first script, first switches."""
        self._control("POST", "/_fake/reset")

    def pause(self) -> None:
        """Freeze the process: connections are taken by the kernel, and nothing is answered."""
        with self._lock:
            process = self._running()
            if not self._paused:
                process.send_signal(signal.SIGSTOP)
                with suppress(ChildProcessError):  # it has died
                    os.waitpid(process.pid, os.WUNTRACED)  # some of its threads may go on for a moment
                self._paused = True

    def resume(self) -> None:
        """Let a paused process go on, with all that came meanwhile."""
        with self._lock:
            self._running().send_signal(signal.SIGCONT)
            self._paused = False

    def kill(self) -> None:
        """Kill the process with SIGKILL; what was in memory only is gone. Harmless if it is not running."""
        with self._lock:
            if self._process is not None:
                self._process.kill()
                sys.stderr.write(self._bury(self._process))

    def stop(self) -> None:
        """End the process politely, and by force if it does not listen. Harmless if it is not running."""
        with self._lock:
            if self._process is None:
                return
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            try:
                self._process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()
            sys.stderr.write(self._bury(self._process))

    def _bury(self, process: "subprocess.Popen[bytes]") -> str:
        """Wait for the end of *process*, give back what it held, and return what it complained of."""
        process.wait()
        complaints = cast("IO[bytes]", self._complaints)
        complaints.seek(0)
        complaint = complaints.read().decode(errors="replace")
        for stream in (process.stdin, process.stdout, complaints):
            with suppress(BrokenPipeError):  # an order that nobody took is still in the pipe
                cast("IO[bytes]", stream).close()
        self._process = self._complaints = None
        self._paused = False
        return complaint
