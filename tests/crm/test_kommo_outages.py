"""Everything that can go wrong on the way, on a real connection: no lead is lost and none arrives twice."""

import asyncio
import socket
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from tests.crm.loopback import COMPLEX, PATIENCE, Driver, Server, saying

from resilient_agents import events
from resilient_agents.crm.kommo import AsyncKommoClient
from resilient_agents.deadletter import DeadLetterQueue, Delivered, Queued, Replayer, State
from resilient_agents.testing import FakeClock, FakeKommo, Fault

Connect = Callable[..., Driver]

ANN = {"name": "Ann", "phone": "+15550100002"}

A_MOMENT = 0.1
"""Time in seconds after which a caller leaves where no answer comes."""


def fault(kind: str, **how: Any) -> Fault:
    """Return a fault that happens to the first request that creates leads."""
    return Fault(kind=kind, route=COMPLEX, calls=(1,), **how)


FAULTS = {
    "refuse": fault("refuse", seconds=0.05),
    "reset": fault("reset"),
    "drop": fault("drop"),
    "drop after commit": fault("drop", commit=True),
    "truncate": fault("truncate"),
    "page with 200": fault("html"),
    "429": fault("429"),
    "500": fault("500"),
    "500 after commit": fault("500", commit=True),
    "502": fault("502"),
    "502 after commit": fault("502", commit=True),
    "503": fault("503"),
    "504": fault("504"),
    "504 after commit": fault("504", commit=True),
    "drip": fault("drip", seconds=20),
    "hang": fault("hang", seconds=0.3),
    "hang after commit": fault("hang", seconds=0.3, commit=True),
}


def warm(driver: Driver) -> Driver:
    """Let the client learn the id of its field, so that faults meet nothing but leads."""
    driver.find_lead("nothing")
    return driver


def posts(fake: FakeKommo) -> int:
    """Count the requests that would create leads."""
    return sum(request["path"] == COMPLEX for request in fake.requests())


def wait_for_a_lead(fake: FakeKommo) -> None:
    """Wait until a lead is in Kommo; give up in the end."""
    end = time.monotonic() + PATIENCE
    while not fake.leads() and time.monotonic() < end:
        pass


def keys_in(fake: FakeKommo) -> Counter[str]:
    """Count the leads in Kommo by their external ids."""
    return Counter(lead["custom_fields"]["EXTERNAL_ID"][0] for lead in fake.leads())


@pytest.mark.parametrize("name", FAULTS)
def test_a_failure_on_the_way_costs_time_and_nothing_else(
    connect: Connect, fake: FakeKommo, clock: FakeClock, name: str
) -> None:
    """Whatever happens to the request, submit returns, and the lead is in Kommo exactly once in the end."""
    driver = warm(connect())
    fake.script([FAULTS[name]])
    receipt = driver.submit(ANN, key="form-8731", wait=A_MOMENT if FAULTS[name].seconds else None)
    driver.replay_until_empty(clock)

    assert isinstance(receipt, Queued)
    assert {"form-8731": 1} == keys_in(fake)
    assert 1 == driver.count(State.DELIVERED)
    committed = FAULTS[name].commit or FAULTS[name].kind in ("truncate", "drip")
    assert (1 if committed else 2) == posts(fake)


@pytest.mark.parametrize("name", ["reset", "drop after commit", "truncate", "503", "504 after commit"])
def test_a_failure_in_a_batch_costs_no_lead(
    connect: Connect, fake: FakeKommo, clock: FakeClock, name: str
) -> None:
    """A whole batch that fails is in Kommo in the end, each lead exactly once."""
    driver = warm(connect())
    fake.script([FAULTS[name]])
    for number in range(5):
        driver.submit(ANN, key=f"form-{number}", wait=0)
    driver.replay()
    driver.replay_until_empty(clock)

    assert {f"form-{number}": 1 for number in range(5)} == keys_in(fake)
    assert 5 == driver.count(State.DELIVERED)


def test_a_late_commit_is_waited_for(connect: Connect, fake: FakeKommo, clock: FakeClock) -> None:
    """Within the grace a lead that is not found is not sent again: Kommo may still be at it."""
    driver = warm(connect())
    fake.script([fault("504")])
    receipt = driver.submit(ANN, key="form-8731")
    clock.advance(59)
    driver.replay()
    assert not fake.leads()

    committed = driver.create_lead(ANN, key="form-8731")  # as Kommo does with the first request, at last
    driver.replay_until_empty(clock)

    assert isinstance(receipt, Queued)
    assert ("uncertain", "external.timeout") == (receipt.state, receipt.code)
    assert [committed] == [lead["id"] for lead in fake.leads()]


