"""The process behind `FakeKommo`: a server whose life and control hang on a pipe.

The first line of standard input holds the settings; the URL is told in the first line of standard output.
Then every line in is a control request and every line out its result. When standard input ends, as it does
when the parent dies however it dies, so does this process. To start a fake by hand, use
``resilient-agents fake-kommo``.
"""

import json
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from threading import Thread
from typing import Any

from resilient_agents.errors import ApiError, ConfigurationError
from resilient_agents.testing.fake_kommo.account import Account
from resilient_agents.testing.fake_kommo.control import control
from resilient_agents.testing.fake_kommo.faults import parse_faults
from resilient_agents.testing.fake_kommo.gate import Switches
from resilient_agents.testing.fake_kommo.server import listen


def main() -> int:
    """Serve until the parent closes the pipe or sends a signal; return the exit status."""
    lines = _lines(sys.stdin.fileno())
    try:
        settings = json.loads(next(lines, b"null"))
        if not isinstance(settings, dict):
            raise ConfigurationError("to start a fake by hand, use  resilient-agents fake-kommo")
        account = Account(
            Switches.from_json(settings["switches"]),
            parse_faults(settings["faults"]),
            seed=settings["seed"],
            data=settings["data"],
        )

        def ready(url: str) -> None:
            _tell({"url": url})
            Thread(target=_obey, args=(account, lines), daemon=True).start()

        listen(account, port=settings["port"], ready=ready)
    except (ApiError, OSError) as exc:
        print(exc, file=sys.stderr)  # noqa: T201 - the parent shows it
        return 1
    return 0


def _obey(account: Account, lines: Iterator[bytes]) -> None:
    """Answer control requests until the pipe ends, or one of them breaks the fake; then end the process."""
    try:
        for line in lines:
            order = json.loads(line)
            try:
                _tell({"result": control(account, order["method"], order["path"], order["value"])})
            except ApiError as exc:
                _tell({"error": exc.detail})
    except Exception:
        traceback.print_exc()  # before the end, which does not wait for this thread
    os.kill(os.getpid(), signal.SIGTERM)


def _lines(descriptor: int) -> Iterator[bytes]:
    """Yield whole lines; a thread that waits here holds no lock that the end of the process needs."""
    rest = b""
    while chunk := os.read(descriptor, 65536):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines


def _tell(value: Any) -> None:
    print(json.dumps(value), flush=True)  # noqa: T201 - standard output is the pipe


if __name__ == "__main__":
    sys.exit(main())
