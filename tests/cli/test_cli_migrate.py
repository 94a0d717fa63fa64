"""``resilient-agents migrate`` on a real PostgreSQL."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from resilient_agents.cli.app import app
from resilient_agents.migrations import load


def run(*arguments: str, **environment: str) -> tuple[int, str, str]:
    """Run the command, and return its exit status and what it printed."""
    result = CliRunner(env={"DATABASE_URL": None, **environment}).invoke(app, ["migrate", *arguments])
    return result.exit_code, result.stdout, result.stderr


def test_applies_what_is_missing(postgres_url: str) -> None:
    """It names what it applied, in a pipe one line each, and then that there is nothing left to do."""
    names = [f"applied {migration.number:04d}_{migration.name}" for migration in load()]

    assert (0, "\n".join([*names, ""]), "") == run("--url", postgres_url)
    assert (0, "The database is up to date.\n", "") == run(DATABASE_URL=postgres_url)


def test_dry_run(postgres_url: str) -> None:
    """A dry run says what is missing, as often as it is asked."""
    expected = {
        "applied": False,
        "migrations": [{"number": migration.number, "name": migration.name} for migration in load()],
    }

    for _ in range(2):
        status, out, _ = run("--url", postgres_url, "--dry-run", "--json")

        assert (0, expected) == (status, json.loads(out))


def test_print_needs_no_database() -> None:
    """The SQL of every migration is printed for those who apply it by themselves."""
    status, out, _ = run("--print")

    assert 0 == status
    assert all(migration.sql in out for migration in load())


def test_a_url_is_needed() -> None:
    """Without a database it says how to name one."""
    status, _, error = run()

    assert 2 == status
    assert "DATABASE_URL" in error


@pytest.mark.parametrize("url", ["postgresql://me:hidden@127.0.0.1:1/db", "nonsense"])
def test_no_database(url: str) -> None:
    """A database that cannot be had is a line of words and status 1, without the password."""
    status, out, error = run("--url", url)

    assert (1, "") == (status, out)
    assert error.startswith("Error: ")
    assert "hidden" not in error


def test_without_psycopg() -> None:
    """Without the extra it says what to install."""
    code = (
        "import sys; sys.modules['psycopg'] = None\nfrom resilient_agents.cli import main\n"
        "sys.argv[1:] = ['migrate', '--url', 'postgresql://x']\nmain()"
    )
    child = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)

    assert 1 == child.returncode
    assert "pip install 'resilient-agents[postgres]'" in child.stderr
    assert "Traceback" not in child.stderr
