"""The embedded store: what happens to entries, as operations on a SQLite connection.

Each function returns an operation for the group-committing `Writer`; nothing here opens, locks or commits.
``entries`` holds what is still to be delivered, ``ledger`` one line for everything that was.
"""

import logging
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from resilient_agents.deadletter._writer import Operation
from resilient_agents.deadletter.entry import Entry, State, digest
from resilient_agents.deadletter.queries import UNHINDERED, entry_of, find_row
from resilient_agents.errors import Conflict, NotFound

_log = logging.getLogger("resilient_agents.deadletter")

_INSERT = """
INSERT INTO entries (topic, key, ordering_key, payload, state, due, token, lease_until, created, updated)
SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, ?
WHERE NOT EXISTS (SELECT 1 FROM ledger WHERE topic = ? AND key = ?) ON CONFLICT (topic, key) DO NOTHING
"""

_DUE = f"""
SELECT id FROM entries AS entry
WHERE topic = :topic AND state IN ('pending', 'scheduled', 'uncertain') AND due <= :now AND {UNHINDERED}
ORDER BY due, id LIMIT :limit
"""  # noqa: S608


@dataclass(frozen=True, kw_only=True, slots=True)
class Acceptance:
    """What became of work that was handed in.

    Attributes:
        entry: The entry as it stands.
        fresh: Whether it is new; else an earlier one with the same topic and key was found.
    """

    entry: Entry
    fresh: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """What becomes of a leased entry that was not delivered.

    Attributes:
        state: Its next state: scheduled, uncertain or parked.
        due: When it is to be tried next, in seconds since the epoch.
        sent_at: When it may have been sent without an answer, or *None*.
        code: The failure's code.
        last_error: What went wrong, redacted.
        attempted: Whether a try ended, rather than being put off.
        held_against: Whether the failure counts toward the limit of attempts.
    """

    state: State
    due: float
    sent_at: float | None
    code: str | None
    last_error: str | None
    attempted: bool = True
    held_against: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """A leased entry that arrived.

    Attributes:
        entry: The entry.
        reference: What the target calls it, or *None*.
        reconciled: Whether it was found there by a look-up, rather than sent now.
    """

    entry: Entry
    reference: str | None
    reconciled: bool


def accept(
    *,
    topic: str,
    key: str,
    payload: Mapping[str, Any],
    data: bytes,
    ordering_key: str | None,
    delay: float,
    lease: float | None,
    now: float,
) -> Operation[Acceptance]:
    """Store new work, or find the entry that is already there under its topic and key.

    Args:
        topic: What kind of work it is.
        key: Its idempotency key.
        payload: The work.
        data: The work as JSON.
        ordering_key: Its place in an order, or *None*.
        delay: Time in seconds before the first try.
        lease: Time in seconds for which the caller takes it at once, unless others come first in its
            order; *None* to leave it to a worker.
        now: The time, in seconds since the epoch.

    Raises:
        Conflict: Another payload was accepted under this key.
    """

    def operation(connection: sqlite3.Connection) -> Acceptance:
        taken = lease is not None and not _has_earlier(connection, topic, ordering_key)
        state, token = (State.LEASED, 1) if taken else (State.PENDING, 0)
        until = now + lease if taken and lease is not None else None
        cursor = connection.execute(
            _INSERT,
            (topic, key, ordering_key, data, state, now + delay, token, until, now, now, topic, key),
        )
        if cursor.rowcount == 1 and cursor.lastrowid is not None:
            entry = Entry(
                id=cursor.lastrowid,
                topic=topic,
                key=key,
                ordering_key=ordering_key,
                payload=payload,
                state=state,
                due=now + delay,
                token=token,
                lease_until=until,
                created=now,
                updated=now,
            )
            return Acceptance(entry=entry, fresh=True)
        known = find_row(connection, topic, key)
        if known is None or not _holds(known, data):
            raise Conflict(
                f"another payload was accepted under this key (topic {topic}): use a new key for new work"
            )
        return Acceptance(entry=entry_of(known), fresh=False)

    return operation


def claim(*, topic: str, limit: int, now: float, lease: float) -> Operation[list[Entry]]:
    """Lease the entries of *topic* that are due, oldest due first, at most *limit*."""

    def operation(connection: sqlite3.Connection) -> list[Entry]:
        claimed: list[Entry] = []
        while not claimed:
            due = connection.execute(_DUE, {"topic": topic, "now": now, "limit": limit}).fetchall()
            if not due:
                break
            for (entry_id,) in due:
                row = connection.execute(
                    "UPDATE entries SET state = 'leased', token = token + 1, lease_until = ?"
                    " WHERE id = ? RETURNING *",
                    (now + lease, entry_id),
                ).fetchone()
                try:
                    claimed.append(entry_of(row))
                except ValueError:
                    _park_unreadable(connection, entry_id)
        return claimed

    return operation


def _park_unreadable(connection: sqlite3.Connection, entry_id: int) -> None:
    """Put an entry aside whose payload was damaged in the file, so that it holds up no other."""
    _log.error("entry %d is parked: its payload cannot be read", entry_id)
    connection.execute(
        "UPDATE entries SET state = 'parked', code = 'internal.data', last_error = ?, lease_until = NULL"
        " WHERE id = ?",
        ("its payload cannot be read: the file was damaged", entry_id),
    )


def renew(leases: Sequence[tuple[int, int]], *, now: float, lease: float) -> Operation[set[int]]:
    """Extend leases, pairs of entry id and token; return the ids of those that are still held."""

    def operation(connection: sqlite3.Connection) -> set[int]:
        extend = "UPDATE entries SET lease_until = ? WHERE id = ? AND token = ? AND state = 'leased'"
        return {
            entry_id
            for entry_id, token in leases
            if connection.execute(extend, (now + lease, entry_id, token)).rowcount == 1
        }

    return operation


