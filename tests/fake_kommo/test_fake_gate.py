"""What the fake's gate turns away, and in which order."""

from collections.abc import Callable
from typing import Any

import pytest

from resilient_agents.errors import ValidationFailed
from resilient_agents.testing.fake_kommo.gate import Switches

ACCOUNT = "/api/v4/account"


def statuses(ask: Any, times: int) -> list[int]:
    """Return the statuses of so many requests in a row."""
    return [ask("GET", ACCOUNT).status for _ in range(times)]


def test_a_good_request_is_answered_as_hal(ask: Any) -> None:
    """Success comes as application/hal+json."""
    reply = ask("GET", ACCOUNT)
    assert (200, "application/hal+json") == (reply.status, reply.content_type)


@pytest.mark.parametrize("token", [None, "", "wrong"])
def test_a_wrong_token_is_a_401_problem(ask: Any, token: str | None) -> None:
    """Whatever is wrong with the token, the vendor says the same."""
    reply = ask("GET", ACCOUNT, token=token)
    assert (401, "application/problem+json") == (reply.status, reply.content_type)
    assert reply.value == {
        "title": "Unauthorized",
        "type": "https://httpstatus.es/401",
        "status": 401,
        "detail": "Invalid user name or password",
    }


@pytest.mark.parametrize(
    ("switches", "status", "detail"),
    [
        ({"paid": False}, 402, "Payment required"),
        ({"scope": False}, 403, "Client doesn't have the required scope"),
    ],
)
def test_switches_turn_the_account_off(
    build: Callable[..., Any], switches: dict[str, bool], status: int, detail: str
) -> None:
    """An unpaid account and a missing scope are JSON problems."""
    reply = build(**switches)("GET", ACCOUNT)
    assert (status, "application/problem+json", detail) == (
        reply.status,
        reply.content_type,
        reply.value["detail"],
    )


def test_the_gates_stand_in_order(build: Callable[..., Any]) -> None:
    """Block comes before rate, token, payment, scope, route and validation: each repair shows the next."""
    ask = build(blocked=True, rate=1, token="right", paid=False, scope=False)
    seen = []
    for repair in (
        {"blocked": False},
        {"rate": None},
        {"token": "test-token"},
        {"paid": True},
        {"scope": True},
    ):
        reply = ask("POST", "/api/v4/nowhere", [])
        seen.append((reply.status, reply.content_type))
        ask("GET", ACCOUNT)
        ask.account.switch(repair)
    seen.append((ask("POST", "/api/v4/nowhere", []).status, ""))
    seen.append((ask("POST", "/api/v4/leads", []).status, ""))
    problem = "application/problem+json"
    assert [
        (403, "text/html"),
        (401, problem),
        (401, problem),
        (402, problem),
        (403, problem),
        (404, ""),
        (400, ""),
    ] == seen


def test_rate_comes_before_token(build: Callable[..., Any]) -> None:
    """A request too many is a 429 even with a wrong token, and a wrong token counts."""
    ask = build(rate=1)
    assert [401, 429] == [ask("GET", ACCOUNT, token="wrong").status for _ in range(2)]


def test_the_rate_is_counted_over_a_sliding_second(build: Callable[..., Any], clock: Any) -> None:
    """Seven requests in any second are admitted; room comes back one by one as they age."""
    ask = build(rate=7)
    assert [200] * 4 == statuses(ask, 4)
    clock.sleep(0.6)
    assert [200] * 3 + [429] == statuses(ask, 4)
    clock.sleep(0.4)
    assert [200] * 4 + [429] == statuses(ask, 5)


def test_a_429_tells_the_wait_in_its_body(build: Callable[..., Any]) -> None:
    """The hint is a member of the JSON problem."""
    ask = build(rate=1, retry_after=300)
    ask("GET", ACCOUNT)
    reply = ask("GET", ACCOUNT)
    assert (429, "application/problem+json", 300) == (
        reply.status,
        reply.content_type,
        reply.value["retry_after"],
    )


def test_a_429_may_come_as_a_page(build: Callable[..., Any]) -> None:
    """In HTML form the gateway's page comes in place of JSON."""
    ask = build(rate=1, rate_form="html")
    ask("GET", ACCOUNT)
    reply = ask("GET", ACCOUNT)
    assert (429, "text/html") == (reply.status, reply.content_type)
    assert "429 Too Many Requests" in reply.value


def test_too_many_429_block_the_account_until_it_is_switched_back(
    build: Callable[..., Any], clock: Any
) -> None:
    """The n-th 429 within the window turns everything into the 403 page, with no end of its own."""
    ask = build(rate=1, block_after=2)
    assert [200, 429, 429, 403] == statuses(ask, 4)
    clock.sleep(100_000)
    assert "nginx" in ask("GET", ACCOUNT).value
    ask.account.switch({"blocked": False})
    assert [200, 429] == statuses(ask, 2)


def test_429_of_another_window_do_not_block(build: Callable[..., Any], clock: Any) -> None:
    """A 429 that has left the window is forgotten."""
    ask = build(rate=1, block_after=2, block_window=10)
    assert [200, 429] == statuses(ask, 2)
    clock.sleep(10)
    assert [200, 429, 429, 403] == statuses(ask, 4)


def test_a_block_may_end_by_itself(build: Callable[..., Any], clock: Any) -> None:
    """With block_seconds the account opens again after that time."""
    ask = build(rate=1, block_after=1, block_seconds=30)
    assert [200, 429, 403] == statuses(ask, 3)
    clock.sleep(30)
    assert [200] == statuses(ask, 1)


def test_switching_is_all_or_nothing(ask: Any) -> None:
    """A wrong switch is named, and the good ones beside it stay as they were."""
    with pytest.raises(ValidationFailed, match=r"'rate' must be a whole number from 1, or none"):
        ask.account.switch({"paid": False, "rate": 0})
    assert ask.account.switches().paid


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tariff": 1}, "'tariff' is unknown; known are token, rate"),
        ({"rate": True}, "'rate' must be a whole number"),
        ({"token": ""}, "'token' must be a string that is not empty"),
        ({"paid": 1}, "'paid' must be true or false"),
        ({"retry_after": -1}, "'retry_after' must be a number of seconds"),
        ({"retry_after": float("inf")}, "'retry_after' must be a number of seconds"),
        ({"rate_form": "xml"}, "'rate_form' must be one of json, html"),
    ],
)
def test_wrong_switches_are_named(changes: dict[str, Any], message: str) -> None:
    """The message names the switch and what it may be."""
    with pytest.raises(ValidationFailed, match=message) as caught:
        Switches.from_json(changes)
    assert tuple(changes) == caught.value.errors[0]["loc"]


def test_switches_check_themselves_too() -> None:
    """Built without JSON, switches are checked all the same."""
    with pytest.raises(ValidationFailed, match="'lookup_lag'"):
        Switches(lookup_lag=-1)
