"""How work is checked on its way in."""

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from resilient_agents._clock import clock
from resilient_agents.deadletter import sqlite
from resilient_agents.deadletter._writer import Operation
from resilient_agents.deadletter.entry import Entry, check_label, encode, new_key
from resilient_agents.errors import ConfigurationError, ValidationFailed


def acceptance(
    topic: str,
    payload: Mapping[str, Any],
    *,
    key: str | None,
    ordering_key: str | None,
    delay: float = 0.0,
    lease: float | None = None,
    limit: int,
) -> Operation[sqlite.Acceptance]:
    """Check work, and return the operation that stores it.

    Args:
        topic: What kind of work it is.
        payload: The work, as JSON values.
        key: Its idempotency key, or *None* for a random one.
        ordering_key: Its place in an order, or *None*.
        delay: Time in seconds before the first try. The default is 0.
        lease: Time in seconds for which the caller takes it at once; *None*, the default, leaves it to a
            worker.
        limit: Greatest size of the payload as JSON, in bytes.

    Raises:
        ValidationFailed: The topic, a key, the delay or the payload cannot be stored.
        PayloadTooLarge: The payload is over the limit.
    """
    check_label(topic, field="topic")
    key = new_key() if key is None else check_label(key, field="key")
    if ordering_key is not None:
        check_label(ordering_key, field="ordering_key")
    if not 0.0 <= delay < math.inf:
        raise ValidationFailed("delay must be a number of seconds, 0 or more")
    return sqlite.accept(
        topic=topic,
        key=key,
        payload=payload,
        data=encode(payload, limit=limit),
        ordering_key=ordering_key,
        delay=delay,
        lease=lease,
        now=clock().time(),
    )


def as_stored(entry: Entry) -> Entry:
    """Return a new entry as a worker would read it: JSON knows no tuples and no keys but text."""
    return replace(entry, payload=json.loads(json.dumps(dict(entry.payload))))


def path_of(url: str) -> Path:
    """Return the file that *url* names.

    Raises:
        ConfigurationError: It names none.
    """
    scheme, separator, path = url.partition(":///")
    if scheme != "sqlite" or not separator or not path or path == ":memory:":
        raise ConfigurationError(
            "a dead-letter queue needs a file: write sqlite:///leads.db, or sqlite:////srv/leads.db for an"
            " absolute path"
        )
    return Path(path)
