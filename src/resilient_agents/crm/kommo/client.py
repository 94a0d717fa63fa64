"""`KommoClient` and `AsyncKommoClient`: leads that reach Kommo once, whatever happens."""

import re
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

from resilient_agents._flow import Flow, arun, run
from resilient_agents.crm.kommo.calls import Calls, is_token
from resilient_agents.crm.kommo.models import NewLead, new_lead
from resilient_agents.crm.kommo.target import BATCH_LIMIT, LeadTarget
from resilient_agents.crm.transport import Answer, AwaitingTransport, BlockingTransport, Request, Timeouts
from resilient_agents.deadletter import DeadLetterQueue, Delivered, Queued
from resilient_agents.errors import ConfigurationError, OutcomeUnknown, ValidationFailed
from resilient_agents.policies import RateLimiter, deadline

RATE_WINDOW: Final = 1.1
"""Time in seconds in which *rate* requests are made: over 1, as some take longer on the way than others."""

Tokens: TypeAlias = str | Callable[[], str]
"""An access token, or a function that returns the one in force."""


class _Client(ABC):
    """What both clients share: the settings, and the flows that their steps perform."""

    _awaiting: bool

    def __init__(
        self,
        host: str,
        *,
        tokens: Tokens,
        queue: DeadLetterQueue,
        timeouts: Timeouts | None = None,
        rate: int = 7,
        batch: int = BATCH_LIMIT,
        grace: float = 60.0,
        field_code: str = "EXTERNAL_ID",
        topic: str | None = None,
    ) -> None:
        self.base_url = _base_url(host)
        if not (callable(tokens) or is_token(tokens)):
            raise ConfigurationError("tokens must be a Kommo access token, or a function that returns one")
        if not (rate >= 1 and batch >= 1 and grace >= 0):
            raise ConfigurationError("rate and batch must be 1 or more, and grace 0 seconds or more")
        if not field_code:
            raise ConfigurationError("field_code must name a text field of leads")
        name = self.base_url.partition("://")[2]
        self.topic = topic or f"kommo.lead@{name}"
        self._timeouts = timeouts or Timeouts()
        self._limiter = RateLimiter(rate, per=RATE_WINDOW, name=f"kommo@{name}")
        self._queue = queue
        self._field_code = field_code
        self._calls = Calls(
            host=name,
            token=tokens if callable(tokens) else lambda: tokens,
            send=self._send,
            turn=self._turn,
            limiter=self._limiter,
            field_code=field_code,
        )
        self._connect()
        target = LeadTarget(
            self._calls,
            awaiting=self._awaiting,
            batch=batch,
            grace=grace,
            patience=self._timeouts.total,
        )
        queue.attach(self.topic, target)

    @abstractmethod
    def _connect(self) -> None: ...

    @abstractmethod
    def _send(self, request: Request) -> Answer | Awaitable[Answer]: ...

    @abstractmethod
    def _turn(self) -> Awaitable[None] | None: ...

    def _submission(
        self,
        lead: NewLead | Mapping[str, Any],
        key: str | None,
        ordering_key: str | None,
        wait: float | None,
    ) -> Flow[Delivered[int] | Queued]:
        receipt = yield from self._queue.hand_in(
            self._queue.awaiting if self._awaiting else self._queue.blocking,
            self.topic,
            self._checked(lead).payload(),
            key=key,
            ordering_key=ordering_key,
            at_once=wait is None or wait > 0,
        )
        if isinstance(receipt, Delivered) and receipt.reference is not None:
            return Delivered(
                entry_id=receipt.entry_id, reference=receipt.reference, value=int(receipt.reference)
            )
        return receipt

    def _creation(self, lead: NewLead | Mapping[str, Any], key: str) -> Flow[int]:
        created = yield from self._calls.create([(key, self._checked(lead))])
        if 0 not in created:
            raise OutcomeUnknown(f"{self.base_url} did not name the lead it created")
        return created[0]

    def _checked(self, lead: NewLead | Mapping[str, Any]) -> NewLead:
        """Return *lead*; refuse one that would take the field by which it is found again."""
        checked = new_lead(lead)
        if any(self._calls.is_own_field(name) for name in checked.custom_fields):
            problem = f"the field {self._field_code} is the client's own: pass the value as the key"
            raise ValidationFailed(
                f"lead: custom_fields: {problem}",
                errors=[{"loc": ["custom_fields"], "msg": problem, "type": "reserved"}],
            )
        return checked

    def _patience(self, wait: float | None = None) -> float:
        if wait is not None and not wait >= 0:
            raise ValidationFailed(
                "wait must be a time in seconds, 0 or more",
                errors=[{"loc": ["wait"], "msg": "must be 0 or more", "type": "greater_than_equal"}],
            )
        return self._timeouts.total if wait is None else min(wait, self._timeouts.total)