def test_a_slow_search_is_waited_for(connect: Connect, fake: FakeKommo, clock: FakeClock) -> None:
    """A lead that Kommo's search does not show yet is not sent again within the grace."""
    driver = warm(connect())
    fake.switch(lookup_lag=3600)
    fake.script([fault("drop", commit=True)])
    driver.submit(ANN, key="form-8731")
    for _ in range(5):
        clock.advance(10)
        driver.replay()
    assert driver.find_lead("form-8731") is None

    fake.switch(lookup_lag=0)
    driver.replay_until_empty(clock)

    assert ({"form-8731": 1}, 1) == (keys_in(fake), posts(fake))


@pytest.mark.parametrize("key", ["заявка № 1 / %?&#", "x" * 200, "7", "' OR 1=1"])
def test_a_lead_with_an_odd_key_is_found_again(
    connect: Connect, fake: FakeKommo, clock: FakeClock, key: str
) -> None:
    """Whatever its key, a lead that arrived without an answer is not sent again."""
    driver = warm(connect())
    fake.script([fault("drop", commit=True)])
    driver.submit(ANN, key=key)
    driver.replay_until_empty(clock)

    assert (1, 1) == (len(fake.leads()), posts(fake))


def test_what_is_found_again_is_told(connect: Connect, fake: FakeKommo, clock: FakeClock) -> None:
    """The delivery of a lead that was found says that it was, and the ledger has Kommo's id."""
    heard: list[events.EntryDelivered] = []
    events.subscribe(events.EntryDelivered)(heard.append)
    driver = warm(connect())
    fake.script([fault("drop", commit=True)])
    driver.submit(ANN, key="form-8731")
    driver.replay_until_empty(clock)
    again = driver.submit(ANN, key="form-8731")

    assert [True] == [event.reconciled for event in heard]
    assert isinstance(again, Delivered)
    assert [again.value] == [lead["id"] for lead in fake.leads()]


@pytest.mark.parametrize(
    ("wrong", "right", "code"),
    [
        ({"token": "another"}, {"token": "test-token"}, "auth.needs_reauth"),
        ({"scope": False}, {"scope": True}, "auth.forbidden"),
        ({"blocked": True}, {"blocked": False}, "rate_limit.blocked"),
        ({"paid": False}, {"paid": True}, "rate_limit.quota"),
    ],
    ids=["token", "scope", "block", "unpaid"],
)
def test_an_account_that_shuts_us_out_costs_no_attempts(
    connect: Connect, fake: FakeKommo, clock: FakeClock, wrong: Any, right: Any, code: str
) -> None:
    """Leads wait for as long as it takes, none is parked, and they arrive once the account is right."""
    driver = connect()
    fake.switch(**wrong)
    first = driver.submit(ANN, key="form-0")
    driver.submit(ANN, key="form-1")
    for _ in range(30):
        clock.advance(3600)
        driver.replay()

    assert isinstance(first, Queued)
    assert (State.SCHEDULED, code) == (first.state, first.code)
    waiting = driver.queue.entries()
    assert {State.SCHEDULED, State.PENDING} >= {entry.state for entry in waiting}
    assert [(0, None)] * 2 == [(entry.errors, entry.sent_at) for entry in waiting]

    fake.switch(**right)
    clock.advance(3600)
    driver.replay_until_empty(clock)

    assert {"form-0": 1, "form-1": 1} == keys_in(fake)


REFUSAL = b'{"error": "missing X-Api-Key"}'


@pytest.mark.parametrize(
    ("head", "body"),
    [
        ("301 Moved\r\nlocation: https://www.kommo.com", b""),
        ("404 Not Found", b""),
        ("400 Bad Request\r\ncontent-type: application/json", REFUSAL),
        ("413 Too Large\r\ncontent-type: application/json", REFUSAL),
        ("422 Unprocessable\r\ncontent-type: application/json", REFUSAL),
    ],
)
def test_a_wrong_host_costs_no_attempts(
    connect: Connect,
    serve: Callable[[Callable[[socket.socket], object]], Server],
    clock: FakeClock,
    head: str,
    body: bytes,
) -> None:
    """A host that knows no such account, or is somebody else's, is a wrong setting: the leads wait."""
    driver = connect(serve(saying(head, body)).url)
    receipt = driver.submit(ANN)
    for _ in range(15):
        clock.advance(3600)
        driver.replay()

    [entry] = driver.queue.entries()
    assert isinstance(receipt, Queued)
    assert "auth.needs_reauth" == receipt.code
    assert (State.SCHEDULED, 0) == (entry.state, entry.errors)


def test_a_token_that_changes_in_the_middle_is_taken_up(
    connect: Connect, fake: FakeKommo, clock: FakeClock
) -> None:
    """The token source is asked for each request, so that a new token needs no new client."""
    tokens = [fake.token]
    driver = connect(tokens=lambda: tokens[-1])
    driver.submit(ANN, key="form-0")
    fake.switch(token="second")
    driver.submit(ANN, key="form-1")
    tokens.append("second")
    driver.replay_until_empty(clock)

    assert {"form-0": 1, "form-1": 1} == keys_in(fake)


