"""How ``resilient-agents migrate`` shows what was missing in a database."""

import json
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from resilient_agents.migrations import Migration


def as_json(missing: Sequence[Migration], *, applied: bool) -> str:
    """Return what was missing as one JSON object."""
    rows = [{"number": migration.number, "name": migration.name} for migration in missing]
    return json.dumps({"applied": applied, "migrations": rows})


def as_sql(known: Sequence[Migration]) -> str:
    """Return all migrations as one script, for those who apply it by themselves."""
    return "\n".join(
        f"-- {migration.number:04d}_{migration.name}.sql\n\n{migration.sql}" for migration in known
    )


def show(missing: Sequence[Migration], *, applied: bool) -> None:
    """Print what was missing as a table; as plain lines into a pipe."""
    console = Console()
    if not missing:
        console.print("The database is up to date.")
        return
    state = "applied" if applied else "missing"
    if not console.is_terminal:
        for migration in missing:
            print(f"{state} {migration.number:04d}_{migration.name}")  # noqa: T201 - this is the answer
        return
    table = Table("migration", "state")
    for migration in missing:
        colour = "green" if applied else "yellow"
        table.add_row(f"{migration.number:04d}_{migration.name}", f"[{colour}]{state}[/]")
    console.print(table)
