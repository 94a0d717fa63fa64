"""The calls to Kommo, as flows: the same for the blocking and the awaiting client."""

import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeAlias

from resilient_agents._flow import Flow
from resilient_agents.crm.kommo.answers import Refused, read
from resilient_agents.crm.kommo.models import NewLead
from resilient_agents.crm.transport import Answer, Request
from resilient_agents.errors import (
    DeadlineExceeded,
    LimitReached,
    Origin,
    OutcomeUnknown,
    PermissionDenied,
    RateLimited,
    ReauthRequired,
    Unreachable,
    classify,
)
from resilient_agents.policies import RateLimiter

PAGE: Final = 250
PAGES: Final = 20

_FIELDS: Final = "/api/v4/leads/custom_fields"
_PLAIN_KEY: Final = re.compile(r"(?!key-[0-9a-f]{32}\Z)[A-Za-z0-9][A-Za-z0-9._:/-]{5,99}")
_OWN_FIELD: Final = re.compile(r"(\d+\.)?custom_fields_values\.0(\.|\Z)")
"""Where Kommo's errors speak of the external id, which `NewLead.body` puts first."""

_NO_LISTING: Final = (AttributeError, KeyError, TypeError, ValueError)
"""What reading a listing raises where the answer is none."""

_Filter: TypeAlias = Callable[[Mapping[str, Any]], bool]


def external_id(key: str) -> str:
    """Return what the lead with this idempotency *key* carries in its external-id field.

    The key itself where it survives a CRM's text field and search unchanged: 6 to 100 letters, digits and
    ``. _ : / -``. Any other key is replaced by a fingerprint of it.
    """
    if _PLAIN_KEY.fullmatch(key):
        return key
    return f"key-{hashlib.blake2b(key.encode(), digest_size=16).hexdigest()}"


