"""The ``resilient-agents`` command.

- ``resilient-agents demo`` sends leads through killed services into a failing CRM, and counts them: `demo`.
- ``resilient-agents worker`` delivers what waits in a queue of yours: `worker`.
- ``resilient-agents migrate`` brings the tables of a PostgreSQL database up to date: `migrate`.
- ``resilient-agents fake-kommo`` is a Kommo account to test against: `resilient_agents.testing`.

`app` holds the commands and their options.

The command needs the extra ``cli`` (typer and rich), which is loaded when the command runs.
"""

import sys

from resilient_agents._extras import MissingExtra, require


def main() -> None:
    """Run the command with the arguments of this process, and end the process."""
    try:
        for module in ("typer", "rich"):
            require(module, extra="cli", feature="the resilient-agents command")
        from resilient_agents.cli.app import app

        app(prog_name="resilient-agents")
    except MissingExtra as exc:
        sys.exit(str(exc))
