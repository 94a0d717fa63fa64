"""The tables of the embedded store, and how a file comes to have them."""

import sqlite3
from pathlib import Path

from resilient_agents.errors import StorageFailure

SCHEMA_VERSION = 1
APPLICATION_ID = 0x52444C51  # "RDLQ"

_SCHEMA = """
CREATE TABLE entries (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    topic TEXT NOT NULL,
    key TEXT NOT NULL,
    ordering_key TEXT,
    payload BLOB NOT NULL,
    state TEXT NOT NULL,
    due REAL NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    errors INTEGER NOT NULL DEFAULT 0,
    crashes INTEGER NOT NULL DEFAULT 0,
    token INTEGER NOT NULL DEFAULT 0,
    lease_until REAL,
    sent_at REAL,
    code TEXT,
    last_error TEXT,
    created REAL NOT NULL,
    updated REAL NOT NULL,
    UNIQUE (topic, key)
) STRICT;
CREATE INDEX entries_due ON entries (topic, due, id) WHERE state IN ('pending', 'scheduled', 'uncertain');
CREATE INDEX entries_leased ON entries (lease_until) WHERE state = 'leased';
CREATE INDEX entries_order ON entries (topic, ordering_key, id) WHERE ordering_key IS NOT NULL;
CREATE TABLE ledger (
    topic TEXT NOT NULL,
    key TEXT NOT NULL,
    entry_id INTEGER NOT NULL,
    digest BLOB NOT NULL,
    ordering_key TEXT,
    attempts INTEGER NOT NULL,
    crashes INTEGER NOT NULL,
    reference TEXT,
    accepted REAL NOT NULL,
    confirmed REAL NOT NULL,
    PRIMARY KEY (topic, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX ledger_confirmed ON ledger (confirmed);
"""


def prepare(connection: sqlite3.Connection) -> None:
    """Create the tables in an empty file; refuse a file of something else or of a newer version.

    Raises:
        StorageFailure: The file belongs to another program or to a newer version of this one.
    """
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    if (application, version) == (APPLICATION_ID, SCHEMA_VERSION):
        return
    name = Path(connection.execute("PRAGMA database_list").fetchone()["file"]).name
    if application == APPLICATION_ID:
        raise StorageFailure(
            f"{name}: the file has schema version {version}, and this library knows {SCHEMA_VERSION}:"
            " upgrade resilient-agents"
        )
    if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        raise StorageFailure(f"{name}: the file belongs to another program: choose another path")
    connection.executescript(
        f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA application_id={APPLICATION_ID};"
        f" PRAGMA user_version={SCHEMA_VERSION}; COMMIT;"
    )
