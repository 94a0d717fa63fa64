"""What the embedded store can be asked, as operations on a SQLite connection."""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from resilient_agents.deadletter._writer import Operation
from resilient_agents.deadletter.entry import Entry, State, Stats

# A redriven entry comes first in its order again, while a later one may be leased.
UNHINDERED = """
(ordering_key IS NULL OR NOT EXISTS (
    SELECT 1 FROM entries AS other
    WHERE other.topic = entry.topic AND other.ordering_key = entry.ordering_key AND other.id != entry.id
      AND (other.state = 'leased' OR other.id < entry.id AND other.state != 'parked')))
"""


def find(topic: str, key: str) -> Operation[Entry | None]:
    """Look an entry up by topic and key, delivered ones included."""

    def operation(connection: sqlite3.Connection) -> Entry | None:
        row = find_row(connection, topic, key)
        return None if row is None else _shown(row)

    return operation


def listing(*, states: Sequence[State], topic: str | None, after: int, limit: int) -> Operation[list[Entry]]:
    """List the entries in any of *states*, of all topics or one, by rising id."""
    marks = ", ".join("?" * len(states))

    def operation(connection: sqlite3.Connection) -> list[Entry]:
        rows = connection.execute(
            f"SELECT * FROM entries WHERE state IN ({marks}) AND (? IS NULL OR topic = ?) AND id > ?"  # noqa: S608
            " ORDER BY id LIMIT ?",
            (*states, topic, topic, after, limit),
        ).fetchall()
        return [_shown(row) for row in rows]

    return operation


def next_due(topics: Sequence[str]) -> Operation[float | None]:
    """Tell when the next entry of *topics* can be taken or its lease expires, or *None*."""
    marks = ", ".join("?" * len(topics))

    def operation(connection: sqlite3.Connection) -> float | None:
        (moment,) = connection.execute(
            "SELECT min(coalesce(lease_until, due)) FROM entries AS entry"  # noqa: S608
            f" WHERE topic IN ({marks}) AND state != 'parked' AND {UNHINDERED}",
            tuple(topics),
        ).fetchone()
        return None if moment is None else float(moment)

    return operation


def topics() -> Operation[dict[str, int]]:
    """Count the entries that wait, by topic; parked ones are left out."""

    def operation(connection: sqlite3.Connection) -> dict[str, int]:
        waiting = "SELECT topic, count(*) FROM entries WHERE state != 'parked' GROUP BY topic"
        return dict(map(tuple, connection.execute(waiting)))

    return operation


def stats() -> Operation[Stats]:
    """Count the entries by state."""

    def operation(connection: sqlite3.Connection) -> Stats:
        states = dict.fromkeys(State, 0)
        for state, count in connection.execute("SELECT state, count(*) FROM entries GROUP BY state"):
            states[State(state)] = count
        (states[State.DELIVERED],) = connection.execute("SELECT count(*) FROM ledger").fetchone()
        (oldest,) = connection.execute("SELECT min(created) FROM entries WHERE state != 'parked'").fetchone()
        return Stats(states=states, oldest=oldest)

    return operation


def find_row(connection: sqlite3.Connection, topic: str, key: str) -> Mapping[str, Any] | None:
    """Return the entry with this topic and key as a row; a line of the ledger is made to look like one."""
    parameters = (topic, key)
    waiting = connection.execute("SELECT * FROM entries WHERE topic = ? AND key = ?", parameters).fetchone()
    if waiting is not None:
        return dict(waiting)
    line = connection.execute("SELECT * FROM ledger WHERE topic = ? AND key = ?", parameters).fetchone()
    if line is None:
        return None
    return {
        **dict(line),
        "id": line["entry_id"],
        "payload": b"{}",
        "state": State.DELIVERED,
        "due": line["confirmed"],
        "errors": 0,
        "token": 0,
        "lease_until": None,
        "sent_at": None,
        "code": None,
        "last_error": None,
        "created": line["accepted"],
        "updated": line["confirmed"],
    }


_PLAIN = tuple(name for name in Entry.__slots__ if name not in ("payload", "state", "reference"))


def _shown(row: Mapping[str, Any] | sqlite3.Row) -> Entry:
    """Return a row as an entry to look at; a payload that was damaged in the file is shown as empty."""
    try:
        return entry_of(row)
    except ValueError:
        return entry_of({**dict(row), "payload": b"{}"})


def entry_of(row: Mapping[str, Any] | sqlite3.Row) -> Entry:
    """Return a row as an entry.

    Raises:
        ValueError: Its payload cannot be read.
    """
    return Entry(
        payload=json.loads(row["payload"]),
        state=State(row["state"]),
        reference=row["reference"] if "reference" in row.keys() else None,  # noqa: SIM118
        **{name: row[name] for name in _PLAIN},
    )