class Calls:
    """What one account of Kommo can be asked.

    Args:
        host: Host name, for messages.
        token: Returns the access token.
        send: Performs one HTTP exchange; a step, blocking or awaiting.
        turn: Waits for the rate limiter; a step, blocking or awaiting.
        limiter: The rate limiter, to be parked by a 429.
        field_code: Code of the lead field that carries the external id.
    """

    def __init__(
        self,
        *,
        host: str,
        token: Callable[[], str],
        send: Callable[[Request], Answer | Awaitable[Answer]],
        turn: Callable[[], Awaitable[None] | None],
        limiter: RateLimiter,
        field_code: str,
    ) -> None:
        self.host = host
        self._token = token
        self._send = send
        self._turn = turn
        self._limiter = limiter
        self._field_code = field_code
        self._field_id: int | None = None

    def create(self, leads: Sequence[tuple[str, NewLead]]) -> Flow[dict[int, int]]:
        """Create leads with their contacts, in one request.

        Args:
            leads: Pairs of idempotency key and lead.

        Returns:
            Kommo's id of each lead, by its position in *leads*; what Kommo did not name is missing.
        """
        try:
            field_id = yield from self._external_id_field()
        except Exception as exc:
            failure = classify(exc)
            if not failure.outcome_unknown:
                raise
            raise Unreachable(f"not sent yet: {failure.detail}", retry_after=failure.retry_after) from exc
        body = [
            lead.body(
                request_id=str(number),
                external_id={"field_id": field_id, "values": [{"value": external_id(key)}]},
            )
            for number, (key, lead) in enumerate(leads)
        ]
        try:
            answer = yield from self._ask(Request(method="POST", path="/api/v4/leads/complex", body=body))
        except Refused as exc:
            if any(_OWN_FIELD.match(error["loc"][1]) for error in exc.errors):
                self._field_id = None
                raise OutcomeUnknown(
                    f"{self.host} does not take the values of the lead field {self._field_code}: it must be "
                    "there, and be a text field"
                ) from exc
            raise
        return _created(answer)

    def find_lead(self, key: str) -> Flow[int | None]:
        """Return Kommo's id of the lead with this idempotency *key*, or *None*.

        Kommo's search finds texts anywhere in a lead, so what it finds is compared in full. Of several
        leads the oldest is returned.
        """
        wanted, field_id = external_id(key), (yield from self._external_id_field())
        query = {"query": wanted, "order[id]": "asc"}
        request = Request(method="GET", path="/api/v4/leads", query=query)
        return (
            yield from self._find(request, "leads", lambda it: wanted in self._external_ids(it, field_id))
        )

    def _external_ids(self, lead: Mapping[str, Any], field_id: int) -> list[Any]:
        """Return what *lead* carries in its external-id field, or in a twin of that field.

        Two processes that create the field at the same moment may leave two fields with the same code.
        """
        return [
            value.get("value")
            for field in lead.get("custom_fields_values") or ()
            if field.get("field_id") == field_id or self._is_ours(field.get("field_code"))
            for value in field.get("values") or ()
        ]

    def _external_id_field(self) -> Flow[int]:
        """Return the id of the field that carries the external id; create the field where it is missing."""
        if self._field_id is None:
            self._field_id = yield from self._find_field()
        if self._field_id is None:
            self._field_id = yield from self._create_field()
        return self._field_id

    def _find_field(self) -> Flow[int | None]:
        request = Request(method="GET", path=_FIELDS)
        return (yield from self._find(request, "custom_fields", lambda it: self._is_ours(it.get("code"))))

    def _find(self, request: Request, name: str, wanted: _Filter) -> Flow[int | None]:
        """Return the id of the first *wanted* item on the pages of a listing, or *None*.

        Raises:
            OutcomeUnknown: What came is no listing, or has no end: nothing counts as missing.
            ReauthRequired: The question was refused: whoever it is that answers is no Kommo of ours.
        """
        for page in range(1, PAGES + 1):
            query = {**request.query, "limit": PAGE, "page": page}
            try:
                listing = yield from self._ask(replace(request, query=query))
            except Refused as exc:  # a question holds nothing of a lead that could be wrong
                raise ReauthRequired(f"{exc.detail}: is this the host of your Kommo account?") from exc
            try:
                item_id = _id_of(listing, name, wanted)
            except _NO_LISTING:
                detail = f"{request.method} {self.host}{request.path} answered with no list of {name}"
                raise OutcomeUnknown(detail, code="external.bad_body") from None
            if item_id is not None or not _has_next(listing):
                return item_id
        raise OutcomeUnknown(f"{self.host} lists more than {PAGE * PAGES} {name}")

    def _create_field(self) -> Flow[int]:
        field = {"name": "External ID", "type": "text", "code": self._field_code}
        field_id, refusal = None, None
        try:
            answer = yield from self._ask(Request(method="POST", path=_FIELDS, body=[field]))
            with suppress(*_NO_LISTING):
                field_id = _id_of(answer, "custom_fields", lambda _: True)
        except Refused as exc:  # another process has just created it, or it may not be created
            refusal = exc
        if field_id is None:
            field_id = yield from self._find_field()
        if field_id is None:
            raise PermissionDenied(
                f"{self.host} has no lead field with the code {self._field_code} and does not let us create "
                "it: create a text field with this code, or pass the code of one as field_code",
                origin=Origin.DEPENDENCY,
                status=502,
            ) from refusal
        return field_id

    def is_own_field(self, name: str) -> bool:
        """Tell whether a lead's field, named by code or id, is the one that carries the external id."""
        return self._is_ours(name) or (self._field_id is not None and name == str(self._field_id))

    def _is_ours(self, code: object) -> bool:
        return isinstance(code, str) and code.casefold() == self._field_code.casefold()

    def _ask(self, request: Request) -> Flow[Any]:
        try:
            yield self._turn
        except DeadlineExceeded:
            detail = f"no request to {self.host} was free within the time given"
            raise LimitReached(detail) from None
        signed = replace(request, headers={"authorization": f"Bearer {self._credential()}"})
        answer = yield partial(self._send, signed)
        try:
            return read(self.host, request, answer)
        except RateLimited as exc:
            self._limiter.park(exc.retry_after or 0.0)
            raise

    def _credential(self) -> str:
        try:
            token = self._token()
        except Exception as exc:
            raise ReauthRequired(f"there is no token for {self.host}: its source failed") from exc
        if not is_token(token):
            raise ReauthRequired(
                f"there is no token for {self.host}: its source gave something else, or added a line break"
            )
        return token


def is_token(value: object) -> bool:
    """Tell whether *value* can stand in an ``Authorization`` header."""
    return isinstance(value, str) and value != "" and value.isascii() and value.isprintable()


def _created(answer: Any) -> dict[int, int]:
    """Read the bare array that answers ``/leads/complex``: ``[{id, request_id: [...], ...}]``.

    What is not understood is left out: its lead counts as not named.
    """
    created = {}
    for lead in answer if isinstance(answer, list) else ():
        if isinstance(lead, dict) and isinstance(lead.get("id"), int):
            named = lead.get("request_id")
            for request_id in map(str, named if isinstance(named, list) else [named]):
                if request_id.isdecimal():
                    created[int(request_id)] = lead["id"]
    return created


def _id_of(listing: Any, name: str, wanted: _Filter) -> int | None:
    """Return the id of the first *wanted* item of a listing, or *None*. A 204 lists nothing.

    Raises:
        AttributeError, KeyError, TypeError, ValueError: This is no listing.
    """
    items = [] if listing is None else listing["_embedded"][name]
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise TypeError
    return next((int(item["id"]) for item in items if wanted(item)), None)


def _has_next(listing: Any) -> bool:
    links = listing.get("_links") if listing else None
    return isinstance(links, dict) and "next" in links
