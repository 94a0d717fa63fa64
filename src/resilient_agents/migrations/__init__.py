"""The tables of this package in PostgreSQL: numbered SQL files, and how a database comes to have them.

Each file is applied once, in order, all that are missing in one transaction: a database has either all of
them or is as it was. A file that was applied is never changed; a change is a new file.
"""

import hashlib
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from resilient_agents._extras import require
from resilient_agents.errors import ConfigurationError, Unreachable

if TYPE_CHECKING:
    import psycopg

__all__ = ["Migration", "load", "migrate"]

_LOCK = 0x72615F6D69677261  # "ra_migra"
"""The advisory lock that one migration at a time holds."""

_HISTORY = """
DO $$
DECLARE
    role text;
BEGIN
    IF to_regclass(quote_ident(current_schema()) || '.resilient_agents_migrations') IS NOT NULL THEN
        RETURN;
    END IF;
    CREATE TABLE resilient_agents_migrations (
        number integer PRIMARY KEY,
        name text NOT NULL,
        checksum text NOT NULL,
        applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
    );
    ALTER TABLE resilient_agents_migrations ENABLE ROW LEVEL SECURITY;
    FOR role IN SELECT rolname FROM pg_catalog.pg_roles WHERE rolname IN ('anon', 'authenticated') LOOP
        EXECUTE format('REVOKE ALL ON resilient_agents_migrations FROM %I', role);
    END LOOP;
END
$$
"""
"""Supabase would grant everything on a new table to everybody."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Migration:
    """One numbered SQL file.

    Attributes:
        number: Its place in the order, from 1.
        name: What it brings.
        sql: Its statements.
    """

    number: int
    name: str
    sql: str = field(repr=False)

    @property
    def checksum(self) -> str:
        """What tells a changed file from the one that was applied."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def load() -> list[Migration]:
    """Return all migrations, in their order."""
    folder = files(__name__) / "postgres"
    found = []
    for file in folder.iterdir():
        if not file.name.endswith(".sql"):
            continue
        number, _, name = file.name.removesuffix(".sql").partition("_")
        found.append(Migration(number=int(number), name=name, sql=file.read_text(encoding="utf-8")))
    return sorted(found, key=lambda migration: migration.number)


def migrate(url: str, *, dry_run: bool = False, patience: float = 60.0) -> list[Migration]:
    """Bring a PostgreSQL database up to date. Doing it twice, or from two places at once, is harmless.

    Args:
        url: The database, as ``"postgresql://user:password@host/name"``. The user becomes the tables' owner.
        dry_run: Only say what is missing, and change nothing. The default is *False*.
        patience: Time in seconds to wait for locks, of another migration above all. The default is 60.

    Returns:
        What was missing, in the order in which it was applied.

    Raises:
        ConfigurationError: A file was changed after it was applied, the database is ahead of this version, a
            table of that name is there already, there is no schema, the database is read-only, or the user
            may not create tables. Nothing was changed.
        Unreachable: The database cannot be reached.
        MissingExtra: psycopg is not installed.
        ValueError: *patience* is not more than 0.
    """
    if not 0 < patience < math.inf:
        raise ValueError(f"patience must be more than 0 seconds, not {patience!r}")
    psycopg = require("psycopg", extra="postgres", feature="migrate")
    with _connected(psycopg, url) as connection, _explained(psycopg), connection.transaction():
        connection.execute("SELECT set_config('lock_timeout', %s, true)", [str(math.ceil(patience * 1000))])
        if not dry_run:
            connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
            connection.execute(_HISTORY)
        missing = _missing(load(), _applied(connection))
        if not dry_run:
            for migration in missing:
                _apply(connection, migration)
    return missing


@contextmanager
def _connected(psycopg: Any, url: str) -> "Iterator[psycopg.Connection[Any]]":
    try:
        connection = psycopg.connect(
            url, connect_timeout=10, prepare_threshold=None, application_name="resilient-agents migrate"
        )
    except psycopg.ProgrammingError:  # its text repeats the URL, password and all
        raise ConfigurationError("the URL of the database cannot be read: postgresql://…") from None
    except psycopg.OperationalError as exc:
        raise Unreachable("the database cannot be reached, or refuses us: check its URL") from exc
    with connection:
        yield connection


@contextmanager
def _explained(psycopg: Any) -> Iterator[None]:
    """Turn what the database refuses into words; the name of a table is all that is taken from it."""
    try:
        yield
    except _classes(psycopg, "DuplicateTable", "DuplicateFunction", "DuplicateObject") as exc:
        raise ConfigurationError(
            "a table, index or function of a name that a migration creates is there already, and none of"
            " ours: rename it, or give us a schema of its own (search_path). Nothing was changed"
        ) from exc
    except _classes(psycopg, "InsufficientPrivilege") as exc:
        raise ConfigurationError(
            "the database's user may not create tables here: migrate as the owner. Nothing was changed"
        ) from exc
    except _classes(psycopg, "InvalidSchemaName") as exc:
        raise ConfigurationError(
            "none of the schemas in the user's search_path is there: create it first. Nothing was changed"
        ) from exc
    except _classes(psycopg, "ReadOnlySqlTransaction") as exc:
        raise ConfigurationError(
            "the database is read-only, such as a replica: migrate its primary. Nothing was changed"
        ) from exc
    except _classes(psycopg, "LockNotAvailable", "QueryCanceled", "DeadlockDetected") as exc:
        raise Unreachable(
            "another migration, or a long transaction, holds a lock that is needed: try again later."
            " Nothing was changed"
        ) from exc
    except psycopg.OperationalError as exc:
        raise Unreachable(
            "the connection to the database was lost: migrate again, which does what is still missing"
        ) from exc


def _classes(psycopg: Any, *names: str) -> tuple[type[Exception], ...]:
    return tuple(getattr(psycopg.errors, name) for name in names)


def _applied(connection: "psycopg.Connection[Any]") -> dict[int, str]:
    """Return the checksums of what was applied, by number."""
    where = "quote_ident(current_schema()) || '.resilient_agents_migrations'"
    row = connection.execute(f"SELECT to_regclass({where}) IS NOT NULL".encode()).fetchone()
    if row is None or not row[0]:
        return {}
    rows = connection.execute("SELECT number, checksum FROM resilient_agents_migrations")
    return dict(rows.fetchall())


def _missing(known: Sequence[Migration], applied: dict[int, str]) -> list[Migration]:
    """Return what is not applied yet.

    Raises:
        ConfigurationError: What was applied is not what is known.
    """
    numbers = {migration.number for migration in known}
    if ahead := sorted(applied.keys() - numbers):
        raise ConfigurationError(
            f"the database has migration {ahead[-1]}, which this version does not know: upgrade"
            " resilient-agents"
        )
    for migration in known:
        if applied.get(migration.number, migration.checksum) != migration.checksum:
            raise ConfigurationError(
                f"migration {migration.number} ({migration.name}) was changed after it was applied here:"
                " install the version that was used, or put the file back"
            )
    return [migration for migration in known if migration.number not in applied]


def _apply(connection: "psycopg.Connection[Any]", migration: Migration) -> None:
    connection.execute(migration.sql.encode())
    connection.execute(
        "INSERT INTO resilient_agents_migrations (number, name, checksum) VALUES (%s, %s, %s)",
        [migration.number, migration.name, migration.checksum],
    )