class KommoClient(_Client):
    """A client of one Kommo or amoCRM account. Safe in threads and after a fork.

    Args:
        host: Host name of the account, like ``"acme.kommo.com"`` or ``"acme.amocrm.ru"``; or its URL. Plain
            ``http://`` is for this machine only, since requests carry the token.
        tokens: An access token, or a function that returns the one in force; it is called for each request,
            and must not block.
        queue: Where leads wait until they are delivered. The client takes one topic of it.
        timeouts: How long to wait for each phase of a request and for all of it. The default is 5 seconds
            to connect, 10 for each piece read or written, 5 for a free connection, and 30 in all.
        rate: Requests a second. The default is Kommo's limit, 7. It holds for an address, so clients and
            processes that share one must share the rate too.
        batch: How many waiting leads one request carries at most. The default is Kommo's limit, 50.
        grace: Time in seconds after a request of unknown outcome for which "no such lead" is not believed,
            because Kommo may still be at it, or its search lag behind. The default is 60.
        field_code: Code of the text field of leads that carries the idempotency key. The field is created
            when it is missing. The default is ``"EXTERNAL_ID"``.
        topic: The queue's topic for this account. The default names the host.

    Raises:
        ConfigurationError: A setting makes no sense, or the queue serves this account already.
    """

    _awaiting = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. The queue stays open."""
        self._transport.close()

    def submit(
        self,
        lead: NewLead | Mapping[str, Any],
        *,
        key: str | None = None,
        ordering_key: str | None = None,
        wait: float | None = None,
    ) -> Delivered[int] | Queued:
        """Accept a lead, and deliver it now or later, exactly once.

        The lead is on disk before Kommo is called. When Kommo is down, slow or full, the lead waits in the
        queue for a `Replayer`, and this returns all the same: an outage is never an exception.

        Args:
            lead: The lead, or a mapping of its fields.
            key: Idempotency key: a second call with the same key and lead finds the first. The lead
                carries it in Kommo. The default is a new random key.
            ordering_key: Leads with the same ordering key are delivered in order. The default is none.
            wait: Time in seconds to spend on delivering it now. 0 leaves it to the `Replayer`, which is
                right where somebody waits for the answer. The default is the total timeout.

        Returns:
            `Delivered`, whose *value* is Kommo's id of the lead, or `Queued`.

        Raises:
            ValidationFailed: The lead or the key is wrong; the message names the field. Nothing is stored.
            Conflict: Another lead was accepted under this key.
            StorageFailure: The queue's disk refuses; nothing was accepted. Only after a `StorageBusy` it may
                be stored yet: submit it again with the same key.
        """
        with deadline(self._patience(wait)):
            return run(self._submission(lead, key, ordering_key, wait))

    def create_lead(self, lead: NewLead | Mapping[str, Any], *, key: str) -> int:
        """Create a lead in one request, without the queue, and return Kommo's id of it.

        Prefer `submit`: a failure here may leave a lead that nobody knows of.

        Args:
            lead: The lead, or a mapping of its fields.
            key: What it carries, so that `find_lead` finds it.

        Raises:
            ApiError: Kommo cannot be reached, refuses, or leaves the outcome unknown.
        """
        with deadline(self._timeouts.total):
            return run(self._creation(lead, key))

    def find_lead(self, key: str) -> int | None:
        """Return Kommo's id of the lead that carries *key*, or *None* when there is none.

        Raises:
            ApiError: Kommo cannot be reached or refuses.
        """
        with deadline(self._timeouts.total):
            return run(self._calls.find_lead(key))

    def _connect(self) -> None:
        self._transport = BlockingTransport(self.base_url, self._timeouts)

    def _send(self, request: Request) -> Answer:
        return self._transport.send(request)

    def _turn(self) -> None:
        with deadline(self._timeouts.total):
            self._limiter.acquire()


class AsyncKommoClient(_Client):
    """The awaiting twin of `KommoClient`: the same settings, the same promises, for an event loop."""

    _awaiting = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections. The queue stays open."""
        await self._transport.close()

    async def submit(
        self,
        lead: NewLead | Mapping[str, Any],
        *,
        key: str | None = None,
        ordering_key: str | None = None,
        wait: float | None = None,
    ) -> Delivered[int] | Queued:
        """Do what `KommoClient.submit` does, awaiting."""
        with deadline(self._patience(wait)):
            return await arun(self._submission(lead, key, ordering_key, wait))

    async def create_lead(self, lead: NewLead | Mapping[str, Any], *, key: str) -> int:
        """Do what `KommoClient.create_lead` does, awaiting."""
        with deadline(self._timeouts.total):
            return await arun(self._creation(lead, key))

    async def find_lead(self, key: str) -> int | None:
        """Do what `KommoClient.find_lead` does, awaiting."""
        with deadline(self._timeouts.total):
            return await arun(self._calls.find_lead(key))

    def _connect(self) -> None:
        self._transport = AwaitingTransport(self.base_url, self._timeouts)

    async def _send(self, request: Request) -> Answer:
        return await self._transport.send(request)

    async def _turn(self) -> None:
        with deadline(self._timeouts.total):
            await self._limiter.aacquire()


_HOST = re.compile(r"(?:(https?)://)?([a-z0-9.-]+|\[::1\])(:\d{1,5})?/?")
_OWN_MACHINE = frozenset({"127.0.0.1", "localhost", "[::1]"})


def _base_url(host: str) -> str:
    """Return scheme and host of *host*; refuse to send a token over a line that others can read."""
    match = _HOST.fullmatch(host.lower())
    if match is None:
        raise ConfigurationError("host must be a host name like acme.kommo.com, or https:// and a host name")
    scheme, name, port = match.groups()
    if scheme == "http" and name not in _OWN_MACHINE:
        raise ConfigurationError(f"{name}: only https:// keeps the token secret on the way")
    return f"{scheme or 'https'}://{name}{port or ''}"
