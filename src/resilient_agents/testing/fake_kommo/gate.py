"""What stands before the routes, in this order: block, rate, token, payment, scope."""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from resilient_agents._clock import clock
from resilient_agents.testing.fake_kommo.answers import Answer, page, problem, too_many
from resilient_agents.testing.fake_kommo.schema import (
    FLAG,
    SECONDS,
    TEXT,
    Rule,
    check,
    is_count,
    one_of,
    optional,
)

_COUNT: Rule = (is_count, "a whole number from 1")

_RULES: dict[str, Rule] = {
    "token": TEXT,
    "rate": optional(_COUNT),
    "retry_after": SECONDS,
    "rate_form": one_of("json", "html"),
    "block_after": optional(_COUNT),
    "block_window": SECONDS,
    "block_seconds": optional(SECONDS),
    "blocked": FLAG,
    "paid": FLAG,
    "scope": FLAG,
    "duplicate_control": FLAG,
    "lookup_lag": SECONDS,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Switches:
    """How the account behaves.

    Attributes:
        token: The Bearer token that is accepted. The default is ``"test-token"``.
        rate: Requests admitted in any second, or *None* for no limit. The default is the vendor's, 7.
        retry_after: The hint in the body of a 429, in seconds. The vendor sends 300; the default is 1, so
            that a client which obeys does not stop a test.
        rate_form: Whether a 429 comes as ``"json"`` or as the gateway's ``"html"``. The default is JSON.
        block_after: How many 429 within *block_window* block the account, or *None* for never. The vendor
            does not publish its number; the default is never.
        block_window: Time in seconds over which they are counted. The default is 60.
        block_seconds: Time in seconds after which such a block ends by itself, or *None* for never. The
            default is never.
        blocked: Whether every request is answered with the gateway's 403 page. The default is no.
        paid: Whether the account is paid; if not, requests end with 402. The default is yes.
        scope: Whether the token has the scope it needs; if not, requests end with 403. The default is yes.
        duplicate_control: Whether a contact whose phone is stored already is joined to the stored one. The
            default is no.
        lookup_lag: Time in seconds for which a new lead is not found by ``query=``. The default is 0.

    Raises:
        ValidationFailed: A value is wrong; the message names the switch.
    """

    token: str = "test-token"  # noqa: S105 - the fake's, and public
    rate: int | None = 7
    retry_after: float = 1
    rate_form: str = "json"
    block_after: int | None = None
    block_window: float = 60.0
    block_seconds: float | None = None
    blocked: bool = False
    paid: bool = True
    scope: bool = True
    duplicate_control: bool = False
    lookup_lag: float = 0.0

    def __post_init__(self) -> None:
        check("switches", self.to_json(), _RULES)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Switches":
        """Return the defaults with *values* in their place.

        Raises:
            ValidationFailed: A switch is unknown or its value is wrong; the message names it.
        """
        check("switches", values, _RULES)
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        """Return every switch by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


class Gate:
    """Lets requests pass or turns them away.

    Args:
        switches: How it stands at first.
    """

    def __init__(self, switches: Switches) -> None:
        self.switches = switches
        self._admitted: deque[float] = deque()
        self._turned_away: deque[float] = deque()
        self._lifted_at = math.inf

    def switch(self, changes: Mapping[str, Any]) -> None:
        """Turn some switches.

        Raises:
            ValidationFailed: A switch is unknown or its value is wrong; nothing was turned.
        """
        self.switches = Switches.from_json({**self.switches.to_json(), **changes})
        if "blocked" in changes:
            self._lifted_at = math.inf
            self._turned_away.clear()

    def admit(self) -> Answer | None:
        """Count a request, and return why it is turned away, or *None* if it may pass."""
        now = clock().monotonic()
        if now >= self._lifted_at:
            self.switch({"blocked": False})
        if self.switches.blocked:
            return page(403, "403 Forbidden")
        _forget(self._admitted, before=now - 1.0)
        if self.switches.rate is None or len(self._admitted) < self.switches.rate:
            self._admitted.append(now)
            return None
        return self._turn_away(now)

    def _turn_away(self, now: float) -> Answer:
        """Return a 429, and block the account if that was one too many."""
        switches = self.switches
        _forget(self._turned_away, before=now - switches.block_window)
        self._turned_away.append(now)
        if switches.block_after is not None and len(self._turned_away) >= switches.block_after:
            self._turned_away.clear()
            self._lifted_at = now + (math.inf if switches.block_seconds is None else switches.block_seconds)
            self.switches = replace(switches, blocked=True)
        return self.throttled()

    def throttled(self) -> Answer:
        """Return a 429 in the form that the switches ask for."""
        return too_many(retry_after=self.switches.retry_after, form=self.switches.rate_form)

    def authorize(self, token: str | None) -> Answer | None:
        """Return why the bearer of *token* is turned away, or *None* if he may pass."""
        if token != self.switches.token:
            return problem(401, "Invalid user name or password")
        if not self.switches.paid:
            return problem(402, "Payment required")
        if not self.switches.scope:
            return problem(403, "Client doesn't have the required scope")
        return None


def _forget(moments: deque[float], *, before: float) -> None:
    """Drop the moments that have left the window."""
    while moments and moments[0] <= before:
        moments.popleft()
