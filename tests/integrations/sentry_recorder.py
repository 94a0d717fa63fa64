"""A client of Sentry's that keeps what it would send."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sentry_sdk
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport

DSN = "http://key@localhost:1/1"


class Recorder(Transport):
    """Keeps envelopes instead of sending them.

    Attributes:
        envelopes: All of them, as bytes that would have gone out.
        events: Their events.
    """

    def __init__(self) -> None:
        super().__init__()
        self.envelopes: list[bytes] = []
        self.events: list[dict[str, Any]] = []

    def capture_envelope(self, envelope: Envelope) -> None:
        """Keep an envelope, as it would be sent."""
        self.envelopes.append(envelope.serialize())
        event = envelope.get_event()
        if event is not None:
            self.events.append(json.loads(json.dumps(event, default=str)))

    @property
    def sent(self) -> str:
        """All that would have been sent, as text."""
        return b"\n".join(self.envelopes).decode()


@contextmanager
def no_client() -> Iterator[None]:
    """Begin without breadcrumbs, and leave neither those nor a client behind."""
    with sentry_sdk.isolation_scope() as scope:
        scope.clear()
        try:
            yield
        finally:
            sentry_sdk.get_client().close()
            sentry_sdk.get_global_scope().set_client(None)
