"""What a failure costs that Sentry need not hear of, and a log line: CPU time, beside their peers.

Each subject of the first scenario raises an exception 20 frames deep, catches it and reports it; what raising
and catching cost stands beside them. Each of the second one writes a line with six fields to a file.

    python benchmarks/observability.py [--rounds 30] [--json FILE]
"""

import argparse
import asyncio
import json
import logging
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import sentry_sdk
import structlog
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport

from interleaved import Cost, fastest, table, time_blocking, write_json
from resilient_agents.integrations import sentry
from resilient_agents.integrations import structlog as logs

REPORTED, LOGGED = "a repeated failure", "a log line"
BARE, OURS, SENT = "raise and catch", "sentry.capture(), held back", "sentry.capture(), sent"
RIVAL, LINE = "structlog, JSONRenderer", "configure(), redacted"
MOST_HELD_BACK = 2000.0
DEPTH = 20
FIELDS: dict[str, Any] = {
    "method": "POST",
    "path": "/api/agents/12/chat",
    "status": 200,
    "duration_ms": 12.345,
    "model": "gpt-x",
    "tenant": "acme",
}


class Nowhere(Transport):
    """Sends nothing."""

    def capture_envelope(self, envelope: Envelope) -> None:
        """Forget an envelope."""


def client(**options: Any) -> Any:
    """Return a client of Sentry's with a way to nowhere."""
    return sentry_sdk.Client(
        "http://key@localhost/1", transport=Nowhere(), default_integrations=False, **options
    )


def fail(depth: int = DEPTH) -> None:
    """Raise from the depth."""
    if depth > 1:
        fail(depth - 1)
    raise ValueError(depth)


def ours(window: float, using: Any) -> Callable[[int], None]:
    """Return a function that fails and reports it our way, with a window so long."""
    sentry_sdk.get_global_scope().set_client(using)
    sentry.install(window=window)
    installation = sentry._in_force
    sentry._in_force = None  # so that the next one does not stop it

    def call(_: int) -> None:
        if sentry._in_force is not installation:
            sentry_sdk.get_global_scope().set_client(using)
            sentry._in_force = installation
        try:
            fail()
        except ValueError as exc:
            sentry.capture(exc)

    call(0)  # the first of its kind is sent
    return call


def theirs(using: Any) -> Callable[[int], None]:
    """Return a function that fails and reports it to a client."""

    def call(_: int) -> None:
        sentry._in_force = None
        sentry_sdk.get_global_scope().set_client(using)
        try:
            fail()
        except ValueError as exc:
            sentry_sdk.capture_exception(exc)

    return call


def bare(_: int) -> None:
    """Fail, and tell nobody."""
    try:  # noqa: SIM105 - suppress() would cost more than what is measured
        fail()
    except ValueError:
        pass


def reporters() -> dict[str, Callable[[int], None]]:
    """Return the subjects of the first scenario."""
    return {
        BARE: bare,
        OURS: ours(3600.0, client()),
        SENT: ours(1e-9, client()),
        "capture_exception()": theirs(client()),
        "capture_exception(), sample_rate=0": theirs(client(sample_rate=0.0)),
        "capture_exception(), no variables": theirs(client(include_local_variables=False)),
    }


class InJson(logging.Formatter):
    """What one writes to have JSON from `logging`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a line."""
        head = {
            "timestamp": self.formatTime(record),
            "level": record.levelname,
            "message": record.getMessage(),
        }
        return json.dumps(head | record.fields)  # type: ignore[attr-defined]


def loggers(folder: Path) -> dict[str, Callable[[int], None]]:
    """Return the subjects of the second scenario."""
    handler = logging.FileHandler(folder / "logging")
    handler.setFormatter(InJson())
    std = logging.getLogger("benchmark")
    std.addHandler(handler)
    std.setLevel(logging.INFO)
    std.propagate = False
    rival = structlog.wrap_logger(
        structlog.WriteLogger((folder / "structlog").open("w", encoding="utf-8")),
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    ).bind()
    logs.configure("benchmark", file=folder / "ours")
    own = structlog.get_logger("benchmark").bind()
    return {
        "logging, json.dumps": lambda _: std.info("request_finished", extra={"fields": FIELDS}),
        RIVAL: lambda _: rival.info("request_finished", **FIELDS),
        LINE: lambda _: own.info("request_finished", **FIELDS),
        "configure(), a new text each": _new_texts(own),
    }


def _new_texts(log: Any) -> Callable[[int], None]:
    """Return a logger of texts of which none is known to be clean."""
    numbers = iter(range(10**12))
    return lambda _: log.info(f"request {next(numbers)} finished", **FIELDS)


async def measure(rounds: int) -> list[Cost]:
    """Return what each subject costs."""
    costs = []
    with TemporaryDirectory() as folder:
        for scenario, subjects, yardstick in (
            (REPORTED, reporters(), BARE),
            (LOGGED, loggers(Path(folder)), RIVAL),
        ):
            best = await fastest(subjects, time_blocking, rounds)
            costs += [
                Cost(scenario, "sync", name, round(cost, 1), round(cost / best[yardstick], 2))
                for name, cost in best.items()
            ]
    return costs


def verdict(costs: list[Cost]) -> str:
    """Return what was to be reached, and what was."""
    found = {cost.subject: cost.nanoseconds for cost in costs}
    over = found[OURS] - found[BARE]
    reached = "met" if over <= MOST_HELD_BACK else "missed"
    return f"goal for a failure that is held back: 2.00 µs, {reached} with {over / 1000:.2f} µs"


def main() -> None:
    """Measure, print, and write what is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=30, help="samples of each subject (default: 30)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures as JSON")
    options = parser.parse_args()

    costs = asyncio.run(measure(options.rounds))
    print(table(costs), "", verdict(costs), sep="\n")
    if options.json:
        write_json(options.json, options.rounds, costs)


if __name__ == "__main__":
    main()
