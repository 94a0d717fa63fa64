"""The commands of ``resilient-agents`` and their options."""

import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from resilient_agents.cli import worker as workers
from resilient_agents.errors import (
    ApiError,
    ConfigurationError,
    StorageFailure,
    Unreachable,
    ValidationFailed,
)
from resilient_agents.testing import Fault, load_faults
from resilient_agents.testing.fake_kommo.server import serve

if TYPE_CHECKING:
    from resilient_agents.cli.demo.ledger import Result
    from resilient_agents.cli.demo.scenario import Scenario

CONCURRENCY = 4
"""How many calls a worker makes at a time unless it is told otherwise."""

app = typer.Typer(
    help="No accepted lead is ever lost or duplicated.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # a traceback with local variables would show leads and tokens
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"resilient-agents {version('resilient-agents')}")
        raise typer.Exit


@app.callback()
def _resilient_agents(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """No accepted lead is ever lost or duplicated."""


Seed = Annotated[int, typer.Option(help="What everything random is drawn from.")]
FaultFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Fault script: a JSON list of faults.", show_default=False)
]


@app.command()
def demo(
    leads: Annotated[int, typer.Option(help="How many leads are sent.", min=1, max=100_000)] = 300,
    kills: Annotated[int, typer.Option(help="How often each intake service is killed.", min=0)] = 5,
    seed: Seed = 1,
    faults: FaultFile = None,
    rate: Annotated[
        int,
        typer.Option(help="Requests that the CRM admits in a second; 0.6 leads are sent for each.", min=1),
    ] = 50,
    keep: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep databases, logs and ledgers here.", show_default=False),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Kill an intake service over and over while the CRM fails, and count the leads.

    The same leads go through a naive intake first, then through this library. The exit status is 0 where the
    library lost none and duplicated none, else 1.
    """
    from resilient_agents.cli.demo import display
    from resilient_agents.cli.demo.scenario import DEFAULT_FAULTS, Scenario
    from resilient_agents.cli.demo.trial import INTAKES, run_trial

    script = DEFAULT_FAULTS if faults is None else _script(faults)
    with _refused():
        scenario = Scenario(leads=leads, kills=kills, seed=seed, rate=rate, faults=script)
    results = {}
    with _folder(keep) as folder, _reported(ConfigurationError), display.board(scenario) as watch:
        for name in INTAKES:
            (folder / name).mkdir()
            results[name] = run_trial(name, scenario, folder=folder / name, watch=watch(name))
    for remark in display.remarks(results):
        typer.echo(remark, err=True)
    typer.echo(display.as_json(results, scenario) if json else display.as_table(results, scenario), nl=json)
    raise typer.Exit(exit_status(results, scenario))


def exit_status(results: "Mapping[str, Result]", scenario: "Scenario") -> int:
    """Return 0 where the library accepted every lead and delivered each of them once, else 1."""
    return 0 if results["library"].is_perfect(scenario.leads) else 1


@app.command()
def fake_kommo(
    port: Annotated[
        int, typer.Option(help="Where to listen on 127.0.0.1; 0 takes a free port.", min=0)
    ] = 8080,
    rate: Annotated[int, typer.Option(help="Requests admitted in any second.", min=1)] = 7,
    token: Annotated[str, typer.Option(help="The Bearer token that is accepted.")] = "test-token",  # noqa: S107
    faults: FaultFile = None,
    seed: Seed = 0,
) -> None:
    """Be a Kommo (amoCRM) account on loopback until Ctrl-C or SIGTERM."""
    script = () if faults is None else _script(faults)

    def ready(url: str) -> None:
        typer.echo(f"{url}  token: {token}")
        sys.stdout.flush()

    with _refused():
        serve(port=port, rate=rate, token=token, faults=script, seed=seed, ready=ready)


@app.command()
def worker(
    queue: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:ATTRIBUTE",
            help="A DeadLetterQueue with its handlers, or a function without parameters that returns one.",
        ),
    ],
    once: Annotated[bool, typer.Option("--once", help="Deliver what is due now, then end.")] = False,
    concurrency: Annotated[
        int | None,
        typer.Option(help=f"How many calls are made at a time: {CONCURRENCY}; with --once, one.", min=1),
    ] = None,
) -> None:
    """Deliver what waits in a queue until Ctrl-C or SIGTERM; calls under way are finished first.

    What is parked, and why, is logged to standard error.
    """
    if once and concurrency is not None:
        raise typer.BadParameter("--once makes one call at a time: leave it out", param_hint="--concurrency")
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    sys.path.insert(0, os.getcwd())  # noqa: PTH109 - sys.path holds texts
    with _reported(StorageFailure):
        with _refused():
            found = workers.load_queue(queue)
        with found:
            if once:
                typer.echo(workers.deliver_once(found))
            else:
                topics = ", ".join(sorted(found.targets))
                typer.echo(f"delivering {topics}; Ctrl-C or SIGTERM ends it", err=True)
                workers.deliver_until_stopped(found, concurrency=concurrency or CONCURRENCY)


@app.command()
def migrate(
    url: Annotated[
        str | None,
        typer.Option(
            envvar="DATABASE_URL",
            show_envvar=True,
            help="The database: postgresql://user:password@host/name. Its user becomes the tables' owner.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what is missing; change nothing.")] = False,
    print_: Annotated[
        bool, typer.Option("--print", help="Print the SQL of all migrations, and end.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Bring the tables of a PostgreSQL database up to date; twice, or from two places at once, harms nobody.

    The tables are activity_logs, crm_tasks, crm_calls, dead_letters and dead_letter_ledger.
    """
    from resilient_agents import migrations
    from resilient_agents.cli import migrate as shown

    if print_:
        typer.echo(shown.as_sql(migrations.load()), nl=False)
        return
    if url is None:
        raise typer.BadParameter("say which database: --url, or DATABASE_URL", param_hint="--url")
    with _reported(Unreachable), _reported(ConfigurationError):
        missing = migrations.migrate(url, dry_run=dry_run)
    if json:
        typer.echo(shown.as_json(missing, applied=not dry_run))
    else:
        shown.show(missing, applied=not dry_run)


def _script(path: Path) -> tuple[Fault, ...]:
    with _refused("--faults"):
        return tuple(load_faults(path))


@contextmanager
def _refused(option: str | None = None) -> Iterator[None]:
    """Report what is wrong with an option, and end with status 2."""
    try:
        yield
    except (ConfigurationError, ValidationFailed) as exc:
        raise typer.BadParameter(exc.detail, param_hint=option) from None


@contextmanager
def _reported(kind: type[ApiError]) -> Iterator[None]:
    """Report a failure of this *kind* in a line instead of a traceback, and end with status 1."""
    try:
        yield
    except kind as exc:
        typer.echo(f"Error: {exc.detail}", err=True)
        raise typer.Exit(1) from None


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    """Give a folder for the files of the demo: *keep*, which must be empty or new, or one that is removed."""
    if keep is None:
        with TemporaryDirectory(prefix="resilient-agents-") as name:
            yield Path(name)
        return
    try:
        keep.mkdir(parents=True, exist_ok=True)
        is_empty = not any(keep.iterdir())
    except OSError as exc:
        raise typer.BadParameter(f"the folder cannot be used: {exc.strerror}", param_hint="--keep") from None
    if not is_empty:
        raise typer.BadParameter("the folder is not empty: choose a new one", param_hint="--keep")
    yield keep.resolve()
