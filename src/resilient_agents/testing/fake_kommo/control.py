"""The ``/_fake/`` addresses: what really happened, and how to change what will. No gate, no faults."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from resilient_agents.errors import NotFound, ValidationFailed
from resilient_agents.testing.fake_kommo.account import Account
from resilient_agents.testing.fake_kommo.faults import parse_faults

PREFIX = "/_fake/"

Action: TypeAlias = Callable[[Account, Any], Any]


def control(account: Account, method: str, path: str, value: Any = None) -> Any:
    """Do what a control address stands for.

    Args:
        account: Whose truth is told or changed.
        method: ``"GET"`` or ``"POST"``.
        path: The address, as ``/_fake/leads``.
        value: The decoded JSON body of a POST.

    Returns:
        The answer, ready for JSON.

    Raises:
        NotFound: There is no such address.
        ValidationFailed: *value* is wrong; the message names the field.
    """
    action = _ACTIONS.get((method, path))
    if action is None:
        known = ", ".join(" ".join(address) for address in _ACTIONS)
        raise NotFound(f"FakeKommo has no such control address; it has {known}")
    return action(account, value)


def _leads(account: Account, _: Any) -> dict[str, Any]:
    leads = account.leads()
    return {"count": len(leads), "leads": leads}


def _requests(account: Account, _: Any) -> dict[str, Any]:
    requests = account.requests()
    return {"count": len(requests), "requests": requests}


def _statuses(account: Account, _: Any) -> dict[str, int]:
    return account.statuses()


def _faults(account: Account, _: Any) -> list[dict[str, Any]]:
    return [fault.to_json() for fault in account.faults()]


def _script(account: Account, value: Any) -> list[dict[str, Any]]:
    account.script(parse_faults(value))
    return _faults(account, None)


def _switches(account: Account, _: Any) -> dict[str, Any]:
    return account.switches().to_json()


def _switch(account: Account, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ValidationFailed("switches: must be a JSON object of switches and their values")
    return account.switch(value).to_json()


def _reset(account: Account, _: Any) -> None:
    account.reset()


_ACTIONS: dict[tuple[str, str], Action] = {
    ("GET", "/_fake/leads"): _leads,
    ("GET", "/_fake/requests"): _requests,
    ("GET", "/_fake/statuses"): _statuses,
    ("GET", "/_fake/script"): _faults,
    ("POST", "/_fake/script"): _script,
    ("GET", "/_fake/switches"): _switches,
    ("POST", "/_fake/switches"): _switch,
    ("POST", "/_fake/reset"): _reset,
}
