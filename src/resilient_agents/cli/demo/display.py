"""What the demo shows: progress bars while it runs, and a table or JSON in the end."""

import json
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from resilient_agents.cli.demo import trial
from resilient_agents.cli.demo.ledger import Result
from resilient_agents.cli.demo.scenario import Scenario

_LABELS: Final = {"naive": "naive", "library": "resilient-agents"}
"""What each intake is called in front of people."""

_MEASURES: Final = {
    "accepted": "accepted (answered 2xx)",
    "delivered": "delivered",
    "lost": "lost",
    "duplicated": "duplicated",
    "restarts": "kills and restarts",
    "ack_p50_ms": "acknowledged within, p50, ms",
    "ack_p95_ms": "acknowledged within, p95, ms",
}
"""What is told of each trial, and how it is called in the table."""

_MUST_BE_ZERO: Final = frozenset({"lost", "duplicated"})


@contextmanager
def board(scenario: Scenario) -> Generator[Callable[[str], trial.Watch]]:
    """Show progress on standard error until the block ends: bars in a terminal, else a line a trial.

    Gives a function that takes the name of a trial about to start and returns its watcher.
    """
    console = Console(stderr=True)
    bars = Progress(
        TextColumn("{task.description:>30}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    )

    def begin(name: str) -> trial.Watch:
        label = _LABELS[name]
        console.print(f"{label}: {scenario.leads} leads, {scenario.kills} kills, seed {scenario.seed}")
        totals = {
            **dict.fromkeys(("sent", "acknowledged", "delivered"), scenario.leads),
            "kills": scenario.kills,
        }
        tasks = {what: bars.add_task(f"{label}: {what}", total=total) for what, total in totals.items()}

        def watch(now: trial.Progress) -> None:
            for what, task in tasks.items():
                bars.update(task, completed=getattr(now, what))

        return watch

    with bars:
        yield begin


def as_json(results: Mapping[str, Result], scenario: Scenario) -> str:
    """Return the results as one JSON object."""
    told = {name: {what: getattr(result, what) for what in _MEASURES} for name, result in results.items()}
    return json.dumps({"seed": scenario.seed, "library": told["library"], "naive": told["naive"]})


def as_table(results: Mapping[str, Result], scenario: Scenario) -> str:
    """Return the results side by side, in colour where standard output is a terminal that wants it."""
    table = Table(title=f"{scenario.leads} leads, {scenario.kills} kills, seed {scenario.seed}")
    table.add_column()
    for name in results:
        table.add_column(_LABELS[name], justify="right")
    for what, label in _MEASURES.items():
        table.add_row(label, *(_cell(what, getattr(result, what)) for result in results.values()))
    console = Console()
    with console.capture() as text:
        console.print(table)
    return text.get()


def remarks(results: Mapping[str, Result]) -> list[str]:
    """Return what the figures do not explain by themselves: leads that still wait in an intake."""
    return [
        f"{_LABELS[name]}: stopped while {result.waiting} leads still waited to be delivered or for a person"
        for name, result in results.items()
        if result.waiting
    ]


def _cell(what: str, value: float | None) -> str:
    if value is None:
        return "-"
    if what not in _MUST_BE_ZERO:
        return str(value)
    return f"[green]{value}[/]" if value == 0 else f"[bold red]{value}[/]"