def test_a_token_source_that_fails_costs_no_attempts(
    connect: Connect, fake: FakeKommo, clock: FakeClock
) -> None:
    """Without a token nothing is asked, and the leads wait until there is one."""
    tokens: list[str] = []
    driver = connect(tokens=lambda: tokens[-1])
    receipt = driver.submit(ANN, key="form-0")
    for _ in range(15):
        clock.advance(3600)
        driver.replay()
    [entry] = driver.queue.entries()

    assert isinstance(receipt, Queued)
    assert (State.SCHEDULED, "auth.needs_reauth", 0) == (entry.state, entry.code, entry.errors)
    assert not fake.requests()

    tokens.append(fake.token)
    driver.replay_until_empty(clock)
    assert {"form-0": 1} == keys_in(fake)


def test_one_bad_lead_does_not_hold_up_the_batch(connect: Connect, fake: FakeKommo, clock: FakeClock) -> None:
    """The lead that Kommo rejects is parked; all others of its batch are delivered exactly once."""
    driver = connect()
    for number in range(10):
        bad = {"custom_fields": {"NO_SUCH_FIELD": "x"}} if number == 4 else {}
        driver.submit({**ANN, **bad}, key=f"form-{number}", wait=0)
    driver.replay()
    driver.replay_until_empty(clock)

    [parked] = driver.queue.entries(states=[State.PARKED])
    assert ("form-4", "validation.refused") == (parked.key, parked.code)
    assert "custom_fields_values.1.field_code" in (parked.last_error or "")
    assert {f"form-{number}": 1 for number in range(10) if number != 4} == keys_in(fake)


def test_a_payload_that_is_no_lead_does_not_hold_up_the_batch(connect: Connect, fake: FakeKommo) -> None:
    """An entry of another version or by another hand is parked; the leads beside it arrive at once."""
    driver = connect()
    driver.submit(ANN, key="form-0", wait=0)
    driver.queue.enqueue(driver.client.topic, {"nickname": "Ann"}, key="form-1")
    driver.submit(ANN, key="form-2", wait=0)
    passed = driver.replay()

    assert (2, 1) == (passed.delivered, passed.parked)
    assert {"form-0": 1, "form-2": 1} == keys_in(fake)


def test_a_field_that_was_deleted_costs_no_lead(connect: Connect, fake: FakeKommo, clock: FakeClock) -> None:
    """When the external-id field vanishes it is made again, and the leads that met its absence arrive."""
    driver = connect()
    driver.submit(ANN, key="form-0")
    fake.reset()
    receipt = driver.submit(ANN, key="form-1")
    driver.replay_until_empty(clock)

    assert isinstance(receipt, Queued)
    assert {"form-1": 1} == keys_in(fake)


@pytest.mark.parametrize("kind", ["503", "reset", "429"])
def test_a_dead_crm_is_not_called(connect: Connect, fake: FakeKommo, clock: FakeClock, kind: str) -> None:
    """Once the outage is known, submitting makes no call at all; all leads arrive when it is over."""
    paused: list[events.TopicPaused] = []
    events.subscribe(events.TopicPaused)(paused.append)
    driver = warm(connect())
    fake.script([Fault(kind=kind)])
    for number in range(3):
        driver.submit(ANN, key=f"form-{number}")
    before = len(fake.requests())
    for number in range(3, 20):
        assert isinstance(driver.submit(ANN, key=f"form-{number}"), Queued)

    assert paused
    assert before == len(fake.requests())

    fake.script([])
    driver.replay_until_empty(clock)
    assert {f"form-{number}": 1 for number in range(20)} == keys_in(fake)


async def test_a_cancelled_submission_is_not_lost(
    fake: FakeKommo, queue: DeadLetterQueue, clock: FakeClock
) -> None:
    """A caller who leaves in the middle of the call leaves a lead that is looked for, not a second one."""
    async with AsyncKommoClient(fake.url, tokens=fake.token, queue=queue, rate=1000) as client:
        await client.find_lead("nothing")
        fake.script([fault("latency", seconds=PATIENCE, commit=True)])
        submission = asyncio.create_task(client.submit(ANN, key="form-8731"))
        await asyncio.to_thread(wait_for_a_lead, fake)
        submission.cancel()
        with pytest.raises(asyncio.CancelledError):
            await submission
        for _ in range(3):
            clock.advance(61)
            await Replayer(queue).arun_once()

    assert ({"form-8731": 1}, 1) == (keys_in(fake), posts(fake))
    assert 1 == queue.stats().states[State.DELIVERED]