def expire(*, now: float, max_crashes: int, delay: float) -> Operation[list[Entry]]:
    """Take back the leases that ran out: their workers died, or lost touch in the middle of a call.

    The call counts as made now, not when the lease ended: the clock may have been set forward meanwhile.

    Args:
        now: The time, in seconds since the epoch.
        max_crashes: How many crashes park an entry.
        delay: Time in seconds before the next try, for each crash so far.

    Returns:
        The entries as they stand now: uncertain, or parked.
    """

    def operation(connection: sqlite3.Connection) -> list[Entry]:
        rows = connection.execute(
            "UPDATE entries SET crashes = crashes + 1, updated = :now, due = :now + :delay * crashes,"
            " state = CASE WHEN crashes + 1 >= :limit THEN 'parked' ELSE 'uncertain' END,"
            " code = CASE WHEN crashes + 1 >= :limit THEN 'internal.crashes' ELSE code END,"
            " last_error = CASE WHEN crashes + 1 >= :limit THEN 'its worker died each time'"
            " ELSE last_error END,"
            " sent_at = :now, lease_until = NULL"
            " WHERE state = 'leased' AND lease_until < :now RETURNING *",
            {"now": now, "limit": max_crashes, "delay": delay},
        ).fetchall()
        return [entry_of(row) for row in rows]

    return operation


def conclude(
    deliveries: Sequence[Delivery], changes: Sequence[tuple[Entry, Change]], *, now: float
) -> Operation[set[int]]:
    """Move delivered entries to the ledger and give the others back, in one transaction.

    Returns:
        The ids of the entries whose lease was lost; nothing is recorded for them.
    """

    def operation(connection: sqlite3.Connection) -> set[int]:
        lost = {it.entry.id for it in deliveries if not _confirm(connection, it, now)}
        return lost | {entry.id for entry, new in changes if not _change(connection, entry, new, now)}

    return operation


def _confirm(connection: sqlite3.Connection, delivery: Delivery, now: float) -> bool:
    row = connection.execute(
        "DELETE FROM entries WHERE id = ? AND token = ? AND state = 'leased' RETURNING *",
        (delivery.entry.id, delivery.entry.token),
    ).fetchone()
    if row is None:
        return False
    connection.execute(
        "INSERT INTO ledger (topic, key, entry_id, digest, ordering_key, attempts, crashes, reference,"
        " accepted, confirmed) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            row["topic"],
            row["key"],
            row["id"],
            digest(row["payload"]),
            row["ordering_key"],
            row["attempts"] + (not delivery.reconciled),
            row["crashes"],
            delivery.reference,
            row["created"],
            now,
        ),
    )
    return True


def _change(connection: sqlite3.Connection, entry: Entry, new: Change, now: float) -> bool:
    cursor = connection.execute(
        "UPDATE entries SET state = ?, due = ?, sent_at = ?, code = ?, last_error = ?, lease_until = NULL,"
        " attempts = attempts + ?, errors = errors + ?, updated = ?"
        " WHERE id = ? AND token = ? AND state = 'leased'",
        (
            new.state,
            new.due,
            new.sent_at,
            _storable(new.code),
            _storable(new.last_error),
            new.attempted,
            new.held_against,
            now,
            entry.id,
            entry.token,
        ),
    )
    return cursor.rowcount == 1


def _storable(text: str | None) -> str | None:
    """Return *text* as UTF-8 can hold it: what other people's errors say may be half a character."""
    return None if text is None else text.encode("utf-8", "replace").decode()


def redrive(entry_id: int, *, resend: bool, now: float) -> Operation[Entry]:
    """Give an entry a fresh start now; what may have been sent is looked for first, unless *resend*.

    Raises:
        NotFound: No entry has this number.
        Conflict: A worker is at it.
    """

    def operation(connection: sqlite3.Connection) -> Entry:
        row = connection.execute("SELECT * FROM entries WHERE id = ?", (entry_id,)).fetchone()
        if row is None:
            raise NotFound(f"there is no entry {entry_id} waiting; delivered ones are in the ledger")
        if row["state"] == State.LEASED:
            raise Conflict(f"entry {entry_id} is leased: a worker is at it, or its lease runs out first")
        sent_at = None if resend else row["sent_at"]
        state = State.SCHEDULED if sent_at is None else State.UNCERTAIN
        row = connection.execute(
            "UPDATE entries SET state = ?, due = ?, sent_at = ?, errors = 0, crashes = 0, updated = ?"
            " WHERE id = ? RETURNING *",
            (state, now, sent_at, now, entry_id),
        ).fetchone()
        return entry_of(row)

    return operation


def forget(*, confirmed_before: float) -> Operation[int]:
    """Delete the ledger's lines about what was confirmed before a time; return how many."""

    def operation(connection: sqlite3.Connection) -> int:
        return connection.execute("DELETE FROM ledger WHERE confirmed < ?", (confirmed_before,)).rowcount

    return operation


def _holds(known: Mapping[str, Any], data: bytes) -> bool:
    """Tell whether the payload of *known* is *data*; once delivered, only its digest is left."""
    if known["state"] == State.DELIVERED:
        return bool(known["digest"] == digest(data))
    return bool(known["payload"] == data)


def _has_earlier(connection: sqlite3.Connection, topic: str, ordering_key: str | None) -> bool:
    if ordering_key is None:
        return False
    earlier = "SELECT 1 FROM entries WHERE topic = ? AND ordering_key = ? AND state != 'parked' LIMIT 1"
    return connection.execute(earlier, (topic, ordering_key)).fetchone() is not None
